//! record: the intent is durable before anything happens, and so is every no.
//!
//! An event holds ids, counts and commitments. What the cage sent appears only as a keyed digest.

use clawstaff_audit::{AppendError, Draft, Phase, Receipt, Stream};
use clawstaff_connectors::RecordKind;
use clawstaff_policy::Permit;
use clawstaff_types::{
    Actor, Cause, ClawName, Decision, Digest, Event, EventId, EventKind, MemberId, Outcome, ResourceRef,
};

use crate::{budget::Reservation, map::Call, problem::Refusal, shared::Gateway, state::State};

/// The longest reason in a record, in characters.
const MAX_REASON: usize = 300;

/// In whose name a call is made, as of its beginning.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) claw: ClawName,
    revision: Option<u32>,
    policy_revision: u64,
    cause: Option<EventId>,
    pub(crate) on_behalf_of: Option<MemberId>,
}

impl Who {
    /// What is known of `claw` now; the cage itself is not asked.
    pub(crate) fn now(gateway: &Gateway, state: &State, claw: &ClawName) -> Self {
        Self {
            claw: claw.clone(),
            revision: state.claw(claw).map(|known| known.revision),
            policy_revision: state.policy().version(),
            cause: gateway.inbox.current(claw),
            on_behalf_of: gateway.inbox.on_behalf_of(claw),
        }
    }

    /// An event of this Claw, with everything that is the same for all of them.
    pub(crate) fn event(&self, kind: EventKind) -> Event {
        let mut event = Event::new(kind, Actor::Claw(self.claw.clone()));
        event.claw = Some(self.claw.clone());
        event.on_behalf_of.clone_from(&self.on_behalf_of);
        event.cause = self.cause.clone().map(Cause);
        event.claw_revision = self.revision;
        event.policy_revision = Some(self.policy_revision);
        event
    }

    /// A refused act, still without its particulars.
    pub(crate) fn refused(&self, kind: EventKind, decision: Decision, reason: &str) -> Event {
        let mut event = self.event(kind);
        event.decision = Some(decision);
        event.outcome = Some(Outcome::Refused);
        event.reason = Some(reason.chars().take(MAX_REASON).collect());
        event
    }

    pub(crate) fn stream(&self) -> Stream {
        Stream::Claw(self.claw.clone())
    }
}

/// A call that goes no further: what the cage reads and what the log says.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Refused before anything happened; recorded as a fact.
    Denied {
        /// What the cage reads.
        refusal: Refusal,
        /// What the log says.
        event: Box<Event>,
        /// Digest of the call, or of nothing where it did not become one.
        call: Digest,
    },
    /// Already recorded, or unrecordable.
    Told(Refusal),
}

/// The event of a call that policy was asked about.
pub(crate) fn about(who: &Who, call: &Call, kind: EventKind) -> Event {
    let mut event = who.event(kind);
    event.connection = Some(call.link.name().clone());
    event.action = Some(call.mapped.action.clone());
    event.resource = call.mapped.resources.first().cloned();
    event.digests.insert("request".to_owned(), call.digest);
    let facts = [
        ("method", call.method.as_str().to_owned()),
        ("host", call.link.base.authority().to_owned()),
        ("request_bytes", call.body.len().to_string()),
    ];
    event
        .facts
        .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
    if let Some(more) = others(&call.mapped.resources) {
        event.facts.insert("resources".to_owned(), more);
    }
    event
}

/// All resources where there are several; bounded.
fn others(resources: &[ResourceRef]) -> Option<String> {
    (resources.len() > 1).then(|| {
        let all: Vec<String> = resources.iter().take(8).map(ToString::to_string).collect();
        all.join(" ")
    })
}

/// The kind of the record of a call that was let through.
pub(crate) const fn kind_of(record: RecordKind) -> EventKind {
    match record {
        RecordKind::Tool => EventKind::ToolCall,
        RecordKind::MessageRead => EventKind::MessageRead,
        RecordKind::MessageSent => EventKind::MessageSent,
        RecordKind::Model => EventKind::ModelCall,
    }
}

/// An intent that is durable, and the event its outcome repeats.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) receipt: Receipt,
    pub(crate) event: Event,
    pub(crate) call: Digest,
    pub(crate) stream: Stream,
}

/// Makes the intent of a permitted call durable.
///
/// # Errors
/// When the log cannot be written; then nothing may happen.
pub(crate) async fn intent(
    gateway: &Gateway,
    who: &Who,
    call: &Call,
    permit: &Permit,
    spend: &Reservation,
) -> Result<Intent, AppendError> {
    let mut event = about(who, call, kind_of(call.mapped.record));
    event.decision = Some(Decision::Allow);
    event.grants = permit.grants().to_vec();
    event.policy_revision = Some(permit.policy_version());
    if let Some(approved) = permit.approved() {
        let facts = [
            ("approval", approved.id.to_string()),
            ("approved_by", approved.by.to_string()),
        ];
        event
            .facts
            .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
    }
    let set_aside = spend.facts().into_iter();
    event
        .facts
        .extend(set_aside.map(|(label, fact)| (label.to_owned(), fact)));
    let (stream, phase) = (who.stream(), Phase::Intent);
    let receipt = gateway
        .log
        .append_event(stream.clone(), phase, call.digest, &event)
        .await?;
    Ok(Intent {
        receipt,
        event,
        call: call.digest,
        stream,
    })
}

/// Records something that is over as soon as it is known: a refusal, an act reported by the cage. Gives its index.
///
/// # Errors
/// When the log cannot be written.
pub(crate) async fn fact(
    gateway: &Gateway,
    stream: Stream,
    call: Digest,
    event: Event,
) -> Result<u64, AppendError> {
    let draft = Draft {
        stream,
        phase: Phase::Fact,
        call,
        event,
    };
    gateway.log.append(draft).await.map(|receipt| receipt.index())
}
