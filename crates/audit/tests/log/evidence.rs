//! Evidence for people who have nothing else: proofs and bundles, checked by us and by another implementation,
//! with every byte changed once; and readers who prove while writers write.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use clawstaff_audit::{
    Checkpoint, Cosigner, Log, Phase, Policy, Proof, SigningKey, Stream,
    bundle::{self, Bundler, Files, MakeBundleError},
    cosignature::cosign,
    published::{Published, TileHashes},
    tree::leaf_hash,
};
use jiff::Timestamp;

use crate::{
    differential::Go,
    sim::Random,
    support::{append, append_together, draft, heavy, key, open},
};

fn witness() -> SigningKey {
    SigningKey::from_bytes("example.org/control", &[7; 32]).unwrap()
}

fn policy() -> String {
    let cosigner = Cosigner::of(&witness().verifying_key());
    format!(
        "log {}\nwitness control {cosigner}\nquorum control\n",
        key().vkey()
    )
}

/// A closed log of `n` entries, two thirds of them of the Claw `a`, and its cosigned checkpoint.
fn log_of(root: &Path, n: u64) -> (Published, String) {
    let (log, _) = open(root);
    let name = |i| if i % 3 == 0 { "claw:b" } else { "claw:a" };
    let drafts = (0..n).map(|i| draft(name(i), Phase::Fact, &format!("{i}")));
    append_together(&log, drafts.collect());
    let note = log.checkpoint();
    drop(log);
    let time = Timestamp::from_second(1_795_000_000).unwrap();
    (
        Published::new(&root.join("log")),
        cosign(&note, &witness(), time).unwrap(),
    )
}

fn of_a(_: u64, entry: &clawstaff_audit::Entry) -> bool {
    entry.stream == "claw:a".parse::<Stream>().unwrap()
}

fn bundle_of(root: &Path, n: u64) -> Files {
    let (published, checkpoint) = log_of(root, n);
    let mut bundler = Bundler::default();
    let selected = bundler
        .add_log("gateway", &published, &checkpoint, &policy(), &mut of_a)
        .unwrap();
    assert_eq!((selected.entries as u64, selected.of), (n - n.div_ceil(3), n));
    bundler
        .finish([("claw".to_owned(), "a".to_owned())].into())
        .unwrap()
}

fn put_down(files: &Files, root: &Path) {
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn every_entry_is_proved_against_any_checkpoint_that_covers_it() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let mut notes = Vec::new();
    for i in 0..40 {
        append_together(
            &log,
            (0..=i % 17).map(|j| heavy(&format!("{i} {j}"), 5)).collect(),
        );
        notes.push(log.checkpoint());
    }
    let leaves = log.read(0, 1000).unwrap();
    drop(log);
    let published = Published::new(&root.path().join("log"));
    let known = Policy::of_log(key().verifying_key());
    let mut random = Random(1);
    for note in &notes {
        let size = Checkpoint::parse(note).unwrap().size;
        let hashes = TileHashes::new(&published, size);
        for _ in 0..20 {
            let index = random.next() % size;
            let leaf = &leaves[usize::try_from(index).unwrap()].leaf;
            let proof = Proof::make(&hashes, index, leaf, note).unwrap();
            let read = Proof::parse(&proof.to_string()).unwrap();
            read.verify(leaf, &known).unwrap();
            let other = &leaves[usize::try_from((index + 1) % size).unwrap()].leaf;
            assert!(size == 1 || read.verify(other, &known).is_err());
        }
        assert!(Proof::make(&hashes, size, b"", note).is_err());
    }
}

#[test]
fn a_bundle_verifies_here_and_with_another_implementation() {
    let go = Go::build();
    for n in [2, 5, 256, 257, 700] {
        let root = tempfile::tempdir().unwrap();
        let files = bundle_of(root.path(), n);
        let report = bundle::verify(&files, Some(&Policy::parse(&policy()).unwrap()));
        assert!(report.is_clean(), "{n}: {:#?}", report.problems);
        let [log] = report.logs.as_slice() else {
            panic!("{report:?}")
        };
        assert_eq!((log.entries as u64, log.checkpoint.size), (n - n.div_ceil(3), n));
        assert_eq!(log.witnesses[0].0, "control");
        assert_eq!(
            log.incomplete().count(),
            0,
            "every entry of the Claw was selected"
        );
        assert_eq!(bundle::verify(&files, None).unchecked.len(), 1);
        let folder = root.path().join("bundle");
        put_down(&files, &folder);
        let theirs = go.bundle(&folder);
        let said = String::from_utf8_lossy(&theirs.stdout).into_owned();
        assert_eq!(
            said,
            format!("gateway: {} entries\n", n - n.div_ceil(3)),
            "{theirs:?}"
        );
    }
}

#[test]
fn no_changed_byte_of_a_bundle_is_accepted_and_the_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let files = bundle_of(root.path(), 3);
    let known = Policy::parse(&policy()).unwrap();
    let all = std::env::var_os("CLAWSTAFF_AUDIT_FLIPS").is_some_and(|value| value == "all");
    let mut tried = 0;
    for (path, good) in &files {
        for bit in (0..good.len() * 8).filter(|bit| all || bit % 8 == (bit / 8) % 8) {
            let mut changed = files.clone();
            let at = bit / 8;
            changed.get_mut(path).unwrap()[at] ^= 1 << (bit % 8);
            for policy in [None, Some(&known)]
                .into_iter()
                .skip(usize::from(!all && at % 2 == 0))
                .take(1 + usize::from(all))
            {
                let report = bundle::verify(&changed, policy);
                let named = report.problems.iter().any(|problem| problem.path == *path);
                let sums = path == "SHA256SUMS";
                assert!(
                    !report.is_clean() && (named || sums),
                    "{path}, byte {at}: {:?}",
                    report.problems
                );
            }
            tried += 1;
        }
    }
    println!("{tried} bits in {} files changed, unnoticed: 0", files.len());
}

#[test]
fn what_is_changed_with_fitting_checksums_does_not_fit_the_signatures() {
    let root = tempfile::tempdir().unwrap();
    let files = bundle_of(root.path(), 40);
    let go = Go::build();
    let known = Policy::parse(&policy()).unwrap();
    let change = |path: &str, from: &str, to: &str| {
        let mut changed = files.clone();
        let text = String::from_utf8(changed[path].clone()).unwrap();
        assert!(text.contains(from), "{path} has no {from}");
        changed.insert(path.to_owned(), text.replacen(from, to, 1).into_bytes());
        changed
    };
    let tile = "gateway/tile/0/000.p/40".to_owned();
    let mut in_tile = files.clone();
    in_tile.get_mut(&tile).unwrap()[40] ^= 1;
    for (what, mut changed) in [
        (
            "a record",
            change("gateway/events.jsonl", "tool.call", "tool.cell"),
        ),
        ("a size", change("gateway/checkpoint", "\n40\n", "\n41\n")),
        (
            "a path",
            change("gateway/proofs/1.tlog-proof", "index 1\n", "index 2\n"),
        ),
        ("a tile", in_tile),
    ] {
        let lines = changed
            .iter()
            .filter(|(path, _)| *path != "SHA256SUMS")
            .map(|(path, bytes)| {
                let digest = clawstaff_types::Digest::of(bytes).to_string();
                format!("{}  {path}\n", digest.trim_start_matches("sha256:"))
            });
        let sums: String = lines.collect();
        changed.insert("SHA256SUMS".to_owned(), sums.into_bytes());
        let report = bundle::verify(&changed, Some(&known));
        assert!(!report.is_clean(), "{what}");
        let sums_fit = report
            .problems
            .iter()
            .all(|problem| !problem.text.contains("SHA256SUMS"));
        assert!(sums_fit, "{what}: {:?}", report.problems);
        let folder = root.path().join(what.replace(' ', "-"));
        put_down(&changed, &folder);
        assert!(!go.bundle(&folder).status.success(), "{what}");
    }
    // A file taken away, and a file too many.
    for path in files.keys().step_by(1 + files.len() / 20) {
        let mut changed = files.clone();
        changed.remove(path);
        assert!(!bundle::verify(&changed, None).is_clean(), "without {path}");
    }
    let mut changed = files.clone();
    changed.insert("gateway/tile/0/002".to_owned(), vec![0; 8192]);
    assert!(!bundle::verify(&changed, None).is_clean());
}

#[test]
fn a_bundle_of_strangers_keys_or_of_nothing_is_not_made_or_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let (published, checkpoint) = log_of(root.path(), 9);
    let mut bundler = Bundler::default();
    let mut none = |_: u64, _: &clawstaff_audit::Entry| false;
    let selected = bundler.add_log("gateway", &published, &checkpoint, &policy(), &mut none);
    assert_eq!(selected.unwrap().entries, 0);
    assert!(matches!(bundler.finish([].into()), Err(MakeBundleError::Nothing)));
    let mut bundler = Bundler::default();
    for name in ["", "../x", "a/b", "A"] {
        let refused = bundler.add_log(name, &published, &checkpoint, &policy(), &mut of_a);
        assert!(matches!(refused, Err(MakeBundleError::Name(_))), "{name}");
    }
    let last = checkpoint.trim_end().rfind('\n').unwrap();
    let uncosigned = checkpoint[..=last].to_owned();
    let refused = bundler.add_log("gateway", &published, &uncosigned, &policy(), &mut of_a);
    assert!(matches!(refused, Err(MakeBundleError::Checkpoint(_))));
    bundler
        .add_log("gateway", &published, &checkpoint, &policy(), &mut of_a)
        .unwrap();
    let files = bundler.finish([].into()).unwrap();
    let forger = SigningKey::from_bytes(key().name(), &[66; 32]).unwrap();
    let other = Policy::of_log(forger.verifying_key());
    assert!(!bundle::verify(&files, Some(&other)).is_clean());
}

/// Proves random entries against the checkpoint that everybody has, until the writers are done.
fn read_along(log: &Log, dir: &Path, seed: u64, done: &AtomicBool, proofs: &AtomicU64) {
    let (published, known) = (Published::new(dir), Policy::of_log(key().verifying_key()));
    let mut random = Random(seed);
    let mut last = Checkpoint::parse(&log.checkpoint()).unwrap();
    while !done.load(Ordering::SeqCst) {
        let Ok(note) = fs::read_to_string(dir.join("checkpoint")) else {
            continue;
        };
        let common = Checkpoint::verify(&note, &key().verifying_key()).unwrap();
        if common.size == 0 {
            continue;
        }
        assert!(
            common.size >= last.size || last.size > log.published(),
            "the checkpoint went back"
        );
        let hashes = TileHashes::new(&published, common.size);
        for _ in 0..8 {
            let index = random.next() % common.size;
            let leaf = log.read(index, 1).unwrap().remove(0).leaf;
            // A partial tile is taken away when the full one has come: then this reader is late, and tries again.
            let Ok(proof) = Proof::make(&hashes, index, &leaf, &note) else {
                continue;
            };
            proof.verify(&leaf, &known).unwrap();
            proofs.fetch_add(1, Ordering::SeqCst);
        }
        last = common;
    }
}

#[test]
fn readers_prove_entries_against_one_checkpoint_while_writers_write() {
    let rounds: usize = std::env::var("CLAWSTAFF_AUDIT_HAMMER").map_or(40, |rounds| rounds.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    append(&log, draft("claw:a", Phase::Fact, "first"));
    let dir = root.path().join("log");
    let (done, proofs) = (AtomicBool::new(false), AtomicU64::new(0));
    let receipts = std::thread::scope(|scope| {
        for seed in 0..3 {
            let (log, dir, done, proofs) = (&log, &dir, &done, &proofs);
            scope.spawn(move || read_along(log, dir, seed, done, proofs));
        }
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let log = log.clone();
                scope.spawn(move || {
                    let mut receipts = Vec::new();
                    for round in 0..rounds {
                        let drafts = (0..16)
                            .map(|i| draft(&format!("claw:w{writer}"), Phase::Fact, &format!("{round} {i}")));
                        receipts.extend(append_together(&log, drafts.collect()));
                    }
                    receipts
                })
            })
            .collect();
        let receipts: Vec<_> = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        while proofs.load(Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        done.store(true, Ordering::SeqCst);
        receipts
    });
    drop(log);
    // Everything acknowledged is in the next checkpoint, exactly once.
    let note = fs::read_to_string(dir.join("checkpoint")).unwrap();
    let (published, known) = (Published::new(&dir), Policy::of_log(key().verifying_key()));
    let size = Checkpoint::parse(&note).unwrap().size;
    assert_eq!(size, receipts.len() as u64 + 1);
    let hashes = TileHashes::new(&published, size);
    let mut leaves = Vec::new();
    published
        .leaves(0, size, &mut |_, leaf| {
            leaves.push(leaf.to_vec());
            true
        })
        .unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for receipt in receipts.into_iter().map(Result::unwrap) {
        let leaf = &leaves[usize::try_from(receipt.index()).unwrap()];
        assert_eq!(leaf_hash(leaf), *receipt.leaf_hash());
        Proof::make(&hashes, receipt.index(), leaf, &note)
            .unwrap()
            .verify(leaf, &known)
            .unwrap();
        assert!(seen.insert(receipt.index()));
    }
    println!(
        "{} entries, {} proofs meanwhile, lost: 0",
        size,
        proofs.into_inner()
    );
}
