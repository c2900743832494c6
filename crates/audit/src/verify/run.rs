//! The verification itself, in the order in which a doubter would go.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::Path,
};

use super::{Held, Problem, ProblemKind, Report, tiles::TileCheck};
use crate::{
    checkpoint::Checkpoint,
    disk::{self, RealDisk},
    entry::{Entry, Phase},
    heading::Headings,
    ledger::Ledger,
    log::Unfinished,
    note::{MAX_NOTE_BYTES, VerifyingKey},
    scan::{self, Damage, Extent, Found, ScanError},
    state::{Role, State},
};

/// Whether a writer has the log open. Holds the lock for an instant; writers wait that long.
fn is_in_use(dir: &Path) -> bool {
    File::open(dir.join("lock"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

pub(super) struct Verification<'a> {
    dir: &'a Path,
    in_use: bool,
    problems: Vec<Problem>,
    unchecked: Vec<String>,
}

/// What the rules remember of the entries so far.
#[derive(Default)]
struct Rules {
    ledger: Ledger,
    headings: Headings,
    /// The leaves of intents without an outcome.
    open: BTreeMap<u64, Vec<u8>>,
    /// What the ledger should be before the entry of this index.
    expected: Option<(u64, Ledger)>,
    /// Whether it was.
    fits: Option<bool>,
}

impl Rules {
    fn take(&mut self, index: u64, leaf: &[u8]) -> Result<(), String> {
        if let Some((_, expected)) = self.expected.take_if(|(at, _)| *at == index) {
            self.fits = Some(expected == self.ledger);
        }
        let heading = self.headings.of_entry(leaf).map_err(|error| error.to_string())?;
        self.ledger.check(&heading).map_err(|breach| breach.to_string())?;
        self.ledger
            .apply(index, &heading.stream, heading.phase, heading.call, heading.time);
        match heading.phase {
            Phase::Intent => drop(self.open.insert(index, leaf.to_vec())),
            Phase::Outcome { of } => drop(self.open.remove(&of)),
            Phase::Fact => {}
        }
        Ok(())
    }

    fn unfinished(self) -> Vec<Unfinished> {
        let open = self.open.into_iter();
        open.filter_map(|(index, leaf)| {
            let entry = Entry::parse(&leaf).ok()?;
            Some(Unfinished {
                index,
                stream: entry.stream,
                call: entry.call,
                event: entry.event,
            })
        })
        .collect()
    }
}

impl<'a> Verification<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            in_use: is_in_use(dir),
            problems: Vec::new(),
            unchecked: Vec::new(),
        }
    }

    pub(super) fn run(mut self, vkey: Option<&VerifyingKey>, held: &[Held]) -> Report {
        let key = self.key(vkey);
        // What is published before the journal: if the log is in use, the journal is the longer one.
        let base = self.state(Role::Base, key.as_ref()).unwrap_or_default();
        let snapshot = self.state(Role::Snapshot, key.as_ref());
        let published = self.published(key.as_ref());
        let first = base.tree.size();
        let stated = published.iter().chain(held.iter().map(|held| &held.checkpoint));
        let stated = stated.map(|checkpoint| checkpoint.size);
        let sizes: Vec<u64> = stated.chain(snapshot.iter().map(|s| s.tree.size())).collect();
        let mut tiles = TileCheck::new(self.dir, published.as_ref().map_or(0, |c| c.size), self.in_use);
        if first > 0 {
            self.pruned(first);
            tiles.begin(&base);
        }
        let mut rules = Rules {
            ledger: base.ledger.clone(),
            expected: snapshot.as_ref().map(|s| (s.tree.size(), s.ledger.clone())),
            ..Rules::default()
        };
        let extent = Extent {
            from: base.clone(),
            roots_at: &sizes,
            in_use: self.in_use,
            ..Extent::default()
        };
        let (mut found, read) = scan::scan(&RealDisk, self.dir, extent, &mut |seen| {
            rules.take(seen.index, seen.leaf)?;
            tiles.take(&seen);
            Ok(())
        });
        for size in sizes.iter().filter(|size| **size < first) {
            // Of the pruned entries the tiles are left, which were just held against the log's tree.
            found.roots.extend(tiles.root_of(*size).map(|root| (*size, root)));
        }
        let whole = self.journal(&found, read);
        self.journal_signature(&found, key.as_ref());
        if let Some(published) = &published {
            let path = self.dir.join("checkpoint");
            self.extends(&found, published, &path, "the published checkpoint", whole);
        } else if found.tree.size() > 0 && !self.dir.join("checkpoint").exists() {
            self.without_checkpoint(&found);
        }
        let path = self.dir.join("journal");
        let extends = held
            .iter()
            .map(|held| self.extends(&found, &held.checkpoint, &path, &held.name, whole))
            .collect();
        if let Some(snapshot) = snapshot.filter(|_| whole) {
            self.snapshot(&found, &snapshot, rules.fits);
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
            first,
            size: found.tree.size(),
            root: found.tree.root(),
            checkpoint: published,
            problems: self.problems,
            unchecked: self.unchecked,
            unfinished: rules.unfinished(),
            extends,
        }
    }

    /// What the log has written down of itself in this role.
    fn state(&mut self, role: Role, key: Option<&VerifyingKey>) -> Option<State> {
        match State::read(&RealDisk, self.dir, role, key) {
            Ok(found) => found.map(|(state, _)| state),
            Err(error) => {
                let path = self.dir.join(role.file());
                self.problem(ProblemKind::State, None, &path, None, error.to_string());
                None
            }
        }
    }

    fn pruned(&mut self, first: u64) {
        self.unchecked.push(format!(
            "entries 0 to {} were pruned by the log: what they said, the order within their streams and their \
             pairs of intent and outcome could not be checked. Their hashes are still in the tiles and were; what \
             the log remembers of them is signed by it",
            first - 1
        ));
    }

    /// The snapshot that opening may begin with must be what the entries before it give.
    fn snapshot(&mut self, found: &Found, snapshot: &State, ledger_fits: Option<bool>) {
        let size = snapshot.tree.size();
        let begins = found
            .segments
            .iter()
            .any(|segment| segment.ordinal == snapshot.segment && segment.first == size);
        // One that was made while this ran may be of entries that were not read.
        let too_new = self.in_use && size > found.tree.size();
        let same_tree = found.roots.get(&size) == Some(&snapshot.tree.root());
        // One from before the log was pruned is never used again.
        let old = found
            .segments
            .first()
            .is_some_and(|segment| size <= segment.first);
        let fits = begins && same_tree && ledger_fits == Some(true);
        if !(too_new || old || fits) {
            let path = self.dir.join(Role::Snapshot.file());
            let text = "what it says of the entries before it is not what they give";
            self.problem(ProblemKind::State, Some(size), &path, None, text);
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
    fn extends(&mut self, found: &Found, stated: &Checkpoint, path: &Path, which: &str, whole: bool) -> bool {
        let (have, says) = (found.tree.size(), stated.size);
        if found
            .origin
            .as_ref()
            .is_some_and(|origin| *origin != stated.origin)
        {
            let text = format!("{which} is of `{}`, another log", stated.origin);
            self.problem(ProblemKind::Checkpoint, None, path, Some(0), text);
            return false;
        }
        match found.roots.get(&says) {
            Some(root) if *root == stated.root => return true,
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
        false
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
        const OURS: [&str; 12] = [
            "journal",
            "tile",
            "checkpoint",
            "vkey",
            "lock",
            "snapshot",
            "pruned",
            "checkpoint.tmp",
            "vkey.tmp",
            "tile.tmp",
            "snapshot.tmp",
            "pruned.tmp",
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
