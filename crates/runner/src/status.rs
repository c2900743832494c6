//! What is reported of each cage: its phase, and the reason where the phase wants one. Pure.
//!
//! Reasons are our words and the kernel's. What a cage printed is content and stays on this host.

use clawstaff_api::nodes::{CageStatus, Cause, Desired, Phase, RunnerClaw};
use clawstaff_cage::{
    Counts, Reached,
    reached::{MOST_DESCRIPTORS, Room},
};
use clawstaff_types::ClawName;

use crate::{
    memory::{Held, Memory, Trouble, Version},
    plan::{Act, Mediator, Millis, Seen, Wish},
};

/// The longest reason, in characters.
const MAX_REASON: usize = 300;

/// What is said of a phase.
struct Told {
    phase: Phase,
    cause: Option<Cause>,
    reason: Option<String>,
}

impl Told {
    const fn plain(phase: Phase) -> Self {
        Self {
            phase,
            cause: None,
            reason: None,
        }
    }

    fn because(phase: Phase, cause: Cause, reason: impl Into<String>) -> Self {
        Self {
            phase,
            cause: Some(cause),
            reason: Some(reason.into()),
        }
    }

    fn noting(phase: Phase, reason: &str) -> Self {
        Self {
            reason: Some(reason.to_owned()),
            ..Self::plain(phase)
        }
    }
}

/// One cage as it is.
pub(crate) fn cage_status(
    claw: &ClawName,
    cage: &str,
    wish: Wish<'_>,
    seen: Seen,
    memory: &Memory,
    mediator: Mediator,
    now: Millis,
) -> CageStatus {
    let told = tell(wish, seen, memory, mediator, now);
    let revision = memory.version.map(|version| version.revision);
    let up = matches!(seen, Seen::Running | Seen::Paused);
    let wanted = match wish {
        Wish::Listed(claw) => Some(claw.revision),
        Wish::Destroyed | Wish::NotListed => None,
    };
    CageStatus {
        claw: claw.clone(),
        cage: cage.to_owned(),
        revision: revision.or(wanted).unwrap_or_default(),
        phase: told.phase,
        reason: told.reason.map(|reason| shorten(&reason)),
        cause: told.cause,
        good: memory.good,
        starts: memory.starts,
        stats: memory.stats.clone().filter(|_| up),
    }
}

fn tell(wish: Wish<'_>, seen: Seen, memory: &Memory, mediator: Mediator, now: Millis) -> Told {
    match memory.busy {
        Some(Act::Start) => return starting(wish, memory),
        Some(Act::Stop | Act::Halt | Act::Destroy) => return Told::plain(Phase::Stopping),
        Some(Act::Pause | Act::Hold | Act::Resume | Act::Freeze | Act::Thaw) | None => {}
    }
    match (seen, wish) {
        (Seen::Running, Wish::Listed(_)) => running(memory),
        (Seen::Running, Wish::Destroyed | Wish::NotListed) => Told::plain(Phase::Running),
        (Seen::Paused, _) => paused(memory),
        (Seen::Absent, Wish::Destroyed | Wish::NotListed) => Told::plain(Phase::Destroyed),
        (Seen::Created | Seen::Exited, Wish::Destroyed) => Told::plain(Phase::Stopping),
        (Seen::Created | Seen::Exited, Wish::NotListed) => Told::because(
            Phase::Stopped,
            Cause::NotListed,
            "the control plane does not list it: kept, not run; put the control plane's data back",
        ),
        (Seen::Absent | Seen::Created | Seen::Exited, Wish::Listed(claw)) => {
            down(claw, memory, mediator, now)
        }
    }
}

/// A cage that runs, and the limits that it has met without being ended for them. The worst is the cause.
fn running(memory: &Memory) -> Told {
    let mut met = Reached::ALL
        .into_iter()
        .filter(|limit| memory.reached.contains(limit));
    let Some(worst) = met.next() else {
        return Told::plain(Phase::Running);
    };
    let (cause, words) = described(worst, &memory.counts);
    let all = met.fold(words, |all, limit| {
        format!("{all}; {}", described(limit, &memory.counts).1)
    });
    Told::because(Phase::Running, cause, all)
}

/// One limit that was met.
fn described(limit: Reached, counts: &Counts) -> (Cause, String) {
    let raise = |name: &str| format!("`limits.{name}`; raise the limit if the work needs it");
    let full = |room: Room, what: &str| match room {
        Room::Full("/data") => format!("`/data` has no room for {what}: {}", raise("storage")),
        Room::Full(place) => format!("`{place}` has no room for {what}; its size is the same in every cage"),
        Room::Unknown | Room::Left => format!("there is no room for {what}"),
    };
    match limit {
        Reached::Memory => (
            Cause::OutOfMemory,
            format!(
                "the kernel killed a process of it for want of memory: {}",
                raise("memory")
            ),
        ),
        Reached::Pids => (Cause::PidsReached, format!("it has reached {}", raise("pids"))),
        Reached::Storage => (Cause::StorageFull, full(counts.bytes, "more bytes")),
        Reached::Inodes => (Cause::InodesUsedUp, full(counts.files, "more files")),
        Reached::Descriptors => (
            Cause::DescriptorsReached,
            format!("a process of it has {MOST_DESCRIPTORS} files open, and can open no more"),
        ),
        Reached::Output => (
            Cause::OutputFlooded,
            "it prints more than is kept of its output".to_owned(),
        ),
        Reached::Cpus => (
            Cause::CpusReached,
            format!("it waits for CPU time: it has reached {}", raise("cpus")),
        ),
    }
}

fn paused(memory: &Memory) -> Told {
    match memory.held {
        None => Told::plain(Phase::Paused),
        Some(Held::GatewayLost) => Told::because(
            Phase::Paused,
            Cause::GatewayLost,
            "the gateway cannot be reached: frozen until it is back",
        ),
        Some(Held::NotListed) => Told::because(
            Phase::Paused,
            Cause::NotListed,
            "the control plane does not list it: frozen, nothing is lost; put the control plane's data back",
        ),
    }
}

/// The phase of a cage that is wanted but not up.
fn down(claw: &RunnerClaw, memory: &Memory, mediator: Mediator, now: Millis) -> Told {
    match claw.desired {
        Desired::Stopped => return Told::plain(Phase::Stopped),
        Desired::Paused => {
            let reason = "it was not running when it was paused; `resume` starts it";
            return Told::noting(Phase::Stopped, reason);
        }
        Desired::Running => {}
    }
    if memory.gone_at.is_some() {
        return Told::plain(Phase::Destroyed);
    }
    match (memory.trouble_of(Version::of(claw)), mediator) {
        (Some(trouble), _) => troubled(trouble, now),
        (None, Mediator::Here) => Told::plain(Phase::Pending),
        (None, Mediator::Lost | Mediator::Unknown) if memory.held == Some(Held::GatewayLost) => {
            Told::because(
                Phase::Stopped,
                Cause::GatewayLost,
                "the gateway could not be reached for too long: stopped; it starts when the gateway is back",
            )
        }
        (None, Mediator::Lost | Mediator::Unknown) => Told::because(
            Phase::Pending,
            Cause::GatewayLost,
            "the gateway cannot be reached",
        ),
    }
}

fn troubled(trouble: &Trouble, now: Millis) -> Told {
    let Some(at) = trouble.retry_at else {
        return Told::because(Phase::Failed, trouble.cause, trouble.reason.clone());
    };
    let seconds = at.saturating_sub(now).div_ceil(1000);
    let reason = format!("{}; starting again in {seconds} s", trouble.reason);
    Told::because(Phase::Starting, trouble.cause, reason)
}

fn starting(wish: Wish<'_>, memory: &Memory) -> Told {
    let trouble = match wish {
        Wish::Listed(claw) => memory.trouble_of(Version::of(claw)),
        Wish::Destroyed | Wish::NotListed => None,
    };
    match trouble {
        Some(trouble) => {
            let reason = format!("{}; trying again", trouble.reason);
            Told::because(Phase::Starting, trouble.cause, reason)
        }
        None => Told::plain(Phase::Starting),
    }
}

/// At most [`MAX_REASON`] characters, none of which can end a line.
pub(crate) fn shorten(reason: &str) -> String {
    let clean = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = clean.take(MAX_REASON).collect();
    if reason.chars().count() > MAX_REASON {
        short.pop();
        short.push('…');
    }
    short
}
