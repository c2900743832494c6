//! The phase that people see: what is wanted, merged with what the runner last reported. Pure.

use clawstaff_api::nodes::{CageStatus, Cause, Desired, Phase};
use clawstaff_store::ClawRow;

/// A phase and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) phase: Phase,
    pub(crate) reason: Option<String>,
    pub(crate) cause: Option<Cause>,
}

/// The runner as far as phases need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reported<'a> {
    /// The state revision it works towards.
    pub(crate) revision: u64,
    /// Whether it spoke lately.
    pub(crate) connected: bool,
    /// This Claw's cage, if it has it.
    pub(crate) cage: Option<&'a CageStatus>,
}

/// Merges. `None`: there is nothing left of it.
pub(crate) fn seen(claw: &ClawRow, reported: Option<Reported<'_>>) -> Option<Seen> {
    let Some(reported) = reported else {
        return (!claw.destroyed).then(|| unseen(claw, "no runner has connected yet"));
    };
    let mut seen = match reported.cage {
        Some(cage) if claw.destroyed => gone(cage)?,
        None if claw.destroyed => return None,
        None => unseen(claw, "the runner has not begun yet"),
        Some(cage) => merged(claw, cage, reported.revision),
    };
    if !reported.connected {
        let text = "the runner has not been heard of for more than 30 s; this is what it said last";
        seen.reason = Some(
            seen.reason
                .map_or_else(|| text.to_owned(), |reason| format!("{reason} ({text})")),
        );
    }
    Some(seen)
}

fn unseen(claw: &ClawRow, why: &str) -> Seen {
    match claw.desired {
        Desired::Stopped => Seen {
            phase: Phase::Stopped,
            reason: None,
            cause: None,
        },
        Desired::Running | Desired::Paused => Seen {
            phase: Phase::Pending,
            reason: Some(why.to_owned()),
            cause: None,
        },
    }
}

fn gone(cage: &CageStatus) -> Option<Seen> {
    (cage.phase != Phase::Destroyed).then(|| Seen {
        phase: Phase::Stopping,
        reason: Some("it is being destroyed".to_owned()),
        cause: None,
    })
}

/// What is wanted and what is. A runner that does not know the newest wish yet cannot have fulfilled it.
fn merged(claw: &ClawRow, cage: &CageStatus, runner_revision: u64) -> Seen {
    let as_reported = || Seen {
        phase: cage.phase,
        reason: cage.reason.clone(),
        cause: cage.cause,
    };
    let because = |phase, text: &str| Seen {
        phase,
        reason: Some(cage.reason.clone().unwrap_or_else(|| text.to_owned())),
        cause: cage.cause,
    };
    let behind = runner_revision < claw.wished_in;
    let other_revision = cage.revision != claw.revision;
    match (claw.desired, cage.phase) {
        (Desired::Running, Phase::Running) if behind || other_revision => because(
            Phase::Pending,
            "the runner has not put the newest wish in force yet",
        ),
        // Frozen, or stopped after that, for want of the gateway: that is what it is, and not on its way.
        (Desired::Running, Phase::Stopped | Phase::Paused) if !behind && cage.cause.is_some() => {
            as_reported()
        }
        (Desired::Running, Phase::Stopped | Phase::Paused | Phase::Destroyed) => {
            because(Phase::Pending, "it is to be started")
        }
        (Desired::Running, Phase::Failed) if behind => because(Phase::Pending, "it is to be started again"),
        (Desired::Stopped, Phase::Running | Phase::Paused | Phase::Starting | Phase::Pending) => {
            because(Phase::Stopping, "it is to be stopped")
        }
        (Desired::Stopped, Phase::Destroyed) => because(Phase::Stopped, "it has no cage yet"),
        (Desired::Running | Desired::Paused | Desired::Stopped, _) => as_reported(),
    }
}

#[cfg(test)]
mod tests {
    use clawstaff_types::spec::{Agent, Budget, ClawSpec, Limits};

    use super::*;

    fn claw(desired: Desired, wished_in: u64) -> ClawRow {
        ClawRow {
            cage: "a-00000001".into(),
            revision: 2,
            generation: 1,
            desired,
            asked_by: "uid-0".parse().unwrap(),
            revised_in: 1,
            wished_in,
            destroyed: false,
            spec: ClawSpec {
                name: "a".parse().unwrap(),
                node: None,
                description: String::new(),
                agent: Agent::Builtin,
                model: None,
                instructions: None,
                limits: Limits::default(),
                budget: Budget::default(),
                triggers: Vec::new(),
            },
        }
    }

    fn cage(phase: Phase, revision: u32) -> CageStatus {
        CageStatus {
            claw: "a".parse().unwrap(),
            cage: "a-00000001".into(),
            revision,
            phase,
            reason: None,
            cause: None,
            good: None,
            starts: 1,
            stats: None,
        }
    }

    fn check(claw: &ClawRow, cage: Option<&CageStatus>, runner_revision: u64) -> Option<Phase> {
        let reported = Reported {
            revision: runner_revision,
            connected: true,
            cage,
        };
        seen(claw, Some(reported)).map(|seen| seen.phase)
    }

    #[test]
    fn a_claw_runs_only_when_the_newest_wish_does() {
        let wanted = claw(Desired::Running, 5);
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Running, 2)), 5),
            Some(Phase::Running)
        );
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Running, 2)), 4),
            Some(Phase::Pending)
        );
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Running, 1)), 5),
            Some(Phase::Pending)
        );
        assert_eq!(check(&wanted, None, 5), Some(Phase::Pending));
    }

    #[test]
    fn a_stop_is_stopping_until_the_runner_says_stopped() {
        let wanted = claw(Desired::Stopped, 5);
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Running, 2)), 5),
            Some(Phase::Stopping)
        );
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Stopped, 2)), 5),
            Some(Phase::Stopped)
        );
        assert_eq!(check(&wanted, None, 5), Some(Phase::Stopped));
    }

    #[test]
    fn a_destroyed_claw_vanishes_with_its_cage() {
        let mut wanted = claw(Desired::Stopped, 5);
        wanted.destroyed = true;
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Running, 2)), 5),
            Some(Phase::Stopping)
        );
        assert_eq!(check(&wanted, Some(&cage(Phase::Destroyed, 2)), 5), None);
        assert_eq!(check(&wanted, None, 5), None);
        assert_eq!(seen(&wanted, None), None);
    }

    #[test]
    fn a_cage_that_is_frozen_for_want_of_the_gateway_is_shown_as_paused() {
        let wanted = claw(Desired::Running, 5);
        let mut frozen = cage(Phase::Paused, 2);
        frozen.cause = Some(Cause::GatewayLost);
        assert_eq!(check(&wanted, Some(&frozen), 5), Some(Phase::Paused));
        assert_eq!(check(&wanted, Some(&frozen), 4), Some(Phase::Pending));
        frozen.cause = None;
        assert_eq!(check(&wanted, Some(&frozen), 5), Some(Phase::Pending));
    }

    #[test]
    fn a_failure_shows_until_somebody_wishes_anew() {
        let wanted = claw(Desired::Running, 5);
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Failed, 2)), 5),
            Some(Phase::Failed)
        );
        assert_eq!(
            check(&wanted, Some(&cage(Phase::Failed, 2)), 4),
            Some(Phase::Pending)
        );
    }
}
