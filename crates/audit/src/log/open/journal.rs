//! Reads the journal for opening: from the snapshot if there is one that fits, else from its start.
//!
//! The snapshot is a short cut and nothing else. Whatever does not fit about it, the journal is read without it
//! and that verdict counts; so a snapshot can make opening faster, and never make it pass or fail.

use std::path::{Path, PathBuf};

use super::error::{OpenError, io_error};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    disk::Disk,
    heading::Headings,
    ledger::Ledger,
    note::VerifyingKey,
    record::{self, Kind},
    scan::{self, Extent, Found, Opening, Segment},
    state::{Role, State},
    tile::Frontier,
    tree::Hash,
};

/// What the journal must be, to be opened.
pub(super) struct Expected<'a> {
    pub(super) dir: &'a Path,
    pub(super) origin: &'a str,
    pub(super) key: &'a VerifyingKey,
    /// The checkpoints that it has signed, and where they are.
    pub(super) signed: &'a [(PathBuf, Checkpoint)],
}

/// What the journal is.
pub(super) struct Journal {
    /// What stands for the entries that were pruned.
    pub(super) base: State,
    pub(super) found: Found,
    pub(super) ledger: Ledger,
    /// Up to where tiles are known to be on disk.
    pub(super) tiles: Frontier,
}

impl Expected<'_> {
    /// Reads the journal. Changes nothing.
    pub(super) fn read(&self, disk: &dyn Disk) -> Result<Journal, OpenError> {
        let base = self.base(disk)?;
        if let Some((snapshot, before)) = self.snapshot(disk, &base) {
            match self.read_from(disk, &base, &snapshot) {
                Ok(mut journal) if !journal.found.segments.is_empty() => {
                    journal.found.segments.splice(0..0, before);
                    return Ok(journal);
                }
                Ok(_) => tracing::warn!("the audit log ends before its snapshot: reading all of it"),
                Err(error) => {
                    tracing::warn!(%error, "the audit log does not fit its snapshot: reading all of it");
                }
            }
        }
        self.read_from(disk, &base, &base)
    }

    /// What stands for the pruned entries. It is needed, so it must be in order.
    fn base(&self, disk: &dyn Disk) -> Result<State, OpenError> {
        let path = || self.dir.join(Role::Base.file());
        let found =
            State::read(disk, self.dir, Role::Base, Some(self.key)).map_err(|error| OpenError::Base {
                path: path(),
                why: error.to_string(),
            })?;
        match found {
            None => Ok(State::default()),
            Some((state, origin)) if origin == self.origin => Ok(state),
            Some((_, origin)) => Err(OpenError::Base {
                path: path(),
                why: format!("it is of the log `{origin}`"),
            }),
        }
    }

    /// The snapshot, with the segments before it, if it can be used.
    fn snapshot(&self, disk: &dyn Disk, base: &State) -> Option<(State, Vec<Segment>)> {
        let read = State::read(disk, self.dir, Role::Snapshot, Some(self.key));
        let (snapshot, origin) = read
            .inspect_err(|error| tracing::warn!(%error, "the audit log's snapshot cannot be used"))
            .ok()
            .flatten()?;
        let size = snapshot.tree.size();
        let extends = self
            .signed
            .iter()
            .all(|(_, stated)| stated.size >= size || snapshot.extends(stated.size, &stated.root));
        let fits = origin == self.origin && snapshot.segment > base.segment && extends;
        let before = fits
            .then(|| self.openings(disk, base, &snapshot).ok())
            .flatten()?;
        Some((snapshot, before))
    }

    /// The segments between two states, by their first records.
    fn openings(&self, disk: &dyn Disk, from: &State, to: &State) -> Result<Vec<Segment>, OpenError> {
        let mut segments: Vec<Segment> = Vec::new();
        for ordinal in from.segment..to.segment {
            let path = scan::segment_path(self.dir, ordinal);
            let damaged = |why: &str| OpenError::Damaged {
                index: from.tree.size(),
                path: path.clone(),
                offset: 0,
                why: why.to_owned(),
            };
            let mut start = Vec::new();
            disk.read_start(&path, 4096, &mut start)
                .map_err(io_error("reading", &path))?;
            let (record, _) = record::decode(&start).map_err(damaged)?;
            let opening: Opening =
                serde_json::from_slice(record.body).map_err(|error| damaged(&error.to_string()))?;
            let follows = segments.last().map_or(opening.first == from.tree.size(), |last| {
                opening.first > last.first
            });
            let fits = record.kind == Kind::Opening && opening.origin == self.origin;
            if !fits || opening.segment != ordinal || !follows || opening.first >= to.tree.size() {
                return Err(damaged("the segment's opening does not fit"));
            }
            segments.push(Segment {
                ordinal,
                first: opening.first,
                marks: Vec::new(),
            });
        }
        Ok(segments)
    }

    /// Reads from a state on, and holds the whole against what was signed.
    fn read_from(&self, disk: &dyn Disk, base: &State, from: &State) -> Result<Journal, OpenError> {
        let sizes: Vec<u64> = self.signed.iter().map(|(_, stated)| stated.size).collect();
        let mut ledger = from.ledger.clone();
        let mut headings = Headings::default();
        let extent = Extent {
            from: from.clone(),
            roots_at: &sizes,
            ..Extent::default()
        };
        let (found, read) = scan::scan(disk, self.dir, extent, &mut |seen| {
            let heading = headings
                .of_any_event(seen.leaf)
                .map_err(|error| error.to_string())?;
            ledger.check(&heading).map_err(|breach| breach.to_string())?;
            ledger.apply(
                seen.index,
                &heading.stream,
                heading.phase,
                heading.call,
                heading.time,
            );
            Ok(())
        });
        read?;
        self.check_identity(&found)?;
        self.check_not_rolled_back(&found, from)?;
        let tiles = if from.tiles.size() > base.tiles.size() {
            from.tiles.clone()
        } else {
            base.tiles.clone()
        };
        Ok(Journal {
            base: base.clone(),
            found,
            ledger,
            tiles,
        })
    }

    fn check_identity(&self, found: &Found) -> Result<(), OpenError> {
        if let Some(other) = found.origin.as_deref().filter(|found| *found != self.origin) {
            return Err(OpenError::OtherLog {
                dir: self.dir.to_owned(),
                found: other.to_owned(),
                wanted: self.origin.to_owned(),
            });
        }
        if let Some(note) = &found.note {
            Checkpoint::verify(note, self.key).map_err(|error| OpenError::WrongKey {
                dir: self.dir.to_owned(),
                why: error.to_string(),
            })?;
        }
        Ok(())
    }

    fn check_not_rolled_back(&self, found: &Found, from: &State) -> Result<(), OpenError> {
        for (path, stated) in self.signed {
            let path = path.clone();
            if stated.origin != self.origin {
                let source = CheckpointError::Form("it is of another log");
                return Err(OpenError::Checkpoint { path, source });
            }
            if stated.size < from.tree.size() {
                if from.extends(stated.size, &stated.root) {
                    continue;
                }
                let source = CheckpointError::Form("it is over entries that were pruned since");
                return Err(OpenError::Checkpoint { path, source });
            }
            let root: Option<&Hash> = found.roots.get(&stated.size);
            match root {
                None => {
                    return Err(OpenError::RolledBack {
                        have: found.tree.size(),
                        signed: stated.size,
                        path,
                    });
                }
                Some(root) if *root != stated.root => {
                    return Err(OpenError::Rewritten {
                        size: stated.size,
                        path,
                    });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
