//! The log as it was: its checkpoint at an earlier size, and where its entries of an earlier time end.
//!
//! Only what this process has signed, or can derive from the journal, is signed again: tiles are read, but nothing
//! they say is believed before it was held against a root that is known.

use jiff::Timestamp;

use super::{ReadError, Shared};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    entry::{Entry, EntryError},
    tile::{TileReadError, TileReader},
    tree::{self, CompactRange, Hash, Hashes as _},
};

/// Why there is no checkpoint of an earlier size, or no place of an earlier time.
#[derive(Debug, thiserror::Error)]
pub enum AtError {
    /// The log does not have so many entries.
    #[error("the log has {have} entries, not {asked}")]
    Beyond {
        /// How many it has.
        have: u64,
        /// How many were asked for.
        asked: u64,
    },
    /// The tiles that are needed are not published yet. They will be.
    #[error("the tiles of the first {asked} entries are not published yet")]
    Unpublished {
        /// How many entries were asked for.
        asked: u64,
    },
    /// A tile could not be read.
    #[error("reading a tile failed")]
    Tile(#[from] TileReadError),
    /// The tiles do not give the root that was signed.
    #[error("the tiles do not give the root that the log signed at {size} entries")]
    Tiles {
        /// At which size.
        size: u64,
    },
    /// An entry could not be read.
    #[error("reading an entry failed")]
    Read(#[from] ReadError),
    /// An entry is not one.
    #[error("reading an entry failed")]
    Entry(#[from] EntryError),
    /// The checkpoint could not be signed.
    #[error("signing a checkpoint failed")]
    Sign(#[from] CheckpointError),
}

/// The tree of the first `size` leaves out of tiles; what they say is not checked.
fn range_of(tiles: &TileReader, size: u64) -> Result<Option<CompactRange>, TileReadError> {
    let mut peaks = Vec::new();
    let mut first = 0;
    for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
        peaks.push(tiles.subtree(level, first >> level)?);
        first += 1 << level;
    }
    Ok(CompactRange::from_peaks(size, peaks))
}

impl Shared {
    /// A signed checkpoint of the first `size` entries.
    pub(super) fn checkpoint_at(&self, size: u64) -> Result<String, AtError> {
        let signed = self.signed();
        if size > signed.checkpoint.size {
            let have = signed.checkpoint.size;
            return Err(AtError::Beyond { have, asked: size });
        }
        if size == signed.checkpoint.size {
            return Ok(signed.note.clone());
        }
        let checkpoint = Checkpoint {
            origin: self.origin.to_string(),
            size,
            root: self.root_at(size)?,
        };
        Ok(checkpoint.sign(&self.key)?)
    }

    fn root_at(&self, size: u64) -> Result<Hash, AtError> {
        match self.publisher.last() {
            Some(published) if published.size >= size => self.root_in_tiles(size, &published),
            published => self.root_in_journal(size, published.as_ref()),
        }
    }

    /// The root, out of tiles that a checkpoint which this process has published covers.
    fn root_in_tiles(&self, size: u64, published: &Checkpoint) -> Result<Hash, AtError> {
        let tiles = TileReader::new(&self.dir, published.size);
        let root = tree::root_of(&tiles, size)?;
        let proof = tree::consistency_proof(&tiles, size, published.size)?.unwrap_or_default();
        let fits = tree::verify_consistency(size, published.size, &root, &published.root, &proof);
        if fits {
            Ok(root)
        } else {
            Err(AtError::Tiles { size: published.size })
        }
    }

    /// The root, from what was published or pruned on by the journal.
    fn root_in_journal(&self, size: u64, published: Option<&Checkpoint>) -> Result<Hash, AtError> {
        let mut range = self.begin().base.tree.clone();
        if let Some(published) = published.filter(|published| published.size > range.size()) {
            let tiles = TileReader::new(&self.dir, published.size);
            range = range_of(&tiles, published.size)?
                .filter(|range| range.root() == published.root)
                .ok_or(AtError::Tiles { size: published.size })?;
        }
        if range.size() > size {
            return Err(AtError::Unpublished { asked: size });
        }
        while range.size() < size {
            let before = range.size();
            self.reader
                .read(before, size, &mut |_, _, hash| range.push(hash))?;
            if range.size() == before {
                return Err(AtError::Beyond {
                    have: before,
                    asked: size,
                });
            }
        }
        Ok(range.root())
    }

    /// The first entry of the newest segment that begins no later than `time`: all before it are no younger.
    pub(super) fn first_since(&self, time: Timestamp) -> Result<u64, AtError> {
        let firsts = self.reader.firsts();
        let (mut older, mut end) = (0, firsts.len());
        while older < end {
            let middle = usize::midpoint(older, end);
            let Some(first) = firsts.get(middle) else { break };
            if self.time_of(*first)?.is_some_and(|found| found <= time) {
                older = middle + 1;
            } else {
                end = middle;
            }
        }
        let newest = older.checked_sub(1).and_then(|at| firsts.get(at));
        Ok(newest.or(firsts.first()).copied().unwrap_or_default())
    }

    fn time_of(&self, index: u64) -> Result<Option<Timestamp>, AtError> {
        let mut time = None;
        self.reader.read(index, index + 1, &mut |_, leaf, _| {
            time = Some(Entry::parse(leaf).map(|entry| entry.time));
        })?;
        Ok(time.transpose()?)
    }
}
