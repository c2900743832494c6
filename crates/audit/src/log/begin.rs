//! From where the log can be derived again: the base of the journal, and the tiles that are safe on disk.

use std::{io, path::Path};

use super::Shared;
use crate::{
    disk::Disk,
    state::State,
    tile::{self, Frontier, TILE_WIDTH, TileBuilder, TileKind},
    tree,
};

/// From where the log can be derived again.
#[derive(Debug)]
pub(super) struct Begin {
    /// Where the journal begins, and what stands for what was before.
    pub(super) base: State,
    /// Up to where tiles are safe on disk; not before the base's.
    pub(super) tiles: Frontier,
}

/// Why tiles cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("the saved hashes are not those of a tree")]
    Frontier,
    #[error("the bundle at the log's beginning cannot be read: {0}")]
    Bundle(#[from] io::Error),
    #[error("the bundle at the log's beginning is not what the log's tree says")]
    Other,
}

impl Shared {
    /// Tiles up to there survive a power cut.
    pub(super) fn tiles_are_safe(&self, frontier: Frontier) {
        let mut begin = self.begin();
        if frontier.size() > begin.tiles.size() {
            begin.tiles = frontier;
        }
    }

    /// A builder that stands where tiles are safe.
    pub(super) fn begin_tiles(&self) -> Result<TileBuilder, BeginError> {
        let (base, tiles) = {
            let begin = self.begin();
            (begin.base.clone(), begin.tiles.clone())
        };
        builder_at(&*self.disk, &self.dir, &base, &tiles)
    }
}

/// A builder that stands at `frontier`, or where the journal begins if that is later: the leaves in between are
/// no longer in the journal, but in the one bundle that reaches over its beginning.
pub(super) fn builder_at(
    disk: &dyn Disk,
    dir: &Path,
    base: &State,
    frontier: &Frontier,
) -> Result<TileBuilder, BeginError> {
    let mut builder = TileBuilder::restore(frontier).ok_or(BeginError::Frontier)?;
    let missing = base.tree.size().saturating_sub(builder.size());
    if missing == 0 {
        return Ok(builder);
    }
    let index = builder.size() / u64::from(TILE_WIDTH);
    let bundle = tile::widest(disk, dir, TileKind::Entries, index)?;
    let (_, bytes) = bundle.unwrap_or_default();
    let missing = usize::try_from(missing).unwrap_or(usize::MAX);
    for leaf in tile::entries(&bytes)
        .unwrap_or_default()
        .into_iter()
        .take(missing)
    {
        // Fewer than a tile: none becomes full.
        let _ = builder.push(leaf, tree::leaf_hash(leaf), &mut |_, _| Ok::<_, ()>(()));
    }
    if builder.tree().as_ref() == Some(&base.tree) {
        Ok(builder)
    } else {
        Err(BeginError::Other)
    }
}
