//! What the runner, and all that it starts, may no longer ask of the kernel.
//!
//! The runner makes cages, so that it needs the power to mount and to make namespaces, and as root the capability that
//! goes with it. It does not need the rest: loading code into the kernel, reading other processes' memory, setting
//! clocks, raw networking. Those go here, once, on its first thread and before it has read a byte from anybody.
//!
//! Landlock is not among it: a process under a Landlock rule about files may not mount, nor may what it starts, and a
//! rule about ports would bind the cages' own loopback. The cages are under Landlock, each by its own launcher.
//! Contracts: seccomp(2), capabilities(7).

use std::collections::BTreeMap;

use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// The runner could not be confined, and does not run.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine itself: {0}")]
pub struct ConfineError(String);

/// What root keeps, and why. Everything else leaves the bounding set, so that no program it starts has it either.
const KEPT: &[(CapabilitySet, &str)] = &[
    (
        CapabilitySet::SYS_ADMIN,
        "mounts, loop devices, joining a cage's namespaces",
    ),
    (CapabilitySet::SYS_CHROOT, "joining a cage's mount namespace"),
    (CapabilitySet::SYS_PTRACE, "looking at a cage's init in /proc"),
    (CapabilitySet::SETUID, "a cage's user id map"),
    (CapabilitySet::SETGID, "a cage's group id map"),
    (CapabilitySet::SETPCAP, "emptying a cage's bounding set"),
    (CapabilitySet::CHOWN, "giving a cage its storage"),
    (CapabilitySet::FOWNER, "clearing up what a cage's user has made"),
    (CapabilitySet::DAC_OVERRIDE, "the same, and control groups"),
    (CapabilitySet::DAC_READ_SEARCH, "the same"),
    (
        CapabilitySet::KILL,
        "stopping a cage's processes, which are another user's",
    ),
];

/// Refused with EPERM, here and in everything that is started from here, cages included.
const FORBIDDEN: &[(i64, &str)] = &[
    (libc::SYS_ptrace, "controls another process"),
    (libc::SYS_process_vm_readv, "reads another process' memory"),
    (libc::SYS_process_vm_writev, "writes another process' memory"),
    (libc::SYS_process_madvise, "moves another process' memory"),
    (libc::SYS_pidfd_getfd, "takes another process' files"),
    (libc::SYS_kcmp, "compares processes"),
    (libc::SYS_open_by_handle_at, "opens files past the mounts"),
    (libc::SYS_fanotify_init, "listens to every file of the host"),
    (libc::SYS_chroot, "is a weaker pivot_root"),
    (libc::SYS_swapon, "administers the host"),
    (libc::SYS_swapoff, "administers the host"),
    (libc::SYS_reboot, "administers the host"),
    (libc::SYS_acct, "administers the host"),
    (libc::SYS_quotactl, "administers the host"),
    (libc::SYS_syslog, "reads the kernel's log"),
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
    (libc::SYS_userfaultfd, "is good for little but exploits"),
    (libc::SYS_io_uring_setup, "goes round this very filter"),
    (libc::SYS_add_key, "uses the kernel's keyring"),
    (libc::SYS_request_key, "uses the kernel's keyring"),
    (libc::SYS_keyctl, "uses the kernel's keyring"),
];

/// Kinds of socket that are opened from here on: the parts' and the engine's (Unix), a cage's loopback and its set-up
/// (IPv4, IPv6), and the C library's list of interfaces (netlink). Each other family is refused.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Confines this thread and all that it will start.
///
/// # Errors
/// When the kernel refuses; then the runner must not run.
pub fn confine_process() -> Result<(), ConfineError> {
    set_no_new_privs(true).map_err(|error| failed(&error))?;
    if rustix::process::geteuid().is_root() {
        drop_capabilities()?;
    }
    system_calls()
}

fn failed(error: &dyn std::fmt::Display) -> ConfineError {
    ConfineError(error.to_string())
}

fn drop_capabilities() -> Result<(), ConfineError> {
    let kept = KEPT
        .iter()
        .fold(CapabilitySet::empty(), |all, (one, _)| all | *one);
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The first number that this kernel does not know.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(failed(&error)),
        }
    }
    clear_ambient_capability_set().map_err(|error| failed(&error))?;
    let had = rustix::thread::capabilities(None).map_err(|error| failed(&error))?;
    let sets = CapabilitySets {
        effective: had.effective & kept,
        permitted: had.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(|error| failed(&error))
}

fn system_calls() -> Result<(), ConfineError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        FORBIDDEN.iter().map(|(call, _)| (*call, Vec::new())).collect();
    refused.insert(
        libc::SYS_socket,
        vec![foreign_family()?, of_kind(libc::SOCK_RAW)?],
    );
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| failed(&error))?;
    let action = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, action, arch);
    let program: seccompiler::BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|error| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}

/// A socket of no family that is used here.
fn foreign_family() -> Result<SeccompRule, ConfineError> {
    let not = |family: &i32| {
        let value = u64::from(family.cast_unsigned());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
    };
    let all = FAMILIES.iter().map(not).collect::<Result<Vec<_>, _>>();
    all.and_then(SeccompRule::new).map_err(|error| failed(&error))
}

/// A socket of this kind, whatever its flags, that is not the netlink of the C library.
fn of_kind(kind: i32) -> Result<SeccompRule, ConfineError> {
    let raw = SeccompCondition::new(
        1,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(0xf),
        u64::from(kind.cast_unsigned()),
    );
    let family = u64::from(libc::AF_NETLINK.cast_unsigned());
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family);
    raw.and_then(|raw| SeccompRule::new(vec![raw, other?]))
        .map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    /// In a thread of its own, because there is no way back.
    fn confined<T: Send + 'static>(then: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(|| {
            confine_process().unwrap();
            then()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn sockets_of_other_families_and_raw_ones_are_refused() {
        confined(|| {
            for family in [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6] {
                assert!(socket(family, SocketType::STREAM, None).is_ok(), "{family:?}");
            }
            for (family, kind) in [
                (AddressFamily::PACKET, SocketType::DGRAM),
                (AddressFamily::from_raw(38), SocketType::SEQPACKET),
                (AddressFamily::INET, SocketType::RAW),
            ] {
                assert_eq!(
                    socket(family, kind, None).unwrap_err(),
                    rustix::io::Errno::PERM,
                    "{family:?}"
                );
            }
        });
    }

    #[test]
    fn a_program_that_is_started_has_no_more_capabilities_than_were_kept() {
        let status = confined(|| {
            let output = std::process::Command::new("/bin/cat")
                .arg("/proc/self/status")
                .output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        });
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let kept = KEPT.iter().fold(0, |all, (one, _)| all | one.bits());
        assert_eq!(field("CapEff:") & !kept, 0);
        if rustix::process::geteuid().is_root() {
            assert_eq!(field("CapBnd:") & !kept, 0);
        }
        assert!(
            status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"),
            "{status}"
        );
    }
}
