//! What the writer knew when a segment began, signed: where opening may begin instead of at the first entry.
//!
//! The *snapshot* is written now and then while the log grows, and is never needed: without it, or if anything
//! about it does not fit, the journal is read from its start. The *base* is written when the log is pruned, and
//! stands for the entries that are gone: without it the rest cannot be opened.
//!
//! The file is one line of JSON and a signed note over its digest. The tree in it is bound a second time: the
//! segment's own opening states the root, and so does every checkpoint after it. That the rest (the numbers of
//! the streams, the open intents) is what the entries gave rests on the signature alone; `verify` derives it
//! again, as far as the entries are still there.

use std::{io, path::Path};

use clawstaff_types::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    disk::{self, Disk},
    ledger::Ledger,
    note::{self, Note, NoteError, SigningKey, VerifyingKey},
    tile::Frontier,
    tree::{CompactRange, Hash},
};

/// A longer file is not read, and not written.
pub(crate) const MAX_STATE_BYTES: u64 = 256 << 20;

/// What a state is for. One cannot be put in the place of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To open faster.
    Snapshot,
    /// To stand for what was pruned.
    Base,
}

impl Role {
    /// The first line of what is signed. It has spaces, so it is no origin, and the note no checkpoint.
    const fn line(self) -> &'static str {
        match self {
            Self::Snapshot => "clawstaff audit log state 1: snapshot",
            Self::Base => "clawstaff audit log state 1: pruned",
        }
    }

    /// The file in the log's directory.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Base => "pruned",
        }
    }
}

/// The writer's state when a segment began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The segment that begins here.
    pub(crate) segment: u64,
    /// The tree over all entries before it.
    pub(crate) tree: CompactRange,
    /// What the rules remember of them.
    pub(crate) ledger: Ledger,
    /// Up to where tiles were safe on disk.
    pub(crate) tiles: Frontier,
    /// Checkpoints of fewer entries that were published, or about to be: the tree extends them.
    pub(crate) extends: Vec<(u64, Hash)>,
}

/// A state as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    size: u64,
    peaks: Vec<Hash>,
    ledger: Ledger,
    tiles: Frontier,
    extends: Vec<(u64, Hash)>,
}

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("it cannot be read or written: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Note(#[from] NoteError),
    #[error("{0}")]
    Form(&'static str),
    #[error("its content is not a state: {0}")]
    Json(#[from] serde_json::Error),
}

fn signed_text(role: Role, origin: &str, segment: u64, content: &[u8]) -> String {
    let digest = Digest::of(content);
    format!("{}\n{origin}\n{segment}\n{digest}\n", role.line())
}

impl State {
    /// Whether it goes on from this checkpoint, so far as it can tell.
    pub(crate) fn extends(&self, size: u64, root: &Hash) -> bool {
        self.extends.contains(&(size, *root))
    }

    /// Writes it in one durable step.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        role: Role,
        origin: &str,
        key: &SigningKey,
    ) -> Result<(), StateError> {
        let written = Written {
            size: self.tree.size(),
            peaks: self.tree.peaks().to_vec(),
            ledger: self.ledger.clone(),
            tiles: self.tiles.clone(),
            extends: self.extends.clone(),
        };
        let mut bytes = serde_json::to_vec(&written)?;
        let text = signed_text(role, origin, self.segment, &bytes);
        bytes.push(b'\n');
        bytes.extend_from_slice(note::sign(&text, key)?.as_bytes());
        if bytes.len() as u64 > MAX_STATE_BYTES {
            return Err(StateError::Form("it is too long to be kept"));
        }
        Ok(disk::replace(disk, &dir.join(role.file()), &bytes)?)
    }

    /// Reads it, if it is there, with the origin that it names. Without a key, nobody vouches for it.
    pub(crate) fn read(
        disk: &dyn Disk,
        dir: &Path,
        role: Role,
        key: Option<&VerifyingKey>,
    ) -> Result<Option<(Self, String)>, StateError> {
        match disk::read_if_present(disk, &dir.join(role.file()), MAX_STATE_BYTES)? {
            Some(bytes) => Self::parse(&bytes, role, key).map(Some),
            None => Ok(None),
        }
    }

    fn parse(bytes: &[u8], role: Role, key: Option<&VerifyingKey>) -> Result<(Self, String), StateError> {
        let form = StateError::Form("it is not a line of JSON and a signed note");
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
            return Err(form);
        };
        let (content, signed) = bytes.split_at(end);
        let signed = signed
            .split_first()
            .and_then(|(_, note)| str::from_utf8(note).ok());
        let note = Note::parse(signed.ok_or(form)?)?;
        if let Some(key) = key {
            note.verify(key)?;
        }
        let mut lines = note.text().lines();
        let (Some(_), Some(origin), Some(segment)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(StateError::Form("the signed text has too few lines"));
        };
        let segment = segment
            .parse()
            .map_err(|_| StateError::Form("its segment is not a number"))?;
        if note.text() != signed_text(role, origin, segment, content) {
            return Err(StateError::Form("its content is not what was signed"));
        }
        let written: Written = serde_json::from_slice(content)?;
        let state = Self {
            segment,
            tree: CompactRange::from_peaks(written.size, written.peaks)
                .ok_or(StateError::Form("its tree has the wrong number of hashes"))?,
            ledger: written.ledger,
            tiles: written.tiles,
            extends: written.extends,
        };
        Ok((state, origin.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use clawstaff_types::Digest;

    use super::*;
    use crate::{Phase, Stream, disk::RealDisk, tree::leaf_hash};

    fn key() -> SigningKey {
        SigningKey::from_bytes("example.org/log", &[9; 32]).unwrap()
    }

    fn state() -> State {
        let mut state = State {
            segment: 3,
            ..State::default()
        };
        for index in 0..5 {
            state.tree.push(leaf_hash(&[0]));
            let stream: Stream = "claw:a".parse().unwrap();
            let time = "2026-11-23T08:00:00.123456Z".parse().unwrap();
            state
                .ledger
                .apply(index, &stream, Phase::Intent, Digest::of(b"call"), time);
        }
        state
    }

    fn read(dir: &Path, role: Role) -> Result<Option<(State, String)>, StateError> {
        State::read(&RealDisk, dir, role, Some(&key().verifying_key()))
    }

    #[test]
    fn a_state_reads_back_in_its_own_role_only() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), Role::Snapshot).unwrap().is_none());
        let written = state();
        written
            .write(&RealDisk, dir.path(), Role::Snapshot, "example.org/log", &key())
            .unwrap();
        let (found, origin) = read(dir.path(), Role::Snapshot).unwrap().unwrap();
        assert_eq!((found, origin.as_str()), (written, "example.org/log"));
        std::fs::rename(dir.path().join("snapshot"), dir.path().join("pruned")).unwrap();
        assert!(read(dir.path(), Role::Base).is_err());
    }

    #[test]
    fn a_state_with_any_byte_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        state()
            .write(&RealDisk, dir.path(), Role::Base, "example.org/log", &key())
            .unwrap();
        let path = dir.path().join("pruned");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert!(read(dir.path(), Role::Base).is_err(), "byte {at}");
        }
    }
}
