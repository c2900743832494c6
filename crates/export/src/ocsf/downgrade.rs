//! From the newest version of the schema to an older one.
//!
//! The tables say since when things exist, for the things that `event.rs` makes; what is in no table has been there
//! since 1.1.

use serde_json::{Map, Value, json};

use super::{
    Version,
    class::{Class, OTHER},
};

/// The event in `version`.
pub(super) fn to(mut event: Map<String, Value>, version: Version) -> Map<String, Value> {
    if version == Version::NEWEST {
        return event;
    }
    let class = class_of(&event);
    let mut moved = Map::new();
    let kept = bring_down_class(&mut event, class, version);
    for name in event.keys().cloned().collect::<Vec<_>>() {
        if version < since(kept, &name) || (kept != class && !of_every_class(&name)) {
            moved.extend(event.remove_entry(&name));
        }
    }
    bring_down_objects(&mut event, version);
    bring_down_metadata(&mut event, kept, version);
    if let Some(Value::Object(unmapped)) = event.get_mut("unmapped") {
        unmapped.extend(moved);
    }
    event
}

fn class_of(event: &Map<String, Value>) -> Class {
    let uid = event.get("class_uid").and_then(Value::as_u64);
    let known = [
        Class::Process,
        Class::EventLog,
        Class::Incident,
        Class::Authentication,
        Class::Entity,
        Class::UserAccess,
        Class::Network,
        Class::Lifecycle,
        Class::Api,
    ];
    let class = known
        .into_iter()
        .find(|class| Some(u64::from(class.uid())) == uid);
    class.unwrap_or(Class::Base)
}

/// Gives the event a class and an activity that `version` has; says which class.
fn bring_down_class(event: &mut Map<String, Value>, class: Class, version: Version) -> Class {
    let activity = event.get("activity_id").and_then(Value::as_u64);
    let kept = if version < class_since(class) {
        Class::Base
    } else {
        class
    };
    if kept == class && activity.is_none_or(|activity| version >= activity_since(class, activity)) {
        return class;
    }
    let (name, category, category_name) = kept.names();
    let other = json!({
        "class_uid": kept.uid(),
        "class_name": name,
        "category_uid": category,
        "category_name": category_name,
        "activity_id": OTHER,
        "type_uid": kept.uid() * 100 + OTHER,
        "type_name": format!("{name}: Other"),
    });
    if let Value::Object(other) = other {
        event.extend(other);
    }
    kept
}

const fn class_since(class: Class) -> Version {
    match class {
        Class::EventLog => Version::V1_3,
        Class::Base
        | Class::Process
        | Class::Incident
        | Class::Authentication
        | Class::Entity
        | Class::UserAccess
        | Class::Network
        | Class::Lifecycle
        | Class::Api => Version::V1_1,
    }
}

const fn activity_since(class: Class, activity: u64) -> Version {
    match (class, activity) {
        (Class::Lifecycle, 5..=8) => Version::V1_3,
        _ => Version::V1_1,
    }
}

/// Since when a class has had an attribute, by itself or by the profile that gives it.
fn since(class: Class, name: &str) -> Version {
    match name {
        "attestation_list" => profile_since(class, "record_integrity"),
        "ai_agent" => Version::V1_9,
        "ai_model" | "message_context" => profile_since(class, "ai_operation"),
        "action_id" | "action" | "disposition_id" | "disposition" | "authorizations" => {
            profile_since(class, "security_control")
        }
        "policy" => Version::V1_4,
        "actor" if matches!(class, Class::Base | Class::Incident) => profile_since(class, "host"),
        _ => Version::V1_1,
    }
}

/// Since when a class has had a profile.
fn profile_since(class: Class, profile: &str) -> Version {
    match (profile, class) {
        ("security_control", Class::Process | Class::Network) => Version::V1_1,
        ("security_control", Class::EventLog) => Version::V1_3,
        ("security_control", _) | ("host", Class::Base | Class::Incident | Class::Api) => Version::V1_4,
        ("host", _) => Version::V1_1,
        ("ai_operation", Class::Api | Class::Process) => Version::V1_8,
        (_, _) => Version::V1_9,
    }
}

/// What Base Event has, and so every class.
fn of_every_class(name: &str) -> bool {
    matches!(
        name,
        "activity_id"
            | "activity_name"
            | "category_uid"
            | "category_name"
            | "class_uid"
            | "class_name"
            | "type_uid"
            | "type_name"
            | "time"
            | "severity_id"
            | "severity"
            | "message"
            | "metadata"
            | "status"
            | "status_id"
            | "status_code"
            | "status_detail"
            | "unmapped"
    )
}

/// Objects whose own attributes or numbers are younger than the class that holds them.
fn bring_down_objects(event: &mut Map<String, Value>, version: Version) {
    if version < Version::V1_6 {
        for holder in [&["user"][..], &["actor", "user"], &["assignee"]] {
            if let Some(user) = inside(event, holder) {
                service_is_other(user);
            }
        }
    }
    if version < Version::V1_3
        && let Some(entity) = inside(event, &["entity"])
    {
        entity.remove("type_id");
    }
    if version < Version::V1_2
        && let Some(actor) = inside(event, &["actor"])
        && let Some(app) = actor.remove("app_name")
    {
        actor.insert("invoked_by".to_owned(), app);
    }
}

/// The object at the end of a path.
fn inside<'a>(event: &'a mut Map<String, Value>, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut at = event;
    for name in path {
        at = at.get_mut(*name)?.as_object_mut()?;
    }
    Some(at)
}

/// `Service` became a type of user in 1.6; its caption stays.
fn service_is_other(user: &mut Map<String, Value>) {
    if user.get("type_id").and_then(Value::as_u64) == Some(4) {
        user.insert("type_id".to_owned(), json!(OTHER));
    }
}

fn bring_down_metadata(event: &mut Map<String, Value>, class: Class, version: Version) {
    let Some(Value::Object(metadata)) = event.get_mut("metadata") else {
        return;
    };
    metadata.insert("version".to_owned(), json!(version.as_str()));
    if let Some(Value::Array(profiles)) = metadata.get_mut("profiles") {
        profiles.retain(|profile| {
            profile
                .as_str()
                .is_some_and(|profile| version >= profile_since(class, profile))
        });
    }
}
