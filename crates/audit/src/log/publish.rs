//! The publisher: derives tiles, the checkpoint file and the anchor from the journal, behind the receipts.
//!
//! It reads the journal like anybody else, from the first entry on, and writes what is not there yet or is not
//! as it should be; so a power cut that took tiles with it heals by itself after opening. It never delays or
//! fails an append. Its files are not synced, except for the checkpoint and the anchor, which are what a
//! later opening is held against.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{ReadError, Shared};
use crate::{
    disk::{self, Disk},
    tile::{self, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, TileBuilder},
};

/// The longest pause after a failure.
const MAX_PAUSE: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct WakeState {
    pending: bool,
    stop: bool,
    published: u64,
}

/// Where the committer leaves word that there is more to publish.
#[derive(Debug, Default)]
pub(super) struct Wake {
    state: Mutex<WakeState>,
    changed: Condvar,
}

impl Wake {
    fn state(&self) -> MutexGuard<'_, WakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There are more durable entries.
    pub(super) fn wake(&self) {
        self.state().pending = true;
        self.changed.notify_all();
    }

    /// Publish what there is, once, and end.
    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }

    /// The size last published.
    pub(super) fn published(&self) -> u64 {
        self.state().published
    }

    /// Waits until there is something to publish, but not before `not_before`. Whether to end afterwards.
    fn wait(&self, not_before: Instant) -> bool {
        let mut state = self.state();
        loop {
            let early = not_before.saturating_duration_since(Instant::now());
            if state.stop || (state.pending && early.is_zero()) {
                state.pending = false;
                return state.stop;
            }
            state = if state.pending {
                let waited = self.changed.wait_timeout(state, early);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

/// Why a publication failed. It is tried again.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("reading the journal failed")]
    Read(#[from] ReadError),
    #[error("writing {path} failed: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// The publisher's own state.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    anchor: Option<PathBuf>,
    every: Duration,
    tiles: TileBuilder,
    /// Whether the partial tiles that an earlier process left have been looked at.
    healed: bool,
}

impl Publisher {
    pub(super) fn new(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        anchor: Option<PathBuf>,
        every: Duration,
    ) -> Self {
        shared.publisher.wake();
        Self {
            shared,
            disk,
            dir,
            anchor,
            every,
            tiles: TileBuilder::default(),
            healed: false,
        }
    }

    /// The thread's life.
    pub(super) fn run(mut self) {
        let mut pause = self.every;
        let mut not_before = Instant::now();
        loop {
            let stop = self.shared.publisher.wait(not_before);
            match self.publish() {
                Ok(()) => pause = self.every,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "publishing the audit log failed"
                    );
                    // Half a step may have been taken: begin again from the first entry.
                    self.tiles = TileBuilder::default();
                    pause = (pause * 2).clamp(Duration::from_secs(1), MAX_PAUSE);
                    self.shared.publisher.wake();
                }
            }
            if stop {
                return;
            }
            not_before = Instant::now() + pause;
        }
    }

    /// Brings everything to the last signed checkpoint: the anchor first, since it guards the rest; the
    /// checkpoint file last, since readers expect the tiles that it speaks of.
    fn publish(&mut self) -> Result<(), PublishError> {
        let signed = self.shared.signed();
        let note = signed.note.as_bytes();
        if let Some(anchor) = &self.anchor {
            write_if_other(&*self.disk, anchor, note)?;
        }
        self.derive_tiles(signed.checkpoint.size)?;
        write_if_other(&*self.disk, &self.dir.join("checkpoint"), note)?;
        self.shared.publisher.state().published = signed.checkpoint.size;
        Ok(())
    }

    fn derive_tiles(&mut self, size: u64) -> Result<(), PublishError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        let tiles = &mut self.tiles;
        while tiles.size() < size {
            let mut written = Ok(());
            let before = tiles.size();
            self.shared.reader.read(before, size, &mut |_, leaf, hash| {
                if written.is_ok() {
                    written = tiles.push(leaf, hash, &mut |tile, bytes| write_tile(disk, dir, tile, bytes));
                }
            })?;
            written?;
            if tiles.size() == before {
                break;
            }
        }
        for (tile, bytes) in tiles.edge() {
            write_tile(disk, dir, tile, &bytes)?;
            if !self.healed {
                heal_partial_tiles(disk, dir, tile, &bytes)?;
            }
        }
        self.healed = true;
        Ok(())
    }
}

/// Mends the narrower tiles beside a partial one, which a power cut may have torn: each was published once.
fn heal_partial_tiles(disk: &dyn Disk, dir: &Path, tile: Tile, bytes: &[u8]) -> Result<(), PublishError> {
    let path = dir.join(format!("{}.p", tile.full_path()));
    let names = disk.list(&path).map_err(|source| PublishError::Write {
        path: path.clone(),
        source,
    })?;
    for name in names {
        let found = format!("{}.p/{name}", tile.full_path()).parse::<Tile>();
        if let Some(narrower) = found.ok().filter(|found| found.width < tile.width) {
            let prefix = tile::prefix(tile.kind, bytes, narrower.width);
            write_tile(disk, dir, narrower, prefix)?;
        }
    }
    Ok(())
}

/// Durable, because opening is held against it.
fn write_if_other(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    let failed = |source| PublishError::Write {
        path: path.to_owned(),
        source,
    };
    let there = disk::read_if_present(disk, path, bytes.len() as u64);
    if there.ok().flatten().is_some_and(|there| there == bytes) {
        return Ok(());
    }
    disk::replace(disk, path, bytes).map_err(failed)
}

/// Writes a tile that is not there yet, or not as it should be; the full one takes its partial ones with it.
fn write_tile(disk: &dyn Disk, dir: &Path, tile: Tile, bytes: &[u8]) -> Result<(), PublishError> {
    let path = dir.join(tile.to_string());
    let failed = |source| PublishError::Write {
        path: path.clone(),
        source,
    };
    let there = disk::read_if_present(disk, &path, MAX_BUNDLE_BYTES);
    if there.ok().flatten().is_none_or(|there| there != bytes) {
        if let Some(parent) = path.parent() {
            disk.create_dir_all(parent).map_err(failed)?;
        }
        let temporary = dir.join("tile.tmp");
        let file = disk.create(&temporary).map_err(failed)?;
        disk::write_all(&*file, bytes, 0).map_err(failed)?;
        drop(file);
        disk.rename(&temporary, &path).map_err(failed)?;
    }
    if tile.width == TILE_WIDTH {
        let partial = dir.join(format!("{}.p", tile.full_path()));
        match disk.remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
