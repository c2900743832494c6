//! Evidence bundles: a set of files that lets a stranger check a selection of entries with nothing else at hand.
//!
//! ```text
//! README.txt               what this is and how to check it, in plain words
//! SHA256SUMS               of every other file, as `sha256sum -c` reads it
//! manifest.json            which logs, and by what they were selected
//! LOG/checkpoint           signed by the log, cosigned by its witnesses; everything is proved against it
//! LOG/policy               whose signatures that asks for (C2SP tlog-policy)
//! LOG/vkey                 the log's key (C2SP signed-note)
//! LOG/events.jsonl         the entries, each with its index, its leaf hash and its leaf, byte for byte
//! LOG/proofs/N.tlog-proof  one for each entry (C2SP tlog-proof)
//! LOG/tile/…               the tiles that these proofs come from (C2SP tlog-tiles)
//! ```
//!
//! A bundle is a map from paths to bytes; whether it lies in a folder or a tar file is the caller's business.
//! Every byte of it is checked by [`verify`]. Pure.

mod check;
mod make;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::{
    check::{BundleProblem, BundleReport, LogReport, verify},
    make::{Bundler, MakeBundleError, Selected},
};
use crate::tree::Hash;

/// The files of a bundle: relative paths with `/`, and their bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Most entries of one log in a bundle.
pub const MAX_ENTRIES: usize = 100_000;
/// Most files in a bundle.
pub const MAX_FILES: usize = 3 * MAX_ENTRIES;
/// Most bytes in a bundle.
pub const MAX_BYTES: u64 = 2 << 30;

const README: &str = "README.txt";
const SUMS: &str = "SHA256SUMS";
const MANIFEST: &str = "manifest.json";

/// What `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// 1.
    v: u32,
    /// The folders of the logs.
    logs: Vec<String>,
    /// By what the entries were selected, in the exporter's words.
    selected_by: BTreeMap<String, String>,
}

/// One line of `events.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    index: u64,
    leaf_hash: Hash,
    /// The leaf's own bytes, which are JSON.
    #[serde(borrow)]
    leaf: &'a RawValue,
}

fn in_log(log: &str, file: &str) -> String {
    format!("{log}/{file}")
}

fn proof_path(log: &str, index: u64) -> String {
    format!("{log}/proofs/{index}.tlog-proof")
}

/// Whether a name can be that of a log's folder: it must not lead anywhere else.
fn is_folder(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The text of `SHA256SUMS` for these files.
fn sums(files: &Files) -> String {
    let mut text = String::new();
    for (path, bytes) in files.iter().filter(|(path, _)| *path != SUMS) {
        text.push_str(&hex::encode(Hash::of(bytes).as_bytes()));
        text.push_str("  ");
        text.push_str(path);
        text.push('\n');
    }
    text
}
