//! What entries have cost since the log was opened: bytes on the disk and the committer's time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What the entries cost that this process has made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// How many they are.
    pub entries: u64,
    /// Bytes written to the journal for them, checkpoints and padding included.
    pub bytes: u64,
    /// How long their batches took from the queue to the receipts, the disk included.
    pub time: Duration,
}

/// The sums, written by the committer alone.
#[derive(Debug, Default)]
pub(super) struct Sums {
    entries: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
}

impl Sums {
    pub(super) fn add(&self, entries: u64, bytes: u64, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for (sum, more) in [
            (&self.entries, entries),
            (&self.bytes, bytes),
            (&self.nanos, nanos),
        ] {
            sum.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Cost {
        Cost {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            time: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}
