//! The records of lifecycle acts: what an act is called in the log, who caused it, and what is recorded late.

use std::collections::{BTreeMap, VecDeque};

use clawstaff_types::{Actor, ClawName, Event, EventKind, MemberId, Outcome};
use serde::{Deserialize, Serialize};

use crate::{gateway::Gateway, http::CallError, plan::Act, status::shorten};

/// Most things that are remembered to be recorded late; beyond it the oldest are dropped, and said to be.
const MAX_LATE: usize = 256;

/// What an event is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) claw: ClawName,
    pub(crate) cage: String,
    pub(crate) revision: Option<u32>,
    /// Who asked, as the control plane says; `None` when nobody did.
    pub(crate) by: Option<String>,
}

impl Subject {
    /// An event about it.
    pub(crate) fn event(&self, kind: EventKind, reason: Option<&str>) -> Event {
        let mut event = Event::new(kind, self.by.as_deref().map_or_else(runner, actor));
        event.claw = Some(self.claw.clone());
        event.claw_revision = self.revision;
        event.reason = reason.map(shorten);
        event.facts = BTreeMap::from([("cage".to_owned(), self.cage.clone())]);
        event
    }
}

/// The kind under which an act is recorded.
pub(crate) const fn kind(act: Act) -> EventKind {
    match act {
        Act::Start => EventKind::ClawStarted,
        Act::Stop | Act::Halt => EventKind::ClawStopped,
        Act::Pause | Act::Hold | Act::Freeze => EventKind::ClawPaused,
        Act::Resume | Act::Thaw => EventKind::ClawResumed,
        Act::Destroy => EventKind::ClawDestroyed,
    }
}

fn runner() -> Actor {
    Actor::System("runner".to_owned())
}

/// `member:uid-0` or plain `uid-0`; anything else is ours.
fn actor(by: &str) -> Actor {
    Actor::try_from(by.to_owned())
        .or_else(|_| by.parse::<MemberId>().map(Actor::Member))
        .unwrap_or_else(|_| runner())
}

/// The outcome of an event.
pub(crate) fn outcome(mut event: Event, outcome: Outcome, reason: Option<&str>) -> Event {
    event.outcome = Some(outcome);
    event.reason = reason.map(shorten).or(event.reason);
    event
}

/// Something that happened and could not be recorded before: the gateway was lost, or nobody was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Late {
    pub(crate) claw: ClawName,
    pub(crate) event: Event,
}

impl Late {
    /// Something that happened at this moment.
    pub(crate) fn now(claw: ClawName, mut event: Event) -> Self {
        event
            .facts
            .insert("happened_at".to_owned(), jiff::Timestamp::now().to_string());
        Self { claw, event }
    }
}

/// What waits to be recorded, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue(VecDeque<Late>);

impl Queue {
    pub(crate) fn from_kept(kept: Vec<Late>) -> Self {
        Self(kept.into())
    }

    pub(crate) fn push(&mut self, late: Late) {
        if self.0.len() >= MAX_LATE
            && let Some(dropped) = self.0.pop_front()
        {
            tracing::error!(claw = %dropped.claw, kind = %dropped.event.kind, "dropped: too much waits to be recorded");
        }
        self.0.push_back(late);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn to_vec(&self) -> Vec<Late> {
        self.0.iter().cloned().collect()
    }

    /// Takes everything that waits.
    pub(crate) fn take(&mut self) -> Vec<Late> {
        std::mem::take(&mut self.0).into()
    }

    /// Puts back what could not be recorded, before what came since.
    pub(crate) fn put_back(&mut self, rest: Vec<Late>) {
        for late in rest.into_iter().rev() {
            self.0.push_front(late);
        }
    }
}

/// Records what waits; returns what still could not be.
pub(crate) async fn flush(gateway: Gateway, waiting: Vec<Late>) -> Vec<Late> {
    let mut waiting: VecDeque<Late> = waiting.into();
    while let Some(late) = waiting.pop_front() {
        match record_late(&gateway, &late).await {
            Ok(()) => {}
            Err(error @ (CallError::Refused { .. } | CallError::Answer(_))) => {
                tracing::error!(claw = %late.claw, kind = %late.event.kind, %error, "a late record was refused");
            }
            Err(_) => {
                waiting.push_front(late);
                break;
            }
        }
    }
    waiting.into()
}

async fn record_late(gateway: &Gateway, late: &Late) -> Result<(), CallError> {
    let mut intent = late.event.clone();
    let result = intent.outcome.take().unwrap_or(Outcome::Succeeded);
    let index = gateway.record(&late.claw, None, intent.clone()).await?;
    let settled = outcome(intent, result, None);
    gateway.record(&late.claw, Some(index), settled).await.map(drop)
}
