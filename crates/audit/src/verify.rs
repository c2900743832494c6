//! Verifies a log offline and trusts nothing in it: every hash, root, tile and rule is derived again.
//!
//! Used by `clawstaff audit verify`, by the tests as their oracle, and by strangers. It only reads. What it
//! cannot know is whether the end was cut off together with the checkpoint that spoke of it; for that, hand in
//! a checkpoint that you kept elsewhere (`from`).

mod tiles;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use self::tiles::TileCheck;
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    disk::{self, Disk as _, RealDisk},
    entry::{Entry, Heading, Phase},
    ledger::Ledger,
    log::Unfinished,
    note::{MAX_NOTE_BYTES, VerifyingKey},
    scan::{self, Damage, Found, ScanError},
    tree::Hash,
};

/// What sort of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// A file cannot be read, or there is no log.
    Unreadable,
    /// A record of the journal is changed, missing, out of place, or breaks a rule.
    Damaged,
    /// Bytes after the last whole batch: an interrupted write that opening cuts off, or a change.
    InterruptedWrite,
    /// The key file is not a key, or not the one you hold.
    Key,
    /// A checkpoint is malformed, unsigned or of another log.
    Checkpoint,
    /// There are fewer entries than a checkpoint was signed over.
    RolledBack,
    /// The entries are not those that a checkpoint was signed over.
    Rewritten,
    /// A tile or entry bundle is not what the journal says, is missing, or should not be there.
    Tile,
}

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What sort.
    pub kind: ProblemKind,
    /// The first entry concerned, where that can be said.
    pub index: Option<u64>,
    /// The file.
    pub path: PathBuf,
    /// The byte in it, where that can be said.
    pub offset: Option<u64>,
    /// In plain words.
    pub text: String,
}

/// What verifying found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log's name, as its journal says.
    pub origin: Option<String>,
    /// How many entries were found good, from the first on.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The published checkpoint, if it could be read.
    pub checkpoint: Option<Checkpoint>,
    /// What is wrong; the first is the first bad record. Empty: nothing is.
    pub problems: Vec<Problem>,
    /// What could not be checked, in words.
    pub unchecked: Vec<String>,
    /// Intents without an outcome. Not a problem while their acts are under way.
    pub unfinished: Vec<Unfinished>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies the log in `dir`.
///
/// `vkey` is the key that you know to be the log's; without it the one in the directory is used, which shows
/// only that the log agrees with itself. `from` is a checkpoint that you hold, whose signature you have
/// checked: the log must extend it. The log may be in use meanwhile; then its newest entries may be left out.
pub fn verify_dir(dir: &Path, vkey: Option<&VerifyingKey>, from: Option<&Checkpoint>) -> Report {
    let mut verification = Verification {
        dir,
        in_use: is_in_use(dir),
        problems: Vec::new(),
        unchecked: Vec::new(),
    };
    verification.run(vkey, from)
}

/// Reads a checkpoint that you hold, for `from`: from a file with the note in it.
///
/// # Errors
/// When the file cannot be read, is no checkpoint, or (with a key) is not signed by it.
pub fn read_checkpoint(path: &Path, vkey: Option<&VerifyingKey>) -> Result<Checkpoint, HeldError> {
    let bytes = RealDisk
        .read(path, MAX_NOTE_BYTES as u64)
        .map_err(|source| HeldError::Read {
            path: path.to_owned(),
            source,
        })?;
    let text = String::from_utf8_lossy(&bytes);
    vkey.map_or_else(|| Checkpoint::parse(&text), |key| Checkpoint::verify(&text, key))
        .map_err(|source| HeldError::Checkpoint {
            path: path.to_owned(),
            source,
        })
}

/// Why a checkpoint that you hold could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// The file could not be read.
    #[error("reading {path} failed")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a checkpoint, or not signed as it should be.
    #[error("{path} is not a checkpoint to verify from")]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CheckpointError,
    },
}

/// Whether a writer has the log open. Holds the lock for an instant; writers wait that long.
fn is_in_use(dir: &Path) -> bool {
    File::open(dir.join("lock"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

struct Verification<'a> {
    dir: &'a Path,
    in_use: bool,
    problems: Vec<Problem>,
    unchecked: Vec<String>,
}

impl Verification<'_> {
    fn run(&mut self, vkey: Option<&VerifyingKey>, from: Option<&Checkpoint>) -> Report {
        let key = self.key(vkey);
        // The published checkpoint before the journal: if the log is in use, the journal is the longer one.
        let published = self.published(key.as_ref());
        let sizes: Vec<u64> = published.iter().chain(from).map(|c| c.size).collect();
        let mut tiles = TileCheck::new(self.dir, published.as_ref().map_or(0, |c| c.size), self.in_use);
        let mut ledger = Ledger::default();
        let mut open = std::collections::BTreeMap::new();
        let (found, read) = scan::scan(
            &RealDisk,
            self.dir,
            &sizes,
            self.in_use,
            &mut |index, leaf, hash| {
                let entry = Entry::parse(leaf).map_err(|error| error.to_string())?;
                let heading = Heading::of(&entry);
                ledger.check(&heading).map_err(|breach| breach.to_string())?;
                ledger.apply(index, heading.stream, heading.phase, heading.call, heading.time);
                match entry.phase {
                    Phase::Intent => drop(open.insert(index, entry)),
                    Phase::Outcome { of } => drop(open.remove(&of)),
                    Phase::Fact => {}
                }
                tiles.take(leaf, hash);
                Ok(())
            },
        );
        let whole = self.journal(&found, read);
        self.journal_signature(&found, key.as_ref());
        if let Some(published) = &published {
            let path = self.dir.join("checkpoint");
            self.extends(&found, published, &path, "the published checkpoint", whole);
        } else if found.tree.size() > 0 && !self.dir.join("checkpoint").exists() {
            self.without_checkpoint(&found);
        }
        if let Some(from) = from {
            let path = self.dir.join("journal");
            self.extends(&found, from, &path, "the checkpoint you hold", whole);
        }
        if whole {
            self.problems.extend(tiles.finish());
        } else {
            self.unchecked
                .push("tiles after the first damaged record were not compared".to_owned());
        }
        self.strangers();
        Report {
            origin: found.origin,
            size: found.tree.size(),
            root: found.tree.root(),
            checkpoint: published,
            problems: std::mem::take(&mut self.problems),
            unchecked: std::mem::take(&mut self.unchecked),
            unfinished: open
                .into_iter()
                .map(|(index, entry)| Unfinished {
                    index,
                    stream: entry.stream,
                    call: entry.call,
                    event: entry.event,
                })
                .collect(),
        }
    }

    fn problem(
        &mut self,
        kind: ProblemKind,
        index: Option<u64>,
        path: &Path,
        offset: Option<u64>,
        text: impl Into<String>,
    ) {
        self.problems.push(Problem {
            kind,
            index,
            path: path.to_owned(),
            offset,
            text: text.into(),
        });
    }

    /// The key to check with: the one that is known, or else the one in the directory.
    fn key(&mut self, known: Option<&VerifyingKey>) -> Option<VerifyingKey> {
        let path = self.dir.join("vkey");
        let text = match disk::read_if_present(&RealDisk, &path, 4096) {
            Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Ok(None) if known.is_some() => return known.cloned(),
            Ok(None) => {
                self.unchecked.push(
                    "no signature was checked: there is no key in the directory and none was given"
                        .to_owned(),
                );
                return None;
            }
            Err(error) => {
                self.problem(
                    ProblemKind::Unreadable,
                    None,
                    &path,
                    None,
                    format!("it cannot be read: {error}"),
                );
                return known.cloned();
            }
        };
        let line = text.strip_suffix('\n').unwrap_or("");
        let found = match VerifyingKey::parse(line) {
            Ok(found) => found,
            Err(error) => {
                self.problem(ProblemKind::Key, None, &path, Some(0), error.to_string());
                return known.cloned();
            }
        };
        match known {
            Some(known) if *known != found => {
                let text = format!("the key is {found}, not {known}, which you know to be the log's");
                self.problem(ProblemKind::Key, None, &path, Some(0), text);
            }
            Some(_) => {}
            None => self.unchecked.push(format!(
                "the key {found} was taken from the log's own directory; compare it with the one you know"
            )),
        }
        known.cloned().or(Some(found))
    }

    /// The published checkpoint, its form and its signature.
    fn published(&mut self, key: Option<&VerifyingKey>) -> Option<Checkpoint> {
        let path = self.dir.join("checkpoint");
        let bytes = match disk::read_if_present(&RealDisk, &path, MAX_NOTE_BYTES as u64) {
            Ok(bytes) => bytes?,
            Err(error) => {
                self.problem(
                    ProblemKind::Unreadable,
                    None,
                    &path,
                    None,
                    format!("it cannot be read: {error}"),
                );
                return None;
            }
        };
        let read = match str::from_utf8(&bytes) {
            Err(_) => Err("it is not text".to_owned()),
            Ok(text) => match key {
                Some(key) => Checkpoint::verify(text, key).map_err(|error| error.to_string()),
                None => Checkpoint::parse(text).map_err(|error| error.to_string()),
            },
        };
        match read {
            Ok(checkpoint) => Some(checkpoint),
            Err(text) => {
                self.problem(ProblemKind::Checkpoint, None, &path, Some(0), text);
                None
            }
        }
    }

    /// What reading the journal came to. Whether it was read to its end.
    fn journal(&mut self, found: &Found, read: Result<(), ScanError>) -> bool {
        let size = found.tree.size();
        match read {
            Err(ScanError::Io { path, source }) => {
                let text = format!("it cannot be read: {source}");
                self.problem(ProblemKind::Unreadable, Some(size), &path, None, text);
                return false;
            }
            Err(ScanError::Damage(Damage {
                index,
                path,
                offset,
                text,
            })) => {
                self.problem(ProblemKind::Damaged, Some(index), &path, Some(offset), text);
                return false;
            }
            Ok(()) => {}
        }
        if found.segments.is_empty() && found.spares.is_empty() {
            let path = self.dir.join("journal");
            self.problem(ProblemKind::Unreadable, None, &path, None, "there is no journal");
        }
        if let Some(torn) = &found.torn {
            if self.in_use {
                self.unchecked.push(format!(
                    "a batch was being written after entry {size} while this ran; it was left out"
                ));
            } else {
                let text = format!(
                    "{} bytes after the last whole batch are not one ({}): a write that a crash interrupted, \
                     which opening the log cuts off, or a change",
                    torn.bytes, torn.text
                );
                let (path, at) = (torn.path.clone(), Some(torn.failed_at));
                self.problem(ProblemKind::InterruptedWrite, Some(size), &path, at, text);
            }
        }
        true
    }

    /// The checkpoint that closes the journal must be signed by the log.
    fn journal_signature(&mut self, found: &Found, key: Option<&VerifyingKey>) {
        let (Some(key), Some(note)) = (key, &found.note) else {
            return;
        };
        if let Err(error) = Checkpoint::verify(note, key) {
            let ordinal = found.segments.last().map_or(0, |last| last.ordinal);
            let path = scan::segment_path(self.dir, ordinal);
            let text = format!("the checkpoint of the last batch: {error}");
            self.problem(
                ProblemKind::Checkpoint,
                found.tree.size().checked_sub(1),
                &path,
                Some(found.end),
                text,
            );
        }
    }

    /// Whether the journal extends a checkpoint.
    fn extends(&mut self, found: &Found, stated: &Checkpoint, path: &Path, which: &str, whole: bool) {
        let (have, says) = (found.tree.size(), stated.size);
        if found
            .origin
            .as_ref()
            .is_some_and(|origin| *origin != stated.origin)
        {
            let text = format!("{which} is of `{}`, another log", stated.origin);
            self.problem(ProblemKind::Checkpoint, None, path, Some(0), text);
            return;
        }
        match found.roots.get(&says) {
            Some(root) if *root == stated.root => {}
            Some(root) => {
                let text = format!(
                    "{which} was signed over {says} entries with root {}, but the first {says} have root {root}: \
                     the log was rewritten",
                    stated.root
                );
                self.problem(ProblemKind::Rewritten, None, path, None, text);
            }
            // A damaged journal ends early anyhow; the damage is the first thing to say.
            None if !whole => {}
            None => {
                let ordinal = found.segments.last().map_or(0, |last| last.ordinal);
                let segment = scan::segment_path(self.dir, ordinal);
                let text = format!(
                    "the log has {have} entries, {which} says {says}: entries {have} to {} are missing",
                    says - 1
                );
                self.problem(
                    ProblemKind::RolledBack,
                    Some(have),
                    &segment,
                    Some(found.end),
                    text,
                );
            }
        }
    }

    fn without_checkpoint(&mut self, found: &Found) {
        let path = self.dir.join("checkpoint");
        if self.in_use {
            self.unchecked
                .push("no checkpoint has been published yet".to_owned());
            return;
        }
        let text = format!(
            "there are {} entries, but no published checkpoint: it was removed, or the log was never closed",
            found.tree.size()
        );
        self.problem(ProblemKind::Checkpoint, None, &path, None, text);
    }

    /// Files that are none of the log's.
    fn strangers(&mut self) {
        const OURS: [&str; 8] = [
            "journal",
            "tile",
            "checkpoint",
            "vkey",
            "lock",
            "checkpoint.tmp",
            "vkey.tmp",
            "tile.tmp",
        ];
        let Ok(names) = fs::read_dir(self.dir) else {
            return;
        };
        for name in names.flatten() {
            let name = name.file_name().to_string_lossy().into_owned();
            if !OURS.contains(&name.as_str()) {
                self.unchecked
                    .push(format!("`{}` is none of the log's files", name.escape_debug()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Forgers who know the format: they make every checksum fit again. Those who only change bytes are in
    //! `tests/log/tamper.rs`.

    use clawstaff_types::{Actor, Event, EventKind};

    use super::*;
    use crate::{
        Draft, Log, Options, SigningKey, Stream,
        record::{self, Kind},
        tree::{self, CompactRange},
    };

    fn key() -> SigningKey {
        SigningKey::from_bytes("example.org/log", &[9; 32]).unwrap()
    }

    /// A closed log of three facts, each its own batch.
    fn written(root: &Path) -> PathBuf {
        let options = Options {
            dir: root.to_owned(),
            anchor: None,
            origin: "example.org/log".into(),
            key: key(),
            segment_bytes: 0,
        };
        let (log, _) = Log::open(options).unwrap();
        for _ in 0..3 {
            let event = Event::new(EventKind::ToolCall, Actor::System("gateway".into()));
            let draft = Draft {
                stream: Stream::System("gateway".into()),
                phase: Phase::Fact,
                call: Hash::of(b"call"),
                event,
            };
            log.append_blocking(draft).unwrap();
        }
        drop(log);
        scan::segment_path(root, 0)
    }

    /// Rewrites the journal record by record, with checksums that fit.
    fn rewrite(path: &Path, mut change: impl FnMut(Kind, u64, &[u8]) -> Vec<u8>) {
        let bytes = fs::read(path).unwrap();
        let (mut out, mut at) = (Vec::new(), 0);
        while let Ok((record, length)) = record::decode(&bytes[at..]) {
            let body = change(record.kind, record.index, record.body);
            let hash = tree::leaf_hash(&body);
            record::encode(&mut out, record.kind, record.index, record.batch, &body, &hash);
            at += length;
        }
        out.resize(bytes.len(), 0);
        fs::write(path, out).unwrap();
    }

    fn with_other_call(body: &[u8]) -> Vec<u8> {
        let (old, new) = (Hash::of(b"call").to_string(), Hash::of(b"forged").to_string());
        String::from_utf8(body.to_vec())
            .unwrap()
            .replace(&old, &new)
            .into_bytes()
    }

    fn first_problem(root: &Path) -> Problem {
        let report = verify_dir(root, Some(&key().verifying_key()), None);
        report
            .problems
            .first()
            .cloned()
            .expect("the forgery was not found")
    }

    #[test]
    fn a_changed_entry_with_a_fitting_checksum_does_not_fit_its_batch_s_root() {
        let root = tempfile::tempdir().unwrap();
        let path = written(root.path());
        rewrite(&path, |kind, index, body| match kind {
            Kind::Entry if index == 1 => with_other_call(body),
            _ => body.to_vec(),
        });
        let problem = first_problem(root.path());
        assert_eq!((problem.kind, problem.index), (ProblemKind::Damaged, Some(1)));
    }

    #[test]
    fn a_changed_entry_with_every_root_made_to_fit_lacks_the_signature() {
        let root = tempfile::tempdir().unwrap();
        let path = written(root.path());
        let mut tree = CompactRange::new();
        rewrite(&path, |kind, index, body| match kind {
            Kind::Opening => body.to_vec(),
            Kind::Entry => {
                let body = if index == 1 {
                    with_other_call(body)
                } else {
                    body.to_vec()
                };
                tree.push(tree::leaf_hash(&body));
                body
            }
            Kind::Checkpoint => {
                let note = str::from_utf8(body).unwrap();
                let mut stated = Checkpoint::parse(note).unwrap();
                let old = stated.to_note_body();
                stated.root = tree.root();
                note.replace(&old, &stated.to_note_body()).into_bytes()
            }
        });
        let report = verify_dir(root.path(), Some(&key().verifying_key()), None);
        let kinds: Vec<_> = report.problems.iter().map(|problem| problem.kind).collect();
        assert!(kinds.contains(&ProblemKind::Checkpoint), "{kinds:?}");
        assert!(kinds.contains(&ProblemKind::Rewritten), "{kinds:?}");
        assert!(kinds.contains(&ProblemKind::Tile), "{kinds:?}");
    }

    #[test]
    fn signing_everything_anew_with_another_key_is_found_by_whoever_knows_the_key() {
        let root = tempfile::tempdir().unwrap();
        let forger = SigningKey::from_bytes("example.org/log", &[66; 32]).unwrap();
        let options = Options {
            dir: root.path().to_owned(),
            anchor: None,
            origin: "example.org/log".into(),
            key: forger,
            segment_bytes: 0,
        };
        drop(Log::open(options).unwrap());
        let kinds = |key: Option<&VerifyingKey>| -> Vec<_> {
            let report = verify_dir(root.path(), key, None);
            report.problems.iter().map(|problem| problem.kind).collect()
        };
        assert_eq!(kinds(None), []);
        assert_eq!(
            kinds(Some(&key().verifying_key())),
            [ProblemKind::Key, ProblemKind::Checkpoint]
        );
    }

    #[test]
    fn entries_that_the_log_itself_signed_against_its_rules_are_found() {
        let root = tempfile::tempdir().unwrap();
        let path = written(root.path());
        rewrite(&path, |kind, index, body| match kind {
            Kind::Entry if index == 2 => String::from_utf8(body.to_vec())
                .unwrap()
                .replace("\"seq\":2", "\"seq\":3")
                .into_bytes(),
            _ => body.to_vec(),
        });
        let problem = first_problem(root.path());
        assert_eq!((problem.kind, problem.index), (ProblemKind::Damaged, Some(2)));
        assert!(problem.text.contains("number 2 is the next"), "{}", problem.text);
    }
}
