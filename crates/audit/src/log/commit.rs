//! The committer: the one thread that gives entries their places and makes them durable.
//!
//! Group commit without a timer: a batch is whatever came while the last sync was in flight. The order of
//! effects in [`Committer::commit`] is the safety of the whole product, so it stands there in one piece.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

use jiff::Timestamp;

use super::{
    AppendError, Pending, Receipt, Shared, Signed,
    clock::{Clock, Time},
    priority,
    queue::{CloseOnDrop, Queue},
};
use crate::{
    checkpoint::Checkpoint,
    entry::{self, LEAF_OVERHEAD, MAX_LEAF_BYTES, Phase},
    ledger::Ledger,
    note::SigningKey,
    record::{self, HEADER_BYTES, Kind},
    scan::Opening,
    segment::{Active, Blank, NoSegment, Shelf},
    state::State,
    tree::{CompactRange, Hash},
};

/// Most bytes in a batch, where the segment is not shorter still.
const MAX_BATCH_BYTES: u64 = 4 << 20;
/// Room for the opening of a segment and the checkpoint of a batch.
pub(super) const FRAME_BYTES: u64 = 4096;
/// An entry that has its place, but is not durable.
struct Placed {
    index: u64,
    hash: Hash,
    pending: Pending,
}

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) active: Active,
    pub(super) tree: CompactRange,
    pub(super) ledger: Ledger,
    pub(super) key: Arc<SigningKey>,
    pub(super) clock: Clock,
    /// Taken from the queue, but not yet in a batch.
    pub(super) backlog: VecDeque<Pending>,
    /// The bytes of the batch being made.
    pub(super) buffer: Vec<u8>,
    /// The state when the current segment began, until the publisher has it.
    pub(super) sealed: Option<State>,
}

impl Committer {
    /// The thread's life: ends when every handle is gone and the queue is empty.
    pub(super) fn run(mut self, queue: &Queue) {
        let _closed = CloseOnDrop(queue);
        let _ = self.shared.priority.set(priority::raise());
        while queue.next(&mut self.backlog) {
            let (batch, bytes) = self.gather();
            match self.shared.stopped.get() {
                None => self.commit(batch, bytes),
                Some(why) => refuse(batch, &AppendError::Stopped { why: why.clone() }),
            }
        }
    }

    /// The batch: what has come and fits, at least one entry, with an upper bound of its bytes.
    fn gather(&mut self) -> (Vec<Pending>, u64) {
        let limit = MAX_BATCH_BYTES.min(self.active.bytes() - FRAME_BYTES);
        let mut bytes = 0;
        let fits = self.backlog.iter().take_while(|pending| {
            bytes += bound(pending);
            bytes <= limit
        });
        let count = fits.count().max(1);
        let batch: Vec<Pending> = self.backlog.drain(..count.min(self.backlog.len())).collect();
        let bytes = batch.iter().map(bound).sum();
        (batch, bytes)
    }

    /// Takes one batch from the queue to its receipts.
    fn commit(&mut self, mut batch: Vec<Pending>, bytes: u64) {
        let began = Instant::now();
        // 1. Room, and a time. While the disk is too full for the next segment, what is left of this one is kept for
        //    the outcomes of acts that are already under way; while the clock is in doubt, nothing else begins either.
        //    Nothing has been decided: a crash loses only the queue, and nobody in it was told anything.
        if self.shelf.is_without_space() {
            batch = refuse_all_but_outcomes(batch, &AppendError::NoSpace);
        }
        let time = match self.clock.read() {
            Time::Good(time) => time,
            Time::InDoubt { expected, jumped } => {
                let seconds = jumped.as_secs();
                batch = refuse_all_but_outcomes(batch, &AppendError::ClockJumped { seconds });
                expected
            }
        };
        if batch.is_empty() {
            return;
        }
        if self.active.room() < bytes + FRAME_BYTES {
            // The rest of the segment stays zero. Crash after this: the next segment is blank, as it was made.
            match self.shelf.take() {
                Ok(blank) => self.begin_segment(blank),
                Err(NoSegment::NoSpace) => return refuse(batch, &AppendError::NoSpace),
                Err(NoSegment::Failed(why)) => return self.stop(batch, why),
            }
        }

        // 2. Places: index, time, sequence number, hash. Entries that break a rule are refused and leave no trace.
        //    From here on the tree in memory is ahead of the disk; if the write fails it is never used again.
        let (first, start) = (self.tree.size(), self.active.end());
        self.buffer.clear();
        if start == 0 {
            self.open_segment(first);
        }
        let offset = start + self.buffer.len() as u64;
        let time = self.not_before_the_last(time);
        let written = time.to_string();
        let mut placed = Vec::with_capacity(batch.len());
        for pending in batch {
            match self.place(&pending, first, &written) {
                Ok((index, hash)) => {
                    self.ledger
                        .apply(index, &pending.stream, pending.phase, pending.call, time);
                    placed.push(Placed { index, hash, pending });
                }
                Err(error) => pending.answer(Err(error)),
            }
        }
        if placed.is_empty() {
            return;
        }

        // 3. The checkpoint that closes the batch. It is signed before its entries are durable, but nobody sees
        //    it before step 5. Crash up to here: nothing is on disk.
        let signed = match self.sign() {
            Ok(signed) => signed,
            Err(why) => return self.stop(placed.into_iter().map(|p| p.pending), why),
        };
        let size = self.tree.size();
        record::encode(
            &mut self.buffer,
            Kind::Checkpoint,
            size,
            first,
            signed.note.as_bytes(),
        );

        // 4. One write, one sync. Crash during it: part of the batch may be there, without its closing record or
        //    with a hole; opening cuts it off, and nobody was told that it is there. Failure: the same, and we
        //    stop for good, since a sync that fails may have dropped what it did not write.
        let durable = match self.active.write_durably(&mut self.buffer) {
            Ok(durable) => durable,
            Err(error) => {
                let why = format!("writing entries {first} to {} failed: {error}", size - 1);
                return self.stop(placed.into_iter().map(|p| p.pending), why);
            }
        };

        // 5. Visible. Crash from here on: the entries are found again, as acknowledged or as never answered; an
        //    intent among them whose act did not begin is reported as unfinished.
        self.shared
            .reader
            .note_batch(self.active.ordinal(), first, offset);
        *self.shared.signed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signed);
        self.shared
            .oldest_open
            .store(self.ledger.oldest_open(), Ordering::Release);
        self.shared.size.store(size, Ordering::Release);
        self.shared
            .cost
            .add(size - first, self.buffer.len() as u64, began.elapsed());

        // 6. Receipts. A caller that has gone away does not undo anything.
        for Placed { index, hash, pending } in placed {
            let origin = Arc::clone(&self.shared.origin);
            let receipt = Receipt::issue(&durable, origin, index, hash, pending.call);
            pending.answer(Ok(receipt));
        }

        // 7. Tiles, checkpoint file and anchor follow on the publisher's thread. Crash before: opening derives
        //    them again from the journal.
        self.shared.publisher.wake(self.sealed.take());
    }

    fn begin_segment(&mut self, blank: Blank) {
        self.sealed = Some(State {
            segment: blank.ordinal,
            tree: self.tree.clone(),
            ledger: self.ledger.clone(),
            ..State::default()
        });
        self.active = Active::new(blank, 0);
    }

    /// The time of a batch: the clock's, or the last entry's while the clock is behind it.
    fn not_before_the_last(&self, now: Timestamp) -> Timestamp {
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        self.ledger.last_time().map_or(now, |last| now.max(last))
    }

    fn open_segment(&mut self, first: u64) {
        let opening = Opening {
            v: 1,
            origin: self.shared.origin.to_string(),
            segment: self.active.ordinal(),
            bytes: self.active.bytes(),
            first,
            root: self.tree.root(),
        };
        let body = serde_json::to_vec(&opening).unwrap_or_default();
        record::encode(&mut self.buffer, Kind::Opening, first, first, &body);
    }

    /// Writes the leaf and its record into the buffer and its hash into the tree; or refuses and does nothing.
    fn place(&mut self, pending: &Pending, batch: u64, time: &str) -> Result<(u64, Hash), AppendError> {
        if let Phase::Outcome { of } = pending.phase {
            self.ledger
                .check_phase(pending.phase, &pending.stream, &pending.call)
                .map_err(|_| AppendError::NoSuchIntent { of })?;
        }
        let start = record::begin(&mut self.buffer);
        let seq = self.ledger.next_seq(&pending.stream);
        entry::write_leaf(&mut self.buffer, time, &pending.stream, seq, &pending.tail);
        let bytes = self.buffer.len() - start - HEADER_BYTES;
        if bytes > MAX_LEAF_BYTES {
            self.buffer.truncate(start);
            return Err(AppendError::TooLarge { bytes });
        }
        let index = self.tree.size();
        let hash = record::finish(&mut self.buffer, start, Kind::Entry, index, batch);
        self.tree.push(hash);
        Ok((index, hash))
    }

    fn sign(&self) -> Result<Signed, String> {
        let checkpoint = Checkpoint {
            origin: self.shared.origin.to_string(),
            size: self.tree.size(),
            root: self.tree.root(),
        };
        let note = checkpoint
            .sign(&self.key)
            .map_err(|error| format!("signing a checkpoint failed: {error}"))?;
        Ok(Signed { checkpoint, note })
    }

    /// Ends writing for good.
    fn stop(&self, batch: impl IntoIterator<Item = Pending>, why: String) {
        tracing::error!(%why, "the audit log has stopped");
        let why = self.shared.stopped.get_or_init(|| why).clone();
        refuse(batch, &AppendError::Stopped { why });
    }
}

/// The most bytes that an entry's record can take.
fn bound(pending: &Pending) -> u64 {
    record::span(pending.tail.len() + LEAF_OVERHEAD) as u64
}

/// Acts that are under way can still be settled.
fn refuse_all_but_outcomes(batch: Vec<Pending>, error: &AppendError) -> Vec<Pending> {
    let (outcomes, others): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|pending| matches!(pending.phase, Phase::Outcome { .. }));
    refuse(others, error);
    outcomes
}

fn refuse(batch: impl IntoIterator<Item = Pending>, error: &AppendError) {
    for pending in batch {
        pending.answer(Err(error.clone()));
    }
}
