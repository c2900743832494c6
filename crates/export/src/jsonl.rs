//! JSON Lines: one object a line, with the field names of the command line and the API.
//!
//! Every documented field is always there; what has no value is `null`, `[]` or `{}`.

use clawstaff_audit::tree::leaf_hash;
use serde_json::{Value, json};

use crate::{Item, Part, text};

/// One record and its line break.
pub fn line(item: &Item) -> String {
    let mut line = text::json(&value(item));
    line.push('\n');
    line
}

/// The object.
pub fn value(item: &Item) -> Value {
    let event = &item.event;
    let (intent, outcome) = match item.part {
        Part::Outcome { of } => (Some(of), Some(item.index)),
        Part::Record { outcome } => (None, outcome),
        Part::Intent | Part::Fact => (None, None),
    };
    json!({
        "id": item.id(),
        "log": item.origin,
        "index": item.index,
        "part": item.part.as_str(),
        "intent_index": intent,
        "outcome_index": outcome,
        "time": item.time,
        "seq": item.seq,
        "kind": event.kind,
        "claw": event.claw,
        "actor": event.actor,
        "on_behalf_of": event.on_behalf_of,
        "cause": event.cause,
        "connection": event.connection,
        "action": event.action,
        "resource": event.resource,
        "decision": event.decision,
        "grants": event.grants,
        "guardrails": event.guardrails,
        "reason": event.reason,
        "claw_revision": event.claw_revision,
        "policy_revision": event.policy_revision,
        "outcome": event.outcome,
        "digests": event.digests,
        "facts": event.facts,
        "leaf_hash": item.leaf.as_deref().map(leaf_hash),
    })
}
