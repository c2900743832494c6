//! Confinement of this process: what a gateway that was taken over still cannot do.
//!
//! ```text
//!   Landlock   files only beneath the gateway's own directories, plus a few to read (names, CA certificates)
//!   seccomp    an allow-list of system calls: no new program, no tracing, no mounts, no namespaces, no modules
//!   process    no core dump, not traceable, no new privileges
//! ```
//!
//! Applied to the thread that calls [`apply`] and to every thread it starts from then on; so it is called
//! before there are others (see `run`). It needs no privilege: it works for root that became another user and
//! for an ordinary one. Network connections are not restricted here: the gateway connects to where connections
//! point, which policy decides.
//!
//! A kernel without Landlock leaves files to ordinary permissions; [`Confinement::landlock`] says so and it is
//! logged. A kernel without seccomp is an error.

mod landlock;
mod syscalls;

use std::path::{Path, PathBuf};

pub use landlock::Coverage;

/// What the process needs.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Directories to read and write beneath.
    pub own: Vec<PathBuf>,
    /// Files and directories to read (beneath). Those that do not exist are left out.
    pub readable: Vec<PathBuf>,
    /// Whether programs may be started: for `exec:` credentials that this host allows.
    pub may_exec: bool,
}

/// What is in force.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// How far files are restricted.
    pub landlock: Coverage,
    /// Where files can be read.
    readable: Vec<PathBuf>,
}

impl Confinement {
    /// No confinement, for programs that only use parts of the gateway.
    pub const fn none() -> Self {
        Self {
            landlock: Coverage::Absent,
            readable: Vec::new(),
        }
    }

    /// Whether `path` can be read as far as confinement goes.
    pub fn can_read(&self, path: &Path) -> bool {
        match self.landlock {
            Coverage::Absent => true,
            Coverage::Full | Coverage::Partial => self.readable.iter().any(|below| path.starts_with(below)),
        }
    }
}

/// Why the process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A process attribute could not be set.
    #[error("cannot {doing}")]
    Process {
        /// What was tried.
        doing: &'static str,
        /// The cause.
        source: rustix::io::Errno,
    },
    /// Landlock refused.
    #[error("cannot restrict files with Landlock")]
    Landlock(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The table of system calls does not compile, or the kernel refuses it.
    #[error("cannot restrict system calls with seccomp")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Confines this thread and all that it starts. Cannot be undone.
///
/// # Errors
/// When a layer that the kernel has refuses the plan.
pub fn apply(plan: &Plan) -> Result<Confinement, ConfineError> {
    harden_process()?;
    let (landlock, readable) = landlock::restrict(plan)?;
    match landlock {
        Coverage::Full => {}
        Coverage::Partial => {
            tracing::warn!("this kernel's Landlock is older than ours: files are restricted in part");
        }
        Coverage::Absent => {
            tracing::warn!("this kernel has no Landlock: files are restricted by their permissions alone");
        }
    }
    syscalls::restrict(plan.may_exec)?;
    Ok(Confinement { landlock, readable })
}

/// No core dumps (they would hold secrets), no tracing by others of the same uid, no new privileges by exec.
fn harden_process() -> Result<(), ConfineError> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let failed = |doing| move |source| ConfineError::Process { doing, source };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(failed("switch core dumps off"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("make the process untraceable"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))
}

#[cfg(test)]
mod tests;
