//! Files: Landlock rules (<https://docs.kernel.org/userspace-api/landlock.html>), as many as the kernel knows.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::{ConfineError, Plan};

/// Newest interface whose rights are written down here; older kernels apply what they know of it.
const ABI: ABI = ABI::V6;

/// Needed to resolve names, to read CA certificates, to give a child process its null device, and to see that the
/// system's randomness is ready.
const ALWAYS_READABLE: [&str; 10] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/ssl",
    "/etc/pki",
    "/usr/share/ca-certificates",
    "/dev/null",
    "/dev/urandom",
    "/dev/random",
];
/// What a program that may be started, and its libraries, are beneath.
const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt"];

/// How far files are restricted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// As far as we know how.
    Full,
    /// As far as this kernel's Landlock goes.
    Partial,
    /// Not at all: the kernel has no Landlock.
    Absent,
}

pub(super) fn restrict(plan: &Plan) -> Result<(Coverage, Vec<PathBuf>), ConfineError> {
    rules(plan).map_err(|error| ConfineError::Landlock(Box::new(error)))
}

fn rules(plan: &Plan) -> Result<(Coverage, Vec<PathBuf>), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let own = AccessFs::from_all(ABI) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI))?
        .scope(Scope::from_all(ABI))?
        .create()?;
    let mut readable = Vec::new();
    for path in &plan.own {
        if let Some(fd) = open(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, own))?;
            readable.push(path.clone());
        }
    }
    let always = ALWAYS_READABLE.iter().map(PathBuf::from);
    for path in plan.readable.iter().cloned().chain(always) {
        if let Some(fd) = open(&path) {
            let access = if path.is_dir() {
                read
            } else {
                AccessFs::ReadFile.into()
            };
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
            readable.push(path);
        }
    }
    if let Some(fd) = open(Path::new("/dev/null")) {
        ruleset = ruleset.add_rule(PathBeneath::new(fd, AccessFs::ReadFile | AccessFs::WriteFile))?;
    }
    let programs = PROGRAMS.iter().filter(|_| plan.may_exec);
    for fd in programs.filter_map(|path| open(Path::new(path))) {
        ruleset = ruleset.add_rule(PathBeneath::new(fd, read | AccessFs::Execute))?;
    }
    let coverage = match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Coverage::Full,
        RulesetStatus::PartiallyEnforced => Coverage::Partial,
        RulesetStatus::NotEnforced => Coverage::Absent,
    };
    Ok((coverage, readable))
}

/// What does not exist needs no rule: it stays out of reach.
fn open(path: &Path) -> Option<PathFd> {
    PathFd::new(path).ok()
}
