//! The event in the newest version of the schema.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawstaff_audit::tree::leaf_hash;
use clawstaff_types::{Actor, Decision, Digest, EventKind, Outcome};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Version,
    class::{self, Class, OTHER},
};
use crate::{Item, PRODUCT, PRODUCT_VERSION, Part, Severity};

/// The longest `resource_uid_t` of the older versions.
const MAX_RESOURCE_UID: usize = 64;

/// The event of an item.
pub(super) fn newest(item: &Item) -> Map<String, Value> {
    let activity = class::of(item.event.kind);
    let mut event = common(item, activity);
    event.extend(object(decision(item)));
    event.extend(class_part(item, activity.class));
    if activity.class != Class::Incident {
        event.extend(object(agent(item)));
    }
    if let Some(attestation) = attestation(item) {
        event.insert("attestation_list".to_owned(), json!([attestation]));
    }
    event.insert("metadata".to_owned(), metadata(item, activity.class));
    event.insert("unmapped".to_owned(), unmapped(item));
    event
}

/// The members of an object, without those that are null.
fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else {
        return Map::new();
    };
    members
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn common(item: &Item, activity: class::Activity) -> Map<String, Value> {
    let (class_name, category_uid, category_name) = activity.class.names();
    let (severity_id, severity) = Severity::of(item).ocsf();
    object(json!({
        "activity_id": activity.id,
        "activity_name": activity.name,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": activity.class.uid(),
        "class_name": class_name,
        "type_uid": activity.type_uid(),
        "type_name": type_name(class_name, activity),
        "time": item.time.as_millisecond(),
        "severity_id": severity_id,
        "severity": severity,
        "message": message(item),
        "status_detail": item.event.reason,
        "status_code": item.event.facts.get("status").or_else(|| item.event.facts.get("denial")),
        "actor": actor(item),
    }))
}

/// `Class: Activity`, as the schema makes it; an activity of ours is `Other` there.
fn type_name(class_name: &str, activity: class::Activity) -> String {
    let name = if activity.id == OTHER {
        "Other"
    } else {
        activity.name
    };
    format!("{class_name}: {name}")
}

fn message(item: &Item) -> String {
    let event = &item.event;
    let mut words = vec![event.kind.to_string(), format!("by {}", event.actor)];
    words.extend(event.action.as_ref().map(|action| format!("using {action}")));
    words.extend(event.resource.as_ref().map(|resource| format!("on {resource}")));
    words.extend(event.on_behalf_of.as_ref().map(|member| format!("for {member}")));
    words.extend(word(event.decision.as_ref()).map(|decision| format!("decision {decision}")));
    words.push(match word(event.outcome.as_ref()) {
        Some(outcome) => format!("outcome {outcome}"),
        None => item.part.as_str().to_owned(),
    });
    words.join(", ")
}

fn word<T: Serialize>(value: Option<&T>) -> Option<String> {
    serde_json::to_value(value?).ok()?.as_str().map(str::to_owned)
}

/// The person on whose behalf, or else whoever acted; `app_name` is always who acted.
fn actor(item: &Item) -> Value {
    let event = &item.event;
    let user = match (&event.on_behalf_of, &event.actor) {
        (Some(member), _) | (None, Actor::Member(member)) => {
            json!({ "uid": member, "name": member, "type_id": 1, "type": "User" })
        }
        (None, Actor::Claw(claw)) => service_user(claw.as_str()),
        (None, Actor::System(part)) => {
            json!({ "uid": format!("system:{part}"), "name": part, "type_id": 3, "type": "System" })
        }
    };
    json!({ "user": user, "app_name": event.actor })
}

/// A Claw as an account that is given privileges.
fn service_user(claw: &str) -> Value {
    json!({ "uid": format!("claw:{claw}"), "name": claw, "type_id": 4, "type": "Service" })
}

/// What policy said, by the profile `security_control`.
fn decision(item: &Item) -> Value {
    let event = &item.event;
    let (action_id, action) = match (event.decision, event.kind) {
        (Some(Decision::Allow), _) => (1, "Allowed"),
        (Some(Decision::Deny), _) | (None, EventKind::ToolDenied | EventKind::EgressDenied) => (2, "Denied"),
        (Some(Decision::Ask), _) => (OTHER, "Ask"),
        (None, _) => (0, "Unknown"),
    };
    let (disposition_id, disposition) = disposition(item);
    let granted = event
        .grants
        .iter()
        .map(|grant| json!({ "decision": "allow", "policy": { "uid": grant } }));
    let forbidden = event
        .guardrails
        .iter()
        .map(|guardrail| json!({ "decision": "forbid", "policy": { "name": guardrail } }));
    let authorizations: Vec<Value> = granted.chain(forbidden).collect();
    json!({
        "action_id": action_id,
        "action": action,
        "disposition_id": disposition_id,
        "disposition": disposition,
        "policy": event.policy_revision.map(|revision| {
            json!({ "name": "ClawStaff policy", "uid": revision.to_string(), "version": revision.to_string() })
        }),
        "authorizations": (!authorizations.is_empty()).then_some(authorizations),
    })
}

fn disposition(item: &Item) -> (u32, &'static str) {
    use EventKind as K;
    let event = &item.event;
    match (event.kind, event.decision, event.outcome) {
        (K::ApprovalGranted, _, _) => (8, "Approved"),
        (K::ApprovalRequested, _, _) | (_, Some(Decision::Ask), None) => (23, "Challenge"),
        (K::ApprovalDenied | K::ApprovalExpired, _, _) => (25, "Rejected"),
        (K::AuthFailed, _, _) => (26, "Unauthorized"),
        (K::ToolDenied | K::EgressDenied, _, _)
        | (_, Some(Decision::Deny | Decision::Ask), _)
        | (_, _, Some(Outcome::Refused)) => (2, "Blocked"),
        (_, _, Some(Outcome::Failed | Outcome::Unknown)) => (27, "Error"),
        (_, Some(Decision::Allow), _) => (1, "Allowed"),
        (_, None, _) => (17, "Logged"),
    }
}

/// What the event's class has of its own.
fn class_part(item: &Item, class: Class) -> Map<String, Value> {
    let mut part = object(status(item, class));
    part.extend(object(match class {
        Class::Api => api(item),
        Class::Network => network(item),
        Class::Lifecycle => json!({ "app": app(item) }),
        Class::UserAccess => user_access(item),
        Class::Entity => json!({ "entity": entity(item) }),
        Class::Authentication => authentication(item),
        Class::Process => process(item),
        Class::EventLog => json!({ "log_name": item.origin, "log_provider": PRODUCT }),
        Class::Incident => incident(item),
        Class::Base => Value::Null,
    }));
    part
}

/// Intents are pending; a fact is what it says.
fn status(item: &Item, class: Class) -> Value {
    use EventKind as K;
    let event = &item.event;
    let (id, caption) = match (event.kind, event.outcome) {
        (K::IncidentOpened, _) => (1, "New"),
        (K::IncidentContained, _) => (2, "In Progress"),
        (K::IncidentClosed, _) => (5, "Closed"),
        (_, Some(Outcome::Succeeded)) => (1, "Success"),
        (_, Some(Outcome::Failed | Outcome::Refused)) => (2, "Failure"),
        (_, Some(Outcome::Unknown)) | (K::AuditGap, None) => (0, "Unknown"),
        (_, None) if item.part == Part::Intent => (OTHER, "Pending"),
        (_, None) => without_outcome(item),
    };
    debug_assert!(class != Class::Incident || id <= 5);
    json!({ "status_id": id, "status": caption })
}

const fn without_outcome(item: &Item) -> (u32, &'static str) {
    use EventKind as K;
    match (item.event.kind, item.event.decision, item.part) {
        (K::ToolDenied | K::EgressDenied | K::AuthFailed | K::ClawFailed, _, _)
        | (_, Some(Decision::Deny), _) => (2, "Failure"),
        (K::ApprovalRequested, _, _)
        | (_, Some(Decision::Ask), _)
        | (_, Some(Decision::Allow), Part::Record { .. }) => (OTHER, "Pending"),
        (_, _, _) => (1, "Success"),
    }
}

fn api(item: &Item) -> Value {
    let event = &item.event;
    let operation = match &event.action {
        Some(action) => action.to_string(),
        None => event.kind.to_string(),
    };
    let service = event.action.as_ref().map(|action| action.connector().to_string());
    let service = service.or_else(|| event.connection.as_ref().map(ToString::to_string));
    let request = item.intent().unwrap_or(item.index);
    let code: Option<i64> = event.facts.get("status").and_then(|status| status.parse().ok());
    json!({
        "api": object(json!({
            "operation": operation,
            "service": service.map(|name| object(json!({ "name": name, "uid": event.connection }))),
            "request": { "uid": format!("{}:{request}", item.log) },
            "response": code.map(|code| json!({ "code": code })),
        })),
        "src_endpoint": endpoint(item),
        "resources": resource(item).map(|resource| vec![resource]),
    })
}

/// The cage, or the process of ours, from which it came.
fn endpoint(item: &Item) -> Value {
    match (&item.event.claw, &item.event.actor) {
        (Some(claw), _) => json!({ "name": claw, "type_id": OTHER, "type": "ClawCage" }),
        (None, actor) => json!({ "name": actor, "type_id": OTHER, "type": PRODUCT }),
    }
}

fn resource(item: &Item) -> Option<Value> {
    let resource = item.event.resource.as_ref()?;
    let text = resource.to_string();
    let uid = (text.len() <= MAX_RESOURCE_UID).then_some(&text);
    Some(Value::Object(object(
        json!({ "name": text, "uid": uid, "type": resource.kind() }),
    )))
}

fn network(item: &Item) -> Value {
    let target = item.event.resource.as_ref();
    let name = target.map_or("unknown", |resource| resource.id());
    json!({ "src_endpoint": endpoint(item), "dst_endpoint": { "name": name } })
}

fn app(item: &Item) -> Map<String, Value> {
    let name = match &item.event.claw {
        Some(claw) => claw.to_string(),
        None => item.event.actor.to_string(),
    };
    object(json!({
        "name": name,
        "uid": format!("claw:{name}"),
        "vendor_name": PRODUCT,
        "version": item.event.claw_revision.map(|revision| revision.to_string()),
    }))
}

fn user_access(item: &Item) -> Value {
    let event = &item.event;
    let claw = event
        .claw
        .as_ref()
        .map_or("unknown", clawstaff_types::ClawName::as_str);
    let listed = event.facts.get("actions").map_or("", String::as_str);
    let mut privileges: Vec<&str> = listed
        .split([',', ' '])
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    if privileges.is_empty() {
        privileges.push("unknown");
    }
    json!({ "user": service_user(claw), "privileges": privileges })
}

fn entity(item: &Item) -> Map<String, Value> {
    use EventKind as K;
    let event = &item.event;
    let (kind, name) = match event.kind {
        K::ApprovalRequested | K::ApprovalGranted | K::ApprovalDenied | K::ApprovalExpired => {
            ("approval", event.facts.get("approval").cloned())
        }
        K::SecretSet | K::SecretRotated | K::SecretRemoved => ("secret", event.facts.get("secret").cloned()),
        _ => (event.facts.get("thing").map_or("setting", String::as_str), None),
    };
    let name = name
        .or_else(|| event.connection.as_ref().map(ToString::to_string))
        .or_else(|| event.guardrails.first().map(ToString::to_string))
        .or_else(|| event.resource.as_ref().map(ToString::to_string))
        .or_else(|| event.claw.as_ref().map(ToString::to_string));
    object(json!({
        "name": name.unwrap_or_else(|| kind.to_owned()),
        "type": kind,
        "type_id": OTHER,
        "version": event.claw_revision.map(|revision| revision.to_string()),
    }))
}

fn authentication(item: &Item) -> Value {
    let user = actor(item).get("user").cloned();
    json!({ "user": user, "service": { "name": PRODUCT } })
}

/// The command itself is content and is not in the log; its digest is in `unmapped`.
fn process(item: &Item) -> Value {
    let claw = item
        .event
        .claw
        .as_ref()
        .map_or("unknown", clawstaff_types::ClawName::as_str);
    json!({
        "device": { "name": claw, "type_id": OTHER, "type": "ClawCage" },
        "process": { "uid": item.id() },
    })
}

fn incident(item: &Item) -> Value {
    let event = &item.event;
    let uid = event.facts.get("incident").cloned().unwrap_or_else(|| item.id());
    let title = event.reason.clone().unwrap_or_else(|| event.kind.to_string());
    json!({
        "finding_info_list": [{ "uid": uid, "title": title }],
        "assignee": actor(item).get("user"),
    })
}

/// The Claw and its model, by the profile `ai_operation`.
fn agent(item: &Item) -> Value {
    let event = &item.event;
    let model = || {
        let provider = event.connection.as_ref()?;
        let name = event.facts.get("model").map_or("unknown", String::as_str);
        Some(json!({ "name": name, "ai_provider": provider }))
    };
    let calls_model = event.kind == EventKind::ModelCall;
    json!({
        "ai_agent": event.claw.as_ref().map(|claw| object(json!({
            "uid": claw,
            "name": claw,
            "type_id": OTHER,
            "type": "ClawStaff Claw",
            "version": event.claw_revision.map(|revision| revision.to_string()),
        }))),
        "ai_model": calls_model.then(model).flatten(),
        "message_context": calls_model.then(|| tokens(item)),
    })
}

fn tokens(item: &Item) -> Map<String, Value> {
    let event = &item.event;
    let count = |label: &str| event.facts.get(label).and_then(|count| count.parse::<u32>().ok());
    let (prompt, completion) = (count("tokens_in"), count("tokens_out"));
    let total = prompt
        .zip(completion)
        .and_then(|(one, other)| one.checked_add(other));
    let service = event
        .connection
        .as_ref()
        .map_or(PRODUCT.to_owned(), ToString::to_string);
    object(json!({
        "uid": event.cause,
        "service": { "name": service },
        "ai_role_id": 0,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
    }))
}

/// The proof's ends, by the profile `record_integrity`: the digest of the leaf (its bytes are
/// `unmapped.leaf_b64`), its place, and the root that the log's key has signed over it.
fn attestation(item: &Item) -> Option<Value> {
    let leaf = item.leaf.as_deref()?;
    let fingerprint = |digest: Digest| {
        json!({
            "algorithm_id": 3, "algorithm": "SHA-256", "value": hex::encode(digest.as_bytes()),
            "encoding_id": 1, "encoding": "Hex", "serialization_id": 1, "serialization": "Flat",
        })
    };
    let signed = item.covering.as_ref().map(|covering| {
        json!([{
            "algorithm_id": OTHER, "algorithm": "Ed25519",
            "serialization_id": OTHER, "serialization": "C2SP tlog-checkpoint",
            "digest": fingerprint(covering.root),
        }])
    });
    Some(Value::Object(object(json!({
        "uid": item.index.to_string(),
        "chain_uid": item.origin,
        "authority_uid": item.covering.as_ref().map(|covering| &covering.key),
        "fingerprint": fingerprint(Digest::of(leaf)),
        "signatures": signed,
    }))))
}

fn metadata(item: &Item, class: Class) -> Value {
    let ai = class != Class::Incident;
    let profiles: Vec<&str> = [
        ("ai_operation", ai),
        // By itself or by this profile, in one version or another, these classes have an actor.
        (
            "host",
            matches!(
                class,
                Class::Network | Class::Incident | Class::Lifecycle | Class::Entity | Class::UserAccess
            ),
        ),
        ("record_integrity", true),
        ("security_control", true),
    ]
    .into_iter()
    .filter_map(|(name, used)| used.then_some(name))
    .collect();
    Value::Object(object(json!({
        "version": Version::NEWEST.as_str(),
        "product": { "name": PRODUCT, "vendor_name": PRODUCT, "version": PRODUCT_VERSION },
        "profiles": profiles,
        "uid": item.uid(),
        "event_code": item.event.kind,
        "sequence": item.index,
        "log_name": item.origin,
        "log_provider": PRODUCT,
        "original_time": item.time.to_string(),
        "logged_time": item.time.as_millisecond(),
        "correlation_uid": item.event.cause,
    })))
}

/// What the schema has no place for.
fn unmapped(item: &Item) -> Value {
    let event = &item.event;
    let full = |empty: bool, value: Value| if empty { Value::Null } else { value };
    Value::Object(object(json!({
        "part": item.part.as_str(),
        "intent_index": item.intent(),
        "outcome_index": match item.part { Part::Record { outcome } => outcome, _ => None },
        "seq": item.seq,
        "connection": event.connection,
        "claw": event.claw,
        "claw_revision": event.claw_revision,
        "resource": event.resource,
        "digests": full(event.digests.is_empty(), json!(event.digests)),
        "facts": full(event.facts.is_empty(), json!(event.facts)),
        "grants": full(event.grants.is_empty(), json!(event.grants)),
        "guardrails": full(event.guardrails.is_empty(), json!(event.guardrails)),
        "checkpoint_size": item.covering.as_ref().map(|covering| covering.size),
        "leaf_hash": item.leaf.as_deref().map(leaf_hash),
        "leaf_b64": item.leaf.as_deref().map(|leaf| STANDARD.encode(leaf)),
    })))
}
