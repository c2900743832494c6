//! The syslog protocol (RFC 5424): header, structured data, and OCSF JSON as the message.
//!
//! ```text
//! <PRI>1 TIME HOST clawstaff LOG KIND [audit@32473 id="…" index="…" …] BOM{OCSF JSON}
//! ```
//!
//! `32473` is the enterprise number that RFC 5612 keeps for documentation: we have none of our own, and readers
//! should match on the name `audit@32473`. A message longer than the receiver takes loses payload, never ids, and
//! says so (`metadata.is_truncated`).

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::{Item, Severity, ocsf, text};

/// `log audit` (RFC 5424 table 1).
const FACILITY: u8 = 13;
/// The structured data's name.
pub const SD_ID: &str = "audit@32473";
/// What RFC 5425 section 4.3.1 says receivers should be able to take.
pub const DEFAULT_MAX_BYTES: usize = 8192;
/// Below this the ids of a record may not fit.
pub const MIN_MAX_BYTES: usize = 4096;

/// One message, without framing. `host` is this machine's name; `max_bytes` at least [`MIN_MAX_BYTES`].
pub fn message(item: &Item, host: &str, version: ocsf::Version, max_bytes: usize) -> Vec<u8> {
    let head = head(item, host);
    let room = max_bytes
        .max(MIN_MAX_BYTES)
        .saturating_sub(head.len() + BOM.len());
    let mut message = head.into_bytes();
    message.extend_from_slice(BOM);
    message.extend_from_slice(fitted(ocsf::event(item, version), room).as_bytes());
    message
}

/// The message in the frame of RFC 5425: its length in octets, a space, and it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = message.len().to_string().into_bytes();
    frame.push(b' ');
    frame.extend_from_slice(message);
    frame
}

/// Says that the message is UTF-8 (RFC 5424 section 6.4).
const BOM: &[u8] = "\u{feff}".as_bytes();

fn head(item: &Item, host: &str) -> String {
    let priority = FACILITY * 8 + Severity::of(item).syslog();
    let time = item.time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    format!(
        "<{priority}>1 {time} {} clawstaff {} {} {} ",
        name(host, 255),
        name(&item.log, 128),
        name(item.event.kind.as_str(), 32),
        data(item)
    )
}

/// A header field: printable ASCII of at most so many bytes, `-` if there is none.
fn name(text: &str, most: usize) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

fn data(item: &Item) -> String {
    let event = &item.event;
    let mut data = format!("[{SD_ID}");
    let parameters = [
        ("id", Some(item.id())),
        ("origin", Some(item.origin.clone())),
        ("index", Some(item.index.to_string())),
        ("part", Some(item.part.as_str().to_owned())),
        ("intent", item.intent().map(|index| index.to_string())),
        ("seq", Some(item.seq.to_string())),
        ("claw", event.claw.as_ref().map(ToString::to_string)),
        ("actor", Some(event.actor.to_string())),
        ("action", event.action.as_ref().map(ToString::to_string)),
        ("decision", word(event.decision.as_ref())),
        ("outcome", word(event.outcome.as_ref())),
    ];
    for (name, value) in parameters {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _written = write!(data, " {name}=\"{}\"", parameter(text::cut(&value, 300)));
        }
    }
    data.push(']');
    data
}

fn word<T: serde::Serialize>(value: Option<&T>) -> Option<String> {
    serde_json::to_value(value?).ok()?.as_str().map(str::to_owned)
}

/// A parameter's value: `"`, `\` and `]` escaped (RFC 5424 section 6.3.3), on one line.
fn parameter(text: &str) -> String {
    let visible = text::tame(text);
    visible
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace(']', "\\]")
}

/// The longest text in a message that does not fit.
const SHORT: usize = 300;

/// The event as JSON of at most `room` bytes: what can be long goes first, what identifies it stays.
fn fitted(event: Map<String, Value>, room: usize) -> String {
    let whole = text::json(&Value::Object(event.clone()));
    if whole.len() <= room {
        return whole;
    }
    let mut event = event;
    if let Some(Value::Object(unmapped)) = event.get_mut("unmapped") {
        unmapped.remove("leaf_b64");
    }
    event.values_mut().for_each(shorten);
    ocsf::mark_truncated(&mut event, whole.len());
    let parts = [
        ("unmapped", "facts"),
        ("unmapped", "digests"),
        ("unmapped", "guardrails"),
        ("unmapped", "grants"),
        ("authorizations", ""),
        ("privileges", ""),
        ("attestation_list", ""),
        ("message", ""),
    ];
    for (name, inner) in parts {
        let short = text::json(&Value::Object(event.clone()));
        if short.len() <= room {
            return short;
        }
        match event.get_mut(name) {
            Some(Value::Object(object)) if !inner.is_empty() => drop(object.remove(inner)),
            _ => drop(event.remove(name)),
        }
    }
    text::json(&Value::Object(event))
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => text.truncate(text::cut(text, SHORT).len()),
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(values) => values.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
