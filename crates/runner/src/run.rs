//! The loop: observe, plan, hand out steps, report. One task owns all that the runner knows.

mod farewell;
mod observe;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clawstaff_api::nodes::{CageStatus, Cause, RunnerClaw, RunnerState, RunnerStatus};
use clawstaff_cage::{CageId, Counts};
use clawstaff_types::{ClawName, EventKind, Outcome};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    execute::{Hands, Job, StepError},
    files::{Files, Kept},
    memory::{ACT_BACK_OFF, Held, Memory, Version},
    plan::{Act, Mediator, Millis, Seen, Step, Wish, plan, wish_for},
    record::{self, Late, Queue, Subject},
    status::cage_status,
};

/// How often cages are looked at when nothing else happens.
const PACE: Duration = Duration::from_millis(500);
/// For how long a cage that is gone is still reported as gone.
const GONE_FOR: Millis = 600_000;

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
        self.flush();
        self.step();
        self.forget();
        self.keep();
        self.report();
    }

    fn wish(&mut self, news: Option<RunnerState>) {
        self.wanted = news;
        let mediator = self.mediator();
        let claws = self.wanted.iter().flat_map(|state| &state.claws);
        for claw in claws {
            let memory = self.memory.entry(claw.cage.clone()).or_default();
            memory.wish(claw, mediator == Mediator::Here);
        }
    }

    /// Plans and hands out. What happened before is recorded before anything new is.
    fn step(&mut self) {
        let Some(state) = &self.wanted else {
            return;
        };
        if self.flushing && self.mediator() == Mediator::Here {
            return;
        }
        let steps = plan(state, &self.seen, &self.memory, self.mediator(), self.now());
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
        let wish = self.wanted.as_ref().map(|state| wish_for(state, &step.cage));
        let destroyed = matches!(wish, Some(Wish::Destroyed));
        let reason = match step.act {
            Act::Start => trouble.clone(),
            Act::Stop if outdated => Some("to start it anew".to_owned()),
            Act::Stop | Act::Destroy if destroyed => Some("it was destroyed".to_owned()),
            Act::Stop if wanted.is_none() => {
                Some("the control plane has not listed it for too long".to_owned())
            }
            Act::Hold => Some("the control plane does not list it".to_owned()),
            Act::Thaw => Some(match memory.and_then(|memory| memory.held) {
                Some(Held::NotListed) => "the control plane lists it again".to_owned(),
                Some(Held::GatewayLost) | None => "the gateway is back".to_owned(),
            }),
            Act::Freeze | Act::Halt => Some("the gateway is lost".to_owned()),
            Act::Stop | Act::Destroy | Act::Pause | Act::Resume => None,
        };
        let ours = trouble.is_some() || matches!(step.act, Act::Freeze | Act::Halt | Act::Hold | Act::Thaw);
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
        let done = result.is_ok();
        match result {
            Ok(()) => match job.act {
                Act::Start => memory.started(now),
                Act::Stop => memory.stopped(),
                Act::Halt => memory.halted(),
                Act::Destroy => {
                    memory.stopped();
                    memory.gone_at = Some(now);
                }
                Act::Freeze => memory.hold(Held::GatewayLost, now),
                Act::Hold => memory.hold(Held::NotListed, now),
                Act::Pause | Act::Resume | Act::Thaw => memory.let_go(),
            },
            Err(error) => settle_failure(memory, job, &error, now),
        }
        if done && matches!(job.act, Act::Freeze | Act::Halt) {
            let kind = record::kind(job.act);
            self.record_late(&job.id, kind, Outcome::Succeeded, "the gateway was lost");
        }
        if job.act == Act::Start {
            self.stats_at = now;
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
            memory.counts = Counts::default();
            memory.reached.clear();
            memory.exits.clear();
            memory.retry_act_at = 0;
            memory.retry_freeze_at = 0;
            memory.up_since = None;
            memory.held_since = None;
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
        let wish = wish_for(self.wanted.as_ref()?, cage);
        let seen = self.seen.get(cage).copied().unwrap_or(Seen::Absent);
        let claw = claw_of(cage)?;
        Some(cage_status(
            &claw,
            cage,
            wish,
            seen,
            memory,
            self.mediator(),
            self.now(),
        ))
    }
}

fn settle_failure(memory: &mut Memory, job: &Job, error: &StepError, now: Millis) {
    let version = job.wanted.as_ref().map(Version::of);
    match (job.act, error, version) {
        (Act::Start, StepError::Refused(reason), Some(version)) => memory.refused(version, reason),
        (Act::Start, StepError::NotTried(reason), Some(version)) => memory.postponed(version, reason, now),
        (Act::Start, StepError::Failed(reason), Some(version)) => {
            memory.ended(version, Cause::StartFailed, reason, now);
        }
        (Act::Freeze | Act::Halt, _, _) => memory.retry_freeze_at = now.saturating_add(ACT_BACK_OFF),
        _ => memory.retry_act_at = now.saturating_add(ACT_BACK_OFF),
    }
}

/// The Claw of a cage: its id is `<claw>-<8 hex>`.
fn claw_of(cage: &str) -> Option<ClawName> {
    cage.rsplit_once('-')?.0.parse().ok()
}
