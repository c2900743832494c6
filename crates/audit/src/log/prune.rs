//! Retention: the oldest entries go, what proves the rest stays.
//!
//! ```text
//! check    read what is to go, once more, to its end; damaged: nothing is removed
//! sync     all tiles: they are about to be the only ones that speak of those entries
//! base     what stands for them, signed, in one durable step            ── pruned
//! remove   segments, oldest first; then entry bundles, oldest first
//! ```
//!
//! A crash before `base` leaves everything; after it, opening removes the rest. What C2SP tlog-tiles calls the
//! minimum index is the first entry of the journal.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use super::{
    Shared,
    begin::{BeginError, builder_at},
};
use crate::{
    disk::Disk,
    heading::Headings,
    scan::{self, Damage, Extent, ScanError},
    state::{Role, State},
    tile::{TILE_WIDTH, Tile, TileKind},
};

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The first entry that is left.
    pub first: u64,
    /// How many entries are gone, by this.
    pub entries: u64,
    /// How many segment files.
    pub segments: u64,
}

/// Why a log was not pruned, or not to the end. It can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A file operation failed. If it was the removing of files, opening the log removes the rest.
    #[error("{doing} {path} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was to go is not as it should be, and was kept.
    #[error("{path}, byte {offset}, entry {index} is damaged, so nothing was removed: {why}")]
    Damaged {
        /// The first entry concerned.
        index: u64,
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// In words.
        why: String,
    },
    /// What stands for the pruned entries could not be made or written; nothing was removed.
    #[error("{path} could not be written, so nothing was removed: {why}")]
    Base {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl From<ScanError> for PruneError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Io { path, source } => Self::Io {
                doing: "reading",
                path,
                source,
            },
            ScanError::Damage(Damage {
                index,
                path,
                offset,
                text,
            }) => Self::Damaged {
                index,
                path,
                offset,
                why: text,
            },
        }
    }
}

/// A file that could not be removed.
pub(super) struct Left {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

impl Shared {
    pub(super) fn prune(&self, before: u64) -> Result<Pruned, PruneError> {
        let base = self.begin().base.clone();
        // What has no outcome may have to be read again, and what is not published has no tiles yet.
        let limit = before
            .min(self.publisher.published())
            .min(self.oldest_open.load(Ordering::Acquire));
        let Some((segment, first)) = self.reader.segment_of(limit).filter(|(s, _)| *s > base.segment) else {
            let first = base.tree.size();
            return Ok(Pruned {
                first,
                entries: 0,
                segments: 0,
            });
        };
        let state = self.check(&base, segment)?;
        self.disk.sync_below(&self.dir).map_err(|source| PruneError::Io {
            doing: "syncing",
            path: self.dir.clone(),
            source,
        })?;
        state
            .write(&*self.disk, &self.dir, Role::Base, &self.origin, &self.key)
            .map_err(|error| self.no_base(error))?;

        // From here on they are gone, whatever happens.
        self.reader.forget_before(segment);
        {
            let mut begin = self.begin();
            begin.base = state.clone();
            if state.tiles.size() > begin.tiles.size() {
                begin.tiles = state.tiles.clone();
            }
        }
        remove(&*self.disk, &self.dir, &base, &state).map_err(|left| PruneError::Io {
            doing: "removing",
            path: left.path,
            source: left.source,
        })?;
        Ok(Pruned {
            first,
            entries: first - base.tree.size(),
            segments: segment - base.segment,
        })
    }

    fn no_base(&self, error: impl std::fmt::Display) -> PruneError {
        PruneError::Base {
            path: self.dir.join(Role::Base.file()),
            why: error.to_string(),
        }
    }

    /// Reads the segments before `until`; gives the state at their end.
    fn check(&self, base: &State, until: u64) -> Result<State, PruneError> {
        let mut builder = builder_at(&*self.disk, &self.dir, base, &base.tiles)
            .map_err(|error: BeginError| self.no_base(error))?;
        let mut ledger = base.ledger.clone();
        let mut headings = Headings::default();
        let extent = Extent {
            from: base.clone(),
            until: Some(until),
            ..Extent::default()
        };
        let (found, read) = scan::scan(&*self.disk, &self.dir, extent, &mut |seen| {
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
            let _ = builder.push_known(seen.leaf, seen.hash, seen.grown.rows(), &mut |_, _| {
                Ok::<_, ()>(())
            });
            Ok(())
        });
        read?;
        if let Some(torn) = found.torn {
            return Err(PruneError::Damaged {
                index: found.tree.size(),
                path: torn.path,
                offset: torn.failed_at,
                why: torn.text.to_owned(),
            });
        }
        Ok(State {
            segment: until,
            tree: found.tree,
            ledger,
            tiles: builder.frontier(),
            extends: Vec::new(),
        })
    }
}

fn bundle(index: u64) -> Tile {
    Tile {
        kind: TileKind::Entries,
        index,
        width: TILE_WIDTH,
    }
}

/// How many bundles end before the state's first entry.
fn bundles(state: &State) -> u64 {
    state.tree.size() / u64::from(TILE_WIDTH)
}

/// Removes a file; whether it was there.
fn remove_file(disk: &dyn Disk, path: PathBuf) -> Result<bool, Left> {
    match disk.remove(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Left { path, source }),
    }
}

/// Removes what lies between two bases, oldest first.
fn remove(disk: &dyn Disk, dir: &Path, from: &State, to: &State) -> Result<(), Left> {
    for ordinal in from.segment..to.segment {
        remove_file(disk, scan::segment_path(dir, ordinal))?;
    }
    for index in bundles(from)..bundles(to) {
        remove_file(disk, dir.join(bundle(index).to_string()))?;
    }
    Ok(())
}

/// Removes what an interrupted pruning has left: the newest of what was to go, since the oldest went first.
pub(super) fn finish(disk: &dyn Disk, dir: &Path, base: &State) -> Result<(), Left> {
    let journal = scan::journal_dir(dir);
    let there = disk.list(&journal).map_err(|source| Left {
        path: journal,
        source,
    })?;
    for ordinal in scan::ordinals_in(&there).filter(|ordinal| *ordinal < base.segment) {
        remove_file(disk, scan::segment_path(dir, ordinal))?;
    }
    for index in (0..bundles(base)).rev() {
        if !remove_file(disk, dir.join(bundle(index).to_string()))? {
            break;
        }
    }
    Ok(())
}
