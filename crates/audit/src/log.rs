//! The log: one handle, one directory, one writer.
//!
//! Callers serialise their events on their own threads and put them in a bounded queue; the *committer*
//! (`log/commit.rs`) takes whatever has come while the last sync was in flight, and makes it durable with one
//! more; the *publisher* (`log/publish.rs`) derives tiles and the checkpoint file behind it, and leaves snapshots,
//! from which opening (`log/open.rs`) reads on.

mod at;
mod begin;
mod clock;
mod commit;
mod cost;
mod open;
mod priority;
mod prune;
mod publish;
mod queue;
mod read;
mod receipt;
mod tiles;
mod wake;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use clawstaff_types::{Digest, Event};
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

pub use self::{
    at::AtError,
    cost::Cost,
    open::OpenError,
    priority::Priority,
    prune::{PruneError, Pruned},
    read::ReadError,
    receipt::Receipt,
};
use self::{
    begin::Begin,
    queue::{Call, Queue, Refused},
    read::Reader,
    wake::Wake,
};
use crate::{
    checkpoint::Checkpoint,
    disk::{Disk, Guard, RealDisk},
    entry::{self, Draft, MAX_LEAF_BYTES, Phase, Stored, Stream},
    note::SigningKey,
    segment::Shelf,
};

/// Appends that may wait; one more is refused with [`AppendError::Busy`].
pub const QUEUE_LENGTH: usize = 4096;
/// A length for segment files that suits most: 64 MiB.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;
/// The shortest segment file: the longest entry must fit.
pub const MIN_SEGMENT_BYTES: u64 = 128 << 10;
/// The longest segment file.
pub const MAX_SEGMENT_BYTES: u64 = crate::scan::MAX_SEGMENT_BYTES;

/// Which log to open, and how.
#[derive(Debug)]
pub struct Options {
    /// Its directory; made if it is not there. Nobody else may write in it.
    pub dir: PathBuf,
    /// A second place for the last checkpoint, on another disk if there is one: a file, or an existing
    /// directory in which the file `checkpoint` is kept. Opening refuses a log that is behind it.
    pub anchor: Option<PathBuf>,
    /// The log's name in its checkpoints: 1 to 256 bytes without spaces and `+`. By custom the key's name too.
    pub origin: String,
    /// The key that signs its checkpoints.
    pub key: SigningKey,
    /// Length of a segment file; brought between [`MIN_SEGMENT_BYTES`] and [`MAX_SEGMENT_BYTES`] and to a
    /// multiple of 4096. See [`DEFAULT_SEGMENT_BYTES`].
    pub segment_bytes: u64,
}

/// What the log takes from the world besides its options.
#[derive(Clone)]
pub struct Environment {
    /// Its file operations.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A clock that nobody can set, to tell when the other one jumps: time since any fixed moment.
    pub steady: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// The shortest time between two publications of the checkpoint file and its copy at the anchor. Durability does not
    /// wait for it. Each syncs directories, and while the file system does that an append may wait some milliseconds.
    pub publish_every: Duration,
    /// How long a batch may take to become durable. While one takes longer, appends that wait behind it and new ones
    /// are refused with [`AppendError::Slow`]; those in the batch itself are answered when the disk does, since
    /// nobody can say before that whether they are in the log.
    pub slow_after: Duration,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            clock: Arc::new(Timestamp::now),
            steady: Arc::new(clock::since_boot),
            publish_every: Duration::from_secs(1),
            slow_after: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("disk", &self.disk)
            .field("publish_every", &self.publish_every)
            .field("slow_after", &self.slow_after)
            .finish_non_exhaustive()
    }
}

/// An intent whose outcome is not in the log: a process died, or the log stopped, in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The intent's index: the `of` of the outcome to append.
    pub index: u64,
    /// Whose act; the outcome's stream.
    pub stream: Stream,
    /// The outcome's call.
    pub call: Digest,
    /// What was about to be done.
    pub event: Event,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How many entries there are.
    pub size: u64,
    /// Intents without outcome, oldest first. Whoever opens appends their outcomes, `unknown` if it cannot tell.
    pub unfinished: Vec<Unfinished>,
    /// Bytes of an interrupted, never acknowledged write that were cut off.
    pub torn_bytes: u64,
}

/// Why an entry was not appended.
///
/// Except for [`AppendError::Stopped`] it is certain that the entry is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many appends are waiting.
    #[error("the audit log is busy: {QUEUE_LENGTH} entries are waiting")]
    Busy,
    /// The leaf would be longer than [`MAX_LEAF_BYTES`].
    #[error("an entry has at most {MAX_LEAF_BYTES} bytes, this one would have {bytes}")]
    TooLarge {
        /// How long.
        bytes: usize,
    },
    /// The event could not be written as JSON, or the stream's name is not one.
    #[error("the entry cannot be written down: {why}")]
    Malformed {
        /// Why.
        why: String,
    },
    /// An outcome of something that is no intent without an outcome, or of another stream or call.
    #[error("entry {of} is no intent of this stream and call that still lacks its outcome")]
    NoSuchIntent {
        /// The index that the draft named.
        of: u64,
    },
    /// There is no space for the next segment file. Outcomes are taken while the current one has room, so that
    /// acts under way can be settled; appends go on by themselves when there is space again.
    #[error("no space left for the audit log")]
    NoSpace,
    /// The clock has jumped. Outcomes are taken meanwhile; appends go on by themselves when the clock is back, or
    /// has stayed where it is for ten seconds.
    #[error(
        "the machine's clock has jumped by {seconds} seconds; the audit log waits whether it stays there"
    )]
    ClockJumped {
        /// By how much.
        seconds: i64,
    },
    /// The disk does not answer: what was handed in earlier is not durable yet. Appends go on by themselves when it
    /// does.
    #[error("the audit log's disk is too slow: a write has been waiting for {} seconds", .waiting.as_secs())]
    Slow {
        /// For how long so far.
        waiting: Duration,
    },
    /// A write or sync failed, and nothing more is written until the log is opened again. The entry may or may
    /// not be in the log then.
    #[error("the audit log has stopped: {why}")]
    Stopped {
        /// The first failure.
        why: String,
    },
}

/// A draft on its way to the committer.
#[derive(Debug)]
struct Pending {
    stream: Stream,
    phase: Phase,
    call: Digest,
    /// The leaf from its phase on.
    tail: Vec<u8>,
    reply: oneshot::Sender<Answer>,
}

/// What the committer says to a caller.
#[derive(Debug)]
struct Answer {
    result: Result<Receipt, AppendError>,
    /// Memory goes back to the thread that took it: letting go of another thread's costs both of them.
    _draft: (Stream, Vec<u8>),
}

impl Pending {
    /// Tells the caller, if it is still there to hear it.
    fn answer(self, result: Result<Receipt, AppendError>) {
        let answer = Answer {
            result,
            _draft: (self.stream, self.tail),
        };
        drop(self.reply.send(answer));
    }
}

/// The last checkpoint over durable entries.
#[derive(Debug)]
struct Signed {
    checkpoint: Checkpoint,
    note: String,
}

/// What the threads and the handles share.
#[derive(Debug)]
struct Shared {
    origin: Arc<str>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    key: Arc<SigningKey>,
    reader: Reader,
    /// How many entries are durable.
    size: AtomicU64,
    /// The same, for those who wait for it: told by the publisher, so that it costs the committer nothing.
    announced: watch::Sender<u64>,
    signed: RwLock<Arc<Signed>>,
    /// Why nothing is written any more.
    stopped: OnceLock<String>,
    /// Woken after every batch.
    publisher: Wake,
    /// The oldest intent without an outcome; `u64::MAX` if there is none.
    oldest_open: AtomicU64,
    begin: Mutex<Begin>,
    priority: OnceLock<Priority>,
    cost: cost::Sums,
}

impl Shared {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Tells those who wait how many entries are durable.
    fn announce(&self) {
        let size = self.size();
        self.announced.send_if_modified(|known| {
            let grown = *known < size;
            *known = size.max(*known);
            grown
        });
    }

    fn begin(&self) -> MutexGuard<'_, Begin> {
        self.begin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signed(&self) -> Arc<Signed> {
        Arc::clone(&self.signed.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    shelf: Arc<Shelf>,
    committer: Option<JoinHandle<()>>,
    maker: Option<JoinHandle<()>>,
    publisher: Option<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
    /// Held while the log is pruned.
    pruning: Mutex<()>,
    /// Dropped last: the directory is ours until everything is written.
    _lock: Box<dyn Guard>,
}

impl Drop for Inner {
    /// Commits what is queued, publishes it, and ends the threads.
    fn drop(&mut self) {
        self.queue.close();
        join(self.committer.take());
        join(self.watcher.take());
        self.shelf.close();
        join(self.maker.take());
        self.shared.publisher.stop();
        join(self.publisher.take());
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the audit log ended in a panic");
    }
}

/// An open log. Cheap to clone; the last handle dropped commits what is queued, publishes and closes (and
/// blocks for that, some milliseconds).
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

impl Log {
    /// Opens (or makes) the log, and says what was found.
    ///
    /// Reads the journal from its last snapshot on (all of it, about a million entries a second, if there is none
    /// that fits), and writes: an interrupted last batch is cut off.
    ///
    /// # Errors
    /// When the directory is in use, the journal is damaged, or it is behind a checkpoint that it has signed.
    pub fn open(options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_in(options, Environment::default())
    }

    /// [`Log::open`] with another disk or clock.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_in(options: Options, environment: Environment) -> Result<(Self, Recovery), OpenError> {
        let (inner, recovery) = open::open(options, environment)?;
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            recovery,
        ))
    }

    /// Appends an entry. Resolves once it is on stable storage; dropping the future does not take it back.
    ///
    /// # Errors
    /// See [`AppendError`]. Without a receipt, the act that the entry announces must not happen.
    pub async fn append(&self, draft: Draft) -> Result<Receipt, AppendError> {
        let Draft {
            stream,
            phase,
            call,
            event,
        } = draft;
        self.append_event(stream, phase, call, &event).await
    }

    /// [`Log::append`] of an event that stays with the caller: it is written down before this first waits.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_event(
        &self,
        stream: Stream,
        phase: Phase,
        call: Digest,
        event: &Event,
    ) -> Result<Receipt, AppendError> {
        // The queue ends only with a handle like this one, unless the committer has panicked.
        let gone = |_| AppendError::Stopped {
            why: "its committer has ended".to_owned(),
        };
        let (answer, committer) = self.enqueue(stream, phase, call, event)?;
        if let Some(committer) = committer {
            // Whoever else is ready to run hands in first: one sync then does for all of them.
            tokio::task::yield_now().await;
            drop(committer);
        }
        answer.await.map_err(gone)?.result
    }

    /// [`Log::append`] for threads that may block. Panics inside an asynchronous context.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_blocking(&self, draft: Draft) -> Result<Receipt, AppendError> {
        let gone = |_| AppendError::Stopped {
            why: "its committer has ended".to_owned(),
        };
        let (answer, committer) = self.enqueue(draft.stream, draft.phase, draft.call, &draft.event)?;
        drop(committer);
        answer.blocking_recv().map_err(gone)?.result
    }

    /// Serialises here, on the caller's thread, and hands over.
    fn enqueue(
        &self,
        stream: Stream,
        phase: Phase,
        call: Digest,
        event: &Event,
    ) -> Result<(oneshot::Receiver<Answer>, Option<Call<'_>>), AppendError> {
        if let Some(why) = self.stopped() {
            return Err(AppendError::Stopped { why });
        }
        if !stream.is_well_formed() {
            let why = "a stream's name is 1 to 64 printable characters".to_owned();
            return Err(AppendError::Malformed { why });
        }
        let tail = entry::leaf_tail(phase, &call, event).map_err(|error| AppendError::Malformed {
            why: error.to_string(),
        })?;
        if tail.len() > MAX_LEAF_BYTES {
            let bytes = tail.len();
            return Err(AppendError::TooLarge { bytes });
        }
        let (reply, answer) = oneshot::channel();
        let pending = Pending {
            stream,
            phase,
            call,
            tail,
            reply,
        };
        match self.inner.queue.push(pending) {
            Ok(committer) => Ok((answer, committer)),
            Err(Refused::Full) => Err(AppendError::Busy),
            Err(Refused::Slow(waiting)) => Err(AppendError::Slow { waiting }),
            Err(Refused::Closed) => Err(AppendError::Stopped {
                why: "its committer has ended".to_owned(),
            }),
        }
    }

    /// How many entries are durable.
    pub fn size(&self) -> u64 {
        self.inner.shared.size()
    }

    /// Follows [`Log::size`], at most a tenth of [`Environment::publish_every`] (or 10 ms) behind it.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.shared.announce();
        self.inner.shared.announced.subscribe()
    }

    /// The signed checkpoint over all durable entries, as a note.
    pub fn checkpoint(&self) -> String {
        self.inner.shared.signed().note.clone()
    }

    /// Durable entries from index `from` on: at most `max`, and at most about 8 MiB (but one, if there is one).
    ///
    /// # Errors
    /// When a segment cannot be read or has been damaged since.
    pub fn read(&self, from: u64, max: usize) -> Result<Vec<Stored>, ReadError> {
        let to = self.size().min(from.saturating_add(max as u64));
        let mut found = Vec::new();
        self.inner.shared.reader.read(from, to, &mut |index, leaf, _| {
            let leaf = leaf.to_vec();
            found.push(Stored { index, leaf });
        })?;
        Ok(found)
    }

    /// A signed checkpoint of the log as it was when it had `size` entries, whether they are still there or not.
    ///
    /// # Errors
    /// When it never had so many, or what is needed cannot be read or is not what was signed.
    pub fn checkpoint_at(&self, size: u64) -> Result<String, AtError> {
        self.inner.shared.checkpoint_at(size)
    }

    /// A place before which no entry is younger than `time`, to be pruned up to: the start of a segment, so entries
    /// behind it may be older as well.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub fn first_since(&self, time: Timestamp) -> Result<u64, AtError> {
        self.inner.shared.first_since(time)
    }

    /// The first entry that is still there: 0, unless the log was pruned.
    pub fn first(&self) -> u64 {
        self.inner.shared.begin().base.tree.size()
    }

    /// Removes the oldest entries: whole segments of the journal that end before entry `before`, and the entry
    /// bundles under them. Tiles and checkpoints stay, so every proof of what is left still verifies.
    ///
    /// Fewer entries may go than asked for, down to none: an intent without an outcome is kept with all after it,
    /// and so is what is not published yet. What goes is read and checked a last time; that takes about a
    /// second for a million entries, on the caller's thread, and delays no append. A crash in between is made
    /// good when the log is opened.
    ///
    /// # Errors
    /// When what is to go is damaged (nothing is removed then), or a file operation fails.
    pub fn prune(&self, before: u64) -> Result<Pruned, PruneError> {
        let _alone = self.inner.pruning.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.shared.prune(before)
    }

    /// How the thread that makes entries durable stands against other work; nothing while it is starting.
    pub fn priority(&self) -> Option<Priority> {
        self.inner.shared.priority.get().copied()
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.inner.shared.origin
    }

    /// The size at which tiles and the checkpoint file were last published.
    pub fn published(&self) -> u64 {
        self.inner.shared.publisher.published()
    }

    /// What entries have cost since the log was opened.
    pub fn cost(&self) -> Cost {
        self.inner.shared.cost.read()
    }

    /// Why nothing is written any more, if so.
    pub fn stopped(&self) -> Option<String> {
        self.inner.shared.stopped.get().cloned()
    }
}
