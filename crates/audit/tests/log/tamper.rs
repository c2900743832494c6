//! Whatever is changed in a closed log, verifying says so and names the place.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use clawstaff_audit::{Log, OpenError, Phase, verify};
use proptest::prelude::*;

use crate::support::{append, assert_clean, draft, key, open, options};

/// A closed log of six single-entry batches; the files in it but the lock.
fn small_log(root: &Path) -> Vec<PathBuf> {
    let (log, _) = open(root);
    for i in 0..3 {
        let intent = append(&log, draft("claw:a", Phase::Intent, &format!("{i}")));
        let outcome = Phase::Outcome { of: intent.index() };
        append(&log, draft("claw:a", outcome, &format!("{i}")));
    }
    drop(log);
    assert_clean(root);
    let mut files = Vec::new();
    walk(&root.join("log"), &mut files);
    files.retain(|path| !path.ends_with("lock"));
    assert!(files.len() >= 5, "{files:?}");
    files
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The report on a log in which `path` has these bytes; it must name that file (or the one it contradicts).
fn problem_with(root: &Path, path: &Path, bytes: &[u8]) -> verify::Problem {
    let good = fs::read(path).unwrap();
    fs::write(path, bytes).unwrap();
    let report = verify::verify_dir(&root.join("log"), Some(&key().verifying_key()), None);
    fs::write(path, good).unwrap();
    assert!(
        !report.is_clean(),
        "{} changed, and nothing was found",
        path.display()
    );
    report.problems[0].clone()
}

/// The same with one bit of the file flipped, in place.
fn problem_with_bit(root: &Path, path: &Path, byte: usize, bit: usize) -> verify::Problem {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut good = [0];
    file.read_exact_at(&mut good, byte as u64).unwrap();
    file.write_all_at(&[good[0] ^ (1 << bit)], byte as u64).unwrap();
    let report = verify::verify_dir(&root.join("log"), Some(&key().verifying_key()), None);
    file.write_all_at(&good, byte as u64).unwrap();
    assert!(
        !report.is_clean(),
        "{}, byte {byte}, bit {bit} changed, and nothing was found",
        path.display()
    );
    report.problems[0].clone()
}

fn records_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
}

/// `CLAWSTAFF_AUDIT_FLIPS=all` tries all eight bits of each byte instead of one.
fn all_bits() -> bool {
    std::env::var_os("CLAWSTAFF_AUDIT_FLIPS").is_some_and(|value| value == "all")
}

#[test]
fn every_changed_byte_is_found_in_its_file() {
    let root = tempfile::tempdir().unwrap();
    for path in small_log(root.path()) {
        let good = fs::read(&path).unwrap();
        let used = records_end(&good);
        let mut at = 0;
        while at < good.len() {
            let problem = problem_with_bit(root.path(), &path, at, at % 8);
            assert_eq!(problem.path, path, "byte {at}: {problem:?}");
            if all_bits() {
                for bit in 0..8 {
                    assert_eq!(
                        problem_with_bit(root.path(), &path, at, bit).path,
                        path,
                        "byte {at}, bit {bit}"
                    );
                }
            }
            // Everything that is used, and a sample of the zeroes after it.
            at += if at < used + 40 { 1 } else { 4093 };
        }
    }
}

#[test]
fn every_changed_bit_of_the_short_files_is_found() {
    let root = tempfile::tempdir().unwrap();
    for path in small_log(root.path()) {
        let good = fs::read(&path).unwrap();
        if path.ends_with("checkpoint") || path.ends_with("vkey") {
            for bit in 0..good.len() * 8 {
                let problem = problem_with_bit(root.path(), &path, bit / 8, bit % 8);
                assert_eq!(problem.path, path, "bit {bit}");
            }
        }
    }
}

#[test]
fn a_changed_record_is_named_by_its_index_and_offset() {
    let root = tempfile::tempdir().unwrap();
    let journal = root.path().join("log/journal/00000000.seg");
    small_log(root.path());
    let good = fs::read(&journal).unwrap();
    let starts = entry_offsets(&good);
    assert_eq!(starts.len(), 6);
    for (index, start) in starts.iter().enumerate().take(5) {
        let mut bad = good.clone();
        bad[start + 40] ^= 4;
        let problem = problem_with(root.path(), &journal, &bad);
        assert_eq!(problem.kind, verify::ProblemKind::Damaged);
        assert_eq!(
            (problem.index, problem.offset),
            (Some(index as u64), Some(*start as u64))
        );
        fs::write(&journal, &bad).unwrap();
        let opened = Log::open(options(root.path()));
        assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
        assert_eq!(
            fs::read(&journal).unwrap(),
            bad,
            "a refused log must not be touched"
        );
        fs::write(&journal, &good).unwrap();
    }
    // Damage to the last batch looks like an interrupted write, but the checkpoint knows better.
    let mut bad = good.clone();
    bad[starts[5] + 40] ^= 4;
    fs::write(&journal, &bad).unwrap();
    let opened = Log::open(options(root.path()));
    assert!(
        matches!(
            opened,
            Err(OpenError::RolledBack {
                have: 5,
                signed: 6,
                ..
            })
        ),
        "{opened:?}"
    );
}

fn entry_offsets(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() - 4)
        .step_by(8)
        .filter(|at| &bytes[*at..*at + 4] == b"cs1e")
        .collect()
}

#[test]
fn a_record_cut_out_swapped_doubled_or_moved_is_found() {
    let root = tempfile::tempdir().unwrap();
    small_log(root.path());
    let journal = root.path().join("log/journal/00000000.seg");
    let good = fs::read(&journal).unwrap();
    let starts = entry_offsets(&good);
    // A batch is one entry with its checkpoint: from one start to the next.
    let batch = |i: usize| good[starts[i]..starts[i + 1]].to_vec();
    let splice = |from: usize, to: usize, with: Vec<u8>| {
        let mut bytes = good[..starts[from]].to_vec();
        bytes.extend(with);
        bytes.extend(&good[starts[to]..]);
        bytes.resize(good.len(), 0);
        bytes
    };
    for (what, bad, first_bad) in [
        ("cut out", splice(2, 3, Vec::new()), 2),
        ("swapped", splice(2, 4, [batch(3), batch(2)].concat()), 2),
        ("doubled", splice(2, 3, [batch(2), batch(2)].concat()), 3),
        ("replaced", splice(2, 3, batch(1)), 2),
    ] {
        let problem = problem_with(root.path(), &journal, &bad);
        assert_eq!(problem.kind, verify::ProblemKind::Damaged, "{what}");
        assert_eq!(problem.index, Some(first_bad), "{what}: {problem:?}");
        assert_eq!(problem.path, journal, "{what}");
    }
    let end = records_end(&good);
    let mut emptied = good.clone();
    emptied[starts[5]..end].fill(0);
    let problem = problem_with(root.path(), &journal, &emptied);
    assert_eq!(problem.kind, verify::ProblemKind::RolledBack);
    assert_eq!(
        (problem.index, problem.offset),
        (Some(5), Some(starts[5] as u64)),
        "{problem:?}"
    );
}

#[test]
fn shortened_lengthened_and_missing_files_are_found() {
    let root = tempfile::tempdir().unwrap();
    for path in small_log(root.path()) {
        let good = fs::read(&path).unwrap();
        let is_blank = good.iter().all(|b| *b == 0);
        for keep in [0, 1, good.len() / 2, good.len() - 1] {
            if !is_blank {
                assert_eq!(problem_with(root.path(), &path, &good[..keep]).path, path);
            }
        }
        for tail in ["x", "\n", "\u{2014} other AAAAAAAA\n"] {
            if path.ends_with("checkpoint") && tail.starts_with('\u{2014}') {
                // A line of an unknown signer is not a change: cosignatures are added like this.
                continue;
            }
            let mut bad = good.clone();
            bad.extend(tail.as_bytes());
            assert_eq!(problem_with(root.path(), &path, &bad).path, path);
        }
        // A partial tile that a later one contains may go: the layout says so.
        if !is_blank && !path.ends_with("vkey") && !is_outgrown(&path) {
            fs::remove_file(&path).unwrap();
            let report = verify::verify_dir(&root.path().join("log"), Some(&key().verifying_key()), None);
            assert!(
                !report.is_clean(),
                "{} removed, and nothing was found",
                path.display()
            );
            fs::write(&path, good).unwrap();
        }
    }
}

/// Whether a partial tile has a later version beside it. Its name is its width.
fn is_outgrown(path: &Path) -> bool {
    let width = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
    };
    let folder = path
        .parent()
        .filter(|folder| folder.extension().is_some_and(|end| end == "p"));
    let beside = folder
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten();
    beside.flatten().any(|other| width(&other.path()) > width(path))
}

#[test]
fn a_file_that_belongs_to_no_entry_is_found() {
    let root = tempfile::tempdir().unwrap();
    small_log(root.path());
    for name in ["tile/0/001", "tile/0/000.p/9", "tile/1/000", "tile/entries/x"] {
        let path = root.path().join("log").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "made up").unwrap();
        let report = verify::verify_dir(&root.path().join("log"), None, None);
        assert_eq!(report.problems[0].path, path);
        fs::remove_file(&path).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_files_are_reported_without_panic(
        journal in prop::collection::vec(any::<u8>(), 0..400), lead in 0_usize..4,
        checkpoint in any::<Vec<u8>>(), vkey in any::<Vec<u8>>(), tile in any::<Vec<u8>>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("log");
        for sub in ["journal", "tile/0", "tile/entries"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let kinds: [&[u8]; 4] = [b"", b"cs1s", b"cs1e", b"cs1c"];
        let journal = [kinds[lead], &journal].concat();
        fs::write(dir.join("journal/00000000.seg"), journal).unwrap();
        fs::write(dir.join("checkpoint"), checkpoint).unwrap();
        fs::write(dir.join("vkey"), vkey).unwrap();
        fs::write(dir.join("tile/0/000"), &tile).unwrap();
        fs::write(dir.join("tile/entries/000.p"), &tile).unwrap();
        prop_assert!(!verify::verify_dir(&dir, None, None).is_clean());
        let _ = Log::open(options(root.path()));
    }
}
