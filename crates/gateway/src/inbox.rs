//! The durable inbox of each Claw: at least once, deduplicated, one item leased at a time.
//!
//! Fed by `ingress` and `node`, emptied by the Claw through `/claw/v1/inbox`. It does not know what an event
//! means, who may send one or what is recorded about it.
//!
//! ```text
//!   <claw>/new/       waiting            put ─► new ─next─► leased ─ack─► (id noted in done/, file gone)
//!   <claw>/leased/    handed out, one                 ▲       │
//!   <claw>/failed/    given up                        └release┘ ─ fifth attempt ─► failed
//!   <claw>/done/      ids of the last 7 days, one line each, one file per UTC day
//!   <claw>/tmp/       being written; emptied when the inbox is opened
//! ```
//!
//! An item is one file, encrypted; its name says place in line, attempts and id, so that every step is one
//! rename. If we crash before a rename, the step did not happen; after it, it did. An acknowledged id is noted
//! before its file goes, and a file whose id is noted is removed when the inbox is opened.

mod clock;
mod crypt;
mod files;
mod mailbox;
mod seen;

pub(crate) use files::{read_bounded, read_if_present, replace, sync_dir};

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clawstaff_cage_contract::{Ack, AckResult, InboxItem};
use clawstaff_types::{ClawName, EventId, MemberId};
pub use clock::Clock;
pub use crypt::{InboxKey, KeyError};
use mailbox::Mailbox;
use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

/// Items that may wait for one Claw, the leased one included.
pub const MAX_WAITING: usize = 1_000;
/// The longest item, in bytes of JSON.
pub const MAX_ITEM: usize = 256 * 1024;
/// How often an item is handed out before it is given up.
pub const MAX_ATTEMPTS: u32 = 5;
/// The longest wait of [`Inbox::next`].
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Something for a Claw to work on.
#[derive(Debug, Clone, PartialEq)]
pub struct NewItem {
    /// Unique for ever; a second item of the same id within 7 days is a duplicate.
    pub id: EventId,
    /// `slack.message` or `message`.
    pub source: String,
    /// The event: content.
    pub event: Value,
    /// The member who asked, if one did.
    pub on_behalf_of: Option<MemberId>,
}

/// What [`Inbox::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is durable now.
    Stored,
    /// An item of this id is waiting, being worked on, or was done in the last 7 days.
    Duplicate,
}

/// An item that was given up; see [`Inbox::given_up`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Whose.
    pub claw: ClawName,
    /// Which.
    pub id: EventId,
    /// How often it was handed out.
    pub attempts: u32,
}

/// Why the inbox cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Too much waits already.
    #[error("{MAX_WAITING} items wait for `{0}` already")]
    Full(ClawName),
    /// The item is longer than [`MAX_ITEM`].
    #[error("item `{id}` for `{claw}` is {bytes} bytes, more than {MAX_ITEM}")]
    TooLarge {
        /// For whom.
        claw: ClawName,
        /// Which.
        id: EventId,
        /// Its size.
        bytes: usize,
    },
    /// No item of this id waits or is leased.
    #[error("no item `{id}` waits for `{claw}`")]
    NoSuchItem {
        /// For whom.
        claw: ClawName,
        /// Which.
        id: EventId,
    },
    /// An item could not be encrypted or decrypted.
    #[error("item `{id}` for `{claw}` cannot be {doing}")]
    Crypt {
        /// For whom.
        claw: ClawName,
        /// Which.
        id: EventId,
        /// What was tried.
        doing: &'static str,
    },
    /// The file system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The process is shutting down.
    #[error("the inbox is closed")]
    Closed,
}

impl InboxError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// What the Claw works on, kept beside the files so that asking for it never waits for a disk.
#[derive(Debug, Clone)]
struct Lease {
    id: EventId,
    on_behalf_of: Option<MemberId>,
}

/// One Claw's mailbox and what is awake around it.
#[derive(Debug)]
struct Slot {
    mailbox: Mutex<Mailbox>,
    lease: Mutex<Option<Lease>>,
    arrived: Notify,
}

impl Slot {
    /// Changes the lease and wakes whoever waits for an item.
    fn set_lease(&self, change: impl FnOnce(&mut Option<Lease>)) {
        change(&mut self.lease.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_waiters();
    }
}

/// An item on its way from the disk to the Claw; put back if it is dropped on the way.
#[derive(Debug)]
struct Delivery {
    slot: Arc<Slot>,
    item: Option<InboxItem>,
}

impl Delivery {
    fn of(slot: Arc<Slot>, item: mailbox::Leased) -> Self {
        let lease = Lease {
            id: item.id.clone(),
            on_behalf_of: item.on_behalf_of,
        };
        slot.set_lease(|slot| *slot = Some(lease));
        let item = InboxItem {
            id: item.id,
            source: item.source,
            event: item.event,
            attempt: item.attempt,
        };
        Self {
            slot,
            item: Some(item),
        }
    }

    fn hand_over(mut self) -> Option<InboxItem> {
        self.item.take()
    }

    fn put_back(slot: &Slot, item: &InboxItem) {
        let mut mailbox = slot.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        match mailbox.take_back(&item.id, item.attempt) {
            Ok(true) => slot.set_lease(|lease| *lease = None),
            // The cage started anew meanwhile and the item went its way.
            Ok(false) => {}
            Err(error) => {
                tracing::error!(id = %item.id, %error, "an inbox item stays leased until the cage restarts");
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(item) = self.item.take() else {
            return;
        };
        // Dropped inside the work on the mailbox or after it: either way the lock is not ours to wait for here.
        let slot = Arc::clone(&self.slot);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || Self::put_back(&slot, &item))),
            Err(_) => Self::put_back(&slot, &item),
        }
    }
}

/// The inboxes of all Claws of this gateway. Cheap to share by reference; every change is durable when it
/// returns.
#[derive(Debug)]
pub struct Inbox {
    dir: PathBuf,
    key: Arc<InboxKey>,
    clock: Clock,
    slots: Mutex<HashMap<ClawName, Arc<Slot>>>,
    gave_up: Arc<Notify>,
}

impl Inbox {
    /// Opens the inboxes below `dir` and puts right what a crash left.
    ///
    /// # Errors
    /// When a file cannot be read or removed.
    pub fn open(dir: &Path, key: InboxKey) -> Result<Self, InboxError> {
        Self::open_at(dir, key, Clock::system())
    }

    /// The same with another clock, which decides when an id may be forgotten.
    ///
    /// # Errors
    /// As [`Inbox::open`].
    pub fn open_at(dir: &Path, key: InboxKey, clock: Clock) -> Result<Self, InboxError> {
        files::make_dir(dir)?;
        let inbox = Self {
            dir: dir.to_owned(),
            key: Arc::new(key),
            clock,
            slots: Mutex::default(),
            gave_up: Arc::new(Notify::new()),
        };
        for claw in inbox.claws_on_disk()? {
            inbox.slot(&claw)?;
        }
        Ok(inbox)
    }

    /// Stores an item. When this returns, it will be handed out at least once, whatever crashes.
    ///
    /// # Errors
    /// When the inbox is full, the item too large, or the file system refuses.
    pub async fn put(&self, claw: &ClawName, item: NewItem) -> Result<Put, InboxError> {
        let slot = self.slot(claw)?;
        let (waker, put) = (Arc::clone(&slot), move |mailbox: &mut Mailbox| mailbox.put(&item));
        blocking(&slot, move |mailbox| {
            put(mailbox).inspect(|_| waker.arrived.notify_waiters())
        })
        .await
    }

    /// Whether an item of this id waits, is leased, or was done in the last 7 days.
    ///
    /// # Errors
    /// When the Claw's inbox cannot be opened.
    pub async fn knows(&self, claw: &ClawName, id: &EventId) -> Result<bool, InboxError> {
        let (slot, id) = (self.slot(claw)?, id.clone());
        blocking(&slot, move |mailbox| Ok(mailbox.knows(&id))).await
    }

    /// The oldest waiting item, leased to the Claw; waits up to `wait` (at most [`MAX_WAIT`]) for one. While an
    /// item is leased nothing else is handed out.
    ///
    /// # Errors
    /// When the item cannot be read or the file system refuses.
    pub async fn next(&self, claw: &ClawName, wait: Duration) -> Result<Option<InboxItem>, InboxError> {
        let slot = self.slot(claw)?;
        let until = Instant::now() + wait.min(MAX_WAIT);
        loop {
            let mut arrived = std::pin::pin!(slot.arrived.notified());
            arrived.as_mut().enable();
            if let Some(item) = self.lease(&slot).await? {
                return Ok(Some(item));
            }
            if tokio::time::timeout_at(until, arrived).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The Claw is done with an item: it is not handed out again, and its id is remembered for 7 days. An item
    /// it gave up ([`AckResult::Failed`]) is kept in `failed/`.
    ///
    /// # Errors
    /// When there is no such item, or the file system refuses.
    pub async fn ack(&self, claw: &ClawName, id: &EventId, ack: &Ack) -> Result<(), InboxError> {
        let slot = self.slot(claw)?;
        let (id, keep, inner) = (id.clone(), ack.result == AckResult::Failed, Arc::clone(&slot));
        blocking(&slot, move |mailbox| {
            mailbox.ack(&id, keep)?;
            inner.set_lease(|lease| {
                lease.take_if(|lease| lease.id == id);
            });
            Ok(())
        })
        .await
    }

    /// The item the Claw works on: the cause of what it does now.
    pub fn current(&self, claw: &ClawName) -> Option<EventId> {
        self.with_lease(claw, |lease| Some(lease.id.clone()))
    }

    /// The member on whose behalf the Claw acts now.
    pub fn on_behalf_of(&self, claw: &ClawName) -> Option<MemberId> {
        self.with_lease(claw, |lease| lease.on_behalf_of.clone())
    }

    /// The Claw's cage starts anew: what it held is handed out again, or given up after [`MAX_ATTEMPTS`].
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn release(&self, claw: &ClawName) -> Result<(), InboxError> {
        let slot = self.slot(claw)?;
        let (inner, gave_up) = (Arc::clone(&slot), Arc::clone(&self.gave_up));
        blocking(&slot, move |mailbox| {
            if mailbox.release()? {
                gave_up.notify_one();
            }
            inner.set_lease(|lease| *lease = None);
            Ok(())
        })
        .await
    }

    /// Items given up after [`MAX_ATTEMPTS`] that nobody has reported yet; waits until there is one.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub async fn given_up(&self) -> Result<Vec<GivenUp>, InboxError> {
        loop {
            let mut found = Vec::new();
            for (claw, slot) in self.all_slots() {
                let items = blocking(&slot, |mailbox| mailbox.unreported()).await?;
                found.extend(items.into_iter().map(|(id, attempts)| GivenUp {
                    claw: claw.clone(),
                    id,
                    attempts,
                }));
            }
            if !found.is_empty() {
                return Ok(found);
            }
            self.gave_up.notified().await;
        }
    }

    /// The record about an item that was given up is durable; it is not reported again.
    ///
    /// # Errors
    /// When the file system refuses.
    pub async fn reported(&self, item: &GivenUp) -> Result<(), InboxError> {
        let slot = self.slot(&item.claw)?;
        let id = item.id.clone();
        blocking(&slot, move |mailbox| mailbox.reported(&id)).await
    }

    /// Removes the inboxes of Claws that no longer exist.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn retain(&self, existing: &BTreeSet<ClawName>) -> Result<(), InboxError> {
        for claw in self
            .claws_on_disk()?
            .into_iter()
            .filter(|claw| !existing.contains(claw))
        {
            self.slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&claw);
            let dir = self.dir.join(claw.as_str());
            std::fs::remove_dir_all(&dir).map_err(InboxError::io("remove", &dir))?;
        }
        Ok(())
    }

    /// Leases the next item. It is handed over in a [`Delivery`], so that an item whose receiver went away
    /// while the disk worked is put back.
    async fn lease(&self, slot: &Arc<Slot>) -> Result<Option<InboxItem>, InboxError> {
        let (inner, gave_up) = (Arc::clone(slot), Arc::clone(&self.gave_up));
        let delivery = blocking(slot, move |mailbox| {
            let next = mailbox.lease()?;
            if next.gave_up {
                gave_up.notify_one();
            }
            Ok(next.item.map(|item| Delivery::of(inner, item)))
        });
        Ok(delivery.await?.and_then(Delivery::hand_over))
    }

    fn with_lease<T>(&self, claw: &ClawName, look: impl FnOnce(&Lease) -> Option<T>) -> Option<T> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(slots.get(claw)?);
        drop(slots);
        let lease = slot.lease.lock().unwrap_or_else(PoisonError::into_inner);
        look(lease.as_ref()?)
    }

    fn all_slots(&self) -> Vec<(ClawName, Arc<Slot>)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots
            .iter()
            .map(|(claw, slot)| (claw.clone(), Arc::clone(slot)))
            .collect()
    }

    /// The Claw's slot, opened on first use.
    fn slot(&self, claw: &ClawName) -> Result<Arc<Slot>, InboxError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(claw) {
            return Ok(Arc::clone(slot));
        }
        let dir = self.dir.join(claw.as_str());
        let (mailbox, held) = Mailbox::open(claw.clone(), &dir, Arc::clone(&self.key), self.clock.clone())?;
        let lease = held.map(|item| Lease {
            id: item.id,
            on_behalf_of: item.on_behalf_of,
        });
        let slot = Arc::new(Slot {
            mailbox: Mutex::new(mailbox),
            lease: Mutex::new(lease),
            arrived: Notify::new(),
        });
        slots.insert(claw.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    fn claws_on_disk(&self) -> Result<Vec<ClawName>, InboxError> {
        let names = files::names_in(&self.dir)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// Runs file work off the async threads, one at a time per Claw.
async fn blocking<T: Send + 'static>(
    slot: &Arc<Slot>,
    work: impl FnOnce(&mut Mailbox) -> Result<T, InboxError> + Send + 'static,
) -> Result<T, InboxError> {
    let slot = Arc::clone(slot);
    tokio::task::spawn_blocking(move || {
        work(&mut slot.mailbox.lock().unwrap_or_else(PoisonError::into_inner))
    })
    .await
    .unwrap_or(Err(InboxError::Closed))
}
