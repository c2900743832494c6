//! OpenTelemetry log records as OTLP/HTTP takes them: `ExportLogsServiceRequest` in protobuf, `POST` to `/v1/logs`.
//!
//! Ten messages of opentelemetry-proto 1.x, written field by field: a compiler for the whole protocol would be a
//! hundred times as much code. Field numbers stand beside their names; the protocol's own decoder reads them back in
//! the tests. `log.record.uid` is the record's identity: whoever receives it twice keeps one.

use crate::{Item, PRODUCT_VERSION, Severity, jsonl, text};
use serde_json::Value;

/// The request for a batch of records, in order. `host` is this machine's name.
pub fn request(items: &[Item], host: &str) -> Vec<u8> {
    let resource = {
        let mut resource = Message::default();
        resource.attribute(1, "service.name", "clawstaff");
        resource.attribute(1, "service.version", PRODUCT_VERSION);
        resource.attribute(1, "host.name", host);
        resource
    };
    let scope = {
        let mut scope = Message::default();
        scope.text(1, "clawstaff.audit");
        scope.text(2, PRODUCT_VERSION);
        scope
    };
    let mut scope_logs = Message::default();
    scope_logs.message(1, &scope);
    for item in items {
        scope_logs.message(2, &record(item));
    }
    let mut resource_logs = Message::default();
    resource_logs.message(1, &resource);
    resource_logs.message(2, &scope_logs);
    let mut request = Message::default();
    request.message(1, &resource_logs);
    request.0
}

/// `LogRecord`.
fn record(item: &Item) -> Message {
    let event = &item.event;
    let (number, severity) = Severity::of(item).otlp();
    let nanoseconds = u64::try_from(item.time.as_nanosecond()).unwrap_or_default();
    let mut record = Message::default();
    record.fixed64(1, nanoseconds); // time_unix_nano
    record.number(2, u64::from(number)); // severity_number
    record.text(3, severity); // severity_text
    let value = jsonl::value(item);
    let mut body = Message::default();
    body.text(1, &text::json(&value)); // AnyValue.string_value
    record.message(5, &body);
    record.attribute(6, "log.record.uid", &item.uid());
    for (name, value) in attributes(&value) {
        record.attribute(6, &name, &value);
    }
    if let Some(claw) = &event.claw {
        record.attribute(6, "gen_ai.agent.id", claw.as_str());
        record.attribute(6, "gen_ai.agent.name", claw.as_str());
    }
    if let Some(cause) = &event.cause {
        record.attribute(6, "gen_ai.conversation.id", &cause.0.to_string());
    }
    record.fixed64(11, nanoseconds); // observed_time_unix_nano
    record.text(12, &format!("clawstaff.{}", event.kind)); // event_name
    record
}

/// The fields that have a value, as `clawstaff.NAME`; lists between spaces, tables one attribute for each member.
fn attributes(value: &Value) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) => attributes.push((format!("clawstaff.{name}"), text.clone())),
            Value::Array(list) if list.is_empty() => {}
            Value::Array(list) => {
                let names: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                attributes.push((format!("clawstaff.{name}"), names.join(" ")));
            }
            Value::Object(table) => {
                let members = table
                    .iter()
                    .filter_map(|(label, value)| Some((label, value.as_str()?)));
                attributes.extend(
                    members.map(|(label, value)| (format!("clawstaff.{name}.{label}"), value.to_owned())),
                );
            }
            Value::Bool(_) | Value::Number(_) => {
                attributes.push((format!("clawstaff.{name}"), value.to_string()));
            }
        }
    }
    attributes
}

/// A protobuf message under construction (proto3 wire format).
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or_default());
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u64, value: u64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// `KeyValue` with a string.
    fn attribute(&mut self, field: u64, key: &str, text: &str) {
        let mut value = Self::default();
        value.text(1, text); // AnyValue.string_value
        let mut pair = Self::default();
        pair.text(1, key);
        pair.message(2, &value);
        self.message(field, &pair);
    }
}

/// How many records an `ExportLogsServiceResponse` says were rejected (`partial_success.rejected_log_records`). What
/// cannot be read rejects nothing.
pub fn rejected(answer: &[u8]) -> u64 {
    let partial = field(answer, 1, 2).and_then(|(_, partial)| partial);
    partial
        .and_then(|partial| field(partial, 1, 0))
        .map_or(0, |(number, _)| number)
}

/// The first field of this number and wire type: its number, or its bytes.
fn field(mut message: &[u8], wanted: u64, wire_type: u64) -> Option<(u64, Option<&[u8]>)> {
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let (number, bytes) = match key & 7 {
            0 => (take_varint(&mut message)?, None),
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                (0, Some(bytes))
            }
            _ => return None,
        };
        if key == (wanted << 3 | wire_type) {
            return Some((number, bytes));
        }
    }
    None
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_records_are_counted_and_nonsense_is_none() {
        // partial_success { rejected_log_records: 300, error_message: "x" }
        assert_eq!(rejected(&[0x0a, 0x06, 0x08, 0xac, 0x02, 0x12, 0x01, b'x']), 300);
        for nothing in [&[][..], &[0x0a, 0x00], &[0x0a, 0xff], &[0xff; 12], b"{}"] {
            assert_eq!(rejected(nothing), 0);
        }
    }
}
