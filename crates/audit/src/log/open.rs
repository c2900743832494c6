//! Opening a log: take the directory, read the journal again, hold it against what was signed, cut off what a
//! power cut left, and start the threads.
//!
//! Every step can be repeated: a crash anywhere in here leaves a directory that opens again.

mod error;
mod journal;
mod start;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

pub use self::error::OpenError;
use self::{
    error::io_error,
    journal::{Expected, Journal},
    start::Opened,
};
use super::{
    Environment, Inner, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, Options, Recovery, commit::FRAME_BYTES, prune,
};
use crate::{
    checkpoint::{self, Checkpoint},
    disk::{self, Disk, Guard},
    note::{MAX_NOTE_BYTES, SigningKey},
    scan::{self, Found},
    segment::{self, Active, Blank},
};

/// Tries to take the directory before giving up; a verifier holds the lock for an instant.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

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

    // 3. The truth. Nothing has been changed if this fails.
    let expected = Expected {
        dir: &dir,
        origin: &origin,
        key: &key.verifying_key(),
        signed: &signed,
    };
    let journal = expected.read(disk)?;

    // 4. Repairs, each durable before anything is built on it.
    store_vkey(disk, &dir, &key)?;
    cut_torn_tail(disk, &journal.found)?;
    prune::finish(disk, &dir, &journal.base).map_err(|error| OpenError::Io {
        doing: "removing what was pruned,",
        path: error.path,
        source: error.source,
    })?;
    let (active, ready, next) = segments(disk, &dir, &journal, segment_bytes)?;

    // 5. The threads.
    Opened {
        dir,
        anchor,
        origin: origin.into(),
        key: Arc::new(key),
        segment_bytes,
        journal,
        active,
        ready,
        next,
        lock,
    }
    .start(environment)
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
    journal: &Journal,
    segment_bytes: u64,
) -> Result<(Active, Option<Blank>, u64), OpenError> {
    let found = &journal.found;
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
