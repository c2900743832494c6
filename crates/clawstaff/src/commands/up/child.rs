//! The parts as children: started with what they need, restarted when they die, stopped in order.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::prepare::{self, Owner};
use crate::{commands::parts::SUPERVISOR, failure::Failure, output, place::Place};

/// The first and the longest wait before a part is started again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A part that lived this long starts afresh with its waits.
const SETTLED: Duration = Duration::from_secs(30);
/// A part that never lived this long and died so often will not do any better.
const HOPELESS: (Duration, u32) = (Duration::from_secs(3), 5);
/// How long a part may take to stop before it is killed.
const GRACE: Duration = Duration::from_secs(45);
/// What every part may see of the environment.
const COMMON: [&str; 8] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "RUST_BACKTRACE",
    "CLAWSTAFF_LOG",
    "CLAWSTAFF_LOG_FORMAT",
    "CLAWSTAFF_LIBEXEC",
];

/// One part to run.
#[derive(Debug, Clone)]
pub(super) struct Part {
    name: &'static str,
    words: Vec<OsString>,
    owner: Owner,
    whole_environment: bool,
    has_log: bool,
}

impl Part {
    pub(super) const fn new(name: &'static str, words: Vec<OsString>, owner: Owner) -> Self {
        Self {
            name,
            words,
            owner,
            whole_environment: false,
            has_log: false,
        }
    }

    /// Lets the thread that makes its log durable go before other work. Never the runner: cages are its children.
    pub(super) const fn has_log(mut self) -> Self {
        self.has_log = true;
        self
    }

    /// What it may do about priorities, given from outside: it has no privilege itself.
    fn allow_priority(&self, child: &Child) {
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let lowest = Rlimit {
            current: Some(1),
            maximum: Some(1),
        };
        if self.has_log && pid.is_some() && rustix::process::geteuid().is_root() {
            // Without it the log is as safe, and slower on a busy machine; its status says so.
            let _ = rustix::process::prlimit(pid, Resource::Rtprio, lowest);
        }
    }

    /// Gives it everything: the gateway resolves `env:` references from it.
    pub(super) const fn whole_environment(mut self) -> Self {
        self.whole_environment = true;
        self
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg0("clawstaff").args(&self.words).stdin(Stdio::null());
        if !self.whole_environment {
            command.env_clear();
            command.envs(
                COMMON
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            );
        }
        if let Ok(folder) = super::libexec() {
            command.env("CLAWSTAFF_LIBEXEC", folder);
        }
        command.env(SUPERVISOR, std::process::id().to_string());
        command.current_dir("/");
        // A group of its own: Ctrl-C reaches the supervisor alone, which stops the parts in order.
        command.process_group(0);
        if rustix::process::geteuid().is_root() && self.owner.uid != 0 {
            // Supplementary groups are dropped with the uid (std).
            command.gid(self.owner.gid).uid(self.owner.uid);
        }
        Command::from(command).spawn()
    }
}

/// The parts while they run.
#[derive(Debug)]
pub(super) struct Parts {
    keepers: Vec<(CancellationToken, JoinHandle<()>)>,
    failures: mpsc::Receiver<Failure>,
}

/// The ids of the processes, for `run/pids`.
#[derive(Debug, Clone)]
struct Pids {
    place: Place,
    known: Arc<Mutex<BTreeMap<&'static str, u32>>>,
}

impl Pids {
    fn set(&self, name: &'static str, pid: Option<u32>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match pid {
            Some(pid) => known.insert(name, pid),
            None => known.remove(name),
        };
        let text = serde_json::to_string(&*known).unwrap_or_default();
        if let Err(failure) = prepare::put_pids(&self.place, &text) {
            output::note(&failure.to_string());
        }
    }
}

impl Parts {
    /// Starts all of them.
    pub(super) fn start(parts: Vec<Part>, place: &Place) -> Self {
        let (tell, failures) = mpsc::channel(4);
        let pids = Pids {
            place: place.clone(),
            known: Arc::default(),
        };
        pids.set("up", Some(std::process::id()));
        let keepers = parts
            .into_iter()
            .map(|part| {
                let stop = CancellationToken::new();
                let keeper = keep(part, stop.clone(), pids.clone(), tell.clone());
                (stop, tokio::spawn(keeper))
            })
            .collect();
        Self { keepers, failures }
    }

    /// Waits until a part is given up.
    pub(super) async fn given_up(&mut self) -> Failure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Stops them, the last started first: runner, gateway, control plane.
    pub(super) async fn stop(self) {
        for (stop, keeper) in self.keepers.into_iter().rev() {
            stop.cancel();
            if keeper.await.is_err() {
                output::note("a part's keeper died");
            }
        }
    }
}

/// Keeps one part running until it is told to stop.
async fn keep(part: Part, stop: CancellationToken, pids: Pids, tell: mpsc::Sender<Failure>) {
    let mut wait = BACK_OFF.0;
    let mut short_lives = 0;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let ended = match part.spawn() {
            Ok(child) => {
                part.allow_priority(&child);
                pids.set(part.name, child.id());
                live(child, &stop).await
            }
            Err(error) => format!("cannot be started: {error}"),
        };
        pids.set(part.name, None);
        if stop.is_cancelled() {
            return;
        }
        let life = began.elapsed();
        short_lives = if life < HOPELESS.0 { short_lives + 1 } else { 0 };
        output::note(&format!(
            "{} {ended}; starting it again in {} ms",
            part.name,
            wait.as_millis()
        ));
        if short_lives >= HOPELESS.1 {
            let failure = Failure::failed(format!("{} {ended}, {short_lives} times in a row", part.name));
            drop(tell.send(failure.hint("its own messages are above")).await);
            return;
        }
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        wait = if life > SETTLED {
            BACK_OFF.0
        } else {
            (wait * 2).min(BACK_OFF.1)
        };
    }
}

/// Waits for a child's end; told to stop, asks it to end and kills it if it does not.
async fn live(mut child: Child, stop: &CancellationToken) -> String {
    tokio::select! {
        ended = child.wait() => return describe(&ended),
        () = stop.cancelled() => {}
    }
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        output::note(&format!(
            "cannot signal process {}: {error}",
            pid.as_raw_nonzero()
        ));
    }
    if let Ok(ended) = tokio::time::timeout(GRACE, child.wait()).await {
        return describe(&ended);
    }
    output::note(&format!(
        "a part did not stop within {} s and is killed",
        GRACE.as_secs()
    ));
    if let Err(error) = child.kill().await {
        output::note(&format!("cannot kill it: {error}"));
    }
    "was killed".to_owned()
}

fn describe(ended: &std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("was lost: {error}"),
    }
}
