//! Appending, reading, reopening: what callers rely on.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use clawstaff_audit::{
    AppendError, Checkpoint, Entry, Environment, Log, OpenError, Phase, SigningKey,
    tile::{self, TileReader},
    tree, verify,
};
use clawstaff_types::Digest;
use jiff::Timestamp;

use crate::support::{append, append_together, assert_clean, draft, heavy, key, open, options, runtime};

#[test]
fn an_acknowledged_entry_is_read_back_as_it_was_hashed() {
    let root = tempfile::tempdir().unwrap();
    let (log, recovery) = open(root.path());
    assert_eq!((recovery.size, recovery.torn_bytes), (0, 0));
    let receipt = append(&log, draft("claw:support", Phase::Intent, "call"));
    assert_eq!(receipt.index(), 0);
    assert_eq!(receipt.call(), &Digest::of(b"call"));
    assert_eq!(receipt.origin(), log.origin());
    let stored = log.read(0, 10).unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(tree::leaf_hash(&stored[0].leaf), *receipt.leaf_hash());
    let entry = stored[0].entry().unwrap();
    assert_eq!((entry.seq, entry.phase), (0, Phase::Intent));
    let checkpoint = Checkpoint::verify(&log.checkpoint(), &key().verifying_key()).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root), (1, *receipt.leaf_hash()));
    drop(log);
    assert_eq!(assert_clean(root.path()).unfinished.len(), 1);
}

#[test]
fn entries_of_many_callers_are_dense_in_their_streams_and_survive_reopening() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let drafts: Vec<_> = (0..700)
        .map(|i| draft(&format!("claw:c{}", i % 7), Phase::Fact, &format!("call {i}")))
        .collect();
    let calls: Vec<_> = drafts.iter().map(|draft| draft.call).collect();
    let receipts = append_together(&log, drafts);
    for (receipt, call) in receipts.iter().zip(&calls) {
        assert_eq!(receipt.as_ref().unwrap().call(), call);
    }
    let before = log.read(0, 1000).unwrap();
    let checkpoint = log.checkpoint();
    drop(log);
    assert_clean(root.path());
    let (log, recovery) = open(root.path());
    assert_eq!(recovery.size, 700);
    assert_eq!(log.read(0, 1000).unwrap(), before);
    assert_eq!(log.checkpoint(), checkpoint);
    let next = append(&log, draft("claw:c3", Phase::Fact, "after"));
    let entry = log.read(next.index(), 1).unwrap()[0].entry().unwrap();
    assert_eq!((next.index(), entry.seq), (700, 100));
    drop(log);
    assert_clean(root.path());
}

#[test]
fn entries_fill_segment_after_segment_and_are_read_across_them() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    for i in 0..40 {
        append(&log, heavy(&format!("{i}"), 20_000));
    }
    let read = |log: &Log| {
        let mut all = Vec::new();
        while let Some(next) = log
            .read(all.len() as u64, 7)
            .unwrap()
            .into_iter()
            .reduce(|_, b| b)
        {
            let from = all.len() as u64;
            all.extend(log.read(from, 7).unwrap());
            assert_eq!(all.last().unwrap().index, next.index);
        }
        all
    };
    let before = read(&log);
    assert_eq!(before.len(), 40);
    drop(log);
    let segments = fs::read_dir(root.path().join("log/journal")).unwrap().count();
    assert!(segments >= 8, "{segments}");
    assert_clean(root.path());
    let (log, _) = open(root.path());
    assert_eq!(read(&log), before);
}

#[test]
fn tiles_give_proofs_that_a_stranger_can_check_against_the_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let held = {
        append_together(&log, (0..300).map(|i| heavy(&format!("{i}"), 10)).collect());
        Checkpoint::parse(&log.checkpoint()).unwrap()
    };
    append_together(&log, (300..1000).map(|i| heavy(&format!("{i}"), 10)).collect());
    let leaves = log.read(0, 1000).unwrap();
    drop(log);

    let dir = root.path().join("log");
    let note = fs::read_to_string(dir.join("checkpoint")).unwrap();
    let now = Checkpoint::verify(&note, &key().verifying_key()).unwrap();
    let tiles = TileReader::new(&dir, now.size);
    assert_eq!(tree::root_of(&tiles, now.size).unwrap(), now.root);
    for index in [0, 1, 255, 256, 511, 767, 768, 999] {
        let proof = tree::inclusion_proof(&tiles, index, now.size).unwrap().unwrap();
        let leaf = tree::leaf_hash(&leaves[usize::try_from(index).unwrap()].leaf);
        assert!(tree::verify_inclusion(&leaf, index, now.size, &proof, &now.root));
    }
    let proof = tree::consistency_proof(&tiles, held.size, now.size)
        .unwrap()
        .unwrap();
    assert!(tree::verify_consistency(
        held.size, now.size, &held.root, &now.root, &proof
    ));

    let bundle = fs::read(dir.join("tile/entries/001")).unwrap();
    let entries = tile::entries(&bundle).unwrap();
    assert_eq!(entries.len(), 256);
    assert_eq!(entries[3], leaves[259].leaf);
    assert!(!dir.join("tile/entries/001.p").exists());
    assert!(dir.join("tile/1/000.p/3").exists());
}

#[test]
fn a_future_that_is_dropped_leaves_its_entry_in_the_log() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    runtime().block_on(async {
        let mut future = Box::pin(log.append(draft("claw:a", Phase::Intent, "dropped")));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context)));
        drop(polled.await);
        drop(future);
    });
    let second = append(&log, draft("claw:a", Phase::Fact, "second"));
    assert_eq!(second.index(), 1);
    assert_eq!(log.read(0, 2).unwrap().len(), 2);
}

#[test]
fn time_does_not_run_backwards_when_the_clock_does() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let reading = Arc::clone(&clock);
    let environment = Environment {
        clock: Arc::new(move || Timestamp::from_second(reading.load(Ordering::SeqCst)).unwrap()),
        ..Environment::default()
    };
    let (log, _) = Log::open_in(options(root.path()), environment).unwrap();
    let mut times = Vec::new();
    for now in [1_000_000, 1_000_005, 999_990, 1_000_004, 1_000_006] {
        clock.store(now, Ordering::SeqCst);
        let receipt = append(&log, draft("claw:a", Phase::Fact, "x"));
        let entry = log.read(receipt.index(), 1).unwrap()[0].entry().unwrap();
        times.push(entry.time.as_second());
    }
    assert_eq!(times, [1_000_000, 1_000_005, 1_000_005, 1_000_005, 1_000_006]);
    drop(log);
    assert_clean(root.path());
}

#[test]
fn entries_that_break_a_rule_are_refused_and_leave_no_trace() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let intent = append(&log, draft("claw:a", Phase::Intent, "call")).index();
    let outcome = Phase::Outcome { of: intent };
    let refused = |draft| log.append_blocking(draft).unwrap_err();
    let no_intent = AppendError::NoSuchIntent { of: intent };
    assert_eq!(refused(draft("claw:b", outcome, "call")), no_intent);
    assert_eq!(refused(draft("claw:a", outcome, "other call")), no_intent);
    assert_eq!(
        refused(draft("claw:a", Phase::Outcome { of: 9 }, "call")),
        AppendError::NoSuchIntent { of: 9 }
    );
    assert!(matches!(
        refused(heavy("x", 70_000)),
        AppendError::TooLarge { .. }
    ));
    assert!(matches!(
        refused(heavy("x", 65_300)),
        AppendError::TooLarge { .. }
    ));
    let mut bad = draft("claw:a", Phase::Fact, "x");
    bad.stream = clawstaff_audit::Stream::System("two words".into());
    assert!(matches!(refused(bad), AppendError::Malformed { .. }));

    let done = append(&log, draft("claw:a", outcome, "call"));
    assert_eq!(done.index(), 1);
    assert_eq!(refused(draft("claw:a", outcome, "call")), no_intent);
    append(&log, heavy("x", 65_000));
    drop(log);
    let report = assert_clean(root.path());
    assert_eq!((report.size, report.unfinished.len()), (3, 0));
}

#[test]
fn an_intent_without_outcome_is_reported_until_it_has_one() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    append(&log, draft("claw:a", Phase::Fact, "before"));
    let intent = append(&log, draft("claw:a", Phase::Intent, "call"));
    drop(log);
    let (log, recovery) = open(root.path());
    let [unfinished] = &recovery.unfinished[..] else {
        panic!("{recovery:?}")
    };
    assert_eq!(
        (unfinished.index, unfinished.call),
        (intent.index(), *intent.call())
    );
    let outcome = Phase::Outcome { of: unfinished.index };
    append(&log, draft("claw:a", outcome, "call"));
    drop(log);
    assert_eq!(open(root.path()).1.unfinished, []);
}

#[test]
fn a_log_has_one_writer() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::Locked { .. })
    ));
    drop(log);
    open(root.path());
}

#[test]
fn another_key_or_another_name_does_not_open_the_log() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    append(&log, draft("claw:a", Phase::Fact, "x"));
    drop(log);
    let mut other = options(root.path());
    other.key = SigningKey::generate("example.org/gateway").unwrap();
    assert!(matches!(Log::open(other), Err(OpenError::Checkpoint { .. })));
    for file in ["log/checkpoint", "anchor/checkpoint", "log/vkey"] {
        fs::remove_file(root.path().join(file)).unwrap();
        let mut other = options(root.path());
        other.key = SigningKey::generate("example.org/gateway").unwrap();
        assert!(Log::open(other).is_err(), "without {file}");
    }
    let mut other = options(root.path());
    other.origin = "example.org/elsewhere".into();
    assert!(matches!(Log::open(other), Err(OpenError::OtherLog { .. })));
    open(root.path());
}

#[test]
fn a_log_that_was_put_back_from_an_older_copy_does_not_open() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    append(&log, draft("claw:a", Phase::Fact, "one"));
    drop(log);
    let old = root.path().join("old");
    copy_dir(&root.path().join("log"), &old);
    let (log, _) = open(root.path());
    append(&log, draft("claw:a", Phase::Fact, "two"));
    let held = Checkpoint::parse(&log.checkpoint()).unwrap();
    drop(log);
    fs::remove_dir_all(root.path().join("log")).unwrap();
    fs::rename(&old, root.path().join("log")).unwrap();

    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::RolledBack {
            have: 1,
            signed: 2,
            ..
        })
    ));
    // The copy agrees with itself; only what was kept elsewhere shows it.
    assert_clean(root.path());
    let report = verify::verify_dir(&root.path().join("log"), None, Some(&held));
    assert_eq!(report.problems[0].kind, verify::ProblemKind::RolledBack);
    assert_eq!(report.problems[0].index, Some(1));
    assert!(
        report.problems[0]
            .text
            .contains("has 1 entries, the checkpoint you hold says 2")
    );

    // A different second entry: as many entries, but not those.
    let mut forked = options(root.path());
    forked.anchor = None;
    let (log, _) = Log::open(forked).unwrap();
    append(&log, draft("claw:a", Phase::Fact, "another two"));
    drop(log);
    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::Rewritten { size: 2, .. })
    ));
    let report = verify::verify_dir(&root.path().join("log"), None, Some(&held));
    assert_eq!(report.problems[0].kind, verify::ProblemKind::Rewritten);
}

#[test]
fn a_log_in_use_verifies_and_its_reader_may_be_interrupted_anywhere() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let writer = {
        let log = log.clone();
        std::thread::spawn(move || {
            for i in 0..600 {
                append(&log, heavy(&format!("{i}"), 700));
            }
        })
    };
    while !writer.is_finished() {
        let report = verify::verify_dir(&root.path().join("log"), Some(&key().verifying_key()), None);
        assert!(report.is_clean(), "{:#?}", report.problems);
    }
    writer.join().unwrap();
    assert_eq!(*log.watch().borrow(), 600);
    drop(log);
    assert_eq!(assert_clean(root.path()).size, 600);
}

#[test]
fn tiles_that_were_lost_or_changed_are_made_again_from_the_journal() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    append_together(&log, (0..300).map(|i| heavy(&format!("{i}"), 10)).collect());
    drop(log);
    let tile = root.path().join("log/tile");
    fs::write(tile.join("0/000"), "").unwrap();
    fs::remove_dir_all(tile.join("entries")).unwrap();
    assert!(!verify::verify_dir(&root.path().join("log"), None, None).is_clean());
    // Opening from a snapshot does not look at what is before it.
    let _ = fs::remove_file(root.path().join("log/snapshot"));
    drop(open(root.path()));
    assert_clean(root.path());
}

#[test]
fn entries_say_what_was_handed_in() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let mut wanted = draft("system:gateway", Phase::Fact, "call");
    wanted.event.reason = Some("line\nbreak, \"quotes\", \u{2028} and ünïcode".into());
    let receipt = append(&log, wanted.clone());
    let leaf = &log.read(receipt.index(), 1).unwrap()[0].leaf;
    let entry = Entry::parse(leaf).unwrap();
    assert_eq!((entry.stream, entry.event), (wanted.stream, wanted.event));
    assert!(!leaf.contains(&b'\n'));
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
