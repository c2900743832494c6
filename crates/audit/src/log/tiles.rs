//! Writes tiles and entry bundles to the log's directory, for the publisher.
//!
//! Tiles over entries that were there when the log was opened may be on disk already, whole, torn or missing:
//! those are compared and mended. All others are ours, so they are written without looking.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{self, Disk},
    tile::{self, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, TileBuilder, TileKind},
};

/// A file of the log could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {path} failed: {source}")]
pub(super) struct WriteError {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

#[derive(Debug)]
pub(super) struct TileFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Tiles that begin before this entry may be there.
    opened: u64,
    /// The partial tiles written last: index and width.
    edge: HashMap<TileKind, (u64, u16)>,
    /// Partial tiles that have to go when the full one is there.
    partial: HashSet<(TileKind, u64)>,
    /// Directories of full tiles that are there.
    made: HashSet<PathBuf>,
    /// Whether the partial tiles that an earlier process left have been looked at.
    mended: bool,
}

impl TileFiles {
    /// For the log in `dir`, which had `opened` entries when it was opened.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, opened: u64) -> Self {
        Self {
            disk,
            dir,
            opened,
            edge: HashMap::new(),
            partial: HashSet::new(),
            made: HashSet::new(),
            mended: false,
        }
    }

    /// Forgets what it knows, after a failure.
    pub(super) fn distrust(&mut self, size: u64) {
        *self = Self::new(Arc::clone(&self.disk), std::mem::take(&mut self.dir), size);
    }

    /// Writes a full tile; its partial ones go.
    pub(super) fn full(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), WriteError> {
        let old = tile.first_entry() < self.opened;
        if !old || self.differs(tile, bytes) {
            self.write(tile, bytes)?;
        }
        if old || self.partial.remove(&(tile.kind, tile.index)) {
            self.remove_partial(tile)?;
        }
        Ok(())
    }

    /// Writes the partial tiles at the right edge.
    pub(super) fn edge(&mut self, tiles: &TileBuilder) -> Result<(), WriteError> {
        for (tile, bytes) in tiles.edge(&self.edge) {
            if tile.first_entry() >= self.opened || self.differs(tile, &bytes) {
                self.write(tile, &bytes)?;
            }
            if !self.mended {
                self.mend_narrower(tile, &bytes)?;
            }
            self.partial.insert((tile.kind, tile.index));
            self.edge.insert(tile.kind, (tile.index, tile.width));
        }
        self.mended = true;
        Ok(())
    }

    /// Mends the narrower tiles beside a partial one, which a power cut may have torn: each was published once.
    fn mend_narrower(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), WriteError> {
        let path = self.partial_dir(tile);
        let names = self
            .disk
            .list(&path)
            .map_err(|source| WriteError { path, source })?;
        for name in names {
            let found = format!("{}.p/{name}", tile.full_path()).parse::<Tile>();
            if let Some(narrower) = found.ok().filter(|found| found.width < tile.width) {
                let prefix = tile::prefix(tile.kind, bytes, narrower.width);
                if self.differs(narrower, prefix) {
                    self.write(narrower, prefix)?;
                }
            }
        }
        Ok(())
    }

    fn partial_dir(&self, tile: Tile) -> PathBuf {
        self.dir.join(format!("{}.p", tile.full_path()))
    }

    fn differs(&self, tile: Tile, bytes: &[u8]) -> bool {
        let path = self.dir.join(tile.to_string());
        let there = disk::read_if_present(&*self.disk, &path, MAX_BUNDLE_BYTES);
        there.ok().flatten().is_none_or(|there| there != bytes)
    }

    /// In one step, since somebody may be reading; not synced, since it can be made again.
    fn write(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), WriteError> {
        let path = self.dir.join(tile.to_string());
        let disk = Arc::clone(&self.disk);
        let failed = |source| WriteError {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent().filter(|parent| !self.made.contains(*parent)) {
            disk.create_dir_all(parent).map_err(failed)?;
            if tile.width == TILE_WIDTH {
                self.made.insert(parent.to_owned());
            }
        }
        let temporary = self.dir.join("tile.tmp");
        let file = disk.create(&temporary).map_err(failed)?;
        disk::write_all(&*file, bytes, 0).map_err(failed)?;
        drop(file);
        disk.rename(&temporary, &path).map_err(failed)
    }

    fn remove_partial(&self, tile: Tile) -> Result<(), WriteError> {
        let path = self.partial_dir(tile);
        match self.disk.remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(WriteError { path, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Puts `bytes` at `path` unless they are there. Durable, because opening is held against these files.
pub(super) fn write_if_other(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let there = disk::read_if_present(disk, path, bytes.len() as u64);
    if there.ok().flatten().is_some_and(|there| there == bytes) {
        return Ok(());
    }
    disk::replace(disk, path, bytes).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}
