//! Every kind of event, in every version of the schema, against that version's own rules.
//!
//! The rules are the tables in `tests/ocsf`, made from the schema's repository by its own compiler.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{collections::BTreeMap, path::Path};

use clawstaff_audit::Phase;
use clawstaff_export::{
    Item,
    ocsf::{self, Version},
    syslog, text,
};
use clawstaff_types::EventKind;
use regex::Regex;
use serde_json::{Map, Value, json};

/// One version's rules.
struct Schema {
    table: Value,
    patterns: BTreeMap<String, Regex>,
}

impl Schema {
    fn of(version: Version) -> Self {
        // The newest snapshot of 1.9.0 that could be had is eleven days older than its release: see the README.
        let name = match version {
            Version::V1_9 => "1.9.0-dev.json".to_owned(),
            older => format!("{older}.json"),
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/ocsf")
            .join(name);
        let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let pattern = |(name, rules): (&String, &Value)| {
            Some((name.clone(), Regex::new(rules["regex"].as_str()?).unwrap()))
        };
        let patterns = table["types"]
            .as_object()
            .unwrap()
            .iter()
            .filter_map(pattern)
            .collect();
        Self { table, patterns }
    }

    fn problems(&self, event: &Map<String, Value>) -> Vec<String> {
        let mut problems = Vec::new();
        let class = &self.table["classes"][event["class_uid"].to_string()];
        if class.is_null() {
            return vec![format!("there is no class {}", event["class_uid"])];
        }
        let profiles: Vec<&str> = event["metadata"]["profiles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|profile| profile.as_str().unwrap())
            .collect();
        for profile in &profiles {
            if !class["profiles"].as_array().unwrap().contains(&json!(profile)) {
                problems.push(format!("the class has no profile {profile}"));
            }
        }
        self.object(class, event, "event", &profiles, &mut problems);
        for name in ["activity", "status", "action", "disposition", "severity"] {
            let number = event.get(&format!("{name}_id"));
            let caption = if name == "activity" { "activity_name" } else { name };
            if number == Some(&json!(99)) && !event.contains_key(caption) {
                problems.push(format!("{name} is Other, but of no name"));
            }
        }
        let expected = event["class_uid"].as_u64().unwrap() * 100 + event["activity_id"].as_u64().unwrap();
        if event["type_uid"] != json!(expected) {
            problems.push("type_uid is not that of class and activity".to_owned());
        }
        problems
    }

    fn object(
        &self,
        shape: &Value,
        object: &Map<String, Value>,
        path: &str,
        profiles: &[&str],
        problems: &mut Vec<String>,
    ) {
        let attributes = shape["attributes"].as_object().unwrap();
        let active = |attribute: &Value| match attribute["p"].as_array() {
            None => true,
            Some(any) => any.iter().any(|one| profiles.contains(&one.as_str().unwrap())),
        };
        for (name, value) in object {
            let path = format!("{path}.{name}");
            match attributes.get(name).filter(|attribute| active(attribute)) {
                None => problems.push(format!("{path} does not exist")),
                Some(attribute) if attribute["a"] == json!(true) => match value.as_array() {
                    None => problems.push(format!("{path} is no array")),
                    Some(members) => {
                        for member in members {
                            self.value(attribute, member, &path, profiles, problems);
                        }
                    }
                },
                Some(attribute) => self.value(attribute, value, &path, profiles, problems),
            }
        }
        for (name, attribute) in attributes {
            if attribute["r"] == json!(true) && active(attribute) && !object.contains_key(name) {
                problems.push(format!("{path}.{name} is required"));
            }
        }
        for (rule, names) in shape["constraints"].as_object().into_iter().flatten() {
            let names = names.as_array().unwrap();
            let there = names
                .iter()
                .filter(|name| object.contains_key(name.as_str().unwrap()))
                .count();
            let holds = match rule.as_str() {
                "at_least_one" => there >= 1,
                "just_one" => there == 1,
                other => panic!("a constraint that this test does not know: {other}"),
            };
            if !holds {
                problems.push(format!("{path}: {rule} of {names:?}"));
            }
        }
    }

    fn value(
        &self,
        attribute: &Value,
        value: &Value,
        path: &str,
        profiles: &[&str],
        problems: &mut Vec<String>,
    ) {
        if let Some(allowed) = attribute["e"].as_array()
            && !allowed.contains(value)
        {
            problems.push(format!("{path} may not be {value}"));
        }
        match attribute["o"].as_str() {
            Some("object") => {
                if !value.is_object() {
                    problems.push(format!("{path} is no object"));
                }
            }
            Some(name) => {
                let shape = &self.table["objects"][name];
                assert!(
                    !shape.is_null(),
                    "{path}: the tables lack the object {name}: add it to compile.py"
                );
                match value.as_object() {
                    Some(object) => self.object(shape, object, path, profiles, problems),
                    None => problems.push(format!("{path} is no object")),
                }
            }
            None => self.scalar(attribute["t"].as_str().unwrap(), value, path, problems),
        }
    }

    fn scalar(&self, kind: &str, value: &Value, path: &str, problems: &mut Vec<String>) {
        let rules = &self.table["types"][kind];
        let base = rules["type"].as_str().unwrap_or(kind);
        let fits = match base {
            "string_t" => value.is_string(),
            "integer_t" | "long_t" => value.is_i64() || value.is_u64(),
            "float_t" => value.is_number(),
            "boolean_t" => value.is_boolean(),
            "json_t" => true,
            other => panic!("{path}: a type that this test does not know: {other}"),
        };
        if !fits {
            problems.push(format!("{path} is no {kind}: {value}"));
        }
        let text = value.as_str().unwrap_or_default();
        if rules["max_len"]
            .as_u64()
            .is_some_and(|most| text.chars().count() as u64 > most)
        {
            problems.push(format!("{path} is longer than a {kind} may be"));
        }
        if self
            .patterns
            .get(kind)
            .is_some_and(|pattern| !pattern.is_match(text))
        {
            problems.push(format!("{path} does not look like a {kind}: {text}"));
        }
    }
}

fn check(items: &[Item]) {
    let mut problems = Vec::new();
    for version in Version::ALL {
        let schema = Schema::of(version);
        for item in items {
            let event = ocsf::event(item, version);
            assert_eq!(event["metadata"]["version"], json!(version.as_str()));
            let found = schema.problems(&event);
            let class = event["class_uid"].clone();
            problems.extend(
                found
                    .into_iter()
                    .map(|problem| format!("{version} {class} {}: {problem}", item.event.kind)),
            );
        }
    }
    problems.sort();
    problems.dedup();
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn every_kind_of_event_in_every_version_is_valid_by_that_version() {
    check(&support::of_every_kind());
}

#[test]
fn hostile_text_leaves_every_version_valid() {
    let items: Vec<Item> = support::HOSTILE
        .iter()
        .flat_map(|text| {
            let event = support::with_text(text);
            [
                support::item(1, Phase::Intent, event.clone()),
                support::record(2, Some(3), event),
            ]
        })
        .collect();
    check(&items);
}

#[test]
fn a_message_that_lost_payload_is_valid_still() {
    let mut event = support::full(EventKind::ToolCall);
    event.facts.insert("long".to_owned(), "x".repeat(20_000));
    let item = support::item(1, Phase::Intent, event);
    for version in Version::ALL {
        let message = syslog::message(&item, "host", version, syslog::MIN_MAX_BYTES);
        let message = String::from_utf8(message).unwrap();
        let event = serde_json::from_str(message.split_once('\u{feff}').unwrap().1).unwrap();
        assert_eq!(
            Schema::of(version).problems(&event),
            Vec::<String>::new(),
            "{version}"
        );
        assert!(message.contains("\"is_truncated\":true"));
    }
}

#[test]
fn the_validator_sees_what_is_wrong() {
    let schema = Schema::of(Version::V1_9);
    let event = ocsf::event(
        &support::item(1, Phase::Intent, support::full(EventKind::ToolCall)),
        Version::V1_9,
    );
    assert_eq!(schema.problems(&event), Vec::<String>::new());
    let with = |change: fn(&mut Map<String, Value>)| {
        let mut event = event.clone();
        change(&mut event);
        schema.problems(&event).len()
    };
    assert_eq!(with(|event| drop(event.remove("api"))), 1);
    assert_eq!(with(|event| drop(event.insert("prompt".into(), json!("x")))), 1);
    assert_eq!(
        with(|event| drop(event.insert("severity_id".into(), json!(7)))),
        1
    );
    assert_eq!(with(|event| drop(event.insert("time".into(), json!("now")))), 1);
    assert!(with(|event| event["metadata"]["profiles"] = json!(["nonsense"])) > 5);
    assert_eq!(with(|event| event["actor"] = json!({})), 1);
}

#[test]
fn going_down_loses_nothing() {
    for item in support::of_every_kind() {
        let newest = ocsf::event(&item, Version::NEWEST);
        for version in Version::ALL {
            let older = ocsf::event(&item, version);
            for (name, value) in &newest {
                let same = older.get(name) == Some(value);
                let moved = older["unmapped"].get(name) == Some(value);
                let rewritten = older.contains_key(name)
                    && ["metadata", "unmapped", "actor", "user", "entity", "assignee"]
                        .contains(&name.as_str());
                let reclassified = older["type_uid"] != newest["type_uid"]
                    && (name.ends_with("_uid")
                        || name.starts_with("class_")
                        || name.starts_with("category_")
                        || ["activity_id", "type_name"].contains(&name.as_str()));
                assert!(
                    same || moved || rewritten || reclassified,
                    "{version} {}: {name}",
                    item.event.kind
                );
            }
            assert_eq!(older["activity_name"], newest["activity_name"]);
            assert_eq!(older["metadata"]["event_code"], json!(item.event.kind));
        }
    }
}

#[test]
fn a_line_is_one_line_and_holds_the_leaf_that_its_fingerprint_is_of() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let item = support::item(4, Phase::Fact, support::with_text("a\u{2028}b\nc"));
    let line = ocsf::line(&item, Version::NEWEST);
    assert!(!line.trim_end_matches('\n').contains(text::is_unsafe));
    let event: Value = serde_json::from_str(&line).unwrap();
    let leaf = STANDARD
        .decode(event["unmapped"]["leaf_b64"].as_str().unwrap())
        .unwrap();
    assert_eq!(Some(&leaf), item.leaf.as_ref());
    let digest = clawstaff_types::Digest::of(&leaf);
    let attestation = &event["attestation_list"][0];
    assert_eq!(
        attestation["fingerprint"]["value"],
        json!(hex::encode(digest.as_bytes()))
    );
    assert_eq!(attestation["uid"], json!("4"));
    assert_eq!(attestation["chain_uid"], json!("clawstaff.local/gateway"));
}
