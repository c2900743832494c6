//! System calls: an allow-list. What is not in it fails with `EPERM`, as if the kernel did not allow it.
//!
//! The table is data with a reason for every group. Notably absent: starting programs, `ptrace` and the other
//! ways into a process, mounts, namespaces, modules, `bpf`, `io_uring`, keyrings, `perf`, clocks, users and
//! groups, devices, signals to others.

use seccompiler::{BpfProgram, TargetArch};
use serde_json::{Value, json};

use super::ConfineError;

/// Calls that are allowed whatever their arguments, and why.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "memory of the process itself",
        &[
            "brk",
            "madvise",
            "mmap",
            "mprotect",
            "mremap",
            "munmap",
            "membarrier",
        ],
    ),
    (
        "threads and their synchronisation",
        &[
            "exit",
            "exit_group",
            "futex",
            "futex_waitv",
            "get_robust_list",
            "gettid",
            "restart_syscall",
            "rseq",
            "sched_getaffinity",
            "sched_getparam",
            "sched_getscheduler",
            "sched_yield",
            // The audit log's committer goes before other work, if it may.
            "sched_get_priority_max",
            "sched_get_priority_min",
            "sched_setscheduler",
            "setpriority",
            "set_robust_list",
            "set_tid_address",
        ],
    ),
    (
        "signals to the process itself: panics, aborts, handlers",
        &[
            "rt_sigaction",
            "rt_sigprocmask",
            "rt_sigreturn",
            "sigaltstack",
            "tgkill",
        ],
    ),
    (
        "time",
        &[
            "clock_getres",
            "clock_gettime",
            "clock_nanosleep",
            "gettimeofday",
            "nanosleep",
        ],
    ),
    (
        "who and where we are; changes nothing",
        &[
            "getegid",
            "geteuid",
            "getgid",
            "getgroups",
            "getpid",
            "getppid",
            "getresgid",
            "getresuid",
            "getrlimit",
            "getrusage",
            "getuid",
            "prlimit64",
            "sysinfo",
            "uname",
            "getcpu",
        ],
    ),
    ("randomness for keys and nonces", &["getrandom"]),
    (
        "files: Landlock and permissions say which",
        &[
            "chdir",
            "close",
            "close_range",
            "copy_file_range",
            "dup",
            "dup3",
            "faccessat",
            "faccessat2",
            "fadvise64",
            "fallocate",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "fchown",
            "fchownat",
            "fcntl",
            "fdatasync",
            "flock",
            "fstat",
            "fstatfs",
            "fsync",
            "ftruncate",
            "getcwd",
            "getdents64",
            "linkat",
            "lseek",
            "mkdirat",
            "newfstatat",
            "openat",
            "openat2",
            "pread64",
            "preadv",
            "pwrite64",
            "pwritev",
            "read",
            "readlinkat",
            "readv",
            "renameat",
            "renameat2",
            "sendfile",
            "statfs",
            "statx",
            "syncfs",
            "symlinkat",
            "sync_file_range",
            "truncate",
            "umask",
            "unlinkat",
            "utimensat",
            "write",
            "writev",
        ],
    ),
    (
        "sockets that exist, and waiting for them",
        &[
            "accept",
            "accept4",
            "bind",
            "connect",
            "epoll_create1",
            "epoll_ctl",
            "epoll_pwait",
            "epoll_pwait2",
            "eventfd2",
            "getpeername",
            "getsockname",
            "getsockopt",
            "listen",
            "pipe2",
            "ppoll",
            "pselect6",
            "recvfrom",
            "recvmmsg",
            "recvmsg",
            "sendmmsg",
            "sendmsg",
            "sendto",
            "setsockopt",
            "shutdown",
            "socketpair",
            "timerfd_create",
            "timerfd_settime",
        ],
    ),
];

/// Older forms of calls above that exist on this architecture only.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[&str] = &[
    "access",
    "chmod",
    "chown",
    "dup2",
    "epoll_create",
    "epoll_wait",
    "eventfd",
    "getdents",
    "link",
    "lstat",
    "mkdir",
    "open",
    "pipe",
    "poll",
    "readlink",
    "rename",
    "rmdir",
    "select",
    "stat",
    "symlink",
    "time",
    "unlink",
    "arch_prctl",
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[&str] = &[];

/// Allowed besides when `exec:` credentials may run a program: to start one, to wait for it, and what programs
/// do as they start.
const EXEC: &[&str] = &[
    "clone",
    "execve",
    "ioctl",
    "kill",
    "memfd_create",
    "mincore",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "setpgid",
    "setsid",
    "timer_create",
    "timer_delete",
    "timer_settime",
    "wait4",
    "waitid",
];
#[cfg(target_arch = "x86_64")]
const EXEC_LEGACY: &[&str] = &["fork", "vfork", "getpgrp", "pause", "alarm"];
#[cfg(not(target_arch = "x86_64"))]
const EXEC_LEGACY: &[&str] = &[];

/// `EPERM` and `ENOSYS`.
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// `CLONE_THREAD`: a clone with it makes a thread of this process and no other process.
const CLONE_THREAD: u32 = 0x0001_0000;
/// `AF_UNIX`, `AF_INET`, `AF_INET6`; `AF_NETLINK`, with which the resolver looks at the host's addresses.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];
/// `PR_GET_NAME`, `PR_SET_NAME` of threads, `PR_SET_NO_NEW_PRIVS`, `PR_SET_VMA` (names for memory).
const PRCTLS: [u32; 4] = [16, 15, 38, 0x5356_4d41];
/// `FIONREAD`, `FIONBIO`, `FIOCLEX`, `TCGETS` (is it a terminal?).
const IOCTLS: [u32; 4] = [0x541B, 0x5421, 0x5451, 0x5401];

/// Installs the filters on this thread.
pub(super) fn restrict(may_exec: bool) -> Result<(), ConfineError> {
    // `clone3` has its flags in memory, where a filter cannot look. Told that it does not exist, the C library
    // uses `clone`, whose flags are an argument.
    install(json!({
        "mismatch_action": "allow",
        "match_action": { "errno": ENOSYS },
        "filter": [{ "syscall": "clone3" }],
    }))?;
    install(json!({
        "mismatch_action": { "errno": EPERM },
        "match_action": "allow",
        "filter": table(may_exec),
    }))
}

/// The rules in the filter compiler's own form.
fn table(may_exec: bool) -> Vec<Value> {
    let always = ALLOWED.iter().flat_map(|(_, names)| names.iter()).chain(LEGACY);
    let exec = EXEC.iter().chain(EXEC_LEGACY).filter(|_| may_exec);
    let mut rules: Vec<Value> = always
        .chain(exec)
        .map(|name| json!({ "syscall": name }))
        .collect();
    // Not restricted by this filter: the other one answers it.
    rules.push(json!({ "syscall": "clone3" }));
    rules.extend(
        FAMILIES
            .iter()
            .map(|family| with_argument("socket", 0, &json!("eq"), *family)),
    );
    if !may_exec {
        rules.push(with_argument(
            "clone",
            0,
            &json!({ "masked_eq": CLONE_THREAD }),
            CLONE_THREAD,
        ));
        rules.extend(
            PRCTLS
                .iter()
                .map(|option| with_argument("prctl", 0, &json!("eq"), *option)),
        );
        rules.extend(
            IOCTLS
                .iter()
                .map(|request| with_argument("ioctl", 1, &json!("eq"), *request)),
        );
    }
    rules
}

fn with_argument(name: &str, index: u8, op: &Value, value: u32) -> Value {
    json!({ "syscall": name, "args": [{ "index": index, "type": "dword", "op": op, "val": value }] })
}

fn install(filter: Value) -> Result<(), ConfineError> {
    let program = compile(filter)?;
    seccompiler::apply_filter(&program).map_err(|error| ConfineError::Seccomp(Box::new(error)))
}

fn compile(filter: Value) -> Result<BpfProgram, ConfineError> {
    let failed = |error: seccompiler::Error| ConfineError::Seccomp(Box::new(error));
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| failed(seccompiler::Error::Backend(error)))?;
    let text = json!({ "gateway": filter }).to_string();
    let mut programs = seccompiler::compile_from_json(text.as_bytes(), arch).map_err(failed)?;
    programs
        .remove("gateway")
        .ok_or_else(|| failed(seccompiler::Error::EmptyFilter))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn both_tables_compile_and_name_each_call_once() {
        for may_exec in [false, true] {
            let rules = table(may_exec);
            let plain = rules.iter().filter(|rule| rule.get("args").is_none());
            let names: Vec<_> = plain.map(|rule| rule["syscall"].to_string()).collect();
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
            compile(
                json!({ "mismatch_action": { "errno": EPERM }, "match_action": "allow", "filter": rules }),
            )
            .unwrap();
        }
    }

    #[test]
    fn without_exec_nothing_in_the_table_starts_a_program_or_enters_another() {
        let forbidden = [
            "execve",
            "execveat",
            "fork",
            "vfork",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "mount",
            "unshare",
            "setns",
            "bpf",
            "init_module",
            "finit_module",
            "io_uring_setup",
            "kill",
            "setuid",
            "chroot",
            "pivot_root",
            "perf_event_open",
            "userfaultfd",
            "keyctl",
            "open_by_handle_at",
        ];
        for rule in table(false) {
            let name = rule["syscall"].as_str().unwrap();
            assert!(!forbidden.contains(&name), "{name}");
        }
    }
}
