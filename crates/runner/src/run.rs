//! The loop: observe, plan, hand out steps, report. One task owns all that the runner knows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clawstaff_api::nodes::{CageStats, CageStatus, RunnerClaw, RunnerState, RunnerStatus};
use clawstaff_cage::{CageId, Exit, ExitReason, Observed};
use clawstaff_types::{ClawName, EventKind, Outcome};
use futures_util::{StreamExt as _, stream};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    execute::{Hands, Job, StepError},
    files::{Files, Kept},
    memory::{ACT_BACK_OFF, Memory, Version},
    plan::{Act, Mediator, Millis, Seen, Step, plan},
    record::{self, Late, Queue, Subject},
    status::cage_status,
};

/// How often cages are looked at when nothing else happens.
const PACE: Duration = Duration::from_millis(500);
/// How often resources are asked for.
const STATS_PACE: Millis = 10_000;
/// For how long a cage that is gone is still reported as gone.
const GONE_FOR: Millis = 600_000;
/// How many cages are asked at once.
const AT_ONCE: usize = 16;
/// How long all cages together may take to stop when the runner ends.
const FAREWELL: Duration = Duration::from_secs(25);

/// Channels between the loop and the tasks around it.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) state: watch::Receiver<Option<RunnerState>>,
    pub(crate) mediator: watch::Receiver<Mediator>,
    pub(crate) status: watch::Sender<Option<RunnerStatus>>,
}

/// What a task of the loop comes back with.
#[derive(Debug)]
enum Done {
    Step(Box<Job>, Result<(), StepError>),
    Flushed(Vec<Late>),
}

/// All that the runner knows.
#[derive(Debug)]
pub(crate) struct Loop {
    hands: Arc<Hands>,
    files: Files,
    wires: Wires,
    clock: Instant,
    wanted: Option<RunnerState>,
    seen: BTreeMap<String, Seen>,
    memory: BTreeMap<String, Memory>,
    late: Queue,
    flushing: bool,
    tasks: JoinSet<Done>,
    stats_at: Millis,
    kept: Kept,
}

impl Loop {
    pub(crate) fn new(hands: Arc<Hands>, files: Files, wires: Wires, kept: Kept) -> Self {
        Self {
            hands,
            files,
            wires,
            clock: Instant::now(),
            wanted: None,
            seen: BTreeMap::new(),
            memory: kept.cages.clone(),
            late: Queue::from_kept(kept.late.clone()),
            flushing: false,
            tasks: JoinSet::new(),
            stats_at: 0,
            kept,
        }
    }

    /// Runs until shutdown; then, unless `keep_cages`, stops every cage.
    pub(crate) async fn run(mut self, shutdown: &CancellationToken, keep_cages: bool) {
        while !shutdown.is_cancelled() {
            self.turn().await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(done) = self.tasks.join_next() => self.take_in(done),
                changed = self.wires.state.changed() => if changed.is_err() { break },
                changed = self.wires.mediator.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(PACE) => {}
            }
        }
        self.finish_tasks().await;
        if !keep_cages {
            self.stop_all().await;
        }
        self.keep();
        self.report();
    }

    fn now(&self) -> Millis {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn mediator(&self) -> Mediator {
        *self.wires.mediator.borrow()
    }

    fn claws(&self) -> &[RunnerClaw] {
        self.wanted.as_ref().map_or(&[], |state| &state.claws)
    }

    /// One turn: everything between two waits.
    async fn turn(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            self.take_in(done);
        }
        let news = self.wires.state.borrow_and_update().clone();
        self.wires.mediator.borrow_and_update();
        self.wish(news);
        self.observe().await;
        self.measure().await;
        self.step();
        self.flush();
        self.forget();
        self.keep();
        self.report();
    }

    fn wish(&mut self, news: Option<RunnerState>) {
        self.wanted = news;
        let claws = self.wanted.iter().flat_map(|state| &state.claws);
        for claw in claws {
            self.memory.entry(claw.cage.clone()).or_default().wish(claw);
        }
    }

    /// Looks at every cage that there is or should be.
    async fn observe(&mut self) {
        let backend = &self.hands.backend;
        let listed = match backend.list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "the cages cannot be listed");
                return;
            }
        };
        let looks = stream::iter(listed).map(|id| async move {
            let observed = backend.observe(&id).await;
            (id, observed)
        });
        let observed: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
        let mut seen = BTreeMap::new();
        for (id, observed) in observed {
            match observed {
                Ok(Observed::Absent) => {}
                Ok(observed) => {
                    seen.insert(id.to_string(), see(&observed));
                    self.note(&id, &observed);
                }
                Err(error) => {
                    tracing::warn!(cage = %id, %error, "a cage cannot be looked at");
                    let before = self.seen.get(&id.to_string()).copied();
                    seen.extend(before.map(|before| (id.to_string(), before)));
                }
            }
        }
        self.seen = seen;
        self.note_absent();
    }

    /// Adopts a cage that is up, and notices one that ended by itself.
    fn note(&mut self, id: &CageId, observed: &Observed) {
        let wanted = self
            .claws()
            .iter()
            .find(|claw| claw.cage == id.to_string())
            .cloned();
        let now = self.now();
        let memory = self.memory.entry(id.to_string()).or_default();
        if memory.busy.is_some() {
            return;
        }
        match observed {
            Observed::Running { .. } | Observed::Paused => {
                memory.up = true;
                if memory.version.is_none() {
                    memory.version = wanted.as_ref().map(Version::of);
                    tracing::info!(cage = %id, "adopted as it is");
                }
            }
            Observed::Exited(exit) if memory.up => {
                let reason = describe(exit);
                tracing::warn!(cage = %id, reason, "ended by itself");
                let version = memory.version.or(wanted.as_ref().map(Version::of));
                if let Some(version) = version {
                    memory.ended(version, &reason, now);
                }
                self.record_late(id, EventKind::ClawFailed, Outcome::Failed, &reason);
            }
            Observed::Exited(_) | Observed::Created | Observed::Absent => {}
        }
    }

    /// Notices a cage that should be up but is not even there.
    fn note_absent(&mut self) {
        let now = self.now();
        let gone = |(cage, memory): (&String, &Memory)| {
            let lost = memory.up && memory.busy.is_none() && !self.seen.contains_key(cage);
            lost.then(|| cage.clone())
        };
        let lost: Vec<String> = self.memory.iter().filter_map(gone).collect();
        for cage in lost {
            let reason = "the cage is gone without our doing";
            if let Some(memory) = self.memory.get_mut(&cage) {
                match memory.version {
                    Some(version) => memory.ended(version, reason, now),
                    None => memory.stopped(),
                }
            }
            if let Ok(id) = cage.parse() {
                self.record_late(&id, EventKind::ClawFailed, Outcome::Failed, reason);
            }
        }
    }

    /// Asks for resources, every 10 s.
    async fn measure(&mut self) {
        let now = self.now();
        if now < self.stats_at {
            return;
        }
        self.stats_at = now.saturating_add(STATS_PACE);
        let up = |seen: &Seen| matches!(seen, Seen::Running | Seen::Paused);
        let ids: Vec<CageId> = self
            .seen
            .iter()
            .filter(|(_, seen)| up(seen))
            .filter_map(|(cage, _)| cage.parse().ok())
            .collect();
        let backend = &self.hands.backend;
        let asks = stream::iter(ids).map(|id| async move {
            let stats = backend.stats(&id).await;
            (id, stats)
        });
        let answers: Vec<_> = asks.buffer_unordered(AT_ONCE).collect().await;
        for (id, stats) in answers {
            if let (Ok(stats), Some(memory)) = (stats, self.memory.get_mut(&id.to_string())) {
                memory.stats = Some(CageStats {
                    memory_bytes: stats.memory_bytes,
                    cpu_micros: stats.cpu_micros,
                    pids: stats.pids,
                    storage_bytes: stats.storage_bytes,
                });
            }
        }
    }

    /// Plans and hands out.
    fn step(&mut self) {
        if self.wanted.is_none() {
            return;
        }
        let steps = plan(
            self.claws(),
            &self.seen,
            &self.memory,
            self.mediator(),
            self.now(),
        );
        for step in steps {
            if let Some(job) = self.job(&step) {
                self.begin(job);
            }
        }
    }

    fn job(&self, step: &Step) -> Option<Job> {
        let id: CageId = step
            .cage
            .parse()
            .inspect_err(|error| tracing::error!(cage = step.cage, %error, "not a cage's id"))
            .ok()?;
        let wanted = self.claws().iter().find(|claw| claw.cage == step.cage).cloned();
        let memory = self.memory.get(&step.cage);
        let trouble = wanted
            .as_ref()
            .and_then(|claw| memory?.trouble_of(Version::of(claw)))
            .map(|trouble| format!("again, after: {}", trouble.reason));
        let outdated = wanted.as_ref().is_some_and(|claw| {
            let running = memory.and_then(|memory| memory.version);
            running.is_some_and(|version| version != Version::of(claw))
        });
        let reason = match step.act {
            Act::Start => trouble.clone(),
            Act::Stop if outdated => Some("to start it anew".to_owned()),
            Act::Stop | Act::Destroy if wanted.is_none() => Some("it is not wanted any more".to_owned()),
            Act::Thaw => Some("the gateway is back".to_owned()),
            Act::Freeze => Some("the gateway is lost".to_owned()),
            Act::Stop | Act::Destroy | Act::Pause | Act::Resume => None,
        };
        let ours = trouble.is_some() || matches!(step.act, Act::Freeze | Act::Thaw);
        let by = wanted.as_ref().filter(|_| !ours).map(|claw| claw.by.clone());
        let mut subject = self.subject(&id, by)?;
        if let (Act::Start, Some(claw)) = (step.act, &wanted) {
            subject.revision = Some(claw.revision);
        }
        Some(Job {
            act: step.act,
            id,
            subject,
            wanted,
            reason,
        })
    }

    fn subject(&self, id: &CageId, by: Option<String>) -> Option<Subject> {
        let cage = id.to_string();
        let version = self.memory.get(&cage).and_then(|memory| memory.version);
        Some(Subject {
            claw: claw_of(&cage)?,
            cage,
            revision: version.map(|version| version.revision),
            by,
        })
    }

    fn begin(&mut self, job: Job) {
        let memory = self.memory.entry(job.id.to_string()).or_default();
        memory.busy = Some(job.act);
        if job.act == Act::Start {
            let version = job.wanted.as_ref().map(Version::of);
            if memory.version != version {
                memory.exits.clear();
            }
            memory.version = version;
        }
        let hands = Arc::clone(&self.hands);
        self.tasks.spawn(async move {
            let result = hands.run(&job).await;
            Done::Step(Box::new(job), result)
        });
    }

    fn take_in(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Step(job, result)) => self.settle(&job, result),
            Ok(Done::Flushed(rest)) => {
                self.flushing = false;
                self.late.put_back(rest);
            }
            Err(error) => {
                // A step that died tells nothing; the next look shows what came of it.
                tracing::error!(%error, "a task died");
                self.flushing = false;
                if self.tasks.is_empty() {
                    self.memory.values_mut().for_each(|memory| memory.busy = None);
                }
            }
        }
    }

    fn settle(&mut self, job: &Job, result: Result<(), StepError>) {
        let now = self.now();
        let cage = job.id.to_string();
        let memory = self.memory.entry(cage.clone()).or_default();
        memory.busy = None;
        match result {
            Ok(()) => match job.act {
                Act::Start => memory.started(),
                Act::Stop => memory.stopped(),
                Act::Destroy => {
                    memory.stopped();
                    memory.gone_at = Some(now);
                }
                Act::Freeze => memory.frozen = true,
                Act::Pause | Act::Resume | Act::Thaw => memory.frozen = false,
            },
            Err(error) => settle_failure(memory, job, &error, now),
        }
        if job.act == Act::Freeze && memory.frozen {
            self.record_late(
                &job.id,
                EventKind::ClawPaused,
                Outcome::Succeeded,
                "the gateway was lost",
            );
        }
        if job.act == Act::Start {
            self.stats_at = self.stats_at.min(now.saturating_add(1_000));
        }
    }

    fn record_late(&mut self, id: &CageId, kind: EventKind, outcome: Outcome, reason: &str) {
        if let Some(subject) = self.subject(id, None) {
            let event = record::outcome(subject.event(kind, Some(reason)), outcome, None);
            self.late.push(Late::now(subject.claw, event));
        }
    }

    fn flush(&mut self) {
        if self.flushing || self.late.is_empty() || self.mediator() != Mediator::Here {
            return;
        }
        self.flushing = true;
        let waiting = self.late.take();
        let gateway = self.hands.gateway.clone();
        self.tasks
            .spawn(async move { Done::Flushed(record::flush(gateway, waiting).await) });
    }

    /// Drops what is known of cages that are long gone or were never there.
    fn forget(&mut self) {
        let now = self.now();
        let wanted: Vec<String> = self.claws().iter().map(|claw| claw.cage.clone()).collect();
        let seen = &self.seen;
        self.memory.retain(|cage, memory| {
            let fresh = memory.gone_at.is_some_and(|at| now.saturating_sub(at) < GONE_FOR);
            fresh || memory.busy.is_some() || seen.contains_key(cage) || wanted.contains(cage)
        });
    }

    /// Keeps what must survive the runner, when it has changed.
    fn keep(&mut self) {
        let mut cages = self.memory.clone();
        for memory in cages.values_mut() {
            memory.busy = None;
            memory.stats = None;
            memory.exits.clear();
            memory.retry_act_at = 0;
            // What would be tried again is tried again at once after a restart.
            memory.trouble = memory.trouble.take().filter(|trouble| trouble.retry_at.is_none());
        }
        cages.retain(|_, memory| memory.gone_at.is_none());
        let kept = Kept {
            cages,
            late: self.late.to_vec(),
        };
        if kept == self.kept {
            return;
        }
        match self.files.save_kept(&kept) {
            Ok(()) => self.kept = kept,
            Err(error) => tracing::error!(%error, "what is known of the cages could not be kept"),
        }
    }

    fn report(&self) {
        let Some(wanted) = &self.wanted else {
            return;
        };
        let cages = self
            .memory
            .iter()
            .filter_map(|(cage, memory)| self.report_one(cage, memory));
        let status = RunnerStatus {
            revision: wanted.revision,
            backend: self.hands.backend.name().to_owned(),
            cages: cages.collect(),
        };
        self.wires.status.send_if_modified(|last| {
            let changed = last.as_ref() != Some(&status);
            *last = Some(status);
            changed
        });
    }

    fn report_one(&self, cage: &str, memory: &Memory) -> Option<CageStatus> {
        let wanted = self.claws().iter().find(|claw| claw.cage == cage);
        let seen = self.seen.get(cage).copied().unwrap_or(Seen::Absent);
        let claw = claw_of(cage)?;
        Some(cage_status(
            &claw,
            cage,
            wanted,
            seen,
            memory,
            self.mediator(),
            self.now(),
        ))
    }

    /// Lets steps that are under way end, for a while.
    async fn finish_tasks(&mut self) {
        let finishing = async {
            while let Some(done) = self.tasks.join_next().await {
                self.take_in(done);
            }
        };
        if tokio::time::timeout(FAREWELL, finishing).await.is_err() {
            tracing::warn!("steps under way are abandoned");
        }
    }

    /// Stops every cage, all at once. A stop that cannot be recorded is done all the same, and recorded late:
    /// nothing may run once nobody watches.
    async fn stop_all(&mut self) {
        self.observe().await;
        let up: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| matches!(seen, Seen::Running | Seen::Paused))
            .map(|(cage, _)| cage.clone())
            .collect();
        for cage in up {
            let step = Step { cage, act: Act::Stop };
            if let Some(mut job) = self.job(&step) {
                job.reason = Some("the runner ends".to_owned());
                job.subject.by = None;
                self.begin(job);
            }
        }
        self.finish_tasks().await;
        self.observe().await;
        let left: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| matches!(seen, Seen::Running | Seen::Paused))
            .map(|(cage, _)| cage.clone())
            .collect();
        for cage in left {
            self.stop_unrecorded(&cage).await;
        }
        self.observe().await;
    }

    async fn stop_unrecorded(&mut self, cage: &str) {
        let Ok(id) = cage.parse::<CageId>() else {
            return;
        };
        match self.hands.backend.stop(&id, Duration::from_secs(2)).await {
            Ok(()) => {
                self.memory.entry(cage.to_owned()).or_default().stopped();
                let reason = "the runner ended while the gateway was lost";
                self.record_late(&id, EventKind::ClawStopped, Outcome::Succeeded, reason);
            }
            Err(error) => tracing::error!(cage, %error, "a cage could not be stopped"),
        }
    }
}

fn settle_failure(memory: &mut Memory, job: &Job, error: &StepError, now: Millis) {
    let version = job.wanted.as_ref().map(Version::of);
    match (job.act, error, version) {
        (Act::Start, StepError::Refused(reason), Some(version)) => memory.refused(version, reason),
        (Act::Start, StepError::NotTried(reason), Some(version)) => memory.postponed(version, reason, now),
        (Act::Start, StepError::Failed(reason), Some(version)) => memory.ended(version, reason, now),
        _ => memory.retry_act_at = now.saturating_add(ACT_BACK_OFF),
    }
}

/// What the back end says, in the planner's words.
const fn see(observed: &Observed) -> Seen {
    match observed {
        Observed::Absent => Seen::Absent,
        Observed::Created => Seen::Created,
        Observed::Running { .. } => Seen::Running,
        Observed::Paused => Seen::Paused,
        Observed::Exited(_) => Seen::Exited,
    }
}

/// Why a cage ended. What it printed stays out of it.
fn describe(exit: &Exit) -> String {
    match exit.reason {
        ExitReason::Code(0) => "the agent ended by itself (code 0)".to_owned(),
        ExitReason::Code(code) => format!("the agent ended with code {code}"),
        ExitReason::Signal(signal) => format!("the agent was ended by signal {signal}"),
        ExitReason::OutOfMemory => {
            "out of memory: it needed more than `limits.memory`, so the kernel ended it".to_owned()
        }
        ExitReason::Unknown => "the cage ended and nobody saw why".to_owned(),
    }
}

/// The Claw of a cage: its id is `<claw>-<8 hex>`.
fn claw_of(cage: &str) -> Option<ClawName> {
    cage.rsplit_once('-')?.0.parse().ok()
}
