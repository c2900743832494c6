//! The agent's memory of finished items: `/data/journal.jsonl`, a line each, at most two files of 1 MiB.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use clawstaff_cage_contract::InboxItem;
use serde_json::json;

use super::conversation::Ending;

/// The journal's name in `/data`.
const CURRENT: &str = "journal.jsonl";
/// The one before it.
const PREVIOUS: &str = "journal.1.jsonl";
/// A journal that would grow over this many bytes becomes the previous one.
const MAX_BYTES: u64 = 1024 * 1024;

/// Adds the line of a finished item.
///
/// # Errors
/// When the storage is full or not writable.
pub(crate) fn append(data_dir: &Path, item: &InboxItem, ending: &Ending) -> io::Result<()> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = json!({
        "time": time.as_secs(),
        "id": item.id,
        "source": item.source,
        "attempt": item.attempt,
        "result": ending.result,
        "steps": ending.steps,
        "note": ending.note,
    })
    .to_string();
    line.push('\n');
    let path = data_dir.join(CURRENT);
    let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if size + u64::try_from(line.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        fs::rename(&path, data_dir.join(PREVIOUS))?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawstaff_cage_contract::AckResult;

    #[test]
    fn the_journal_never_takes_more_than_two_files_of_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let item = InboxItem {
            id: "m1".parse().unwrap(),
            source: "message".into(),
            event: json!({}),
            attempt: 1,
        };
        let ending = Ending {
            result: AckResult::Done,
            note: "x".repeat(16 * 1024),
            steps: 1,
        };
        for _ in 0..200 {
            append(dir.path(), &item, &ending).unwrap();
        }
        let size = |name| fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(size(CURRENT) <= MAX_BYTES && size(PREVIOUS) <= MAX_BYTES);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let text = fs::read_to_string(dir.path().join(CURRENT)).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&line["id"], &line["result"]), (&json!("m1"), &json!("done")));
    }
}
