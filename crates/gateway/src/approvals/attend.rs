//! Attending to calls that wait: members' decisions take effect, silence denies, what is out of date goes.
//!
//! Level-triggered: it looks at everything known and at the state in force, and can be repeated at any time. A
//! decision has an effect only on a call that waits here, under its id, for its Claw and its digest; one that is
//! sent again finds nothing to act on.

use clawstaff_api::nodes::{Answer, MemberDecision, WaitingCall};
use clawstaff_audit::Stream;
use clawstaff_types::{Actor, ApprovalId, Decision, Event, EventKind, Outcome};
use jiff::{SignedDuration, Timestamp};

use super::{Approvals, Known, Stand};
use crate::{record, shared::Gateway, state::State};

/// A yes that is not used is forgotten after this time, whatever the control plane says.
const LONGEST_APPROVAL: SignedDuration = SignedDuration::from_hours(24);

/// What has to happen to one call.
#[derive(Debug)]
struct Step {
    id: ApprovalId,
    /// What is recorded first; a denial that is forgotten is on record already.
    event: Option<Event>,
    /// How it stands then; `None` when it is gone.
    stand: Option<Stand>,
}

/// Makes everything so that has come due. What cannot be recorded or kept stays as it was, for the next time.
pub(crate) async fn attend(gateway: &Gateway) {
    let (state, now) = (gateway.state.load_full(), Timestamp::now());
    let approvals = &gateway.approvals;
    let mut known = approvals.known.lock().await;
    let steps: Vec<Step> = known
        .values()
        .filter_map(|known| step(&state, known, now))
        .collect();
    for step in steps {
        let Some(one) = known.get_mut(&step.id) else {
            continue;
        };
        if let Err(why) = make(gateway, approvals, &step, one).await {
            tracing::error!(approval = %step.id, why, "a decision has no effect yet");
            continue;
        }
        match step.stand {
            Some(stand) => one.stand = stand,
            None => drop(known.remove(&step.id)),
        }
        approvals.touch();
    }
}

/// The decisions of the state in force that have had their effect, or can have none.
pub(crate) fn taken(state: &State, waiting: &[WaitingCall]) -> Vec<ApprovalId> {
    let open = |decision: &&MemberDecision| !waiting.iter().any(|call| decides(decision, call));
    let decisions = state.raw().approvals.iter().filter(open);
    decisions.map(|decision| decision.id.clone()).collect()
}

fn step(state: &State, known: &Known, now: Timestamp) -> Option<Step> {
    let call = &known.call;
    let gone = |event| {
        Some(Step {
            id: call.id.clone(),
            event,
            stand: None,
        })
    };
    let overdue = now >= known.ends();
    match &known.stand {
        Stand::Denied { .. } if overdue => gone(None),
        Stand::Approved { .. } if overdue => {
            gone(Some(expired(state, call, "approved, but not made in time")))
        }
        Stand::Waiting if overdue => gone(Some(expired(state, call, "nobody decided in time"))),
        Stand::Waiting => match state
            .raw()
            .approvals
            .iter()
            .find(|decision| decides(decision, call))
        {
            Some(decision) => Some(decided(state, call, decision, now)),
            None if state.holds_any(&call.claw, &call.grants) => None,
            None => gone(Some(expired(state, call, "the grant that asks was taken away"))),
        },
        Stand::Denied { .. } | Stand::Approved { .. } => None,
    }
}

/// Whether the decision is about this very call.
fn decides(decision: &MemberDecision, call: &WaitingCall) -> bool {
    decision.id == call.id && decision.claw == call.claw && decision.digest == call.digest
}

fn decided(state: &State, call: &WaitingCall, decision: &MemberDecision, now: Timestamp) -> Step {
    let by = decision.by.clone();
    let kind = match &decision.answer {
        Answer::Once { .. } | Answer::Grant { .. } => EventKind::ApprovalGranted,
        Answer::Deny => EventKind::ApprovalDenied,
    };
    let mut event = event(state, call, kind, Actor::Member(by.clone()));
    fact(&mut event, "decided", decision.at.to_string());
    let stand = match &decision.answer {
        Answer::Deny => {
            event.decision = Some(Decision::Deny);
            Some(Stand::Denied { by })
        }
        Answer::Grant { grant } => {
            event.decision = Some(Decision::Allow);
            fact(&mut event, "grant", grant.to_string());
            None
        }
        Answer::Once { expires } => {
            let expires = now
                .checked_add(LONGEST_APPROVAL)
                .map_or(*expires, |most| most.min(*expires));
            event.decision = Some(Decision::Allow);
            fact(&mut event, "expires", expires.to_string());
            Some(Stand::Approved { by, expires })
        }
    };
    Step {
        id: call.id.clone(),
        event: Some(event),
        stand,
    }
}

fn expired(state: &State, call: &WaitingCall, why: &str) -> Event {
    let actor = Actor::System("gateway".to_owned());
    let mut event = event(state, call, EventKind::ApprovalExpired, actor);
    event.decision = Some(Decision::Deny);
    event.outcome = Some(Outcome::Refused);
    event.reason = Some(why.to_owned());
    event
}

fn event(state: &State, call: &WaitingCall, kind: EventKind, actor: Actor) -> Event {
    let mut event = Event::new(kind, actor);
    event.claw = Some(call.claw.clone());
    event.claw_revision = state.claw(&call.claw).map(|claw| claw.revision);
    event.policy_revision = Some(state.revision());
    event.on_behalf_of.clone_from(&call.on_behalf_of);
    event.connection = Some(call.connection.clone());
    event.action = Some(call.action.clone());
    event.resource.clone_from(&call.resource);
    event.grants.clone_from(&call.grants);
    event.digests.insert("request".to_owned(), call.digest);
    fact(&mut event, "approval", call.id.to_string());
    event
}

fn fact(event: &mut Event, label: &str, value: String) {
    event.facts.insert(label.to_owned(), value);
}

/// On record, then on disk.
async fn make(gateway: &Gateway, approvals: &Approvals, step: &Step, known: &Known) -> Result<(), String> {
    if let Some(event) = &step.event {
        let stream = Stream::Claw(known.call.claw.clone());
        record::fact(gateway, stream, known.call.digest, event.clone())
            .await
            .map_err(|error| error.to_string())?;
    }
    let kept = match &step.stand {
        Some(stand) => {
            let next = Known {
                stand: stand.clone(),
                ..known.clone()
            };
            approvals.folder.keep(&next).await
        }
        None => approvals.folder.remove(&step.id).await,
    };
    kept.map_err(|error| error.to_string())
}
