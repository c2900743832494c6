//! What this host gives the native back end.

use std::{collections::BTreeMap, fs, path::Path};

use clawstaff_types::spec::Limit;

use super::cgroup::Cgroups;
use crate::{
    backend::CageError,
    capability::{Capabilities, Enforcement, Feature},
    reached::Reached,
    storage,
};

pub(super) const NAME: &str = "native";

pub(super) fn unavailable(doing: &'static str, error: impl std::fmt::Display) -> CageError {
    CageError::Unavailable {
        backend: NAME,
        doing,
        detail: error.to_string(),
    }
}

/// Whether the process is the host's root.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn capabilities(cgroups: &Cgroups, root: bool) -> Capabilities {
    let mut limits: BTreeMap<Limit, Enforcement> = [Limit::Memory, Limit::Cpus, Limit::Pids]
        .map(|limit| (limit, cgroups.enforcement(limit)))
        .into();
    if limits.get(&Limit::Pids) != Some(&Enforcement::Enforced) && counts_processes_per_namespace() {
        // RLIMIT_NPROC, which the launcher always sets, counts within the cage's user namespace.
        limits.insert(Limit::Pids, Enforcement::Enforced);
    }
    limits.insert(Limit::Storage, storage(root));
    let features = [
        (Feature::OwnUser, own_user(root)),
        (Feature::Seccomp, seccomp()),
        (Feature::Landlock, landlock()),
        (Feature::Freeze, cgroups.freezing()),
    ];
    let told = [(Reached::Memory, Limit::Memory), (Reached::Cpus, Limit::Cpus)]
        .map(|(reached, limit)| (reached, counted(limits.get(&limit))));
    Capabilities {
        limits,
        features: features.into(),
        told: told.into(),
    }
}

/// Whether a cgroup counts how often the limit was met.
fn counted(limit: Option<&Enforcement>) -> Enforcement {
    match limit {
        Some(Enforcement::Enforced) => Enforcement::Enforced,
        Some(Enforcement::NotEnforced { .. }) | None => Enforcement::missing(
            "no cgroup counts it",
            "start the runner as root, or in a delegated cgroup (systemd: `Delegate=yes`)",
        ),
    }
}

fn storage(root: bool) -> Enforcement {
    if !root {
        return Enforcement::missing(
            "an ordinary user cannot mount a file system of a fixed size",
            "start the runner as root",
        );
    }
    if !Path::new("/dev/loop-control").exists() {
        return Enforcement::missing(
            "the kernel has no loop devices",
            "load the `loop` module (modprobe loop)",
        );
    }
    if storage::host_program("mkfs.ext4").is_none() {
        return Enforcement::missing(
            "mkfs.ext4 is not installed",
            "install e2fsprogs (apt-get install e2fsprogs)",
        );
    }
    Enforcement::Enforced
}

fn own_user(root: bool) -> Enforcement {
    if root {
        Enforcement::Enforced
    } else {
        Enforcement::missing(
            "an ordinary user's cages all run as that user, apart by namespaces only",
            "start the runner as root",
        )
    }
}

fn seccomp() -> Enforcement {
    if Path::new("/proc/sys/kernel/seccomp").exists() {
        Enforcement::Enforced
    } else {
        Enforcement::missing(
            "the kernel has no seccomp filters",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        )
    }
}

/// Landlock is in kernels from 5.13 and listed among the active security modules where securityfs can be read;
/// where it cannot, the version alone must do.
fn landlock() -> Enforcement {
    let listed = fs::read_to_string("/sys/kernel/security/lsm").map(|list| list.contains("landlock"));
    if listed.unwrap_or_else(|_| kernel_at_least(5, 13)) {
        Enforcement::Enforced
    } else {
        Enforcement::missing(
            "the kernel has Landlock switched off",
            "start it with `lsm=landlock,...`; the mounts alone hold the boundary meanwhile",
        )
    }
}

/// Since Linux 5.14 `RLIMIT_NPROC` is counted for each user namespace by itself.
fn counts_processes_per_namespace() -> bool {
    kernel_at_least(5, 14)
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0_u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
