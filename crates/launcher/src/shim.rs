//! `run`: makes the cage, says so, and stays as its parent for as long as it lives.
//!
//! The shim leads a session of its own, so that a cage survives a crash of the runner. What the runner must know
//! it reads from the state directory: `state` is one file of `key=value` lines, replaced atomically, first with
//! `phase=running`, at the end with `phase=exited`. Once the cage runs, the shim has no capability left, can write
//! nowhere but in the state directory (Landlock), and does two things: copy the cage's output to the bounded log, and
//! wait. If the shim dies, the cage dies with it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FlockOperation, Mode, OFlags, fcntl_setfl, flock},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, Signal, WaitOptions, WaitStatus, geteuid, set_parent_process_death_signal, setsid, umask,
        waitpid,
    },
};

use crate::{
    args::{Data, Run},
    confine::{self, Program, Role},
    fault::{During, Fault, Result},
    hand, loopdev,
    namespaces::{self, Cgroups},
    network, rootfs,
    staging::{self, Sources, Storage},
    sys::{self, Side},
};

/// What the shim says to the launcher, if all goes well.
const SPLIT: &[u8] = b"+";
const READY: &[u8] = b"running\n";

/// Makes the cage. Returns in the launcher once the cage's program runs; the shim does not return.
pub(crate) fn start(run: &Run) -> Result<()> {
    die_with_the_back_end()?;
    let lock = lock(run)?;
    let privileged = geteuid().is_root();
    let sources = staging::prepare(run, privileged)?;
    let (giving, taking) = hand::pair()?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).during("make a pipe")?;
    match sys::clone(0, None).during("fork")? {
        Side::Parent { .. } => {
            drop((writer, taking));
            let brought = bring(run, &sources, giving);
            // What shim and init have to say of missing storage is our own fault.
            let heard = heard(run, privileged, reader);
            brought.and(heard)
        }
        Side::Child => {
            drop((reader, giving));
            let mut launcher = File::from(writer);
            let code = match live(run, privileged, &sources, taking, &mut launcher, &lock) {
                Ok(()) => 0,
                Err(fault) => {
                    // After "running" nobody listens any more, and the state file has the truth.
                    let _ = launcher.write_all(fault.to_string().as_bytes());
                    1
                }
            };
            sys::exit_now(code);
        }
    }
}

/// Mounts the storage and hands it to the init, while that makes the rest.
fn bring(run: &Run, sources: &Sources, init: OwnedFd) -> Result<()> {
    match sources.data {
        Storage::At(_) => Ok(()),
        Storage::Handed => hand::give(&init, &staging::storage(run)?),
    }
}

/// Until the cage runs, the launcher ends with whoever started it; the shim then has nobody to answer and ends too.
fn die_with_the_back_end() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).during("be tied to the back end")
}

/// Held while a cage is being made, so that nobody takes it away or makes it again meanwhile. Launcher and shim share
/// it; it goes with them.
fn lock(run: &Run) -> Result<File> {
    let lock = File::open(&run.state).during("open the cage's directory")?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).during("have the cage for itself")?;
    Ok(lock)
}

/// What the shim said before it was done or gone. Its first word is that the init has mounts of its own: then ours go.
fn heard(run: &Run, privileged: bool, reader: OwnedFd) -> Result<()> {
    let (mut shim, mut said) = (File::from(reader), Vec::new());
    (&mut shim)
        .take(SPLIT.len() as u64)
        .read_to_end(&mut said)
        .during("hear from the shim")?;
    if said == SPLIT {
        said.clear();
        if privileged {
            staging::dismantle(run)?;
        }
    }
    shim.take(4096)
        .read_to_end(&mut said)
        .during("hear from the shim")?;
    match said.as_slice() {
        READY => Ok(()),
        [] => Err(Fault::new("the shim died before the cage ran")),
        text => Err(Fault::new(String::from_utf8_lossy(text))),
    }
}

/// The pipes between shim and init.
struct Channels {
    /// One byte releases the init.
    go: (OwnedFd, OwnedFd),
    /// The init's fault; closed without a word by a successful `execve`.
    report: (OwnedFd, OwnedFd),
    /// The cage's output.
    output: (OwnedFd, OwnedFd),
}

impl Channels {
    fn open() -> Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).during("make a pipe");
        Ok(Self {
            go: pipe()?,
            report: pipe()?,
            output: pipe()?,
        })
    }
}

/// The shim's whole life.
fn live(
    run: &Run,
    privileged: bool,
    sources: &Sources,
    hand: OwnedFd,
    launcher: &mut File,
    lock: &File,
) -> Result<()> {
    setsid().during("make a session")?;
    confine::redirect(None).during("let go of the standard descriptors")?;
    umask(Mode::from_raw_mode(0o022));
    let channels = Channels::open()?;
    let cgroups = Cgroups::open(&run.cgroups)?;
    match namespaces::split(&cgroups)? {
        Side::Child => {
            let Channels { go, report, output } = channels;
            // With them would go the sign that the shim is gone.
            drop((go.1, report.0, output.0));
            let Err(fault) = cgroups
                .enter()
                .and_then(|()| released(go.0))
                .and_then(|()| be_init(run, privileged, sources, &hand, output.1));
            let _ = File::from(report.1).write_all(fault.to_string().as_bytes());
            sys::exit_now(125);
        }
        Side::Parent { child, pidfd } => {
            let Channels { go, report, output } = channels;
            drop((go.0, report.1, output.1, cgroups, hand));
            launcher.write_all(SPLIT).during("speak to the launcher")?;
            // An init that has failed is not there to be settled: its own word comes first.
            let settled = settle(run, child, privileged, go.1);
            if let Some(fault) = until_it_runs(report.0)? {
                return Err(Fault::new(fault));
            }
            let (text, exits) = settled?;
            write_state(run, &text)?;
            launcher.write_all(READY).during("answer the launcher")?;
            flock(lock, FlockOperation::Unlock).during("let go of the cage's directory")?;
            confine::redirect(None).during("let go of the launcher")?;
            *launcher = File::open("/dev/null").during("let go of the launcher")?;
            stay(run, child, &pidfd, output.0, &exits)
        }
    }
}

/// Settles the init from outside, lets it go, and meanwhile gives up every right that the shim needs no more. Gives what
/// to write down when the init runs.
fn settle(run: &Run, child: Pid, privileged: bool, go: OwnedFd) -> Result<(String, OomCount)> {
    namespaces::map_ids(child, run.identity, privileged)?;
    File::from(go).write_all(b"!").during("release the init")?;
    std::env::set_current_dir("/").during("leave the stage directory")?;
    umask(Mode::from_raw_mode(0o077));
    confine::forswear(&run.state)?;
    Ok((running(child)?, OomCount::read(run.oom.as_deref())))
}

/// Waits until the init is the cage's program; what it says before is why it is not.
fn until_it_runs(report: OwnedFd) -> Result<Option<String>> {
    let mut fault = String::new();
    File::from(report)
        .take(4096)
        .read_to_string(&mut fault)
        .during("hear from the init")?;
    Ok(Some(fault).filter(|fault| !fault.is_empty()))
}

/// Waits in the init until the shim lets it go.
fn released(go: OwnedFd) -> Result<()> {
    let mut byte = [0];
    match rustix::io::read(go, &mut byte).during("wait for the release")? {
        // The shim is dead or has given up, and knows why.
        0 => sys::exit_now(125),
        _ => Ok(()),
    }
}

/// The init, from its release to `execve`.
fn be_init(
    run: &Run,
    privileged: bool,
    sources: &Sources,
    hand: &OwnedFd,
    output: OwnedFd,
) -> Result<std::convert::Infallible> {
    confine::take_identity(run.identity.inside, privileged)?;
    sys::unshare(libc::CLONE_NEWCGROUP).during("make a cgroup namespace")?;
    rustix::system::sethostname(run.hostname.as_bytes()).during("set the host name")?;
    network::raise_loopback()?;
    rootfs::enter(sources, run.tmp_bytes, hand)?;
    confine::redirect(Some(&File::from(output))).during("point the output at the log")?;
    let program = Program {
        command: &run.command,
        env: &run.env,
        directory: run.directory.as_deref(),
    };
    confine::become_program(program, run.pids, Role::Init)
}

/// Copies output and waits, until the init has ended and all it said is written.
fn stay(run: &Run, child: Pid, pidfd: &OwnedFd, output: OwnedFd, oom: &OomCount) -> Result<()> {
    let mut log = Log::open(run)?;
    fcntl_setfl(&output, OFlags::NONBLOCK).during("read without waiting")?;
    let mut output = File::from(output);
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).during("wait for the cage"),
        }
        let ended = ready.last().is_some_and(|init| !init.revents().is_empty());
        let open = log.copy(&mut output);
        if ended {
            break;
        }
        if !open {
            // Everything in the cage closed its output; the init goes on in silence.
            poll(
                &mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)],
                None,
            )
            .during("wait for the cage")?;
            break;
        }
    }
    let status = waitpid(Some(child), WaitOptions::empty()).during("reap the init")?;
    let killed = OomCount::read(run.oom.as_deref()).0.saturating_sub(oom.0);
    if let Data::Image(image) = &run.data {
        // Whoever reads "exited" may mount the storage again.
        loopdev::wait_detached(image, &run.state, staging::PATIENCE)?;
    }
    write_state(run, &exited(status.map(|(_, status)| status), killed))
}

/// How often the kernel has killed in the cage's memory cgroup.
struct OomCount(u64);

impl OomCount {
    fn read(file: Option<&Path>) -> Self {
        let text = file
            .and_then(|path| fs::read_to_string(path).ok())
            .unwrap_or_default();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        Self(count.unwrap_or_default())
    }
}

/// The cage's output: `log`, and before it `log.1`, each of bounded size.
struct Log<'a> {
    run: &'a Run,
    file: File,
    size: u64,
    /// Bytes of this life that are in neither file any more; in `log.lost` for the runner.
    lost: u64,
}

impl<'a> Log<'a> {
    fn open(run: &'a Run) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(run.state.join("log"))
            .during("open the log")?;
        let size = file.metadata().during("look at the log")?.len();
        // Counted anew in every life.
        let _ = fs::remove_file(run.state.join("log.lost"));
        Ok(Self {
            run,
            file,
            size,
            lost: 0,
        })
    }

    /// Takes what there is now. Says whether more can come. A log that cannot be written loses output and nothing
    /// else: it is a convenience, not the record.
    fn copy(&mut self, output: &mut File) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    let _ = self.write(buffer.get(..count).unwrap_or_default());
                }
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.size >= self.run.log_bytes {
            let (path, older) = (self.run.state.join("log"), self.run.state.join("log.1"));
            let lost = older.metadata().map_or(0, |older| older.len());
            fs::rename(&path, older)?;
            self.file = File::create(&path)?;
            self.size = 0;
            self.say_lost(lost)?;
        }
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn say_lost(&mut self, more: u64) -> std::io::Result<()> {
        self.lost = self.lost.saturating_add(more);
        let next = self.run.state.join("log.lost.next");
        fs::write(&next, self.lost.to_string())?;
        fs::rename(next, self.run.state.join("log.lost"))
    }
}

fn write_state(run: &Run, text: &str) -> Result<()> {
    let (next, path) = (run.state.join("state.next"), run.state.join("state"));
    // Atomic for readers, not durable: after a power failure the cage is gone and `boot` tells.
    fs::write(&next, text).during("write the state")?;
    fs::rename(next, path).during("replace the state")
}

fn running(child: Pid) -> Result<String> {
    let (pid, shim) = (
        child.as_raw_nonzero().get(),
        rustix::process::getpid().as_raw_nonzero().get(),
    );
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").during("read the boot id")?;
    Ok(format!(
        "phase=running\nboot={}\npid={pid}\nstarted={}\nshim={shim}\nshim_started={}\nsince={}\n",
        boot.trim_end(),
        start_time(pid)?,
        start_time(shim)?,
        unix_millis(),
    ))
}

fn exited(status: Option<WaitStatus>, oom_kills: u64) -> String {
    let code = status
        .and_then(WaitStatus::exit_status)
        .map(|code| format!("code={code}\n"));
    let signal = status
        .and_then(WaitStatus::terminating_signal)
        .map(|signal| format!("signal={signal}\n"));
    format!(
        "phase=exited\n{}{}oom_kills={oom_kills}\nat={}\n",
        code.unwrap_or_default(),
        signal.unwrap_or_default(),
        unix_millis(),
    )
}

fn unix_millis() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}

/// When a process was started, in clock ticks since boot: with its id, the name of one process and no other.
pub(crate) fn start_time(pid: i32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).during("look at a process")?;
    // The program's name, in brackets, may hold anything; the 22nd field is the 20th after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = fields
        .split_whitespace()
        .nth(19)
        .and_then(|text| text.parse().ok());
    field.ok_or_else(|| Fault::new("cannot read when a process was started"))
}
