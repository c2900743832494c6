//! No text in an event can forge a record, or a field, in any format: what a parser that is not ours reads back is
//! as many records as there were, with the texts that there were.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::{fs, path::Path, process::Command};

use clawstaff_audit::Phase;
use clawstaff_export::{Format, Item, csv, ocsf, syslog, text};
use clawstaff_types::Event;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::Value;

/// The listed texts, many random ones of the same characters, and one of ten megabytes.
fn texts() -> Vec<String> {
    let alphabet = "[a-c \"',;:|=\\\\+@\\-\\[\\]{}<>\r\n\t\u{0}\u{b}\u{c}\u{85}\u{a0}\u{2028}\u{2029}\u{202e}\u{feff}é漢🙂]{0,40}";
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let random = (0..200).map(|_| alphabet.new_tree(&mut runner).unwrap().current());
    let listed = support::HOSTILE.iter().map(|text| (*text).to_owned());
    // What comes of bytes that are no UTF-8 is decided before an event exists: they are replaced.
    let invalid = String::from_utf8_lossy(b"\xff\xfe\x80=\n|\xc3").into_owned();
    let mut texts: Vec<String> = listed.chain(random).chain([invalid]).collect();
    texts.push(format!("=\u{2028}\n,\"|]\\{}", "a".repeat(990)).repeat(10_000));
    texts
}

fn items(texts: &[String]) -> Vec<Item> {
    (0..)
        .zip(texts)
        .map(|(index, text)| support::record(index, Some(index + 1), event(text)))
        .collect()
}

fn event(text: &str) -> Event {
    let mut event = support::with_text(text);
    if text.len() > 1_000_000 {
        // Once is enough.
        event = support::full(event.kind);
        event.reason = Some(text.to_owned());
    }
    event
}

fn written(format: Format, items: &[Item]) -> String {
    let lines = items.iter().map(|item| format.line(item));
    std::iter::once(format.head()).chain(lines).collect()
}

/// What Python reads.
fn read_back(kind: &str, exported: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("export");
    fs::write(&file, exported).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parse.py");
    let output = Command::new("python3").arg(script).arg(kind).arg(&file).output();
    let output = output.expect("python3 is needed: apt-get install python3");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn jsonl_reads_back_whatever_the_text() {
    let texts = texts();
    let read = read_back("jsonl", &written(Format::Jsonl, &items(&texts)));
    assert_eq!(read.len(), texts.len());
    for (record, text) in read.iter().zip(&texts) {
        assert_eq!(record["reason"].as_str(), Some(text.as_str()));
    }
}

#[test]
fn ocsf_reads_back_whatever_the_text() {
    let texts = texts();
    for version in [ocsf::Version::V1_1, ocsf::Version::NEWEST] {
        let read = read_back("jsonl", &written(Format::Ocsf(version), &items(&texts)));
        assert_eq!(read.len(), texts.len());
        for (record, text) in read.iter().zip(&texts) {
            assert_eq!(record["status_detail"].as_str(), Some(text.as_str()));
        }
    }
}

#[test]
fn csv_reads_back_whatever_the_text_and_no_cell_is_a_formula() {
    let texts = texts();
    let exported = written(Format::Csv, &items(&texts));
    let lines = exported.split_terminator("\r\n");
    assert!(
        lines.clone().all(|line| !line.contains(text::is_unsafe)),
        "a record is one line"
    );
    let read = read_back("csv", &exported);
    assert_eq!(read.len(), texts.len() + 1);
    let reason = csv::COLUMNS.iter().position(|name| *name == "reason").unwrap();
    for (row, text) in read.iter().skip(1).zip(&texts) {
        let cells: Vec<&str> = row
            .as_array()
            .unwrap()
            .iter()
            .map(|cell| cell.as_str().unwrap())
            .collect();
        assert_eq!(cells.len(), csv::COLUMNS.len());
        for cell in &cells {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']),
                "{cell}"
            );
        }
        let cell = cells[reason];
        assert_eq!(untamed(cell.strip_prefix('\'').unwrap_or(cell)), *text);
    }
}

#[test]
fn cef_reads_back_whatever_the_text() {
    let texts = texts();
    let exported = written(Format::Cef, &items(&texts));
    let lines: Vec<&str> = exported.split_terminator('\n').collect();
    assert_eq!(lines.len(), texts.len());
    for (index, (line, text)) in lines.iter().zip(&texts).enumerate() {
        assert!(!line.contains(text::is_unsafe));
        let (header, pairs) = parse_cef(line);
        assert_eq!(header.len(), 7);
        assert_eq!(header[..3], ["0", "ClawStaff", "ClawStaff"]);
        let value = |key: &str| {
            let found: Vec<&String> = pairs
                .iter()
                .filter(|(name, _)| name == key)
                .map(|(_, value)| value)
                .collect();
            assert!(found.len() < 2, "{key} is there twice");
            found.first().map(|value| untamed(value))
        };
        assert_eq!(
            value("externalId"),
            Some(format!("clawstaff.local/control:{index}"))
        );
        assert_eq!(value("act"), Some("allow".to_owned()));
        assert_eq!(value("reason").unwrap_or_default(), *text);
    }
}

/// CEF by its implementation standard: seven header fields between unescaped bars, then pairs whose key is the last
/// word before an unescaped equals sign.
fn parse_cef(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let rest = line.strip_prefix("CEF:").unwrap();
    let (mut header, mut field, mut at) = (Vec::new(), String::new(), rest.char_indices());
    let mut extension = "";
    while let Some((index, character)) = at.next() {
        match character {
            '\\' => field.push(at.next().unwrap().1),
            '|' => {
                header.push(std::mem::take(&mut field));
                if header.len() == 7 {
                    extension = &rest[index + 1..];
                    break;
                }
            }
            other => field.push(other),
        }
    }
    // Positions of the unescaped equals signs.
    let (mut signs, mut escaped) = (Vec::new(), false);
    for (index, character) in extension.char_indices() {
        match (escaped, character) {
            (false, '\\') => escaped = true,
            (false, '=') => signs.push(index),
            _ => escaped = false,
        }
    }
    let keys: Vec<usize> = signs
        .iter()
        .map(|sign| extension[..*sign].rfind(' ').map_or(0, |space| space + 1))
        .collect();
    let pair = |at: usize| {
        let end = keys.get(at + 1).map_or(extension.len(), |next| next - 1);
        let key = extension[keys[at]..signs[at]].to_owned();
        let value = unescaped(&extension[signs[at] + 1..end]);
        (key, value)
    };
    (header, (0..signs.len()).map(pair).collect())
}

fn unescaped(value: &str) -> String {
    let mut plain = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' {
            characters.next().unwrap()
        } else {
            character
        });
    }
    plain
}

/// Visible escapes back to what they stand for.
fn untamed(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next().unwrap() {
                'u' => {
                    let digits: String = characters.by_ref().take(4).collect();
                    plain.push(char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap());
                }
                other => plain.push(other),
            },
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn syslog_reads_back_whatever_the_text() {
    for text in texts() {
        let item = if text.len() > 1_000_000 {
            support::record(9, None, event(&text))
        } else {
            support::item(9, Phase::Intent, event(&text))
        };
        let message = syslog::message(
            &item,
            "host\n]name",
            ocsf::Version::NEWEST,
            syslog::DEFAULT_MAX_BYTES,
        );
        assert!(message.len() <= syslog::DEFAULT_MAX_BYTES, "{}", message.len());
        let message = String::from_utf8(message).unwrap();
        let (fields, parameters, json) = parse_syslog(&message);
        assert_eq!(
            fields[2..],
            ["host]name", "clawstaff", item.log.as_str(), "tool.call"]
        );
        assert!(parameters.contains(&("index".to_owned(), "9".to_owned())));
        let actor = item.event.actor.to_string();
        let found = parameters.iter().find(|(name, _)| name == "actor").unwrap();
        assert_eq!(untamed(&found.1), text::cut(&actor, 300));
        let event: Value = serde_json::from_str(json).unwrap();
        assert_eq!(event["metadata"]["uid"], item.uid().as_str());
        if event["metadata"]["is_truncated"] != Value::Bool(true) {
            assert_eq!(event["status_detail"].as_str(), Some(text.as_str()));
        }
    }
}

/// RFC 5424 by its grammar: six header fields, one element of structured data, a message that begins with a BOM.
fn parse_syslog(message: &str) -> (Vec<&str>, Vec<(String, String)>, &str) {
    assert!(
        !message
            .trim_start_matches(|c| c != '\u{feff}')
            .trim_start_matches('\u{feff}')
            .contains(text::is_unsafe)
    );
    let fields: Vec<&str> = message.splitn(7, ' ').collect();
    let mut rest = fields[6].strip_prefix("[audit@32473").unwrap();
    let mut parameters = Vec::new();
    while let Some(parameter) = rest.strip_prefix(' ') {
        let (name, after) = parameter.split_once("=\"").unwrap();
        let (mut value, mut characters) = (String::new(), after.char_indices());
        let end = loop {
            match characters.next().unwrap() {
                (_, '\\') => value.push(characters.next().unwrap().1),
                (index, '"') => break index,
                (_, ']') => panic!("an unescaped bracket in a value"),
                (_, other) => value.push(other),
            }
        };
        parameters.push((name.to_owned(), value));
        rest = &after[end + 1..];
    }
    let json = rest.strip_prefix("] \u{feff}").unwrap();
    (fields[..6].to_vec(), parameters, json)
}

#[test]
fn a_message_that_is_too_long_loses_payload_and_keeps_what_identifies_it() {
    let mut event = support::full(clawstaff_types::EventKind::ToolCall);
    for number in 0..60 {
        event.facts.insert(format!("fact-{number}"), "x".repeat(900));
    }
    let item = support::item(3, Phase::Intent, event);
    let message = syslog::message(&item, "host", ocsf::Version::NEWEST, syslog::MIN_MAX_BYTES);
    assert!(message.len() <= syslog::MIN_MAX_BYTES, "{}", message.len());
    let message = String::from_utf8(message).unwrap();
    let (_, _, json) = parse_syslog(&message);
    let event: Value = serde_json::from_str(json).unwrap();
    assert_eq!(event["metadata"]["is_truncated"], Value::Bool(true));
    assert_eq!(event["metadata"]["uid"], "clawstaff.local/gateway:3");
    assert_eq!(event["unmapped"]["intent_index"], 3);
}
