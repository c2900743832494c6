//! Recording: every intent durable before the change, every outcome after it, and within a bound.
//!
//! When the log cannot be written, changes are refused and reading goes on. What happened all the same and could not
//! be recorded (a refusal, an outcome) is counted; the count is recorded as `audit.gap` as soon as that is possible.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clawstaff_audit::{AppendError, Draft, Log, Phase, Receipt, Stream};
use clawstaff_types::{Actor, Digest, Event, EventKind, Outcome};
use futures_util::future::join_all;

use super::problem::Problem;

/// The stream of this process in its own log, and its name as an actor.
pub(crate) const SYSTEM: &str = "control-plane";

/// Entries handed to the log at once: one batch for it, and far below what it lets wait.
const AT_ONCE: usize = 512;
/// How long a change waits for its records. A disk that is slower than this is as good as broken.
const BOUND: Duration = Duration::from_secs(5);

/// Intents that are durable and have no outcome yet.
#[derive(Debug)]
#[must_use = "an intent without an outcome is recorded as unknown after the next start"]
pub(crate) struct Intents(Vec<(Receipt, Event)>);

/// The way into the own log.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    log: Log,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// `lost` records did not get into the log before this process started.
    pub(crate) fn new(log: Log, lost: u64) -> Self {
        Self {
            log,
            lost: Arc::new(AtomicU64::new(lost)),
        }
    }

    /// Records what is about to be done. Returns once all of it is durable; if that fails or takes too long, what
    /// was recorded gets the outcome `refused` and the change must not be made.
    pub(crate) async fn intend(&self, events: Vec<Event>) -> Result<Intents, Problem> {
        let recording = tokio::spawn(intend(self.log.clone(), events));
        let recorder = self.clone();
        match bounded(recording, move |late| recorder.refuse_late(late)).await {
            Ok((intents, None)) => {
                self.tell_lost().await;
                Ok(intents)
            }
            Ok((intents, Some(error))) => {
                if self.settle(intents, Outcome::Refused).await.is_err() {
                    tracing::error!("the outcome of a refused change could not be recorded either");
                }
                Err(error.into())
            }
            Err(TooSlow) => Err(too_slow()),
        }
    }

    /// Records what came of it.
    pub(crate) async fn settle(&self, intents: Intents, outcome: Outcome) -> Result<(), Problem> {
        let count = u64::try_from(intents.0.len()).unwrap_or(u64::MAX);
        let recording = tokio::spawn(settle(self.log.clone(), intents, outcome));
        match bounded(recording, |_| ()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.count_lost(count);
                Err(error.into())
            }
            Err(TooSlow) => Err(too_slow()),
        }
    }

    /// Records something that has happened and cannot be refused any more.
    pub(crate) async fn fact(&self, event: Event) -> Result<(), Problem> {
        self.append_fact(event)
            .await
            .inspect_err(|_| self.count_lost(1))?;
        self.tell_lost().await;
        Ok(())
    }

    /// Why nothing can be recorded any more by this process, if so.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.log.stopped()
    }

    /// How many records did not get into the log and are not told of yet.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }

    /// Records how many records were lost, if any were and it can be done.
    pub(crate) async fn tell_lost(&self) {
        let lost = self.lost.swap(0, Ordering::SeqCst);
        if lost == 0 {
            return;
        }
        let mut event = Event::new(EventKind::AuditGap, Actor::System(SYSTEM.to_owned()));
        event.reason = Some("records could not be written while the log could not be".to_owned());
        event.facts.insert("lost".to_owned(), lost.to_string());
        if self.append_fact(event).await.is_err() {
            self.count_lost(lost);
        }
    }

    fn count_lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::SeqCst);
    }

    async fn append_fact(&self, event: Event) -> Result<(), Problem> {
        let (log, draft) = (self.log.clone(), draft(Phase::Fact, call_of(&event), event));
        let recording = tokio::spawn(async move { log.append(draft).await.map(drop) });
        match bounded(recording, |_| ()).await {
            Ok(done) => Ok(done?),
            Err(TooSlow) => Err(too_slow()),
        }
    }

    /// Intents that became durable after the change was refused for their being late.
    fn refuse_late(self, (intents, _): Recorded) {
        tokio::spawn(async move {
            if self.settle(intents, Outcome::Refused).await.is_err() {
                tracing::error!("the outcome of a change that was refused could not be recorded");
            }
        });
    }
}

/// What became durable, and what did not let the rest.
type Recorded = (Intents, Option<AppendError>);

struct TooSlow;

/// Waits for a recording, within the bound. It goes on by itself, and what comes of it late is given to `late`.
async fn bounded<T: Send + 'static>(
    mut recording: tokio::task::JoinHandle<T>,
    late: impl FnOnce(T) + Send + 'static,
) -> Result<T, TooSlow> {
    match tokio::time::timeout(BOUND, &mut recording).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(%error, "a recording ended abruptly");
            Err(TooSlow)
        }
        Err(_) => {
            tracing::error!("the audit log does not answer in time");
            tokio::spawn(async move {
                if let Ok(done) = recording.await {
                    late(done);
                }
            });
            Err(TooSlow)
        }
    }
}

fn too_slow() -> Problem {
    Problem::unavailable(format!(
        "the audit log was not written within {} s, so nothing was changed",
        BOUND.as_secs()
    ))
    .hint("look at the disk of the control plane's data directory, then try again")
}

fn draft(phase: Phase, call: Digest, event: Event) -> Draft {
    Draft {
        stream: Stream::System(SYSTEM.into()),
        phase,
        call,
        event,
    }
}

fn call_of(event: &Event) -> Digest {
    Digest::of(&serde_json::to_vec(event).unwrap_or_default())
}

async fn intend(log: Log, events: Vec<Event>) -> Recorded {
    let (mut intents, mut failure) = (Vec::new(), None);
    for events in events.chunks(AT_ONCE) {
        let appends = events.iter().map(|event| async {
            let receipt = log
                .append(draft(Phase::Intent, call_of(event), event.clone()))
                .await;
            receipt.map(|receipt| (receipt, event.clone()))
        });
        for result in join_all(appends).await {
            match result {
                Ok(intent) => intents.push(intent),
                Err(error) => failure = Some(error),
            }
        }
        if failure.is_some() {
            break;
        }
    }
    (Intents(intents), failure)
}

async fn settle(log: Log, intents: Intents, outcome: Outcome) -> Result<(), AppendError> {
    for intents in intents.0.chunks(AT_ONCE) {
        let appends = intents.iter().map(|(receipt, event)| async {
            let mut event = event.clone();
            event.outcome = Some(outcome);
            let phase = Phase::Outcome { of: receipt.index() };
            log.append(draft(phase, *receipt.call(), event)).await
        });
        for result in join_all(appends).await {
            let _durable = result?;
        }
    }
    Ok(())
}
