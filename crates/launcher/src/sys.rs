//! The system calls that `rustix` has no safe word for, each behind a small function. All `unsafe` of the launcher
//! that is not about memory layout of an `ioctl` is here.

#![expect(unsafe_code, reason = "raw system calls; each block carries its argument")]

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::process::Pid;

use crate::fault::last_error;

/// `struct clone_args` of `<linux/sched.h>`, third version (88 bytes, Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of `<linux/sched.h>`.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct mount_attr` of `<linux/mount.h>`, first version (32 bytes).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Read-only.
pub(crate) const RDONLY: u64 = 0x1;
/// Set-user-id bits mean nothing.
pub(crate) const NOSUID: u64 = 0x2;
/// Device nodes mean nothing.
pub(crate) const NODEV: u64 = 0x4;
/// Nothing is executed.
pub(crate) const NOEXEC: u64 = 0x8;

/// Which side of a [`clone`] one is on.
pub(crate) enum Side {
    Parent { child: Pid, pidfd: OwnedFd },
    Child,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

/// Forks into new namespaces (`CLONE_NEW*`) and into the unified cgroup of this directory.
pub(crate) fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: `args` and `pidfd` live across the call and have the layout and size the kernel is told. Without
    // CLONE_VM the child has its own copy of this memory, and the launcher has one thread, so that no lock of
    // another thread can be held in the copy.
    let result = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    let Some(child) = Pid::from_raw(i32::try_from(result).unwrap_or_default()) else {
        return Ok(Side::Child);
    };
    // SAFETY: the kernel stored a new descriptor in `pidfd`, which nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Side::Parent { child, pidfd })
}

/// Leaves the namespaces named by `flags` for new ones.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; the launcher has one thread and relies on none of the shared state given up.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Sets attributes of the mount at `path`, and of all below it when `recursive`.
pub(crate) fn mount_setattr(path: &CStr, set: u64, recursive: bool) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: set,
        ..MountAttr::default()
    };
    let flags = libc::AT_SYMLINK_NOFOLLOW | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is a C string and `attr` has the layout and size the kernel is told; both live across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Makes `fd` the standard descriptor `number` (0, 1 or 2).
pub(crate) fn dup_to(fd: BorrowedFd<'_>, number: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; only descriptors 0 to 2 are replaced, which nothing in the launcher owns.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into()).map(drop)
}

/// Makes every descriptor from 3 up close at the next `execve`.
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: takes no pointer, and marks descriptors without closing any.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Gives every signal its default action and blocks none: both survive `execve`.
pub(crate) fn default_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours. Numbers that cannot be set are refused, which is as good.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero `sigset_t` is the empty set on Linux, and it lives across the call.
    let done = unsafe {
        let empty: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut())
    };
    check(done.into()).map(drop)
}

/// Replaces the program. Returns only when it could not.
pub(crate) fn execve(command: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(command), pointers(environment));
    let Some(program) = command.first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    // SAFETY: both arrays end with a null pointer and point to C strings that live across the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_error()
}

/// Adds a seccomp filter that every thread and child keeps for good.
pub(crate) fn add_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let prog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `prog` points to `len` instructions; the kernel copies them and writes nothing back.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const prog,
        )
    })
    .map(drop)
}

/// Ends without running destructors or flushing what a copy of this process also holds.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}
