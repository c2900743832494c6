//! The durable end of the log: a segment file that was filled with zeroes in advance, and the next one.
//!
//! Writing into blocks that exist already needs no change of the file system's own tables, so `fdatasync` costs
//! half of what it does on a growing file, and its slow tail (the file system's journal) is gone. The price is a
//! second thread, the *maker*, that makes the next segment while the current one fills.
//!
//! One rule has no exception: after one failed write or sync of a segment nothing is written any more. The
//! kernel may have dropped the pages that it could not write, so a retry that succeeds proves nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    disk::{self, Disk, DiskFile},
    scan,
};

/// How often a full disk is tried again while appends are being refused.
const RETRY_SPACE_EVERY: Duration = Duration::from_millis(100);

const PAGE_BYTES: u64 = 4096;

/// Proof that bytes are on stable storage. Made only after a successful sync.
#[derive(Debug)]
pub(crate) struct Durable(());

/// A segment ready to be written into.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) ordinal: u64,
    pub(crate) bytes: u64,
    pub(crate) file: Box<dyn DiskFile>,
}

/// Whether an error says that there is no room, rather than that the disk is broken.
fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Makes a segment: zeroes, made durable under another name, then given its own.
///
/// A crash before the rename leaves a file that opening removes; after it, a whole segment of zeroes.
pub(crate) fn make(disk: &dyn Disk, dir: &Path, ordinal: u64, bytes: u64) -> io::Result<Blank> {
    let temporary = scan::journal_dir(dir).join("next.tmp");
    let made = fill(disk, &temporary, bytes);
    if made.is_err() {
        // Give the space back; if that fails as well, opening does it.
        let _ = disk.remove(&temporary);
    }
    made?;
    let path = scan::segment_path(dir, ordinal);
    disk.rename(&temporary, &path)?;
    disk.sync_dir(&scan::journal_dir(dir))?;
    let file = disk.open(&path)?;
    Ok(Blank { ordinal, bytes, file })
}

fn fill(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<()> {
    let file = disk.create(path)?;
    file.allocate(bytes)?;
    file.fill(bytes)?;
    file.sync_data()
}

/// The place of the one segment made in advance.
#[derive(Debug)]
enum Slot {
    /// Wanted: the maker is at it, or about to be.
    Wanted { ordinal: u64 },
    /// Here it is.
    Ready(Blank),
    /// There was no room for it.
    NoSpace { ordinal: u64, since: Instant },
    /// Making it failed otherwise.
    Failed { why: String },
    /// Nobody wants one any more.
    Closed,
}

/// Why there is no next segment.
#[derive(Debug)]
pub(crate) enum NoSegment {
    /// The disk is full: later, perhaps.
    NoSpace,
    /// It failed: the log stops.
    Failed(String),
}

/// Where the maker puts the next segment and the committer takes it.
#[derive(Debug)]
pub(crate) struct Shelf {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Shelf {
    /// Starts the maker. `ready` is a segment that is there already, `ordinal` the next one otherwise.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        bytes: u64,
        ready: Option<Blank>,
        ordinal: u64,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let slot = ready.map_or(Slot::Wanted { ordinal }, Slot::Ready);
        let shelf = Arc::new(Self {
            slot: Mutex::new(slot),
            changed: Condvar::new(),
        });
        let maker = Arc::clone(&shelf);
        let thread = thread::Builder::new()
            .name("audit-segments".to_owned())
            .spawn(move || maker.keep_filled(&*disk, &dir, bytes))?;
        Ok((shelf, thread))
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, slot: MutexGuard<'a, Slot>) -> MutexGuard<'a, Slot> {
        self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner)
    }

    /// The maker's life.
    fn keep_filled(&self, disk: &dyn Disk, dir: &Path, bytes: u64) {
        let mut slot = self.slot();
        loop {
            match &*slot {
                Slot::Closed => return,
                Slot::Ready(_) | Slot::NoSpace { .. } | Slot::Failed { .. } => slot = self.wait(slot),
                Slot::Wanted { ordinal } => {
                    let ordinal = *ordinal;
                    drop(slot);
                    let made = make(disk, dir, ordinal, bytes);
                    slot = self.slot();
                    if !matches!(*slot, Slot::Closed) {
                        *slot = match made {
                            Ok(blank) => Slot::Ready(blank),
                            Err(error) if is_no_space(&error) => {
                                tracing::warn!(%error, "no space for the next segment of the audit log");
                                Slot::NoSpace {
                                    ordinal,
                                    since: Instant::now(),
                                }
                            }
                            Err(error) => Slot::Failed {
                                why: format!("making segment {ordinal} failed: {error}"),
                            },
                        };
                    }
                    self.changed.notify_all();
                }
            }
        }
    }

    /// Whether the disk was full when the next segment was to be made, and still is.
    ///
    /// Tries again now and then, and waits for that try.
    pub(crate) fn is_without_space(&self) -> bool {
        let mut slot = self.slot();
        if let Slot::NoSpace { ordinal, since } = *slot {
            if since.elapsed() < RETRY_SPACE_EVERY {
                return true;
            }
            *slot = Slot::Wanted { ordinal };
            self.changed.notify_all();
            while matches!(*slot, Slot::Wanted { .. }) {
                slot = self.wait(slot);
            }
        }
        matches!(*slot, Slot::NoSpace { .. })
    }

    /// The next segment, waiting for it if it is being made.
    pub(crate) fn take(&self) -> Result<Blank, NoSegment> {
        if self.is_without_space() {
            return Err(NoSegment::NoSpace);
        }
        let mut slot = self.slot();
        while matches!(*slot, Slot::Wanted { .. }) {
            slot = self.wait(slot);
        }
        match &*slot {
            Slot::NoSpace { .. } => return Err(NoSegment::NoSpace),
            Slot::Failed { why } => return Err(NoSegment::Failed(why.clone())),
            Slot::Closed | Slot::Wanted { .. } => {
                return Err(NoSegment::Failed("the log is closing".to_owned()));
            }
            Slot::Ready(_) => {}
        }
        let taken = std::mem::replace(&mut *slot, Slot::Closed);
        let Slot::Ready(blank) = taken else {
            return Err(NoSegment::Failed("the log is closing".to_owned()));
        };
        *slot = Slot::Wanted {
            ordinal: blank.ordinal + 1,
        };
        self.changed.notify_all();
        Ok(blank)
    }

    /// Ends the maker.
    pub(crate) fn close(&self) {
        *self.slot() = Slot::Closed;
        self.changed.notify_all();
    }
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Active {
    blank: Blank,
    end: u64,
}

impl Active {
    /// Goes on in a segment, from `end`.
    pub(crate) const fn new(blank: Blank, end: u64) -> Self {
        Self { blank, end }
    }

    pub(crate) const fn ordinal(&self) -> u64 {
        self.blank.ordinal
    }

    /// Where the next batch goes; 0 while the segment is blank.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.blank.bytes
    }

    /// Bytes that still fit.
    pub(crate) const fn room(&self) -> u64 {
        self.blank.bytes.saturating_sub(self.end)
    }

    /// Writes and waits until it is on stable storage. After an error this must not be called again.
    ///
    /// Zeroes are added up to a page's end, over the zeroes that are there: the kernel need not read a page that is
    /// written whole.
    pub(crate) fn write_durably(&mut self, bytes: &mut Vec<u8>) -> io::Result<Durable> {
        let end = self.end + bytes.len() as u64;
        let page_end = end.next_multiple_of(PAGE_BYTES).min(self.blank.bytes);
        let padded = usize::try_from(page_end - self.end).unwrap_or(bytes.len());
        bytes.resize(padded, 0);
        disk::write_all(&*self.blank.file, bytes, self.end)?;
        self.blank.file.sync_data()?;
        self.end = end;
        Ok(Durable(()))
    }
}
