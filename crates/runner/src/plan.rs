//! What to do next: a pure function of what is wanted, what is seen and what is remembered.
//!
//! No clock, no IO, no randomness. The loop observes, asks [`plan`], hands each step to a task of its own and
//! asks again when something has changed; a cage whose step is under way gets no other.
//!
//! ```text
//!              wanted: running          paused    stopped   destroyed   not listed
//!  absent      start                    -         -         -           -
//!  created     start                    -         -         destroy     -
//!  running     stop if outdated         pause     stop      stop        hold
//!  paused      go on, stop if outdated  -         stop      stop        stop, if held for long
//!  exited      start, when it is time   -         -         destroy     -
//! ```
//!
//! Without the gateway nobody mediates and nothing can be recorded: then every running cage is frozen at once, and
//! one that has been frozen for [`HOLD_FOR`] is halted. What is merely missing from the wanted state is never
//! destroyed: that takes a name on the list of the destroyed.

use std::collections::{BTreeMap, BTreeSet};

use clawstaff_api::nodes::{Desired, RunnerClaw, RunnerState};

use crate::memory::{Held, Memory, Version};

/// Milliseconds on the runner's own clock.
pub type Millis = u64;

/// For how long a cage is kept frozen for want of somebody who answers for it, before it is stopped: 15 minutes.
pub const HOLD_FOR: Millis = 900_000;

/// A cage as it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// Not there.
    Absent,
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Exited,
}

/// Whether the gateway is there to mediate and to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mediator {
    /// Not asked yet.
    Unknown,
    /// It answers.
    Here,
    /// It does not.
    Lost,
}

/// One thing to do to one cage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Make it if needed, and start it.
    Start,
    /// Stop it; its storage stays.
    Stop,
    /// Freeze it because that is wanted.
    Pause,
    /// Let it go on.
    Resume,
    /// Remove it with its storage.
    Destroy,
    /// Freeze it because the control plane does not list it any more.
    Hold,
    /// Freeze it because the gateway is lost; recorded when it is back.
    Freeze,
    /// Stop it because the gateway stays lost; recorded when it is back.
    Halt,
    /// Let it go on because somebody answers for it again.
    Thaw,
}

/// An act and the cage it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The cage's id.
    pub cage: String,
    /// What to do.
    pub act: Act,
}

/// What the control plane says of a cage.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish<'a> {
    /// It should exist, like this.
    Listed(&'a RunnerClaw),
    /// A member had it destroyed.
    Destroyed,
    /// Nothing. That may be a mistake, so it costs nothing that cannot be got back.
    NotListed,
}

/// What the control plane says of this cage. Listed as both, it is kept.
pub(crate) fn wish_for<'a>(state: &'a RunnerState, cage: &str) -> Wish<'a> {
    match state.claws.iter().find(|claw| claw.cage == cage) {
        Some(claw) => Wish::Listed(claw),
        None if state.destroyed.iter().any(|gone| gone == cage) => Wish::Destroyed,
        None => Wish::NotListed,
    }
}

/// The next steps, at most one for each cage, none for a cage whose step is under way.
pub fn plan(
    state: &RunnerState,
    seen: &BTreeMap<String, Seen>,
    memory: &BTreeMap<String, Memory>,
    mediator: Mediator,
    now: Millis,
) -> Vec<Step> {
    let listed: BTreeMap<&str, &RunnerClaw> = state
        .claws
        .iter()
        .map(|claw| (claw.cage.as_str(), claw))
        .collect();
    let destroyed: BTreeSet<&str> = state.destroyed.iter().map(String::as_str).collect();
    let cages: BTreeSet<&str> = listed
        .keys()
        .copied()
        .chain(seen.keys().map(String::as_str))
        .collect();
    let nothing = Memory::default();
    let step = |cage: &str| {
        let wish = match listed.get(cage) {
            Some(claw) => Wish::Listed(claw),
            None if destroyed.contains(cage) => Wish::Destroyed,
            None => Wish::NotListed,
        };
        let seen = seen.get(cage).copied().unwrap_or(Seen::Absent);
        let memory = memory.get(cage).unwrap_or(&nothing);
        let act = next(wish, seen, memory, mediator, now)?;
        Some(Step {
            cage: cage.to_owned(),
            act,
        })
    };
    cages.into_iter().filter_map(step).collect()
}

fn next(wish: Wish<'_>, seen: Seen, memory: &Memory, mediator: Mediator, now: Millis) -> Option<Act> {
    if memory.busy.is_some() {
        return None;
    }
    match mediator {
        Mediator::Unknown => None,
        Mediator::Lost => unmediated(seen, memory, now),
        Mediator::Here if now < memory.retry_act_at => None,
        Mediator::Here => match wish {
            Wish::Listed(claw) => toward(claw, seen, memory, now),
            Wish::Destroyed => away(seen),
            Wish::NotListed => unanswered(seen, memory, now),
        },
    }
}

/// The next step for a cage whose gateway is lost.
fn unmediated(seen: Seen, memory: &Memory, now: Millis) -> Option<Act> {
    match seen {
        _ if now < memory.retry_freeze_at => None,
        Seen::Running => Some(Act::Freeze),
        Seen::Paused => memory.held_too_long(now).then_some(Act::Halt),
        Seen::Absent | Seen::Created | Seen::Exited => None,
    }
}

/// The next step for a cage that is neither wanted nor destroyed.
fn unanswered(seen: Seen, memory: &Memory, now: Millis) -> Option<Act> {
    match seen {
        Seen::Running => Some(Act::Hold),
        Seen::Paused => memory.held_too_long(now).then_some(Act::Stop),
        Seen::Absent | Seen::Created | Seen::Exited => None,
    }
}

/// The next step for a cage that was destroyed.
const fn away(seen: Seen) -> Option<Act> {
    match seen {
        Seen::Running | Seen::Paused => Some(Act::Stop),
        Seen::Created | Seen::Exited => Some(Act::Destroy),
        Seen::Absent => None,
    }
}

/// The next step toward what is wanted.
fn toward(claw: &RunnerClaw, seen: Seen, memory: &Memory, now: Millis) -> Option<Act> {
    let version = Version::of(claw);
    let outdated = memory.version.is_some_and(|running| running != version);
    match (claw.desired, seen) {
        (Desired::Running, Seen::Running) => outdated.then_some(Act::Stop),
        (Desired::Running, Seen::Paused) if outdated => Some(Act::Stop),
        (Desired::Running, Seen::Paused) => Some(match memory.held {
            Some(Held::GatewayLost | Held::NotListed) => Act::Thaw,
            None => Act::Resume,
        }),
        (Desired::Running, Seen::Absent | Seen::Created | Seen::Exited) => {
            memory.may_start(version, now).then_some(Act::Start)
        }
        (Desired::Paused, Seen::Running) => Some(Act::Pause),
        (Desired::Stopped, Seen::Running | Seen::Paused) => Some(Act::Stop),
        (Desired::Paused, Seen::Paused)
        | (Desired::Paused | Desired::Stopped, Seen::Absent | Seen::Created | Seen::Exited) => None,
    }
}

#[cfg(test)]
mod tests;
