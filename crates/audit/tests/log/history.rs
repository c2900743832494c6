//! A log with a past: opening it from its snapshot, and pruning it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clawstaff_audit::{
    Environment, Log, OpenError, Phase, ReadError, Recovery,
    tile::TileReader,
    tree,
    verify::{self, ProblemKind},
};

use crate::{
    sim::{Fault, Sim},
    support::{append, append_together, assert_clean, draft, heavy, key, options},
};

/// Opens a log that publishes, and leaves snapshots, without pause.
fn open(root: &Path) -> (Log, Recovery) {
    let environment = Environment {
        publish_every: Duration::ZERO,
        ..Environment::default()
    };
    Log::open_in(options(root), environment).unwrap()
}

/// Appends `n` entries of about 1 KiB; a segment takes about 110 of them.
fn grow(log: &Log, n: usize) {
    for start in (0..n).step_by(20) {
        let batch = (start..n.min(start + 20)).map(|i| heavy(&i.to_string(), 800));
        for result in append_together(log, batch.collect()) {
            result.unwrap();
        }
    }
}

/// Makes a closed log of `n` entries over several segments.
fn grown(root: &Path, n: usize) {
    let (log, _) = open(root);
    grow(&log, n);
}

fn segment(root: &Path, ordinal: u32) -> PathBuf {
    root.join(format!("log/journal/{ordinal:08}.seg"))
}

fn verified(root: &Path) -> verify::Report {
    verify::verify_dir(&root.join("log"), Some(&key().verifying_key()), None)
}

fn kinds(root: &Path) -> Vec<ProblemKind> {
    verified(root)
        .problems
        .iter()
        .map(|problem| problem.kind)
        .collect()
}

/// Changes a byte in the middle of the first entry of a segment.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[700] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn opening_from_the_snapshot_finds_what_reading_everything_finds() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let intent = append(&log, draft("claw:a", Phase::Intent, "early")).index();
    grow(&log, 700);
    drop(log);
    assert!(root.path().join("log/snapshot").exists());
    let (log, short) = open(root.path());
    drop(log);
    fs::remove_file(root.path().join("log/snapshot")).unwrap();
    let (log, long) = open(root.path());
    assert_eq!(short, long);
    assert_eq!(short.unfinished.first().map(|found| found.index), Some(intent));
    // Everything can be read, the unscanned segments too, and the log goes on.
    assert_eq!(log.read(0, 1000).unwrap().len(), 701);
    append(&log, draft("claw:a", Phase::Outcome { of: intent }, "early"));
    drop(log);
    assert_eq!(assert_clean(root.path()).size, 702);
}

#[test]
fn entries_before_the_snapshot_are_read_where_they_are() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 700);
    let (log, _) = open(root.path());
    for index in [0, 1, 63, 64, 65, 333, 699] {
        let stored = log.read(index, 1).unwrap();
        assert_eq!(stored.first().map(|stored| stored.index), Some(index));
    }
    assert_eq!(log.read(700, 1).unwrap(), []);
}

#[test]
fn damage_before_the_snapshot_is_found_by_verifying_and_by_opening_without_it() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 700);
    damage(&segment(root.path(), 0));
    drop(open(root.path()));
    let report = verified(root.path());
    assert_eq!(report.problems[0].kind, ProblemKind::Damaged);
    fs::remove_file(root.path().join("log/snapshot")).unwrap();
    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::Damaged { index: 0, .. })
    ));
}

#[test]
fn a_snapshot_that_does_not_fit_is_not_used_and_is_reported() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 500);
    let path = root.path().join("log/snapshot");
    let early = fs::read(&path).unwrap();
    let (log, _) = open(root.path());
    grow(&log, 500);
    drop(log);

    // An older one of the same log fits: it is only slower.
    fs::write(&path, &early).unwrap();
    assert_clean(root.path());
    assert_eq!(open(root.path()).1.size, 1000);

    let other = tempfile::tempdir().unwrap();
    let (log, _) = open(other.path());
    append(&log, draft("claw:other", Phase::Fact, "another history"));
    grow(&log, 600);
    drop(log);
    for forged in [
        fs::read(other.path().join("log/snapshot")).unwrap(),
        early.iter().map(|b| if *b == b'3' { b'4' } else { *b }).collect(),
        b"{}".to_vec(),
        Vec::new(),
    ] {
        fs::write(&path, &forged).unwrap();
        assert_eq!(kinds(root.path()), [ProblemKind::State]);
        assert_eq!(open(root.path()).1.size, 1000);
    }
    // The last opening wrote no new one: nothing was sealed.
    fs::remove_file(&path).unwrap();
    assert_clean(root.path());
}

#[test]
fn a_log_behind_its_snapshot_was_rolled_back() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 700);
    let last = (0..100).rfind(|n| segment(root.path(), *n).exists()).unwrap();
    for ordinal in 2..=last {
        fs::remove_file(segment(root.path(), ordinal)).unwrap();
    }
    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::RolledBack { signed: 700, .. })
    ));
}

#[test]
fn pruning_removes_whole_segments_and_keeps_every_proof_of_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    grow(&log, 1000);
    drop(log);
    let held = verify::read_checkpoint(&root.path().join("log/checkpoint"), None).unwrap();
    let (log, _) = open(root.path());
    wait_until_published(&log);
    let pruned = log.prune(600).unwrap();
    assert!((450..=600).contains(&pruned.first), "{pruned:?}");
    assert_eq!((pruned.entries, log.first()), (pruned.first, pruned.first));
    assert!(!segment(root.path(), 0).exists());
    assert!(!root.path().join("log/tile/entries/000").exists());
    assert!(root.path().join("log/tile/0/000").exists());
    assert!(matches!(log.read(0, 1), Err(ReadError::Pruned { index: 0, .. })));
    assert_eq!(log.read(pruned.first, 1).unwrap()[0].index, pruned.first);
    grow(&log, 300);
    assert_eq!(log.prune(pruned.first).unwrap().entries, 0);
    drop(log);

    // Proofs of what is left, and from what somebody held before, come out of the tiles as ever.
    let report = verify::verify_dir(
        &root.path().join("log"),
        Some(&key().verifying_key()),
        Some(&held),
    );
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.first, report.size), (pruned.first, 1300));
    assert!(report.unchecked.iter().any(|text| text.contains("pruned")));
    let tiles = TileReader::new(&root.path().join("log"), report.size);
    let leaf = tree::leaf_hash(&open(root.path()).0.read(1200, 1).unwrap()[0].leaf);
    let proof = tree::inclusion_proof(&tiles, 1200, report.size).unwrap().unwrap();
    assert!(tree::verify_inclusion(
        &leaf,
        1200,
        report.size,
        &proof,
        &report.root
    ));
    let proof = tree::consistency_proof(&tiles, held.size, report.size)
        .unwrap()
        .unwrap();
    assert!(tree::verify_consistency(
        held.size,
        report.size,
        &held.root,
        &report.root,
        &proof
    ));

    // It opens without its snapshot, prunes again, and still opens.
    fs::remove_file(root.path().join("log/snapshot")).unwrap();
    let (log, recovery) = open(root.path());
    assert_eq!(recovery.size, 1300);
    wait_until_published(&log);
    assert!(log.prune(1100).unwrap().first > pruned.first);
    drop(log);
    assert_clean(root.path());
    assert_eq!(open(root.path()).1.size, 1300);
}

fn wait_until_published(log: &Log) {
    while log.published() < log.size() {
        std::thread::yield_now();
    }
}

#[test]
fn a_checkpoint_from_before_the_pruning_is_still_extended() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 300);
    let held = verify::read_checkpoint(&root.path().join("log/checkpoint"), None).unwrap();
    let (log, _) = open(root.path());
    grow(&log, 700);
    wait_until_published(&log);
    log.prune(900).unwrap();
    drop(log);
    let verify = |held| verify::verify_dir(&root.path().join("log"), None, Some(held));
    assert!(verify(&held).is_clean());
    let mut other = held.clone();
    other.root = tree::leaf_hash(b"another");
    assert_eq!(verify(&other).problems[0].kind, ProblemKind::Rewritten);
}

#[test]
fn an_intent_without_outcome_is_not_pruned() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    grow(&log, 300);
    let intent = append(&log, draft("claw:a", Phase::Intent, "open")).index();
    grow(&log, 600);
    wait_until_published(&log);
    assert!(log.prune(u64::MAX).unwrap().first <= intent);
    drop(log);
    let (log, recovery) = open(root.path());
    assert_eq!(recovery.unfinished.first().map(|found| found.index), Some(intent));
    append(&log, draft("claw:a", Phase::Outcome { of: intent }, "open"));
    wait_until_published(&log);
    assert!(log.prune(u64::MAX).unwrap().first > intent);
    drop(log);
    assert_clean(root.path());
}

#[test]
fn what_is_damaged_is_not_pruned() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 700);
    damage(&segment(root.path(), 1));
    let (log, _) = open(root.path());
    wait_until_published(&log);
    let refused = log.prune(600).unwrap_err();
    assert!(refused.to_string().contains("nothing was removed"), "{refused}");
    assert_eq!(log.first(), 0);
    assert!(segment(root.path(), 0).exists());
}

#[test]
fn segments_that_somebody_else_removed_are_missing_not_pruned() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 700);
    let (log, _) = open(root.path());
    wait_until_published(&log);
    let first = log.prune(300).unwrap().first;
    drop(log);
    let next = (1..100).find(|n| segment(root.path(), *n).exists()).unwrap();
    fs::remove_file(segment(root.path(), next)).unwrap();
    let report = verified(root.path());
    assert_eq!(
        (report.problems[0].kind, report.problems[0].index),
        (ProblemKind::Damaged, Some(first))
    );
    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::Damaged { .. })
    ));
}

#[test]
fn a_pruned_log_without_what_stands_for_its_past_does_not_open() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 700);
    let (log, _) = open(root.path());
    wait_until_published(&log);
    log.prune(300).unwrap();
    drop(log);
    let path = root.path().join("log/pruned");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[10] ^= 1;
    fs::write(&path, bad).unwrap();
    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::Base { .. })
    ));
    assert_eq!(kinds(root.path())[0], ProblemKind::State);
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        Log::open(options(root.path())),
        Err(OpenError::Damaged { .. })
    ));
    fs::write(&path, good).unwrap();
    drop(open(root.path()));
    assert_clean(root.path());
}

#[test]
fn hashes_of_pruned_entries_that_were_changed_are_found() {
    let root = tempfile::tempdir().unwrap();
    grown(root.path(), 700);
    let (log, _) = open(root.path());
    wait_until_published(&log);
    log.prune(600).unwrap();
    drop(log);
    let path = root.path().join("log/tile/0/000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(kinds(root.path()), [ProblemKind::Tile]);
}

#[test]
fn pruning_that_is_interrupted_anywhere_is_completed_or_never_was() {
    for fault in [Fault::Lost, Fault::Happened, Fault::PowerCut] {
        for after in 1.. {
            let what = format!("{fault:?} at operation {after} of pruning");
            let sim = Sim::default();
            let environment = Environment {
                disk: Arc::new(sim.clone()),
                publish_every: Duration::ZERO,
                ..Environment::default()
            };
            let (log, _) = Log::open_in(options(Path::new("/")), environment).unwrap();
            for (n, bytes) in [(300, 0), (14, 16_000)] {
                let drafts = (0..n).map(|i| heavy(&format!("{n} {i}"), bytes));
                for result in append_together(&log, drafts.collect()) {
                    result.unwrap();
                }
            }
            wait_until_published(&log);
            let before = sim.operations();
            sim.fail(before + after, fault);
            let told = log.prune(310);
            let took = sim.operations() - before;
            drop(log);

            let root = tempfile::tempdir().unwrap();
            sim.put_down(after, root.path());
            let (log, recovery) = Log::open(options(root.path())).expect(&what);
            assert_eq!(recovery.size, 314, "{what}");
            if let Ok(pruned) = told {
                assert!(pruned.first > 256, "{what}: {pruned:?}");
                assert_eq!(log.first(), pruned.first, "{what}");
            }
            append(&log, draft("claw:after", Phase::Fact, "after"));
            drop(log);
            let report = verified(root.path());
            assert!(report.is_clean(), "{what}: {:#?}", report.problems);
            if took + 3 < after {
                break;
            }
        }
    }
}
