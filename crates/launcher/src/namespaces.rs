//! The init's namespaces, its user ids and its cgroups: everything about it that is settled from outside before it
//! takes its first step.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use crate::{
    args::Identity,
    fault::{During, Result},
    sys::{self, Side},
};

/// `CLONE_NEWTIME`; absent from kernels before 5.6 and from some configurations.
const NEWTIME: u64 = 0x80;

/// Forks the init into a user, pid, mount, network, IPC, UTS and (where there is such a thing) time namespace. The
/// cgroup namespace follows once the init is in its cgroups, so that those are what it sees as the root.
pub(crate) fn split() -> Result<Side> {
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let flags = u64::from(flags.cast_unsigned());
    match sys::clone(flags | NEWTIME) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sys::clone(flags),
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

/// Puts a process into a cgroup, whose limits are written already.
pub(crate) fn join_cgroup(cgroup: &Path, pid: &str) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), pid).during(&format!("join the cgroup {}", cgroup.display()))
}
