//! What each step's no means to the cage and to the record.
//!
//! The cage reads what was refused and what it could ask for; the record gets ids, never what the cage wrote.

use clawstaff_audit::AppendError;
use clawstaff_policy::Permit;
use clawstaff_types::{Decision, Digest, Event, EventKind, ResourceKind, ResourceRef};
use http::StatusCode;

use crate::{
    budget::OverBudget,
    decide::NotAllowed,
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

pub(super) fn not_allowed(who: &Who, call: &Call, no: &NotAllowed) -> Stop {
    let action = &call.mapped.action;
    let mut event = about(who, call, EventKind::ToolDenied);
    event.outcome = Some(clawstaff_types::Outcome::Refused);
    let refusal = match no {
        NotAllowed::Denied { denial, resource } => {
            event.decision = Some(Decision::Deny);
            event.grants.clone_from(&denial.grants);
            event.guardrails.clone_from(&denial.guardrails);
            event.reason = Some(denial.text.chars().take(300).collect());
            event
                .facts
                .insert("denial".to_owned(), denial.reason.as_str().to_owned());
            if resource.is_some() {
                event.resource.clone_from(resource);
            }
            Refusal::denied(denial.text.clone())
        }
        NotAllowed::NeedsHuman(held) => {
            event.decision = Some(Decision::Ask);
            event.grants = held.grants().to_vec();
            event.reason = Some("the grant needs a human's approval".to_owned());
            let detail = format!(
                "`{action}` needs a human's approval, which cannot be given while the call waits; it was not done"
            );
            Refusal::new(StatusCode::FORBIDDEN, "needs-approval", "Approval needed", detail)
        }
    };
    denied(refusal, event, call.digest)
}

pub(super) fn over_budget(who: &Who, call: &Call, permit: &Permit, over: &OverBudget) -> Stop {
    let mut event = about(who, call, EventKind::ToolDenied);
    event.decision = Some(Decision::Deny);
    event.outcome = Some(clawstaff_types::Outcome::Refused);
    event.grants = permit.grants().to_vec();
    event.reason = Some(over.to_string());
    event.facts.insert("denial".to_owned(), "budget".to_owned());
    let mut refusal = Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "budget",
        "Budget used up",
        format!("{over}; nothing was done"),
    );
    refusal.retry_after = Some(over.retry_after());
    denied(refusal, event, call.digest)
}
