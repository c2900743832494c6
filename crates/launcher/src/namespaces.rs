//! The init's namespaces, its user ids and its cgroups: everything about it that is settled from outside before it
//! takes its first step.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

use rustix::process::Pid;

use crate::{
    args::Identity,
    fault::{During, Fault, Result},
    sys::{self, Side},
};

/// `CLONE_NEWTIME`; absent from kernels before 5.6 and from some configurations.
const NEWTIME: u64 = 0x80;

/// Forks the init into a user, pid, mount, network, IPC, UTS and (where there is such a thing) time namespace. The
/// cgroup namespace follows once the init is in its cgroups, so that those are what it sees as the root.
pub(crate) fn split(cgroups: &Cgroups) -> Result<Side> {
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let flags = u64::from(flags.cast_unsigned());
    let into = cgroups.unified();
    match sys::clone(flags | NEWTIME, into) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sys::clone(flags, into),
        other => other,
    }
    .during("make the namespaces")
}

/// Gives the init its one user and group id.
pub(crate) fn map_ids(child: Pid, identity: Identity, privileged: bool) -> Result<()> {
    let proc = PathBuf::from(format!("/proc/{}", child.as_raw_nonzero()));
    let write = |file: &str, text: String| {
        fs::write(proc.join(file), text).during(&format!("write {file} of the init"))
    };
    if !privileged {
        // The kernel's condition for an ordinary user's gid_map.
        write("setgroups", "deny".to_owned())?;
    }
    write("uid_map", format!("{} {} 1", identity.inside, identity.outside))?;
    write(
        "gid_map",
        format!("{} {} 1", identity.inside, identity.outside_group),
    )
}

/// The cage's cgroups, whose limits are written already, open for a process that will be in them.
///
/// The kernel stops the whole machine's forks, for some milliseconds, while it moves another process. It does not for a
/// process that is born in a unified cgroup, nor for a thread that moves itself on the old hierarchies.
pub(crate) struct Cgroups {
    unified: Option<File>,
    old: Vec<File>,
}

impl Cgroups {
    pub(crate) fn open(directories: &[PathBuf]) -> Result<Self> {
        let mut this = Self {
            unified: None,
            old: Vec::new(),
        };
        for directory in directories {
            let doing = format!("open the cgroup {}", directory.display());
            match File::options().write(true).open(directory.join("tasks")) {
                Ok(tasks) => this.old.push(tasks),
                Err(error) if error.kind() == ErrorKind::NotFound && this.unified.is_none() => {
                    this.unified = Some(File::open(directory).during(&doing)?);
                }
                Err(error) => return Err(error).during(&doing),
            }
        }
        Ok(this)
    }

    /// What the process must be cloned into.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process, which must have one thread, into the rest.
    pub(crate) fn enter(&self) -> Result<()> {
        for mut tasks in &self.old {
            let moved = tasks.write(b"0").during("join a cgroup")?;
            if moved != 1 {
                return Err(Fault::new("cannot join a cgroup: the kernel took no notice"));
            }
        }
        Ok(())
    }
}
