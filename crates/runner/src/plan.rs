//! What to do next: a pure function of what is wanted, what is seen and what is remembered.
//!
//! No clock, no IO, no randomness. The loop observes, asks [`plan`], hands each step to a task of its own and
//! asks again when something has changed; a cage whose step is under way gets no other.
//!
//! ```text
//!              wanted: running          wanted: paused    wanted: stopped   not wanted
//!  absent      start                    -                 -                 -
//!  created     start                    -                 -                 destroy
//!  running     stop if outdated         pause             stop              stop
//!  paused      resume, stop if outdated -                 stop              stop
//!  exited      start, when its time has come    -         -                 destroy
//! ```
//!
//! Without the gateway nobody mediates and nothing can be recorded: then every running cage is frozen at once,
//! and that is all that is done.

use std::collections::{BTreeMap, BTreeSet};

use clawstaff_api::nodes::{Desired, RunnerClaw};

use crate::memory::{Memory, Version};

/// Milliseconds on the runner's own clock.
pub type Millis = u64;

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
    /// Freeze it because the gateway is lost; recorded when it is back.
    Freeze,
    /// Let it go on because the gateway is back.
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

/// The next steps, at most one for each cage, none for a cage whose step is under way.
pub fn plan(
    wanted: &[RunnerClaw],
    seen: &BTreeMap<String, Seen>,
    memory: &BTreeMap<String, Memory>,
    mediator: Mediator,
    now: Millis,
) -> Vec<Step> {
    let by_cage: BTreeMap<&str, &RunnerClaw> = wanted.iter().map(|claw| (claw.cage.as_str(), claw)).collect();
    let cages: BTreeSet<&str> = by_cage
        .keys()
        .copied()
        .chain(seen.keys().map(String::as_str))
        .collect();
    let nothing = Memory::default();
    let step = |cage: &str| {
        let seen = seen.get(cage).copied().unwrap_or(Seen::Absent);
        let memory = memory.get(cage).unwrap_or(&nothing);
        let act = next(by_cage.get(cage).copied(), seen, memory, mediator, now)?;
        Some(Step {
            cage: cage.to_owned(),
            act,
        })
    };
    cages.into_iter().filter_map(step).collect()
}

fn next(
    wanted: Option<&RunnerClaw>,
    seen: Seen,
    memory: &Memory,
    mediator: Mediator,
    now: Millis,
) -> Option<Act> {
    if memory.busy.is_some() {
        return None;
    }
    match mediator {
        Mediator::Unknown => None,
        Mediator::Lost => (seen == Seen::Running && now >= memory.retry_freeze_at).then_some(Act::Freeze),
        Mediator::Here if now < memory.retry_act_at => None,
        Mediator::Here => match wanted {
            Some(claw) => toward(claw, seen, memory, now),
            None => away(seen),
        },
    }
}

/// The next step for a cage that nobody wants.
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
        (Desired::Running, Seen::Paused) if memory.frozen => Some(Act::Thaw),
        (Desired::Running, Seen::Paused) => Some(Act::Resume),
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
