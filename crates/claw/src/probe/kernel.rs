//! Probes of the system-call boundary: calls that a cage must not be able to make at all.
//!
//! The arguments are zeros, which do nothing where the call is let through; then the answer is another error, or
//! success, and both mean that the boundary did not stand.

#![expect(
    unsafe_code,
    reason = "system calls by number, most of which no library offers"
)]

use std::{
    ffi::{CStr, c_int, c_long},
    io,
    process::{Command, Stdio},
};

use super::{Findings, Verdict};

unsafe extern "C" {
    /// The C library's own, which `std` links.
    fn syscall(number: c_long, ...) -> c_long;
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// A call by name and number on x86-64 and `AArch64`; 0 where it does not exist.
type Call = (&'static str, c_long, c_long);

fn number((_, x86_64, aarch64): Call) -> c_long {
    if cfg!(target_arch = "x86_64") {
        x86_64
    } else {
        aarch64
    }
}

/// Makes a call with the arguments and returns its error number, 0 for success.
fn call(number: c_long, args: [c_long; 6]) -> i32 {
    let [first, second, third, fourth, fifth, sixth] = args;
    // SAFETY: every caller passes integers and null pointers only, so that no memory of ours can be touched; the
    // calls that act without memory act on nothing (descriptor -1, process 0, flags 0) or end with this process.
    error_of(unsafe { syscall(number, first, second, third, fourth, fifth, sixth) })
}

/// Expects each call to be refused as a call, whatever its arguments.
pub(super) fn refused(calls: &[Call]) -> Verdict {
    let mut findings = Findings::default();
    for one in calls.iter().filter(|one| number(**one) != 0) {
        let error = call(number(*one), [0; 6]);
        findings.expect(matches!(error, EPERM | ENOSYS), || match error {
            0 => format!("{} was let through", one.0),
            error => format!("{} reached the kernel (error {error})", one.0),
        });
    }
    findings.verdict("calls refused")
}

pub(super) fn no_mounts(_: &[String]) -> Verdict {
    refused(&[
        ("mount", 165, 40),
        ("umount2", 166, 39),
        ("pivot_root", 155, 41),
        ("chroot", 161, 51),
        ("open_tree", 428, 428),
        ("move_mount", 429, 429),
        ("fsopen", 430, 430),
        ("fsconfig", 431, 431),
        ("fsmount", 432, 432),
        ("fspick", 433, 433),
        ("mount_setattr", 442, 442),
        ("swapon", 167, 224),
        ("quotactl", 179, 60),
    ])
}

pub(super) fn no_namespaces(_: &[String]) -> Verdict {
    const KINDS: [(&str, c_long); 8] = [
        ("time", 0x80),
        ("mount", 0x0002_0000),
        ("cgroup", 0x0200_0000),
        ("uts", 0x0400_0000),
        ("ipc", 0x0800_0000),
        ("user", 0x1000_0000),
        ("pid", 0x2000_0000),
        ("net", 0x4000_0000),
    ];
    const SIGCHLD: c_long = 17;
    let mut findings = Findings::default();
    for (name, flag) in KINDS {
        let error = call(number(("unshare", 272, 97)), [flag, 0, 0, 0, 0, 0]);
        findings.expect(error == EPERM, || {
            format!("unshare of a {name} namespace: error {error}")
        });
    }
    for (name, flag) in KINDS.iter().skip(1) {
        let before = std::process::id();
        let error = call(number(("clone", 56, 220)), [flag | SIGCHLD, 0, 0, 0, 0, 0]);
        if std::process::id() != before || (error == 0 && std::fs::read_link("/proc/self").is_err()) {
            // The child of a clone that should not have worked.
            std::process::exit(0);
        }
        findings.expect(error == EPERM, || {
            format!("clone into a {name} namespace: error {error}")
        });
    }
    let setns = call(number(("setns", 308, 268)), [0; 6]);
    findings.expect(setns == EPERM, || format!("setns: error {setns}"));
    let clone3 = call(435, [0; 6]);
    findings.expect(matches!(clone3, EPERM | ENOSYS), || {
        format!("clone3: error {clone3}")
    });
    findings.verdict("ways into a new namespace refused")
}

pub(super) fn no_tracing(_: &[String]) -> Verdict {
    refused(&[
        ("ptrace", 101, 117),
        ("process_vm_readv", 310, 270),
        ("process_vm_writev", 311, 271),
        ("kcmp", 312, 272),
        ("pidfd_getfd", 438, 438),
        ("process_madvise", 440, 440),
        ("move_pages", 279, 239),
    ])
}

pub(super) fn no_bpf_or_perf(_: &[String]) -> Verdict {
    refused(&[("bpf", 321, 280), ("perf_event_open", 298, 241)])
}

pub(super) fn no_userfaultfd(_: &[String]) -> Verdict {
    refused(&[("userfaultfd", 323, 282)])
}

pub(super) fn no_io_uring(_: &[String]) -> Verdict {
    refused(&[
        ("io_uring_setup", 425, 425),
        ("io_uring_enter", 426, 426),
        ("io_uring_register", 427, 427),
        ("io_setup", 206, 0),
        ("io_submit", 209, 2),
    ])
}

pub(super) fn no_modules_or_kexec(_: &[String]) -> Verdict {
    refused(&[
        ("init_module", 175, 105),
        ("finit_module", 313, 273),
        ("delete_module", 176, 106),
        ("kexec_load", 246, 104),
        ("kexec_file_load", 320, 294),
    ])
}

pub(super) fn no_file_handles(_: &[String]) -> Verdict {
    refused(&[
        ("open_by_handle_at", 304, 265),
        ("name_to_handle_at", 303, 264),
        ("fanotify_init", 300, 262),
    ])
}

pub(super) fn no_keyrings(_: &[String]) -> Verdict {
    refused(&[
        ("keyctl", 250, 219),
        ("add_key", 248, 217),
        ("request_key", 249, 218),
    ])
}

pub(super) fn no_clocks(_: &[String]) -> Verdict {
    refused(&[
        ("settimeofday", 164, 170),
        ("clock_settime", 227, 112),
        ("clock_adjtime", 305, 266),
        ("adjtimex", 159, 171),
    ])
}

pub(super) fn no_identity_change(_: &[String]) -> Verdict {
    refused(&[
        ("setuid", 105, 146),
        ("setgid", 106, 144),
        ("setresuid", 117, 147),
        ("setresgid", 119, 149),
        ("setgroups", 116, 159),
        ("capset", 126, 91),
    ])
}

pub(super) fn no_administration(_: &[String]) -> Verdict {
    refused(&[
        ("reboot", 169, 142),
        ("syslog", 103, 116),
        ("acct", 163, 89),
        ("sethostname", 170, 161),
        ("setdomainname", 171, 162),
        ("vhangup", 153, 58),
        ("iopl", 172, 0),
        ("ioperm", 173, 0),
        ("modify_ldt", 154, 0),
        ("memfd_secret", 447, 447),
        ("vmsplice", 278, 75),
    ])
}

/// `TIOCSTI` types into the terminal that started us; `TIOCLINUX` pastes into a console.
pub(super) fn no_terminal_injection(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for (name, request) in [("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C), ("TIOCSCTTY", 0x540E)] {
        let error = call(number(("ioctl", 16, 29)), [0, request, 0, 0, 0, 0]);
        findings.expect(error == EPERM, || format!("{name}: error {error}"));
    }
    findings.verdict("ways to type into a terminal refused")
}

/// The same machine has other doors to its kernel: the x32 numbers, and the gate of 32-bit programs.
pub(super) fn no_foreign_calls(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for way in ["x32", "gate"] {
        // In a process of its own, because the answer may be its death.
        let child = Command::new("/proc/self/exe")
            .args(["probe", "actor", "foreign-call", way])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("no process could be started: {error}"))?;
        findings.expect(child.status.code() != Some(0), || {
            format!("a call by way of {way} was answered")
        });
    }
    findings.verdict("foreign ways to call the kernel closed")
}

/// Asks for its process id in a foreign way; whether it was told.
pub(super) fn foreign_call(way: &str) -> bool {
    const GETPID: c_long = 39;
    const X32: c_long = 0x4000_0000;
    match way {
        "x32" => cfg!(target_arch = "x86_64") && call(X32 | GETPID, [0; 6]) == 0,
        "gate" => old_call() > 0,
        _ => false,
    }
}

/// Asks for its process id as a 32-bit program would.
#[cfg(target_arch = "x86_64")]
fn old_call() -> i64 {
    let mut answer: i64 = 20;
    // SAFETY: the 32-bit `getpid` takes no argument and touches no memory; the gate keeps every other register but
    // r8 to r11, which are named as lost.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inout("rax") answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    answer
}

/// Other machines have no such gate.
#[cfg(not(target_arch = "x86_64"))]
fn old_call() -> i64 {
    -1
}

/// More of the machine than its share: a negative nice value, real-time scheduling, a real-time disk queue.
pub(super) fn no_priority(_: &[String]) -> Verdict {
    const FIFO: c_long = 1;
    const REAL_TIME_DISK: c_long = 1 << 13;
    let mut findings = Findings::default();
    let nice = call(number(("setpriority", 141, 140)), [0, 0, -5, 0, 0, 0]);
    findings.expect(nice != 0, || "the nice value could be lowered".to_owned());
    let priority: c_int = 1;
    let scheduler = number(("sched_setscheduler", 144, 119));
    // SAFETY: `priority` is a `sched_param` and lives across the call, which only reads it.
    let result = unsafe { syscall(scheduler, 0 as c_long, FIFO, &raw const priority) };
    findings.expect(result < 0, || "real-time scheduling could be had".to_owned());
    let disk = call(number(("ioprio_set", 251, 30)), [1, 0, REAL_TIME_DISK, 0, 0, 0]);
    findings.expect(disk != 0, || "the disk could be had first".to_owned());
    findings.verdict("ways to more than a share refused")
}

const IPC_CREAT: c_long = 0o1000;

/// Makes a System V shared memory; returns the error number, 0 for success.
pub(super) fn make_shared_memory(key: i64) -> i32 {
    call(
        number(("shmget", 29, 194)),
        [key, 4096, IPC_CREAT | 0o666, 0, 0, 0],
    )
}

/// Makes a System V semaphore; returns the error number, 0 for success.
pub(super) fn make_semaphore(key: i64) -> i32 {
    call(number(("semget", 64, 190)), [key, 1, IPC_CREAT | 0o666, 0, 0, 0])
}

/// Looks for a System V shared memory; returns the error number, 0 when it was found.
pub(super) fn find_shared_memory(key: i64) -> i32 {
    call(number(("shmget", 29, 194)), [key, 0, 0, 0, 0, 0])
}

/// Looks for a System V semaphore; returns the error number, 0 when it was found.
pub(super) fn find_semaphore(key: i64) -> i32 {
    call(number(("semget", 64, 190)), [key, 0, 0, 0, 0, 0])
}

/// Asks for a mount to be made writable; returns the error number, 0 for success.
pub(super) fn remount_writable(place: &CStr) -> i32 {
    const REMOUNT_BIND: c_long = 0x20 | 0x1000;
    let none = std::ptr::null::<u8>();
    // SAFETY: `place` is a C string that lives across the call, and the other pointers are null; the kernel reads.
    let result = unsafe {
        let number = number(("mount", 165, 40));
        syscall(number, none, place.as_ptr(), none, REMOUNT_BIND, none)
    };
    error_of(result)
}

/// Asks for a mount to be taken away; returns the error number, 0 for success.
pub(super) fn unmount(place: &CStr) -> i32 {
    const DETACH: c_long = 2;
    // SAFETY: `place` is a C string that lives across the call; the kernel only reads it.
    error_of(unsafe { syscall(number(("umount2", 166, 39)), place.as_ptr(), DETACH) })
}

/// Asks for a file to carry every capability; returns the error number, 0 for success.
pub(super) fn give_file_capability(path: &CStr) -> i32 {
    /// `struct vfs_cap_data`, revision 2, effective, with every capability that fits.
    const ALL: [u32; 5] = [0x0200_0001, u32::MAX, 0, 0x1ff, 0];
    // SAFETY: both strings and the array live across the call, which only reads as many bytes as it is told.
    error_of(unsafe {
        syscall(
            number(("setxattr", 188, 5)),
            path.as_ptr(),
            c"security.capability".as_ptr(),
            ALL.as_ptr(),
            size_of_val(&ALL),
            0 as c_long,
        )
    })
}

fn error_of(result: c_long) -> i32 {
    if result >= 0 {
        0
    } else {
        io::Error::last_os_error().raw_os_error().unwrap_or_default()
    }
}

/// Opens a socket of any kind and returns its error number, 0 for success.
pub(super) fn socket(family: c_int, kind: c_int, protocol: c_int) -> i32 {
    let number = number(("socket", 41, 198));
    call(number, [family.into(), kind.into(), protocol.into(), 0, 0, 0])
}

/// Sends a signal and returns its error number, 0 for success.
pub(super) fn kill(pid: i32, signal: c_int) -> i32 {
    call(number(("kill", 62, 129)), [pid.into(), signal.into(), 0, 0, 0, 0])
}

/// Makes a device node and returns the error number, 0 for success. `path` ends with a zero byte.
pub(super) fn make_device(path: &CStr, mode: u32, major: u32, minor: u32) -> i32 {
    const AT_FDCWD: c_long = -100;
    let device = c_long::from((major << 8) | minor);
    // SAFETY: `path` is a C string that lives across the call; the kernel only reads it.
    error_of(unsafe {
        syscall(
            number(("mknodat", 259, 33)),
            AT_FDCWD,
            path.as_ptr(),
            c_long::from(mode),
            device,
        )
    })
}
