//! The log as it was: checkpoints of earlier sizes, and where entries of an earlier time end.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use clawstaff_audit::{AtError, Checkpoint, Environment, Log};
use jiff::Timestamp;

use crate::support::{append, heavy, key, options};

/// A log on a clock of its own, in seconds since 1970, that publishes without pause.
fn open(root: &Path, clock: &Arc<AtomicI64>) -> Log {
    let (shown, steady) = (Arc::clone(clock), Arc::clone(clock));
    let environment = Environment {
        publish_every: Duration::ZERO,
        clock: Arc::new(move || Timestamp::from_second(shown.load(Ordering::SeqCst)).unwrap()),
        steady: Arc::new(move || Duration::from_secs(steady.load(Ordering::SeqCst).unsigned_abs())),
        ..Environment::default()
    };
    Log::open_in(options(root), environment).unwrap().0
}

/// A log of 600 entries over several segments, one a second from second 1,000 on; every checkpoint that it gave.
fn grown(root: &Path, clock: &Arc<AtomicI64>) -> (Log, Vec<Checkpoint>) {
    let log = open(root, clock);
    let mut given = Vec::new();
    for number in 0..600 {
        clock.store(1_000 + number, Ordering::SeqCst);
        append(&log, heavy(&number.to_string(), 800));
        given.push(Checkpoint::verify(&log.checkpoint(), &key().verifying_key()).unwrap());
    }
    (log, given)
}

fn at(log: &Log, size: u64) -> Checkpoint {
    let note = log.checkpoint_at(size).unwrap();
    Checkpoint::verify(&note, &key().verifying_key()).unwrap()
}

#[test]
fn the_checkpoint_of_an_earlier_size_is_the_one_of_that_time_also_when_its_entries_are_gone() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000));
    let (log, given) = grown(root.path(), &clock);
    let same = |log: &Log| {
        for stated in given.iter().step_by(7).chain(given.last()) {
            assert_eq!(at(log, stated.size), *stated);
        }
    };
    same(&log);
    drop(log);
    // Closing has published everything, and a log that was opened anew publishes again.
    let log = open(root.path(), &clock);
    while log.published() < 600 {
        std::thread::yield_now();
    }
    let first = log.prune(400).unwrap().first;
    assert!((100..=400).contains(&first), "{first}");
    same(&log);
    assert!(matches!(
        log.checkpoint_at(601),
        Err(AtError::Beyond {
            have: 600,
            asked: 601
        })
    ));
}

#[test]
fn tiles_that_were_changed_are_not_signed() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000));
    let (log, _) = grown(root.path(), &clock);
    while log.published() < 600 {
        std::thread::yield_now();
    }
    let tile = root.path().join("log/tile/0/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[40] ^= 1;
    fs::write(&tile, bytes).unwrap();
    assert!(matches!(log.checkpoint_at(77), Err(AtError::Tiles { size: 600 })));
}

#[test]
fn what_is_older_than_a_time_ends_where_a_segment_begins() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000));
    let (log, _) = grown(root.path(), &clock);
    let since = |second| log.first_since(Timestamp::from_second(second).unwrap()).unwrap();
    assert_eq!((since(0), since(999), since(1_000)), (0, 0, 0));
    let mut starts: Vec<u64> = Vec::new();
    for second in (1_000..1_700).step_by(10) {
        let first = since(second);
        // Entry N is of second 1,000 + N: nothing that goes is as young as that.
        assert!(
            first <= u64::try_from(second - 1_000).unwrap(),
            "{second}: {first}"
        );
        assert_eq!(starts.last().copied().unwrap_or_default().max(first), first);
        starts.push(first);
    }
    starts.dedup();
    assert!(starts.len() > 3, "{starts:?}");
    let last = *starts.last().unwrap();
    assert!(600 - last < 200, "{last}");
}
