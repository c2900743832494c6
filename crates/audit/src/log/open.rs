//! Opening a log: take the directory, read the journal again, hold it against what was signed, cut off what a
//! power cut left, and start the threads.
//!
//! Every step can be repeated: a crash anywhere in here leaves a directory that opens again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, RwLock, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Environment, Inner, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, Options, QUEUE_LENGTH, Recovery, Shared,
    Signed, Unfinished,
    commit::{Committer, FRAME_BYTES},
    publish::{Publisher, Wake},
    read::{ReadError, Reader},
};
use crate::{
    checkpoint::{self, Checkpoint, CheckpointError},
    disk::{self, Disk, Guard},
    entry::{Entry, Heading},
    ledger::Ledger,
    note::{MAX_NOTE_BYTES, SigningKey},
    scan::{self, Damage, Found, ScanError},
    segment::{self, Active, Blank, Shelf},
    tree::Hash,
};

/// Tries to take the directory before giving up; a verifier holds the lock for an instant.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error("{doing} {path} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process (or handle) has it open.
    #[error("the audit log in {dir} is open already: a log has one writer")]
    Locked {
        /// Which directory.
        dir: PathBuf,
    },
    /// The origin cannot stand in a checkpoint.
    #[error("`{origin}` is not an origin: 1 to 256 bytes without spaces and `+`")]
    Origin {
        /// What was given.
        origin: String,
    },
    /// The directory holds a log of another name.
    #[error("the log in {dir} is `{found}`, not `{wanted}`")]
    OtherLog {
        /// Which directory.
        dir: PathBuf,
        /// Its origin.
        found: String,
        /// The origin asked for.
        wanted: String,
    },
    /// The log was signed with another key.
    #[error("the log in {dir} was signed with another key: {why}")]
    WrongKey {
        /// Which directory.
        dir: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A record that was durable once cannot be read or breaks a rule. Nothing was changed.
    #[error("the log is damaged: {path}, byte {offset}, entry {index}: {why}")]
    Damaged {
        /// The first entry concerned.
        index: u64,
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// In words.
        why: String,
    },
    /// The checkpoint file or the anchor cannot be read as a checkpoint of this log.
    #[error("{path} is not a checkpoint of this log")]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// The log lacks entries that it has signed for: an older copy was put back, or entries were removed.
    #[error("the log has {have} entries, but {path}, which it signed, says {signed}: it was rolled back")]
    RolledBack {
        /// Entries in the journal.
        have: u64,
        /// Entries signed for.
        signed: u64,
        /// The checkpoint that says so.
        path: PathBuf,
    },
    /// The first entries are others than those it has signed.
    #[error("the first {size} entries are not those that {path} was signed over: the log was rewritten")]
    Rewritten {
        /// How many.
        size: u64,
        /// The checkpoint that says so.
        path: PathBuf,
    },
    /// An intent that was just read cannot be read again.
    #[error("reading an intent without outcome failed")]
    Read(#[from] ReadError),
    /// A thread could not be started.
    #[error("starting a thread of the log failed")]
    Thread(#[source] io::Error),
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Io { path, source } => io_error("reading", &path)(source),
            ScanError::Damage(Damage {
                index,
                path,
                offset,
                text,
            }) => Self::Damaged {
                index,
                path,
                offset,
                why: text,
            },
        }
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

pub(super) fn open(options: Options, environment: Environment) -> Result<(Inner, Recovery), OpenError> {
    let Options {
        dir,
        anchor,
        origin,
        key,
        segment_bytes,
    } = options;
    if !checkpoint::is_origin(&origin) {
        return Err(OpenError::Origin { origin });
    }
    let segment_bytes = segment_bytes
        .clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES)
        .next_multiple_of(4096);
    let disk = &*environment.disk;
    let anchor = anchor.map(|path| {
        if path.is_dir() {
            path.join("checkpoint")
        } else {
            path
        }
    });

    // 1. Ours alone.
    for path in [Some(scan::journal_dir(&dir)), anchor_dir(anchor.as_deref())]
        .into_iter()
        .flatten()
    {
        disk.create_dir_all(&path)
            .map_err(io_error("making the directory", &path))?;
    }
    let lock = lock(disk, &dir)?;
    remove_unfinished_segment(disk, &dir)?;

    // 2. What was signed, before the journal is read: it says at which sizes to note the root.
    let signed = signed_before(disk, &dir, anchor.as_deref(), &key)?;
    let sizes: Vec<u64> = signed.iter().map(|(_, stated)| stated.size).collect();

    // 3. The truth. Nothing has been changed if this fails.
    let mut ledger = Ledger::default();
    let (found, read) = scan::scan(disk, &dir, &sizes, false, &mut |index, leaf, _| {
        let heading = Heading::parse(leaf).map_err(|error| error.to_string())?;
        ledger.check(&heading).map_err(|breach| breach.to_string())?;
        ledger.apply(index, heading.stream, heading.phase, heading.call, heading.time);
        Ok(())
    });
    read?;
    check_identity(&dir, &found, &origin, &key)?;
    check_not_rolled_back(&found, &origin, &signed)?;

    // 4. Repairs, each durable before anything is built on it.
    store_vkey(disk, &dir, &key)?;
    cut_torn_tail(disk, &found)?;
    let (active, ready, next) = segments(disk, &dir, &found, segment_bytes)?;

    // 5. The threads.
    start(
        environment,
        Opened {
            dir,
            anchor,
            origin: origin.into(),
            key,
            segment_bytes,
            ledger,
            found,
            active,
            ready,
            next,
            lock,
        },
    )
}

/// Everything that the threads start from.
struct Opened {
    dir: PathBuf,
    anchor: Option<PathBuf>,
    origin: Arc<str>,
    key: SigningKey,
    segment_bytes: u64,
    ledger: Ledger,
    found: Found,
    active: Active,
    ready: Option<Blank>,
    next: u64,
    lock: Box<dyn Guard>,
}

fn start(environment: Environment, opened: Opened) -> Result<(Inner, Recovery), OpenError> {
    let Environment {
        disk,
        clock,
        publish_every,
    } = environment;
    let Found {
        tree, segments, torn, ..
    } = opened.found;
    let reader = Reader::new(Arc::clone(&disk), opened.dir.clone(), segments);
    let unfinished = unfinished(&reader, &opened.ledger)?;
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
        reader,
        size: watch::Sender::new(tree.size()),
        signed: RwLock::new(Arc::new(Signed { checkpoint, note })),
        stopped: OnceLock::new(),
        publisher: Wake::default(),
    });
    let (shelf, maker) = Shelf::start(
        Arc::clone(&disk),
        opened.dir.clone(),
        opened.segment_bytes,
        opened.ready,
        opened.next,
    )
    .map_err(OpenError::Thread)?;
    let (queue, pending) = mpsc::sync_channel(QUEUE_LENGTH);
    let mut inner = Inner {
        shared: Arc::clone(&shared),
        queue: Some(queue),
        shelf: Arc::clone(&shelf),
        committer: None,
        maker: Some(maker),
        publisher: None,
        _lock: opened.lock,
    };
    let committer = Committer {
        shared: Arc::clone(&shared),
        shelf,
        active: opened.active,
        tree,
        ledger: opened.ledger,
        key: opened.key,
        clock,
        held: None,
        buffer: Vec::new(),
    };
    let publisher = Publisher::new(shared, disk, opened.dir, opened.anchor, publish_every);
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let thread = named("audit-commit").spawn(move || committer.run(&pending));
    inner.committer = Some(thread.map_err(OpenError::Thread)?);
    let thread = named("audit-publish").spawn(move || publisher.run());
    inner.publisher = Some(thread.map_err(OpenError::Thread)?);
    Ok((inner, recovery))
}

fn anchor_dir(anchor: Option<&Path>) -> Option<PathBuf> {
    let parent = anchor?.parent()?;
    (!parent.as_os_str().is_empty()).then(|| parent.to_owned())
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Guard>, OpenError> {
    let path = dir.join("lock");
    for attempt in 0..LOCK_TRIES {
        if attempt > 0 {
            thread::sleep(LOCK_PAUSE);
        }
        if let Some(guard) = disk.lock(&path).map_err(io_error("locking", &path))? {
            return Ok(guard);
        }
    }
    Err(OpenError::Locked { dir: dir.to_owned() })
}

/// A segment that was being made when the process died.
fn remove_unfinished_segment(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let path = scan::journal_dir(dir).join("next.tmp");
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", &path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The checkpoints that this log left in its own directory and at the anchor, where there are any.
fn signed_before(
    disk: &dyn Disk,
    dir: &Path,
    anchor: Option<&Path>,
    key: &SigningKey,
) -> Result<Vec<(PathBuf, Checkpoint)>, OpenError> {
    let mut signed = Vec::new();
    for path in [Some(dir.join("checkpoint")), anchor.map(Path::to_owned)]
        .into_iter()
        .flatten()
    {
        let bytes = disk::read_if_present(disk, &path, MAX_NOTE_BYTES as u64)
            .map_err(io_error("reading the checkpoint", &path))?;
        let Some(bytes) = bytes else { continue };
        let stated =
            Checkpoint::verify(&String::from_utf8_lossy(&bytes), &key.verifying_key()).map_err(|source| {
                OpenError::Checkpoint {
                    path: path.clone(),
                    source,
                }
            })?;
        signed.push((path, stated));
    }
    Ok(signed)
}

fn check_identity(dir: &Path, found: &Found, origin: &str, key: &SigningKey) -> Result<(), OpenError> {
    if let Some(other) = found.origin.as_deref().filter(|found| *found != origin) {
        return Err(OpenError::OtherLog {
            dir: dir.to_owned(),
            found: other.to_owned(),
            wanted: origin.to_owned(),
        });
    }
    if let Some(note) = &found.note {
        Checkpoint::verify(note, &key.verifying_key()).map_err(|error| OpenError::WrongKey {
            dir: dir.to_owned(),
            why: error.to_string(),
        })?;
    }
    Ok(())
}

fn check_not_rolled_back(
    found: &Found,
    origin: &str,
    signed: &[(PathBuf, Checkpoint)],
) -> Result<(), OpenError> {
    for (path, stated) in signed {
        let path = path.clone();
        if stated.origin != origin {
            let source = CheckpointError::Form("it is of another log");
            return Err(OpenError::Checkpoint { path, source });
        }
        let root: Option<&Hash> = found.roots.get(&stated.size);
        match root {
            None => {
                return Err(OpenError::RolledBack {
                    have: found.tree.size(),
                    signed: stated.size,
                    path,
                });
            }
            Some(root) if *root != stated.root => {
                return Err(OpenError::Rewritten {
                    size: stated.size,
                    path,
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Leaves the verifier key beside the log, for whoever verifies; refuses a directory that holds another.
fn store_vkey(disk: &dyn Disk, dir: &Path, key: &SigningKey) -> Result<(), OpenError> {
    let path = dir.join("vkey");
    let wanted = format!("{}\n", key.vkey());
    match disk::read_if_present(disk, &path, 4096).map_err(io_error("reading", &path))? {
        Some(bytes) if bytes == wanted.as_bytes() => Ok(()),
        Some(_) => Err(OpenError::WrongKey {
            dir: dir.to_owned(),
            why: "the file vkey has another one".to_owned(),
        }),
        None => disk::replace(disk, &path, wanted.as_bytes()).map_err(io_error("writing", &path)),
    }
}

/// Puts zeroes where an interrupted batch was, so that nothing of it can ever be read as a record.
fn cut_torn_tail(disk: &dyn Disk, found: &Found) -> Result<(), OpenError> {
    let Some(torn) = &found.torn else {
        return Ok(());
    };
    let bytes = torn.bytes;
    tracing::warn!(path = %torn.path.display(), bytes, "cutting off an interrupted write of the audit log");
    let failed = |source| io_error("cutting off the interrupted write in", &torn.path)(source);
    let file = disk.open(&torn.path).map_err(failed)?;
    let zeroes = vec![0; usize::try_from(bytes).unwrap_or_default()];
    disk::write_all(&*file, &zeroes, torn.offset).map_err(failed)?;
    file.sync_data().map_err(failed)
}

/// The segment to go on in, one that is ready after it, and the number of the next to be made otherwise.
fn segments(
    disk: &dyn Disk,
    dir: &Path,
    found: &Found,
    segment_bytes: u64,
) -> Result<(Active, Option<Blank>, u64), OpenError> {
    let open = |ordinal: u64, bytes: u64| {
        let path = scan::segment_path(dir, ordinal);
        let file = disk.open(&path).map_err(io_error("opening", &path))?;
        Ok::<_, OpenError>(Blank { ordinal, bytes, file })
    };
    let next = found.segments.last().map_or(0, |last| last.ordinal + 1);
    // A blank of a length that cannot hold a batch is of no use: it is made again under the same name.
    let mut spares = found
        .spares
        .iter()
        .filter(|(ordinal, bytes)| *ordinal >= next && *bytes > FRAME_BYTES && *bytes >= MIN_SEGMENT_BYTES);
    let mut spare = spares.next().filter(|(ordinal, _)| *ordinal == next).copied();
    let active = if let Some(last) = found.segments.last() {
        Active::new(open(last.ordinal, found.last_bytes)?, found.end)
    } else if let Some((ordinal, bytes)) = spare.take() {
        Active::new(open(ordinal, bytes)?, 0)
    } else {
        let path = scan::segment_path(dir, 0);
        let blank = segment::make(disk, dir, 0, segment_bytes).map_err(io_error("making", &path))?;
        Active::new(blank, 0)
    };
    let next = active.ordinal() + 1;
    let ready = match spare {
        Some((ordinal, bytes)) => Some(open(ordinal, bytes)?),
        None => None,
    };
    Ok((active, ready, next))
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
