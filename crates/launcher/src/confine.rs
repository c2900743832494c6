//! The last steps of a process of the cage before it becomes the program: fewer rights with each line, in the one
//! order that works.
//!
//! The bounding set goes before the user id changes: the other way round the kernel has taken the right to shrink
//! it already, and it would silently stay full.

use std::{ffi::CString, fs::File, io, path::Path};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
    make_bitflags,
};
use rustix::{
    fs::Mode,
    io::Errno,
    process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit, setsid, umask},
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::{
    fault::{During, Fault, Result},
    seccomp, sys,
};

/// What a program of the cage finds in its environment, unless its image says otherwise; nothing comes from the host.
const ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/data",
    "LANG=C.UTF-8",
    "TMPDIR=/tmp",
];

/// The newest Landlock that we know of; an older kernel gives what it has.
const LANDLOCK: ABI = ABI::V6;

/// Who the program will be the child of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The cage's init; it and all of its children may signal and connect only among themselves.
    Init,
    /// An operator's command beside it.
    Guest,
}

/// Empties the bounding set and takes on the cage's one user id.
pub(crate) fn take_identity(inside: u32, privileged: bool) -> Result<()> {
    for number in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The first number that this kernel does not know.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error).during("empty the bounding set"),
        }
    }
    if privileged {
        set_thread_groups(&[]).during("leave all groups")?;
    }
    let (user, group) = (Uid::from_raw(inside), Gid::from_raw(inside));
    set_thread_res_gid(group, group, group).during("take the cage's group id")?;
    set_thread_res_uid(user, user, user).during("take the cage's user id")
}

/// The program to become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) command: &'a [Vec<u8>],
    /// Variables on top of [`ENVIRONMENT`].
    pub(crate) env: &'a [Vec<u8>],
    /// Where it starts; `/data` when that is not there.
    pub(crate) directory: Option<&'a Path>,
}

/// Confines the process for good and becomes the program.
pub(crate) fn become_program(
    program: Program<'_>,
    pids: u64,
    role: Role,
) -> Result<std::convert::Infallible> {
    let command = c_strings(program.command.iter().map(Vec::as_slice))?;
    let environment = c_strings(environment(program.env).into_iter())?;
    umask(Mode::from_raw_mode(0o022));
    let elsewhere = program
        .directory
        .is_some_and(|dir| std::env::set_current_dir(dir).is_ok());
    if !elsewhere {
        std::env::set_current_dir("/data").during("enter /data")?;
    }
    // An init leads its session already when it is asked; a guest never does.
    let _ = setsid();
    lower_limits(pids)?;
    sys::default_signals().during("reset the signals")?;
    sys::close_all_on_exec().during("close the descriptors")?;
    set_no_new_privs(true).during("set no_new_privs")?;
    restrict_files(role)?;
    drop_capabilities()?;
    set_parent_process_death_signal(Some(Signal::KILL)).during("set the parent's death signal")?;
    seccomp::apply()?;
    let error = sys::execve(&command, &environment);
    let program = command.first().map(|text| text.to_string_lossy().into_owned());
    Err(Fault::new(format!(
        "cannot run {}: {error}",
        program.unwrap_or_default()
    )))
}

/// Our own variables where `more` has none of that name, then `more`.
fn environment(more: &[Vec<u8>]) -> Vec<&[u8]> {
    fn name(variable: &[u8]) -> &[u8] {
        variable.split(|byte| *byte == b'=').next().unwrap_or_default()
    }
    let ours = ENVIRONMENT.iter().map(|text| text.as_bytes());
    let ours = ours.filter(|own| more.iter().all(|other| name(other) != name(own)));
    ours.chain(more.iter().map(Vec::as_slice)).collect()
}

fn c_strings<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<Vec<CString>> {
    texts
        .map(CString::new)
        .collect::<std::result::Result<_, _>>()
        .during("pass a text with a zero byte")
}

/// Limits that no cgroup knows. `RLIMIT_NPROC` counts per user namespace, so it bounds one cage, and is all there
/// is where no cgroup can be made.
fn lower_limits(pids: u64) -> Result<()> {
    let limits = [
        (Resource::Core, 0),
        (Resource::Memlock, 64 << 10),
        (Resource::Msgqueue, 0),
        (Resource::Nofile, 1024),
        (Resource::Nproc, pids),
        (Resource::Rtprio, 0),
        (Resource::Sigpending, 1024),
    ];
    for (resource, most) in limits {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).during(&format!("lower the limit {resource:?}"))?;
    }
    Ok(())
}

fn drop_capabilities() -> Result<()> {
    clear_ambient_capability_set().during("empty the ambient set")?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets).during("drop all capabilities")
}

/// Landlock, a second wall behind the mounts: reading everywhere, writing only where the cage owns the place.
fn restrict_files(role: Role) -> Result<()> {
    let all = AccessFs::from_all(LANDLOCK);
    let own = all & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
    let devices = make_bitflags!(AccessFs::{ReadFile | WriteFile | ReadDir | IoctlDev});
    let rules: [(&str, BitFlags<AccessFs>); 5] = [
        ("/", AccessFs::from_read(LANDLOCK)),
        ("/dev", devices),
        ("/dev/shm", own),
        ("/tmp", own),
        ("/data", own),
    ];
    let mut ruleset = Ruleset::default()
        .handle_access(all)
        .during("handle files with Landlock")?;
    if role == Role::Init {
        ruleset = ruleset
            .scope(Scope::from_all(LANDLOCK))
            .during("scope signals with Landlock")?;
    }
    let mut ruleset = ruleset.create().during("make a Landlock ruleset")?;
    for (path, access) in rules {
        let place = PathFd::new(path).during("open a place for Landlock")?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(place, access))
            .during("add a Landlock rule")?;
    }
    ruleset.restrict_self().during("restrict with Landlock").map(drop)
}

/// Points the standard descriptors elsewhere: input from nowhere, output to `output` or nowhere.
pub(crate) fn redirect(output: Option<&File>) -> io::Result<()> {
    use std::os::fd::AsFd;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let output = output.unwrap_or(&null);
    sys::dup_to(null.as_fd(), 0)?;
    sys::dup_to(output.as_fd(), 1)?;
    sys::dup_to(output.as_fd(), 2)
}

/// The shim's own farewell to its rights, once the cage runs: it keeps its user id and its open files, may read, and may
/// write in the cage's state directory and nowhere else.
pub(crate) fn forswear(state: &Path) -> Result<()> {
    set_no_new_privs(true).during("set no_new_privs")?;
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let keep = read | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});
    let null = make_bitflags!(AccessFs::{ReadFile | WriteFile});
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .during("handle files with Landlock")?
        .scope(Scope::from_all(LANDLOCK))
        .during("scope signals with Landlock")?
        .create()
        .during("make a Landlock ruleset")?;
    for (path, access) in [
        (Path::new("/"), read),
        (Path::new("/dev/null"), null),
        (state, keep),
    ] {
        let place = PathFd::new(path).during("open a place for Landlock")?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(place, access))
            .during("add a Landlock rule")?;
    }
    ruleset.restrict_self().during("restrict with Landlock")?;
    drop_capabilities()
}
