//! Comma-separated values (RFC 4180): a header, then one record a line, every cell quoted.
//!
//! Two things more than the RFC asks for. A record is one line for every reader, because unsafe characters are
//! [visible escapes](crate::text::tame). And no spreadsheet takes a cell for a formula: where one begins with
//! `=`, `+`, `-`, `@` (their full-width forms included) or an apostrophe, an apostrophe stands before it; a reader
//! removes one leading apostrophe.

use crate::{Item, jsonl, text};
use serde_json::Value;

/// The columns, in order: the fields of [`jsonl`].
pub const COLUMNS: &[&str] = &[
    "id",
    "log",
    "index",
    "part",
    "intent_index",
    "outcome_index",
    "time",
    "seq",
    "kind",
    "claw",
    "actor",
    "on_behalf_of",
    "cause",
    "connection",
    "action",
    "resource",
    "decision",
    "grants",
    "guardrails",
    "reason",
    "claw_revision",
    "policy_revision",
    "outcome",
    "digests",
    "facts",
    "leaf_hash",
];

/// The header and its line break.
pub fn head() -> String {
    join(COLUMNS.iter().map(|name| (*name).to_owned()))
}

/// One record and its line break.
pub fn line(item: &Item) -> String {
    let value = jsonl::value(item);
    join(
        COLUMNS
            .iter()
            .map(|name| cell(value.get(name).unwrap_or(&Value::Null))),
    )
}

fn join(cells: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = cells.map(|cell| quote(&cell)).collect();
    format!("{}\r\n", quoted.join(","))
}

/// A list is its members between spaces, a table is JSON.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text::tame(text).into_owned(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Object(table) if table.is_empty() => String::new(),
        other => text::json(other),
    }
}

fn quote(cell: &str) -> String {
    let defused = if cell.starts_with(['=', '+', '-', '@', '\'', '＝', '＋', '－', '＠']) {
        "'"
    } else {
        ""
    };
    format!("\"{defused}{}\"", cell.replace('"', "\"\""))
}
