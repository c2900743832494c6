//! Open Cybersecurity Schema Framework events (<https://schema.ocsf.io>).
//!
//! An event is made once, in the newest version (`ocsf/event.rs`), and then brought down to an older one
//! (`ocsf/downgrade.rs`): classes and activities that are younger become Base Event or `Other` with their name,
//! attributes that are younger move to `unmapped`, numbers that are younger become 99 with their caption, and
//! `metadata.version` says what it is. Nothing is lost on the way. The tests hold every kind of event in every
//! version against that version's own schema.

mod class;
mod downgrade;
mod event;
mod version;

use serde_json::{Map, Value, json};

pub use self::version::{UnknownVersion, Version};
use crate::{Item, text};

/// The event as an object.
pub fn event(item: &Item, version: Version) -> Map<String, Value> {
    downgrade::to(event::newest(item), version)
}

/// The event on one line, line break included.
pub fn line(item: &Item, version: Version) -> String {
    let mut line = text::json(&Value::Object(event(item, version)));
    line.push('\n');
    line
}

/// Class and activity as one number, in the newest version.
pub fn type_uid(item: &Item) -> u32 {
    class::of(item.event.kind).type_uid()
}

/// Says in the event that payload was left out of `size` bytes of it, where its version has a word for that.
pub(crate) fn mark_truncated(event: &mut Map<String, Value>, size: usize) {
    let version = event.get("metadata").and_then(|metadata| metadata.get("version"));
    let version: Option<Version> = version.and_then(Value::as_str).and_then(|text| text.parse().ok());
    let marks = json!({ "is_truncated": true, "untruncated_size": size });
    let place = if version >= Some(Version::V1_6) {
        "metadata"
    } else {
        "unmapped"
    };
    let at = event.entry(place).or_insert_with(|| json!({}));
    if let (Value::Object(at), Value::Object(marks)) = (at, marks) {
        at.extend(marks);
    }
}
