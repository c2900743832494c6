//! The publisher: derives tiles, the checkpoint file and the anchor from the journal, behind the receipts.
//!
//! It reads the journal like anybody else, from where tiles were last known to be safe, and writes what is not
//! there yet or is not as it should be; so a power cut that took tiles with it heals by itself after opening. It
//! never delays or fails an append. Its files are not synced one by one, except for the checkpoint and the
//! anchor, which are what a later opening is held against.
//!
//! Now and then, when a segment has begun, it leaves a snapshot, so that the next opening need not read what came
//! before; and, less often, since that takes the disk from those who wait for it, it syncs all tiles at once, so that
//! they need not be looked at again either.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ReadError, Shared,
    begin::BeginError,
    tiles::{TileFiles, WriteError, write_if_other},
};
use crate::{
    checkpoint::Checkpoint,
    state::{Role, State},
    tile::TileBuilder,
};

/// The longest pause after a failure.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Lower than ordinary work: nobody waits for tiles.
const NICE: i32 = 5;
/// Whoever waits for entries hears of them so many times between two publications,
const ANNOUNCEMENTS: u32 = 10;
/// but no sooner after the last time.
const QUIET: Duration = Duration::from_millis(10);
/// A snapshot is left at most once in so many times of the shortest time between publications.
const SNAPSHOT_EVERY: u32 = 1;
/// With more entries to publish than this, or so long after one was due, a snapshot is left without waiting for the
/// tiles before it: the newest segment may always be one ahead of them.
const FAR_BEHIND: u64 = 200_000;
const OVERDUE: Duration = Duration::from_secs(3);
/// Tiles are synced at most once in so many.
const SYNC_EVERY: u32 = 10;

/// Why a publication failed. It is tried again.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("reading the journal failed")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the tiles that are there do not fit the log: {0}")]
    Begin(#[from] BeginError),
}

/// The publisher's own state.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    anchor: Option<PathBuf>,
    every: Duration,
    tiles: Option<TileBuilder>,
    files: TileFiles,
    /// The checkpoint that is in the checkpoint file, if it is ours.
    last: Option<Checkpoint>,
    snapshot_at: Instant,
    sync_at: Instant,
    /// What a snapshot was left of before its tiles were there; it is left again with them.
    early: Option<State>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, anchor: Option<PathBuf>, every: Duration) -> Self {
        shared.publisher.wake(None);
        Self {
            files: TileFiles::new(Arc::clone(&shared.disk), shared.dir.clone(), shared.size()),
            shared,
            anchor,
            every,
            tiles: None,
            last: None,
            snapshot_at: Instant::now(),
            sync_at: Instant::now(),
            early: None,
        }
    }

    /// The thread's life.
    pub(super) fn run(mut self) {
        // Always allowed.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut pause = self.every;
        let mut publish_at = Instant::now();
        let mut not_before = publish_at;
        loop {
            let stop = self.shared.publisher.wait(not_before);
            self.shared.announce();
            if stop || publish_at <= Instant::now() {
                pause = self.attempt(pause);
                publish_at = Instant::now() + pause;
            } else {
                self.shared.publisher.wake(None);
            }
            if stop {
                return;
            }
            // Whoever waits for entries hears of them even while publishing fails.
            not_before = publish_at.min(Instant::now() + (self.every / ANNOUNCEMENTS).max(QUIET));
        }
    }

    /// Publishes; gives the pause before the next time.
    fn attempt(&mut self, pause: Duration) -> Duration {
        let Err(error) = self.publish() else {
            return self.every;
        };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "publishing the audit log failed"
        );
        // Half a step may have been taken: begin again from what is safe.
        self.tiles = None;
        self.files.distrust(self.shared.size());
        self.shared.publisher.wake(None);
        (pause * 2).clamp(Duration::from_secs(1), MAX_PAUSE)
    }

    /// Brings everything to the last signed checkpoint: the anchor first, since it guards the rest; the
    /// checkpoint file last, since readers expect the tiles that it speaks of.
    fn publish(&mut self) -> Result<(), PublishError> {
        let signed = self.shared.signed();
        let note = signed.note.as_bytes();
        if let Some(anchor) = &self.anchor {
            write_if_other(&*self.shared.disk, anchor, note)?;
        }
        self.derive_tiles(&signed.checkpoint)?;
        write_if_other(&*self.shared.disk, &self.shared.dir.join("checkpoint"), note)?;
        self.shared.publisher.set_published(signed.checkpoint.clone());
        self.last = Some(signed.checkpoint.clone());
        Ok(())
    }

    fn derive_tiles(&mut self, to: &Checkpoint) -> Result<(), PublishError> {
        let mut tiles = match self.tiles.take() {
            Some(tiles) => tiles,
            None => self.shared.begin_tiles()?,
        };
        loop {
            self.leave_snapshot(&tiles, to);
            if tiles.size() >= to.size {
                break;
            }
            let mut written = Ok(());
            let (before, files) = (tiles.size(), &mut self.files);
            self.shared.reader.read(before, to.size, &mut |_, leaf, hash| {
                if written.is_ok() {
                    written = tiles.push(leaf, hash, &mut |tile, bytes| files.full(tile, bytes));
                }
            })?;
            written?;
            if tiles.size() == before {
                break;
            }
            self.shared.announce();
        }
        self.leave_snapshot(&tiles, to);
        self.files.edge(&tiles)?;
        self.tiles = Some(tiles);
        Ok(())
    }

    /// Leaves a snapshot if a segment has begun and the last one is a while ago. It is a short cut, so failing
    /// to leave one is no failure.
    fn leave_snapshot(&mut self, tiles: &TileBuilder, next: &Checkpoint) {
        if self.snapshot_at > Instant::now() {
            return;
        }
        // With its tiles, so that they need not be looked at again either; but not long after it.
        let far_behind = self.shared.size().saturating_sub(tiles.size()) > FAR_BEHIND;
        let overdue = self.snapshot_at.elapsed() > OVERDUE && self.shared.size() > tiles.size();
        let upto = if far_behind || overdue {
            u64::MAX
        } else {
            tiles.size()
        };
        let newest = self.shared.publisher.take_sealed(upto);
        let early = self
            .early
            .take_if(|state| newest.is_some() || state.tree.size() <= tiles.size());
        let Some(mut state) = newest.or(early) else {
            return;
        };
        if state.tree.size() > tiles.size() {
            self.early = Some(state.clone());
        }
        let Shared {
            disk,
            dir,
            origin,
            key,
            ..
        } = &*self.shared;
        let earlier = [self.last.as_ref(), Some(next)].into_iter().flatten();
        state.extends = earlier
            .filter(|stated| stated.size < state.tree.size())
            .map(|stated| (stated.size, stated.root))
            .collect();
        if self.sync_at <= Instant::now() {
            match disk.sync_below(dir) {
                Ok(()) => self.shared.tiles_are_safe(tiles.frontier()),
                Err(error) => tracing::warn!(%error, "syncing the tiles of the audit log failed"),
            }
            self.sync_at = Instant::now() + self.every * SYNC_EVERY;
        }
        state.tiles = self.shared.begin().tiles.clone();
        if let Err(error) = state.write(&**disk, dir, Role::Snapshot, origin, key) {
            tracing::warn!(%error, "leaving a snapshot of the audit log failed");
        }
        self.snapshot_at = Instant::now() + self.every * SNAPSHOT_EVERY;
    }
}
