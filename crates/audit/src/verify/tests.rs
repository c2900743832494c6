//! Forgers who know the format: they make every checksum fit again. Those who only change bytes are in
//! `tests/log/tamper.rs`.

use clawstaff_types::{Actor, Event, EventKind};

use std::fs;

use super::*;
use crate::{
    Draft, Log, Options, Phase, SigningKey, Stream,
    record::{self, Kind},
    scan,
    tree::{self, CompactRange},
};

fn key() -> SigningKey {
    SigningKey::from_bytes("example.org/log", &[9; 32]).unwrap()
}

/// A closed log of three facts, each its own batch.
fn written(root: &Path) -> PathBuf {
    let options = Options {
        dir: root.to_owned(),
        anchor: None,
        origin: "example.org/log".into(),
        key: key(),
        segment_bytes: 0,
    };
    let (log, _) = Log::open(options).unwrap();
    for _ in 0..3 {
        let event = Event::new(EventKind::ToolCall, Actor::System("gateway".into()));
        let draft = Draft {
            stream: Stream::System("gateway".into()),
            phase: Phase::Fact,
            call: Hash::of(b"call"),
            event,
        };
        log.append_blocking(draft).unwrap();
    }
    drop(log);
    scan::segment_path(root, 0)
}

/// Rewrites the journal record by record, with checksums that fit.
fn rewrite(path: &Path, mut change: impl FnMut(Kind, u64, &[u8]) -> Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Ok((record, length)) = record::decode(&bytes[at..]) {
        let body = change(record.kind, record.index, record.body);
        record::encode(&mut out, record.kind, record.index, record.batch, &body);
        at += length;
    }
    out.resize(bytes.len(), 0);
    fs::write(path, out).unwrap();
}

fn with_other_call(body: &[u8]) -> Vec<u8> {
    let (old, new) = (Hash::of(b"call").to_string(), Hash::of(b"forged").to_string());
    String::from_utf8(body.to_vec())
        .unwrap()
        .replace(&old, &new)
        .into_bytes()
}

fn first_problem(root: &Path) -> Problem {
    let report = verify_dir(root, Some(&key().verifying_key()), None);
    report
        .problems
        .first()
        .cloned()
        .expect("the forgery was not found")
}

#[test]
fn a_changed_entry_with_a_fitting_checksum_does_not_fit_its_batch_s_root() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    rewrite(&path, |kind, index, body| match kind {
        Kind::Entry if index == 1 => with_other_call(body),
        _ => body.to_vec(),
    });
    let problem = first_problem(root.path());
    assert_eq!((problem.kind, problem.index), (ProblemKind::Damaged, Some(1)));
}

#[test]
fn a_changed_entry_with_every_root_made_to_fit_lacks_the_signature() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let mut tree = CompactRange::new();
    rewrite(&path, |kind, index, body| match kind {
        Kind::Opening => body.to_vec(),
        Kind::Entry => {
            let body = if index == 1 {
                with_other_call(body)
            } else {
                body.to_vec()
            };
            tree.push(tree::leaf_hash(&body));
            body
        }
        Kind::Checkpoint => {
            let note = str::from_utf8(body).unwrap();
            let mut stated = Checkpoint::parse(note).unwrap();
            let old = stated.to_note_body();
            stated.root = tree.root();
            note.replace(&old, &stated.to_note_body()).into_bytes()
        }
    });
    let report = verify_dir(root.path(), Some(&key().verifying_key()), None);
    let kinds: Vec<_> = report.problems.iter().map(|problem| problem.kind).collect();
    assert!(kinds.contains(&ProblemKind::Checkpoint), "{kinds:?}");
    assert!(kinds.contains(&ProblemKind::Rewritten), "{kinds:?}");
    assert!(kinds.contains(&ProblemKind::Tile), "{kinds:?}");
}

#[test]
fn signing_everything_anew_with_another_key_is_found_by_whoever_knows_the_key() {
    let root = tempfile::tempdir().unwrap();
    let forger = SigningKey::from_bytes("example.org/log", &[66; 32]).unwrap();
    let options = Options {
        dir: root.path().to_owned(),
        anchor: None,
        origin: "example.org/log".into(),
        key: forger,
        segment_bytes: 0,
    };
    drop(Log::open(options).unwrap());
    let kinds = |key: Option<&VerifyingKey>| -> Vec<_> {
        let report = verify_dir(root.path(), key, None);
        report.problems.iter().map(|problem| problem.kind).collect()
    };
    assert_eq!(kinds(None), []);
    assert_eq!(
        kinds(Some(&key().verifying_key())),
        [ProblemKind::Key, ProblemKind::Checkpoint]
    );
}

#[test]
fn entries_that_the_log_itself_signed_against_its_rules_are_found() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    rewrite(&path, |kind, index, body| match kind {
        Kind::Entry if index == 2 => String::from_utf8(body.to_vec())
            .unwrap()
            .replace("\"seq\":2", "\"seq\":3")
            .into_bytes(),
        _ => body.to_vec(),
    });
    let problem = first_problem(root.path());
    assert_eq!((problem.kind, problem.index), (ProblemKind::Damaged, Some(2)));
    assert!(problem.text.contains("number 2 is the next"), "{}", problem.text);
}
