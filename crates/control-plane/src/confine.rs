//! What the control plane's threads may still do once everything is open: work in their own folder, and talk on
//! the sockets that are bound. They may not start programs, look into processes, mount, load code into the kernel
//! or make namespaces.
//!
//! Landlock and seccomp bind a thread and what it starts, so this runs on the first thread of the control plane,
//! before its runtime has any other. Contracts: landlock(7), seccomp(2).

use std::{collections::BTreeMap, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, path_beneath_rules,
};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};

use crate::RunError;

/// Confines this thread and all that it will start to `writable`.
pub(crate) fn confine(writable: &[&Path], inspectable: bool) -> Result<(), RunError> {
    if !inspectable {
        hide_memory()?;
    }
    files_and_network(writable)?;
    system_calls()
}

/// Other processes of the same uid can neither trace this one nor read its memory; it leaves no core dump.
fn hide_memory() -> Result<(), RunError> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| RunError::Confinement(error.to_string()))
}

fn files_and_network(writable: &[&Path]) -> Result<(), RunError> {
    let abi = ABI::V5;
    let ruleset = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(writable, folder_rights()))?
            .restrict_self()
    };
    let status = ruleset().map_err(|error| RunError::Confinement(error.to_string()))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            tracing::warn!("this kernel enforces only part of the Landlock rules");
        }
        RulesetStatus::NotEnforced => tracing::warn!(
            "this kernel has no Landlock: files outside its folder are not closed to the control plane"
        ),
    }
    Ok(())
}

/// Everything that one does with files and folders; no devices, no programs.
fn folder_rights() -> landlock::BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Refused with EPERM. The control plane calls none of them.
const FORBIDDEN: &[(i64, &str)] = &[
    (libc::SYS_execve, "starts a program"),
    (libc::SYS_execveat, "starts a program"),
    (libc::SYS_ptrace, "controls another process"),
    (libc::SYS_process_vm_readv, "reads another process' memory"),
    (libc::SYS_process_vm_writev, "writes another process' memory"),
    (libc::SYS_pidfd_getfd, "takes another process' files"),
    (libc::SYS_kcmp, "compares processes"),
    (libc::SYS_mount, "changes the file system tree"),
    (libc::SYS_umount2, "changes the file system tree"),
    (libc::SYS_move_mount, "changes the file system tree"),
    (libc::SYS_open_tree, "changes the file system tree"),
    (libc::SYS_fsopen, "changes the file system tree"),
    (libc::SYS_fsmount, "changes the file system tree"),
    (libc::SYS_fsconfig, "changes the file system tree"),
    (libc::SYS_fspick, "changes the file system tree"),
    (libc::SYS_mount_setattr, "changes the file system tree"),
    (libc::SYS_pivot_root, "changes the file system tree"),
    (libc::SYS_chroot, "changes the file system tree"),
    (libc::SYS_swapon, "administers the host"),
    (libc::SYS_swapoff, "administers the host"),
    (libc::SYS_reboot, "administers the host"),
    (libc::SYS_acct, "administers the host"),
    (libc::SYS_quotactl, "administers the host"),
    (
        libc::SYS_settimeofday,
        "changes the clock that records are stamped with",
    ),
    (
        libc::SYS_clock_settime,
        "changes the clock that records are stamped with",
    ),
    (
        libc::SYS_clock_adjtime,
        "changes the clock that records are stamped with",
    ),
    (
        libc::SYS_adjtimex,
        "changes the clock that records are stamped with",
    ),
    (libc::SYS_bpf, "loads code into the kernel"),
    (libc::SYS_perf_event_open, "observes the kernel"),
    (libc::SYS_init_module, "loads code into the kernel"),
    (libc::SYS_finit_module, "loads code into the kernel"),
    (libc::SYS_delete_module, "unloads code from the kernel"),
    (libc::SYS_kexec_load, "replaces the kernel"),
    (libc::SYS_kexec_file_load, "replaces the kernel"),
    (libc::SYS_unshare, "makes a namespace"),
    (libc::SYS_setns, "enters a namespace"),
    (libc::SYS_userfaultfd, "is good for little but exploits"),
    (libc::SYS_io_uring_setup, "goes round this very filter"),
    (libc::SYS_add_key, "uses the kernel's keyring"),
    (libc::SYS_request_key, "uses the kernel's keyring"),
    (libc::SYS_keyctl, "uses the kernel's keyring"),
];

/// `clone` with any of these makes a namespace. `clone3` hides its flags in memory, so it does not exist here
/// (ENOSYS) and the C library falls back to `clone`.
const NAMESPACE_FLAGS: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

fn system_calls() -> Result<(), RunError> {
    let failed = |error: &dyn std::fmt::Display| RunError::Confinement(error.to_string());
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        FORBIDDEN.iter().map(|(call, _)| (*call, Vec::new())).collect();
    let mut by_flag = Vec::new();
    for bit in 0..32 {
        let flag = 1_u64 << bit;
        if u64::from(NAMESPACE_FLAGS.cast_unsigned()) & flag != 0 {
            let set = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag);
            by_flag.push(
                SeccompRule::new(vec![set.map_err(|error| failed(&error))?])
                    .map_err(|error| failed(&error))?,
            );
        }
    }
    refused.insert(libc::SYS_clone, by_flag);
    install(refused, libc::EPERM)?;
    install(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

fn install(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<(), RunError> {
    let failed = |error: &dyn std::fmt::Display| RunError::Confinement(error.to_string());
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| failed(&error))?;
    let action = SeccompAction::Errno(errno.cast_unsigned());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(|error| failed(&error))?;
    let program: seccompiler::BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| failed(&error))?;
    apply_filter(&program).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind, process::Command};

    use super::confine;

    #[test]
    fn a_confined_thread_works_in_its_folder_and_nowhere_else() {
        let (mine, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = other.path().join("secret");
        fs::write(&secret, "x").unwrap();
        let tested = std::thread::spawn(move || {
            confine(&[mine.path()], false).unwrap();
            fs::write(mine.path().join("file"), "x").unwrap();
            fs::rename(mine.path().join("file"), mine.path().join("other")).unwrap();
            let read = fs::read(&secret).map_err(|error| error.kind());
            let made = fs::write(other.path().join("new"), "x").map_err(|error| error.kind());
            let run = Command::new("/bin/true")
                .spawn()
                .map(drop)
                .map_err(|error| error.kind());
            let inner = std::thread::spawn(|| std::os::unix::net::UnixStream::pair().is_ok());
            (read, made, run, inner.join().unwrap())
        });
        let (read, made, run, threads) = tested.join().unwrap();
        assert_eq!(read, Err(ErrorKind::PermissionDenied));
        assert_eq!(made, Err(ErrorKind::PermissionDenied));
        assert_eq!(run, Err(ErrorKind::PermissionDenied));
        assert!(threads);
    }
}
