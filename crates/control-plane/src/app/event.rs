//! What is recorded of a change: names, ids, digests. Never content.

use clawstaff_api::{
    nodes::{Answer, GatewayHello, WaitingCall},
    people::ChangeVerb,
};
use clawstaff_store::ClawRow;
use clawstaff_types::{
    Actor, Digest, Event, EventKind, Grant, Guardrail, MemberId, Mode, NodeName, ResourcePattern, Sink,
    spec::{ClawSpec, Connection},
};
use serde::Serialize;

/// A fact longer than this is cut: a record stays far below the log's bound of 65,535 bytes.
const FACT_CHARS: usize = 1000;

/// Digest of a value's JSON.
pub(crate) fn digest<T: Serialize>(value: &T) -> Digest {
    Digest::of(&serde_json::to_vec(value).unwrap_or_default())
}

fn by(kind: EventKind, member: &MemberId) -> Event {
    Event::new(kind, Actor::Member(member.clone()))
}

/// The gateway said who it is: the key of its log, its sealing key, its ingress.
pub(crate) fn gateway(node: &NodeName, before: Option<&GatewayHello>, after: &GatewayHello) -> Event {
    let event = Event::new(EventKind::ConfigChanged, Actor::System("gateway".to_owned()));
    let mut event = changed(event, "gateway", before, Some(after));
    fact(&mut event, "node", node.as_str());
    event
}

/// What happens to a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NodeChange {
    /// A member lets a host join.
    Invited,
    /// It joined, and is recognised by this certificate.
    Joined(Digest),
    /// It is recognised by another certificate.
    Renewed(Digest),
    /// A member turned it away.
    Revoked,
}

/// A node is let in, renewed or turned away; by a member, or by itself.
pub(crate) fn node(member: Option<&MemberId>, node: &NodeName, change: NodeChange) -> Event {
    let actor = member.map_or_else(
        || Actor::System(format!("node-{node}")),
        |member| Actor::Member(member.clone()),
    );
    let mut event = Event::new(EventKind::ConfigChanged, actor);
    fact(&mut event, "thing", "node");
    fact(&mut event, "node", node.as_str());
    let (text, certificate) = match change {
        NodeChange::Invited => ("invite", None),
        NodeChange::Joined(certificate) => ("join", Some(certificate)),
        NodeChange::Renewed(certificate) => ("renew", Some(certificate)),
        NodeChange::Revoked => ("revoke", None),
    };
    fact(&mut event, "change", text);
    event
        .digests
        .extend(certificate.map(|digest| ("certificate".to_owned(), digest)));
    event
}

/// The searchable index is made anew.
pub(crate) fn index(member: &MemberId) -> Event {
    let mut event = by(EventKind::ConfigChanged, member);
    fact(&mut event, "thing", "index");
    fact(&mut event, "change", "rebuild");
    event
}

fn fact(event: &mut Event, label: &str, value: &str) {
    let short: String = value.chars().take(FACT_CHARS).collect();
    event.facts.insert(label.to_owned(), short);
}

const fn verb_text(verb: ChangeVerb) -> &'static str {
    match verb {
        ChangeVerb::Add => "add",
        ChangeVerb::Change => "change",
        ChangeVerb::Remove => "remove",
    }
}

/// A thing of the configuration before and after.
fn configured<T: Serialize>(member: &MemberId, thing: &str, before: Option<&T>, after: Option<&T>) -> Event {
    changed(by(EventKind::ConfigChanged, member), thing, before, after)
}

fn changed<T: Serialize>(mut event: Event, thing: &str, before: Option<&T>, after: Option<&T>) -> Event {
    let verb = match (before, after) {
        (None, _) => ChangeVerb::Add,
        (Some(_), Some(_)) => ChangeVerb::Change,
        (Some(_), None) => ChangeVerb::Remove,
    };
    fact(&mut event, "thing", thing);
    fact(&mut event, "change", verb_text(verb));
    let digests = [("before", before), ("after", after)];
    let known = digests
        .into_iter()
        .filter_map(|(label, value)| Some((label.to_owned(), digest(value?))));
    event.digests.extend(known);
    event
}

pub(crate) fn connection(
    member: &MemberId,
    before: Option<&Connection>,
    after: Option<&Connection>,
) -> Event {
    let mut event = configured(member, "connection", before, after);
    event.connection = after.or(before).map(|one| one.name.clone());
    event
}

pub(crate) fn guardrail(member: &MemberId, before: Option<&Guardrail>, after: Option<&Guardrail>) -> Event {
    let mut event = configured(member, "guardrail", before, after);
    event.guardrails = after.or(before).map(|one| one.name.clone()).into_iter().collect();
    event
}

/// A sink. Its name is a fact: an event has no field for it.
pub(crate) fn sink(member: &MemberId, before: Option<&Sink>, after: Option<&Sink>) -> Event {
    let mut event = configured(member, "sink", before, after);
    if let Some(one) = after.or(before) {
        fact(&mut event, "sink", one.name.as_str());
        fact(&mut event, "kind", one.kind.as_str());
        fact(&mut event, "address", &one.address);
    }
    event
}

/// A Claw's first revision, or its next one.
pub(crate) fn claw(member: &MemberId, before: Option<&ClawSpec>, after: &ClawSpec, revision: u32) -> Event {
    let kind = match before {
        None => EventKind::ClawDeployed,
        Some(_) => EventKind::ClawUpdated,
    };
    let mut event = by(kind, member);
    event.claw = Some(after.name.clone());
    event.claw_revision = Some(revision);
    if let Some(before) = before {
        event.digests.insert("before".to_owned(), digest(before));
    }
    event.digests.insert("after".to_owned(), digest(after));
    if let Some(sealed) = &after.instructions {
        event.digests.insert("instructions".to_owned(), sealed.digest);
    }
    event
}

/// What a member wants of a Claw. The act itself is recorded by the runner.
pub(crate) fn wish(member: &MemberId, claw: &ClawRow, wish: &str) -> Event {
    let mut event = by(EventKind::ConfigChanged, member);
    event.claw = Some(claw.spec.name.clone());
    event.claw_revision = Some(claw.revision);
    fact(&mut event, "thing", "claw");
    fact(&mut event, "wish", wish);
    fact(&mut event, "cage", &claw.cage);
    event
}

/// A message to a Claw was accepted for it.
pub(crate) fn message(member: &MemberId, claw: &ClawRow, id: &str, text: Digest) -> Event {
    let mut event = wish(member, claw, "message");
    fact(&mut event, "message", id);
    event.digests.insert("message".to_owned(), text);
    event
}

/// A member decided about a waiting call. That it had its effect is in the gateway's log.
pub(crate) fn decision(member: &MemberId, call: &WaitingCall, answer: &Answer) -> Event {
    let mut event = by(EventKind::ConfigChanged, member);
    event.claw = Some(call.claw.clone());
    event.on_behalf_of.clone_from(&call.on_behalf_of);
    event.connection = Some(call.connection.clone());
    event.action = Some(call.action.clone());
    event.resource.clone_from(&call.resource);
    event.grants.clone_from(&call.grants);
    event.digests.insert("request".to_owned(), call.digest);
    fact(&mut event, "thing", "approval");
    fact(&mut event, "change", answer_text(answer));
    fact(&mut event, "approval", call.id.as_str());
    event
}

/// A member's answer in a word.
pub(crate) const fn answer_text(answer: &Answer) -> &'static str {
    match answer {
        Answer::Once { .. } => "approved",
        Answer::Grant { .. } => "granted",
        Answer::Deny => "denied",
    }
}

/// A grant was given or taken. With one exact action or resource, the record is found by it.
pub(crate) fn grant(member: &MemberId, kind: EventKind, grant: &Grant, origin: &str) -> Event {
    let mut event = by(kind, member);
    event.claw = Some(grant.claw.clone());
    event.connection = Some(grant.connection.clone());
    event.grants = vec![grant.id.clone()];
    event.digests.insert("grant".to_owned(), digest(grant));
    if let [ResourcePattern::Exactly(one)] = grant.resources.as_slice() {
        event.resource = Some(one.clone());
    }
    fact(&mut event, "origin", origin);
    fact(&mut event, "actions", &listed(&grant.actions));
    fact(&mut event, "resources", &listed(&grant.resources));
    let mode = match grant.mode {
        Mode::Allow => "allow",
        Mode::Ask => "ask",
    };
    fact(&mut event, "mode", mode);
    if let Some(expires) = grant.expires {
        fact(&mut event, "expires", &expires.to_string());
    }
    event
}

/// The items, comma-separated.
pub(crate) fn listed<T: std::fmt::Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(",")
}
