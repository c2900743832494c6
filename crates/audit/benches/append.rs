//! What an acknowledgement costs over the bare sync that it cannot do without, and how fast verifying is.
//!
//! Prints a table. `cargo bench -p clawstaff-audit` for the figures that count; run by `cargo test` it makes a
//! short round to see that it still works. Set `TMPDIR` to the disk that is meant.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has no result")]

use std::{
    env,
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use clawstaff_audit::{DEFAULT_SEGMENT_BYTES, Draft, Log, Options, Phase, SigningKey, Stream, verify};
use clawstaff_types::{Actor, Digest, Event, EventKind};
use tokio::task::JoinSet;

/// Callers at once when the log is to be kept busy; below the length of its queue.
const CALLERS: u64 = 2048;

fn main() {
    let full = env::args().any(|arg| arg == "--bench");
    let (single, many) = if full { (4_000, 100) } else { (200, 4) };
    let root = tempfile::tempdir().unwrap();
    println!(
        "{:<58} {:>10} {:>10} {:>12}",
        "", "p50 us", "p99 us", "per second"
    );
    bare_sync(root.path(), single);
    one_caller(root.path(), single);
    many_callers(root.path(), many);
    verifying(root.path());
}

fn row(what: &str, times: &mut [Duration], done: usize, took: Duration) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times
            .get(index)
            .map_or_else(|| "-".to_owned(), |time| time.as_micros().to_string())
    };
    let rate = done as u128 * 1_000_000 / took.as_micros().max(1);
    println!("{what:<58} {:>10} {:>10} {rate:>12}", at(50), at(99));
}

fn timed(n: usize, mut act: impl FnMut(usize)) -> (Vec<Duration>, Duration) {
    let started = Instant::now();
    let times = (0..n)
        .map(|i| {
            let before = Instant::now();
            act(i);
            before.elapsed()
        })
        .collect();
    (times, started.elapsed())
}

fn bare_sync(root: &Path, n: usize) {
    let file = File::create(root.join("bare")).unwrap();
    file.write_all_at(&vec![0; 4096 * n], 0).unwrap();
    file.sync_all().unwrap();
    let (mut times, took) = timed(n, |i| {
        file.write_all_at(&[7; 4096], 4096 * i as u64).unwrap();
        file.sync_data().unwrap();
    });
    row(
        "bare 4 KiB write and fdatasync, file filled in advance",
        &mut times,
        n,
        took,
    );
}

fn open(root: &Path) -> Log {
    let origin = "bench.example.org/log";
    let options = Options {
        dir: root.join("log"),
        anchor: Some(root.join("anchor")),
        origin: origin.to_owned(),
        key: SigningKey::from_bytes(origin, &[1; 32]).unwrap(),
        segment_bytes: DEFAULT_SEGMENT_BYTES,
    };
    Log::open(options).unwrap().0
}

/// A leaf of about 1 KiB.
fn draft() -> Draft {
    let mut event = Event::new(EventKind::ToolCall, Actor::System("gateway".into()));
    event.facts.insert("filler".into(), "x".repeat(720));
    Draft {
        stream: Stream::System("gateway".into()),
        phase: Phase::Fact,
        call: Digest::of(b"call"),
        event,
    }
}

fn one_caller(root: &Path, n: usize) {
    let log = open(root);
    let (mut times, took) = timed(n, |_| drop(log.append_blocking(draft()).unwrap()));
    row("append to receipt, one caller, 1 KiB", &mut times, n, took);
}

fn many_callers(root: &Path, each: u64) {
    let log = open(root);
    let before = log.size();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let started = Instant::now();
    let mut times: Vec<Duration> = runtime.block_on(async {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let log = log.clone();
            callers.spawn(async move {
                let mut times = Vec::new();
                for _ in 0..each {
                    let before = Instant::now();
                    drop(log.append(draft()).await.unwrap());
                    times.push(before.elapsed());
                }
                times
            });
        }
        callers.join_all().await.into_iter().flatten().collect()
    });
    let took = started.elapsed();
    let done = usize::try_from(log.size() - before).unwrap();
    row(
        &format!("append to receipt, {CALLERS} callers, 1 KiB"),
        &mut times,
        done,
        took,
    );
}

fn verifying(root: &Path) {
    let started = Instant::now();
    drop(open(root));
    let reopened = started.elapsed();
    let started = Instant::now();
    let report = verify::verify_dir(&root.join("log"), None, None);
    let took = started.elapsed();
    assert!(report.is_clean(), "{:#?}", report.problems);
    let done = usize::try_from(report.size).unwrap();
    row(
        &format!("open and close again, {done} entries"),
        &mut [],
        done,
        reopened,
    );
    row(
        &format!("verify, {done} entries with all tiles"),
        &mut [],
        done,
        took,
    );
}
