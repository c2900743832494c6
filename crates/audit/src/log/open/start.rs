//! The last step of opening: what was found becomes an open log with its threads.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicU64},
    thread,
};

use tokio::sync::watch;

use super::{OpenError, journal::Journal};
use crate::{
    checkpoint::Checkpoint,
    disk::Guard,
    entry::Entry,
    ledger::Ledger,
    log::{
        Environment, Inner, Recovery, Shared, Signed, Unfinished, begin::Begin, clock::Clock,
        commit::Committer, cost::Sums, publish::Publisher, queue::Queue, read::Reader, wake::Wake,
    },
    note::SigningKey,
    scan::Found,
    segment::{Active, Blank, Shelf},
};

/// Everything that the threads start from.
pub(super) struct Opened {
    pub(super) dir: PathBuf,
    pub(super) anchor: Option<PathBuf>,
    pub(super) origin: Arc<str>,
    pub(super) key: Arc<SigningKey>,
    pub(super) segment_bytes: u64,
    pub(super) journal: Journal,
    pub(super) active: Active,
    pub(super) ready: Option<Blank>,
    pub(super) next: u64,
    pub(super) lock: Box<dyn Guard>,
}

impl Opened {
    pub(super) fn start(self, environment: Environment) -> Result<(Inner, Recovery), OpenError> {
        let opened = self;
        let Environment {
            disk,
            clock,
            steady,
            publish_every,
            slow_after,
        } = environment;
        let Journal {
            base,
            found,
            ledger,
            tiles,
        } = opened.journal;
        let Found {
            tree, segments, torn, ..
        } = found;
        let reader = Reader::new(Arc::clone(&disk), opened.dir.clone(), segments);
        let unfinished = unfinished(&reader, &ledger)?;
        let recovery = Recovery {
            size: tree.size(),
            unfinished,
            torn_bytes: torn.map_or(0, |torn| torn.bytes),
        };
        let checkpoint = Checkpoint {
            origin: opened.origin.to_string(),
            size: tree.size(),
            root: tree.root(),
        };
        let note = checkpoint
            .sign(&opened.key)
            .map_err(|source| OpenError::Checkpoint {
                path: opened.dir.join("checkpoint"),
                source,
            })?;
        let shared = Arc::new(Shared {
            origin: opened.origin,
            disk: Arc::clone(&disk),
            dir: opened.dir.clone(),
            key: Arc::clone(&opened.key),
            reader,
            size: AtomicU64::new(tree.size()),
            announced: watch::Sender::new(tree.size()),
            signed: RwLock::new(Arc::new(Signed { checkpoint, note })),
            stopped: OnceLock::new(),
            publisher: Wake::default(),
            oldest_open: AtomicU64::new(ledger.oldest_open()),
            begin: Mutex::new(Begin { base, tiles }),
            priority: OnceLock::new(),
            cost: Sums::default(),
        });
        let (shelf, maker) = Shelf::start(
            Arc::clone(&disk),
            opened.dir.clone(),
            opened.segment_bytes,
            opened.ready,
            opened.next,
        )
        .map_err(OpenError::Thread)?;
        let queue = Arc::new(Queue::new(slow_after));
        let mut inner = Inner {
            shared: Arc::clone(&shared),
            queue: Arc::clone(&queue),
            watcher: None,
            shelf: Arc::clone(&shelf),
            committer: None,
            maker: Some(maker),
            publisher: None,
            pruning: Mutex::new(()),
            _lock: opened.lock,
        };
        let committer = Committer {
            shared: Arc::clone(&shared),
            shelf,
            active: opened.active,
            tree,
            ledger,
            key: opened.key,
            clock: Clock::new(clock, steady),
            backlog: VecDeque::new(),
            sealed: None,
            buffer: Vec::new(),
        };
        let publisher = Publisher::new(shared, opened.anchor, publish_every);
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let watched = Arc::clone(&queue);
        let thread = named("audit-commit").spawn(move || committer.run(&queue));
        inner.committer = Some(thread.map_err(OpenError::Thread)?);
        let thread = named("audit-watch").spawn(move || watched.watch());
        inner.watcher = Some(thread.map_err(OpenError::Thread)?);
        let thread = named("audit-publish").spawn(move || publisher.run());
        inner.publisher = Some(thread.map_err(OpenError::Thread)?);
        Ok((inner, recovery))
    }
}

fn unfinished(reader: &Reader, ledger: &Ledger) -> Result<Vec<Unfinished>, OpenError> {
    let mut found = Vec::new();
    for (index, stream, call) in ledger.open() {
        let mut event = None;
        reader.read(index, index + 1, &mut |_, leaf, _| {
            event = Entry::parse(leaf).ok().map(|entry| entry.event);
        })?;
        if let Some(event) = event {
            found.push(Unfinished {
                index,
                stream: stream.clone(),
                call: *call,
                event,
            });
        }
    }
    Ok(found)
}
