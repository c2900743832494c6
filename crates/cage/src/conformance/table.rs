//! The table of probes: what is tried, what it means that it failed, who judges, and what the trial needs.
//!
//! Data only. `claw probe NAME` does what a row with an inside part says, [`outside`](super::outside) what the others
//! say; the matrix in `docs/isolation-matrix.md` is these rows and what came of them on each back end.

use clawstaff_types::spec::Limit;

use crate::{
    backend::limit_name,
    capability::{Capabilities, Enforcement, Feature},
    reached::Reached,
};

/// Who says whether the boundary stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The process that tried; nobody else can see it.
    Inside,
    /// The process that tried, and the host or a neighbour that must have noticed nothing.
    Both,
    /// The host alone, by looking at the cage.
    Outside,
}

/// What a trial makes no sense without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A limit that the host enforces.
    Limit(Limit),
    /// A part of the boundary that the host has.
    Feature(Feature),
    /// That the back end tells when this limit is met.
    Told(Reached),
}

/// What the probe is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// The limit of processes.
    Pids,
    /// The size of `/tmp`.
    TmpBytes,
    /// The size of `/data`.
    StorageBytes,
    /// Host process ids: a neighbour's init and the suite's own.
    Processes,
    /// The name of files that a neighbour and the host have.
    MarkName,
    /// The path of a file that the host has.
    MarkPath,
    /// The name of shared objects that a neighbour and the host hold.
    SharedName,
    /// A TCP port on which a neighbour and the host listen at their loopback.
    Port,
}

/// An attempt to get out.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Its name, for `claw probe`.
    pub name: &'static str,
    /// What is tried.
    pub tries: &'static str,
    /// What it shows when it holds.
    pub shows: &'static str,
    /// Who says so.
    pub judge: Judge,
    /// Whether it disturbs the cage or needs a neighbour made for it: not for a cage at work.
    pub disruptive: bool,
    /// What it needs of the host.
    pub needs: Option<Need>,
    /// What it is told.
    pub told: Told,
}

impl Probe {
    const fn staged(mut self, told: Told) -> Self {
        self.disruptive = true;
        self.told = told;
        self
    }

    const fn both(mut self) -> Self {
        self.judge = Judge::Both;
        self
    }

    const fn needs(mut self, need: Need) -> Self {
        self.needs = Some(need);
        self
    }
}

const fn inside(name: &'static str, tries: &'static str, shows: &'static str) -> Probe {
    Probe {
        name,
        tries,
        shows,
        judge: Judge::Inside,
        disruptive: false,
        needs: None,
        told: Told::Nothing,
    }
}

const fn outside(name: &'static str, tries: &'static str, shows: &'static str) -> Probe {
    Probe {
        judge: Judge::Outside,
        ..inside(name, tries, shows)
    }
}

/// Every probe, in the order in which they run.
pub const PROBES: [Probe; 60] = [
    inside(
        "capabilities-empty",
        "read the five capability sets of a process in the cage",
        "no process has a capability, or a way to get one",
    ),
    inside(
        "no-new-privileges",
        "read the flag `no_new_privs`",
        "no program can give more rights than its caller has",
    ),
    inside(
        "not-root",
        "read real, effective and saved user and group ids",
        "nothing runs as root, not even a root of its own",
    ),
    inside(
        "setuid-gains-nothing",
        "give a file to root, set its set-user-id bits and a file capability; look for mounts where such bits count",
        "no file can lend another identity",
    ),
    inside(
        "seccomp-filter",
        "read whether system calls are filtered",
        "system calls are filtered",
    ),
    inside(
        "no-foreign-calls",
        "call the kernel by x32 numbers and through the gate of 32-bit programs",
        "there is no second numbering of system calls beside the filter",
    ),
    inside(
        "processes-hidden",
        "list every process in /proc",
        "no process outside the cage is in sight",
    ),
    inside(
        "signals-stay-inside",
        "kill everything, then the process ids of a neighbour and of the host",
        "no signal reaches a process outside the cage",
    )
    .staged(Told::Processes)
    .both(),
    inside(
        "descriptors-clean",
        "list the open descriptors of a process in the cage",
        "nothing open was inherited from the host",
    ),
    inside(
        "environment-clean",
        "read the environment",
        "no variable was inherited from the host",
    ),
    inside(
        "no-core-dumps",
        "read the limits of core files and open files",
        "a crash writes no memory anywhere",
    ),
    inside(
        "no-terminal-injection",
        "TIOCSTI, TIOCLINUX, TIOCSCTTY",
        "nothing can be typed into a terminal",
    ),
    inside(
        "no-mounts",
        "mount, move, unmount, chroot and pivot_root, by the old calls and the new",
        "no file system can be mounted, moved or unmounted",
    ),
    inside(
        "no-remounts",
        "make `/`, `/claw`, `/proc/sys` writable again, and uncover what is covered",
        "what is read-only stays so",
    ),
    inside(
        "no-namespaces",
        "unshare, clone, clone3 and setns for every kind of namespace",
        "no new namespace can be made or joined",
    ),
    inside(
        "namespaces-unchangeable",
        "write id maps, `setgroups`, time offsets and the out-of-memory score",
        "what a namespace is, and who is killed first, cannot be changed",
    ),
    inside(
        "no-tracing",
        "ptrace, process_vm_readv and _writev, pidfd_getfd, kcmp",
        "no process can read or steer another",
    ),
    inside(
        "no-bpf-or-perf",
        "bpf, perf_event_open",
        "no program can be loaded into the kernel, no counter opened",
    ),
    inside(
        "no-userfaultfd",
        "userfaultfd",
        "page faults cannot be handled by the cage",
    ),
    inside(
        "no-io-uring",
        "io_uring and the older asynchronous calls",
        "there is no second road for system calls",
    ),
    inside(
        "no-modules-or-kexec",
        "load and remove modules, load another kernel",
        "the kernel can be neither extended nor replaced",
    ),
    inside(
        "no-file-handles",
        "name_to_handle_at, open_by_handle_at, fanotify",
        "no file can be opened by number, past the mounts",
    ),
    inside(
        "no-keyrings",
        "keyctl, add_key, request_key",
        "the kernel's keyrings are out of reach",
    ),
    inside(
        "no-clocks",
        "set and adjust the clocks",
        "the machine's clocks cannot be set",
    ),
    inside(
        "no-identity-change",
        "change user, group and capabilities",
        "no process can become another user",
    ),
    inside(
        "no-priority",
        "lower the nice value, ask for real-time scheduling and a real-time disk queue",
        "no process takes more than its share by rank",
    ),
    inside(
        "no-administration",
        "reboot, read the kernel's log, rename the host, accounting, port access",
        "the machine cannot be restarted, renamed or listened to",
    ),
    inside(
        "root-read-only",
        "make and change files all over the root file system",
        "the root file system cannot be changed",
    ),
    inside(
        "door-read-only",
        "make and rename files in `/claw`",
        "the door's directory cannot be changed",
    ),
    inside(
        "links-stay-inside",
        "read a host file through symbolic links by every root in sight; give read-only files a second name in `/data`",
        "no link leads out of the cage or past its mounts",
    )
    .staged(Told::MarkPath)
    .both(),
    inside(
        "devices-minimal",
        "look at every device, and make device nodes in `/tmp`, `/data` and `/dev/shm`",
        "only harmless devices exist, and none can be made",
    ),
    inside(
        "proc-masked",
        "read and write the parts of /proc that speak of the host",
        "/proc tells nothing of the host",
    ),
    inside(
        "sys-masked",
        "read and write the parts of /sys that speak of the host",
        "/sys and cgroups cannot be changed",
    ),
    inside(
        "no-release-agent",
        "open every lever of every control group in sight, make a group, read the groups' names",
        "limits cannot be changed, and no program started on the host through them",
    ),
    inside(
        "core-pattern-locked",
        "open the kernel's settings for writing",
        "the kernel's settings cannot be changed",
    ),
    inside(
        "no-engine-socket",
        "look for the sockets of engines and of the system",
        "no engine's or system's socket is in sight",
    ),
    inside(
        "neighbours-unreachable",
        "search everything in sight, and every process's root, for a neighbour's and a host's file",
        "no file of another cage or of the host is in sight",
    )
    .staged(Told::MarkName)
    .both(),
    inside(
        "ipc-separate",
        "find a neighbour's and the host's System V and POSIX shared memory, semaphores and abstract sockets",
        "nothing that processes share without a file crosses the boundary",
    )
    .staged(Told::SharedName)
    .both(),
    inside(
        "no-message-queues",
        "make and open message queues of both kinds",
        "there are no message queues",
    ),
    inside(
        "loopback-only",
        "list interfaces and routes",
        "there is no network interface but loopback",
    ),
    inside(
        "host-loopback-unreachable",
        "connect to a port on which the host and a neighbour listen at their loopback",
        "the loopback of others is not the cage's",
    )
    .staged(Told::Port)
    .both(),
    inside(
        "no-metadata-service",
        "connect to the clouds' metadata addresses",
        "cloud metadata addresses fail at once",
    ),
    inside(
        "no-private-network",
        "connect to private addresses",
        "private addresses fail at once",
    ),
    inside(
        "no-internet",
        "connect to a public IPv4 address",
        "public IPv4 addresses fail at once",
    ),
    inside(
        "no-internet-v6",
        "connect to a public IPv6 address",
        "public IPv6 addresses fail at once",
    ),
    inside(
        "no-datagrams",
        "send datagrams out, by broadcast and multicast too",
        "no datagram leaves, broadcast and multicast included",
    ),
    inside(
        "no-special-sockets",
        "open packet, raw, netlink, vsock, ALG, XDP, SCTP and other sockets",
        "no socket but Unix, TCP and UDP can be opened",
    ),
    inside(
        "fork-bomb-bounded",
        "start processes until it fails",
        "processes stop at their limit",
    )
    .staged(Told::Pids)
    .needs(Need::Limit(Limit::Pids)),
    inside(
        "descriptors-bounded",
        "open files until it fails",
        "open files stop at their limit",
    )
    .staged(Told::Nothing),
    inside(
        "tmp-bounded",
        "fill `/tmp` and `/dev/shm`",
        "temporary files stop at their limit",
    )
    .staged(Told::TmpBytes),
    inside(
        "tmp-inodes-bounded",
        "make empty files in `/tmp` and `/dev/shm` until it fails",
        "the number of temporary files stops at a limit",
    )
    .staged(Told::Nothing),
    inside(
        "storage-bounded",
        "fill `/data`",
        "storage stops at its limit",
    )
    .staged(Told::StorageBytes)
    .needs(Need::Limit(Limit::Storage)),
    inside(
        "storage-inodes-bounded",
        "make empty files in `/data` until it fails",
        "the number of stored files stops at a limit",
    )
    .staged(Told::Nothing)
    .needs(Need::Limit(Limit::Storage)),
    outside(
        "init-is-powerless",
        "read the init's status in the host's /proc",
        "the init has no capability, no privilege to gain and is not the host's root",
    ),
    outside(
        "init-holds-nothing",
        "list the init's open descriptors in the host's /proc",
        "the init holds no file or socket of the host but its output and its door",
    ),
    outside(
        "init-environment-clean",
        "read the init's environment in the host's /proc",
        "the init's environment has nothing of the host",
    ),
    outside(
        "namespaces-of-its-own",
        "compare the init's namespaces with the host's and a neighbour's",
        "process, mount, network, IPC, name and cgroup namespaces are its own",
    ),
    outside(
        "user-of-its-own",
        "compare the init's user on the host, and its user namespace, with the host's and a neighbour's",
        "the cage's user is a user of its own on the host",
    )
    .needs(Need::Feature(Feature::OwnUser)),
    outside(
        "mounts-as-promised",
        "read the cage's mount table in the host's /proc",
        "only `/data`, `/tmp` and devices can be written; no mount is shared back, none lends an identity",
    ),
    outside(
        "host-untouched",
        "plant files, sockets and settings on the host before, look at them after",
        "nothing on the host was changed or called",
    )
    .staged(Told::Nothing),
];

/// The probes, for tables and documentation.
pub fn probes() -> &'static [Probe] {
    &PROBES
}

/// Why a trial cannot be made on this host, if it cannot: the name of what is missing, and the reason.
pub(super) fn missing(capabilities: &Capabilities, need: Option<Need>) -> Option<String> {
    let need = need?;
    let found = match need {
        Need::Told(reached) => capabilities.told.get(&reached),
        Need::Limit(limit) => capabilities.limits.get(&limit),
        Need::Feature(feature) => capabilities.features.get(&feature),
    };
    match found? {
        Enforcement::Enforced => None,
        Enforcement::NotEnforced { why, .. } => Some(match name_of(need) {
            Some(name) => format!("{name}: {why}"),
            None => why.clone(),
        }),
    }
}

/// What is missing; nothing where the reason alone says it.
fn name_of(need: Need) -> Option<String> {
    let name = match need {
        Need::Told(_) => return None,
        Need::Limit(limit) => return Some(format!("limit of {}", limit_name(limit))),
        Need::Feature(Feature::OwnUser) => "user of its own",
        Need::Feature(Feature::Seccomp) => "seccomp",
        Need::Feature(Feature::Landlock) => "Landlock",
        Need::Feature(Feature::Freeze) => "freezing",
    };
    Some(name.to_owned())
}
