//! What is reported of each cage: its phase, and the reason where the phase wants one. Pure.
//!
//! Reasons are our words and the kernel's. What a cage printed is content and stays on this host.

use clawstaff_api::nodes::{CageStatus, Desired, Phase, RunnerClaw};
use clawstaff_types::ClawName;

use crate::{
    memory::{Memory, Version},
    plan::{Act, Mediator, Millis, Seen},
};

/// The longest reason, in characters.
const MAX_REASON: usize = 300;

/// One cage as it is.
pub fn cage_status(
    claw: &ClawName,
    cage: &str,
    wanted: Option<&RunnerClaw>,
    seen: Seen,
    memory: &Memory,
    mediator: Mediator,
    now: Millis,
) -> CageStatus {
    let (phase, reason) = phase(wanted, seen, memory, mediator, now);
    let revision = memory.version.map(|version| version.revision);
    let up = matches!(seen, Seen::Running | Seen::Paused);
    CageStatus {
        claw: claw.clone(),
        cage: cage.to_owned(),
        revision: revision
            .or_else(|| wanted.map(|claw| claw.revision))
            .unwrap_or_default(),
        phase,
        reason: reason.map(|reason| shorten(&reason)),
        starts: memory.starts,
        stats: memory.stats.clone().filter(|_| up),
    }
}

fn phase(
    wanted: Option<&RunnerClaw>,
    seen: Seen,
    memory: &Memory,
    mediator: Mediator,
    now: Millis,
) -> (Phase, Option<String>) {
    match memory.busy {
        Some(Act::Start) => return (Phase::Starting, waiting_reason(wanted, memory)),
        Some(Act::Stop | Act::Destroy) => return (Phase::Stopping, None),
        Some(Act::Pause | Act::Resume | Act::Freeze | Act::Thaw) | None => {}
    }
    match (seen, wanted) {
        (Seen::Running, _) => (Phase::Running, None),
        (Seen::Paused, _) if memory.frozen => (
            Phase::Paused,
            Some("the gateway cannot be reached: frozen until it is back".to_owned()),
        ),
        (Seen::Paused, _) => (Phase::Paused, None),
        (Seen::Absent, None) => (Phase::Destroyed, None),
        (Seen::Created | Seen::Exited, None) => (Phase::Stopping, None),
        (Seen::Absent | Seen::Created | Seen::Exited, Some(claw)) => down(claw, memory, mediator, now),
    }
}

/// The phase of a cage that is wanted but not up.
fn down(claw: &RunnerClaw, memory: &Memory, mediator: Mediator, now: Millis) -> (Phase, Option<String>) {
    match claw.desired {
        Desired::Stopped => return (Phase::Stopped, None),
        Desired::Paused => {
            let reason = "it was not running when it was paused; `resume` starts it";
            return (Phase::Stopped, Some(reason.to_owned()));
        }
        Desired::Running => {}
    }
    if memory.gone_at.is_some() {
        return (Phase::Destroyed, None);
    }
    match memory.trouble_of(Version::of(claw)) {
        Some(trouble) => match trouble.retry_at {
            None => (Phase::Failed, Some(trouble.reason.clone())),
            Some(at) => {
                let seconds = at.saturating_sub(now).div_ceil(1000);
                let reason = format!("{}; starting again in {seconds} s", trouble.reason);
                (Phase::Starting, Some(reason))
            }
        },
        None if mediator == Mediator::Here => (Phase::Pending, None),
        None => (Phase::Pending, Some("the gateway cannot be reached".to_owned())),
    }
}

fn waiting_reason(wanted: Option<&RunnerClaw>, memory: &Memory) -> Option<String> {
    let trouble = memory.trouble_of(Version::of(wanted?))?;
    Some(format!("{}; trying again", trouble.reason))
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
