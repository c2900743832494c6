//! What all of these tests need: a log in a directory of its own, and drafts to put in it.

use std::path::Path;

use clawstaff_audit::{Draft, Log, Options, Phase, Receipt, Recovery, SigningKey, Stream, verify};
use clawstaff_types::{Actor, Digest, Event, EventKind};

pub(crate) const ORIGIN: &str = "example.org/gateway";

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(ORIGIN, &[42; 32]).unwrap()
}

pub(crate) fn options(root: &Path) -> Options {
    Options {
        dir: root.join("log"),
        anchor: Some(root.join("anchor/checkpoint")),
        origin: ORIGIN.to_owned(),
        key: key(),
        segment_bytes: 0,
    }
}

/// A directory in memory where there is one: for tests in which nothing but our own code is to be waited for.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub(crate) fn open(root: &Path) -> (Log, Recovery) {
    Log::open(options(root)).unwrap()
}

pub(crate) fn draft(stream: &str, phase: Phase, call: &str) -> Draft {
    Draft {
        stream: stream.parse::<Stream>().unwrap(),
        phase,
        call: Digest::of(call.as_bytes()),
        event: Event::new(EventKind::ToolCall, Actor::System("gateway".into())),
    }
}

/// A fact with about `bytes` bytes.
pub(crate) fn heavy(call: &str, bytes: usize) -> Draft {
    let mut draft = draft("system:gateway", Phase::Fact, call);
    draft.event.facts.insert("filler".into(), "x".repeat(bytes));
    draft
}

pub(crate) fn append(log: &Log, draft: Draft) -> Receipt {
    log.append_blocking(draft).unwrap()
}

/// Fails with the report unless the log is in order.
pub(crate) fn assert_clean(root: &Path) -> verify::Report {
    let report = verify::verify_dir(&root.join("log"), Some(&key().verifying_key()), None);
    assert!(report.is_clean(), "{report:#?}");
    report
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Appends all at once, so that they share syncs; the results come in the order of the drafts.
pub(crate) fn append_together(
    log: &Log,
    drafts: Vec<Draft>,
) -> Vec<Result<Receipt, clawstaff_audit::AppendError>> {
    runtime().block_on(async {
        let tasks: Vec<_> = drafts
            .into_iter()
            .map(|draft| {
                let log = log.clone();
                tokio::spawn(async move { log.append(draft).await })
            })
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap());
        }
        results
    })
}
