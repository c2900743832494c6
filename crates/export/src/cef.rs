//! `ArcSight` Common Event Format, version 0: a header of seven fields between bars, then `key=value` pairs.
//!
//! In the header `\` and `|` are escaped, in values `\` and `=`; unsafe characters are visible escapes, so a record
//! is one line. `externalId` is the record's identity; the numbered custom fields carry what CEF has no key for.

use std::fmt::Write as _;

use clawstaff_types::Actor;

use crate::{Item, PRODUCT, PRODUCT_VERSION, Severity, ocsf, text};

/// One record and its line break.
pub fn line(item: &Item) -> String {
    let event = &item.event;
    let mut line = format!(
        "CEF:0|{PRODUCT}|{PRODUCT}|{}|{}|{}|{}|",
        header(PRODUCT_VERSION),
        ocsf::type_uid(item),
        header(event.kind.as_str()),
        Severity::of(item).cef(),
    );
    let pairs: Vec<String> = pairs(item)
        .into_iter()
        .map(|(key, value)| format!("{key}={}", extension(&value)))
        .collect();
    line.push_str(&pairs.join(" "));
    line.push('\n');
    line
}

fn pairs(item: &Item) -> Vec<(&'static str, String)> {
    let event = &item.event;
    let mut pairs = vec![
        ("rt", item.time.as_millisecond().to_string()),
        ("externalId", item.uid()),
        ("cat", event.kind.to_string()),
        ("sproc", event.actor.to_string()),
    ];
    let mut add = |key: &'static str, value: Option<String>| {
        pairs.extend(value.filter(|value| !value.is_empty()).map(|value| (key, value)));
    };
    add("suser", person(item));
    add("duser", event.claw.as_ref().map(ToString::to_string));
    add("act", event.decision.as_ref().and_then(word));
    add("outcome", event.outcome.as_ref().and_then(word));
    add("reason", event.reason.clone());
    let custom = [
        (
            "cs1",
            "cs1Label",
            "action",
            event.action.as_ref().map(ToString::to_string),
        ),
        (
            "cs2",
            "cs2Label",
            "resource",
            event.resource.as_ref().map(ToString::to_string),
        ),
        (
            "cs3",
            "cs3Label",
            "cause",
            event.cause.as_ref().map(|cause| cause.0.to_string()),
        ),
        ("cs4", "cs4Label", "grants", list(&event.grants)),
        ("cs5", "cs5Label", "guardrails", list(&event.guardrails)),
        ("cs6", "cs6Label", "facts", facts(item)),
        ("cn1", "cn1Label", "leafIndex", Some(item.index.to_string())),
        (
            "cn2",
            "cn2Label",
            "policyRevision",
            event.policy_revision.map(|number| number.to_string()),
        ),
        (
            "cn3",
            "cn3Label",
            "intentIndex",
            item.intent().map(|number| number.to_string()),
        ),
    ];
    for (key, label_key, label, value) in custom {
        if let Some(value) = value {
            pairs.push((key, value));
            pairs.push((label_key, label.to_owned()));
        }
    }
    pairs
}

fn person(item: &Item) -> Option<String> {
    match (&item.event.on_behalf_of, &item.event.actor) {
        (Some(member), _) | (None, Actor::Member(member)) => Some(member.to_string()),
        (None, Actor::Claw(_) | Actor::System(_)) => None,
    }
}

fn word<T: serde::Serialize>(value: &T) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

fn list<T: ToString>(names: &[T]) -> Option<String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn facts(item: &Item) -> Option<String> {
    let mut text = String::new();
    for (label, fact) in &item.event.facts {
        // Writing to a string cannot fail.
        let _written = write!(text, "{}{label}: {fact}", if text.is_empty() { "" } else { "; " });
    }
    (!text.is_empty()).then_some(text)
}

/// A header field: one line, `\` and `|` escaped.
fn header(text: &str) -> String {
    text::tame(text).replace('\\', "\\\\").replace('|', "\\|")
}

/// A value: one line, `\` and `=` escaped.
fn extension(text: &str) -> String {
    text::tame(text).replace('\\', "\\\\").replace('=', "\\=")
}
