//! What each step's no means to the cage and to the record.
//!
//! The cage reads what was refused and what it could ask for; the record gets ids, never what the cage wrote.

use clawstaff_audit::AppendError;
use clawstaff_policy::{Denial, Permit};
use clawstaff_types::{ApprovalId, Decision, Digest, Event, EventKind, ResourceKind, ResourceRef};
use http::StatusCode;

use crate::{
    approvals::MAX_WAITING,
    budget::{OverBudget, OverLimit},
    honeytoken::Sighting,
    map::{Call, MapError, Route},
    parse::{ParseError, Via},
    problem::Refusal,
    record::{Stop, Who, about},
    settle::chain,
};

fn denied(refusal: Refusal, event: Event, call: Digest) -> Stop {
    Stop::Denied {
        refusal,
        event: Box::new(event),
        call,
    }
}

/// The digest of a call that never became one.
fn no_call() -> Digest {
    Digest::of(b"")
}

/// `host:<name>`, where the name can be one.
pub(crate) fn host_resource(host: &str) -> Option<ResourceRef> {
    let kind: ResourceKind = "host".parse().ok()?;
    ResourceRef::new(kind, host).ok()
}

pub(super) fn no_key(error: &super::subject::NoKey) -> Stop {
    tracing::error!(error = chain(error), "no commitment key");
    Stop::Told(Refusal::no_record())
}

pub(crate) fn unrecorded(error: &AppendError) -> Stop {
    tracing::error!(error = chain(error), "an intent could not be recorded");
    Stop::Told(Refusal::no_record())
}

pub(super) fn unparsed(who: &Who, via: &Via, route: &Route, error: &ParseError) -> Stop {
    let mut refusal = Refusal::malformed(error.to_string());
    refusal.status = error.status();
    let mut event = who.refused(
        EventKind::ToolDenied,
        Decision::Deny,
        &format!("malformed request: {error}"),
    );
    match route {
        Route::Public(link) | Route::Relative(link) => event.connection = Some(link.name().clone()),
        Route::Server(within) => event.connection = Some(within.link.name().clone()),
        Route::ByHost => {}
    }
    if let Via::Name { host, .. } = via {
        event.resource = host_resource(host);
    }
    denied(refusal, event, no_call())
}

pub(super) fn unmapped(who: &Who, error: &MapError) -> Stop {
    let event = match error {
        MapError::UnknownHost { host } => return unknown_host(who, host),
        MapError::Ambiguous { host } => {
            let reason = "several connections answer for the host";
            let mut event = who.refused(EventKind::EgressDenied, Decision::Deny, reason);
            event.resource = host_resource(host);
            event
        }
        MapError::Unknown { link, method, .. } => {
            let reason = "the request is none of the connector's actions";
            let mut event = who.refused(EventKind::ToolDenied, Decision::Deny, reason);
            event.connection = Some(link.name().clone());
            event.resource = host_resource(link.base.host());
            event.facts.insert("method".to_owned(), method.to_string());
            event
        }
    };
    denied(Refusal::denied(error.to_string()), event, no_call())
}

/// A placeholder where it does not belong.
pub(crate) fn honeytoken(who: &Who, stray: &Sighting, host: &str) -> Stop {
    let mut event = who.refused(
        EventKind::ToolDenied,
        Decision::Deny,
        "a credential's placeholder where it does not belong",
    );
    event.resource = host_resource(host);
    let facts = [
        ("denial", "honeytoken".to_owned()),
        ("placeholder_claw", stray.owner.claw.to_string()),
        ("placeholder_connection", stray.owner.connection.to_string()),
        ("place", stray.place.as_str().to_owned()),
    ];
    let facts = facts.map(|(label, fact)| (label.to_owned(), fact));
    event.facts.extend(facts);
    let detail = format!(
        "the placeholder of connection `{}` is in the {} of this call. A placeholder stands for a credential in a \
         header of its own Claw's calls to its own connection and nowhere else; nothing was sent",
        stray.owner.connection,
        stray.place.as_str(),
    );
    let refusal = Refusal::new(
        StatusCode::FORBIDDEN,
        "honeytoken",
        "A placeholder went astray",
        detail,
    );
    denied(refusal, event, no_call())
}

/// A host of no connection.
pub(crate) fn unknown_host(who: &Who, host: &str) -> Stop {
    let mut event = who.refused(
        EventKind::EgressDenied,
        Decision::Deny,
        "no connection answers for the host",
    );
    event.resource = host_resource(host);
    let detail = format!(
        "`{host}` belongs to no connection of this organization, so it cannot be reached from here. An operator \
         can add a connection for it and grant its actions"
    );
    let refusal = Refusal::new(
        StatusCode::FORBIDDEN,
        "unknown-host",
        "Host not reachable",
        detail,
    );
    denied(refusal, event, no_call())
}

/// A call that policy or a human refused.
fn refused(who: &Who, call: &Call, decision: Decision, denial: &str) -> Event {
    let mut event = about(who, call, EventKind::ToolDenied);
    event.decision = Some(decision);
    event.outcome = Some(clawstaff_types::Outcome::Refused);
    event.facts.insert("denial".to_owned(), denial.to_owned());
    event
}

pub(super) fn not_allowed(who: &Who, call: &Call, denial: &Denial, resource: Option<ResourceRef>) -> Stop {
    let mut event = refused(who, call, Decision::Deny, denial.reason.as_str());
    event.grants.clone_from(&denial.grants);
    event.guardrails.clone_from(&denial.guardrails);
    event.reason = Some(denial.text.chars().take(300).collect());
    if resource.is_some() {
        event.resource = resource;
    }
    denied(Refusal::denied(denial.text.clone()), event, call.digest)
}

/// A member refused this very call.
pub(super) fn human_said_no(who: &Who, call: &Call, approval: &ApprovalId) -> Stop {
    let text = format!("a human refused `{}` (approval `{approval}`)", call.mapped.action);
    by_no_human(
        who,
        call,
        approval,
        "refused_by_human",
        "Refused by a human",
        text,
    )
}

/// Silence denies.
pub(super) fn nobody_decided(who: &Who, call: &Call, approval: &ApprovalId) -> Stop {
    let action = &call.mapped.action;
    let text = format!("nobody approved `{action}` in time (approval `{approval}`), so it is refused");
    by_no_human(who, call, approval, "not_approved", "Not approved in time", text)
}

fn by_no_human(
    who: &Who,
    call: &Call,
    approval: &ApprovalId,
    denial: &str,
    title: &'static str,
    text: String,
) -> Stop {
    let mut event = refused(who, call, Decision::Deny, denial);
    event.facts.insert("approval".to_owned(), approval.to_string());
    event.reason = Some(text.clone());
    let refusal = Refusal::new(
        StatusCode::FORBIDDEN,
        "not-approved",
        title,
        format!("{text}; nothing was done"),
    );
    denied(refusal, event, call.digest)
}

/// There is no room for one more call that waits.
pub(super) fn too_many_wait(who: &Who, call: &Call) -> Stop {
    let text = format!(
        "`{}` needs a human's approval, and {MAX_WAITING} calls of this Claw wait for one already; \
         nothing was done. Ask again once some are decided",
        call.mapped.action
    );
    let mut event = refused(who, call, Decision::Ask, "too_many_wait");
    event.reason = Some("too many calls wait for a human already".to_owned());
    let mut refusal = Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-wait",
        "Too many calls wait for a human",
        text,
    );
    refusal.retry_after = Some(60);
    denied(refusal, event, call.digest)
}

/// A model call that asks for more than the Claw's spec lets it.
pub(super) fn over_limit(who: &Who, call: &Call, permit: &Permit, over: OverLimit) -> Stop {
    let mut event = refused(who, call, Decision::Deny, "limit");
    event.grants = permit.grants().to_vec();
    event.reason = Some(over.to_string());
    let refusal = Refusal::new(
        StatusCode::FORBIDDEN,
        "limit",
        "More than this Claw may ask for",
        format!("{over}; nothing was done"),
    );
    denied(refusal, event, call.digest)
}

pub(super) fn over_budget(who: &Who, call: &Call, permit: &Permit, over: &OverBudget) -> Stop {
    let mut event = refused(who, call, Decision::Deny, "budget");
    event.grants = permit.grants().to_vec();
    event.reason = Some(over.to_string());
    let mut refusal = Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "budget",
        "Budget used up",
        format!("{over}; nothing was done"),
    );
    refusal.retry_after = Some(over.retry_after());
    denied(refusal, event, call.digest)
}
