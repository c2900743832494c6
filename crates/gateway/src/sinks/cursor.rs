//! Where a sink goes on after a restart: one small file for each sink and log, replaced whole and synced.

use std::{
    io,
    path::{Path, PathBuf},
};

use clawstaff_types::Sink;
use serde::{Deserialize, Serialize};

const MAX_FILE: u64 = 4096;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The log's origin: another log under the same name begins anew.
    origin: String,
    /// The first index that is not delivered.
    next: u64,
}

/// The cursor of one sink in one log.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    kept: Option<Kept>,
}

impl Cursor {
    /// Reads it; one that was never written is at the log's beginning.
    ///
    /// # Errors
    /// When it is there and cannot be read: starting anew would send everything again.
    pub(super) fn open(dir: &Path, sink: &Sink, log: &str) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}.{log}", sink.name));
        let kept = crate::inbox::read_if_present(&path, MAX_FILE)?;
        let kept = kept.map(|bytes| serde_json::from_slice(&bytes)).transpose()?;
        Ok(Self { path, kept })
    }

    /// The first index that is not delivered. `None` while it is of no log: then it is the first there is.
    pub(super) fn next(&self, origin: Option<&str>) -> u64 {
        let same = self
            .kept
            .as_ref()
            .filter(|kept| origin.is_none_or(|origin| kept.origin == origin));
        same.map_or(0, |kept| kept.next)
    }

    /// Whether it is of the log with this origin, or of none yet.
    pub(super) fn is_of(&self, origin: &str) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.origin == origin)
    }

    /// Everything below `next` is delivered. Durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written; then the same will be sent again.
    pub(super) fn advance(&mut self, origin: &str, next: u64) -> io::Result<()> {
        let kept = Kept {
            origin: origin.to_owned(),
            next,
        };
        crate::inbox::replace(&self.path, &serde_json::to_vec(&kept)?)?;
        self.kept = Some(kept);
        Ok(())
    }
}

/// Removes the cursors of sinks that are no more, so that one of the same name begins anew.
pub(super) fn keep(dir: &Path, wanted: &[Sink]) {
    let Ok(files) = std::fs::read_dir(dir) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        let sink = name.split_once('.').map_or(name.as_ref(), |(sink, _)| sink);
        if !wanted.iter().any(|one| one.name.as_str() == sink)
            && let Err(error) = std::fs::remove_file(file.path())
        {
            tracing::warn!(%error, file = %file.path().display(), "the cursor of a sink that is gone stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use clawstaff_types::SinkKind;

    use super::*;

    fn sink(name: &str) -> Sink {
        Sink {
            name: name.parse().unwrap(),
            kind: SinkKind::File,
            address: String::new(),
            format: None,
            ca: None,
            credential: None,
        }
    }

    #[test]
    fn a_cursor_goes_on_after_a_restart_and_begins_anew_with_another_log() {
        let dir = tempfile::tempdir().unwrap();
        let (siem, other) = (sink("siem"), sink("other"));
        let mut cursor = Cursor::open(dir.path(), &siem, "gateway").unwrap();
        assert_eq!(cursor.next(Some("a")), 0);
        cursor.advance("a", 7).unwrap();
        let cursor = Cursor::open(dir.path(), &siem, "gateway").unwrap();
        assert_eq!(
            (cursor.next(Some("a")), cursor.next(None), cursor.next(Some("b"))),
            (7, 7, 0)
        );
        assert_eq!(
            Cursor::open(dir.path(), &siem, "control")
                .unwrap()
                .next(Some("a")),
            0
        );
        keep(dir.path(), &[other]);
        assert_eq!(
            Cursor::open(dir.path(), &siem, "gateway")
                .unwrap()
                .next(Some("a")),
            0
        );
    }

    #[test]
    fn a_damaged_cursor_is_an_error_and_not_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("siem.gateway"), "{").unwrap();
        assert!(Cursor::open(dir.path(), &sink("siem"), "gateway").is_err());
    }
}
