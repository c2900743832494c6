//! Appending, by one caller and by many.

use std::{
    hint,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use clawstaff_audit::{Checkpoint, DEFAULT_SEGMENT_BYTES, Draft, Log, Options, Phase, SigningKey, Stream};
use clawstaff_types::{Actor, Digest, Event, EventKind};
use tokio::task::JoinSet;

use crate::{
    Measured,
    cpu::{self, Used},
    per_second, row, timed,
};

/// Callers at once when the log is to be kept busy; below the length of its queue.
const CALLERS: u64 = 2048;

pub(crate) fn open(root: &Path, name: &str) -> Log {
    let origin = "bench.example.org/log";
    let options = Options {
        dir: root.join(name),
        anchor: Some(root.join(format!("{name}-anchor"))),
        origin: origin.to_owned(),
        key: SigningKey::from_bytes(origin, &[1; 32]).unwrap(),
        segment_bytes: DEFAULT_SEGMENT_BYTES,
    };
    Log::open(options).unwrap().0
}

/// Bytes in each leaf besides those that every one has.
pub(crate) static FILLER: AtomicUsize = AtomicUsize::new(720);

/// A leaf of about 300 bytes and [`FILLER`].
pub(crate) fn draft(phase: Phase) -> Draft {
    let mut event = Event::new(EventKind::ToolCall, Actor::System("gateway".into()));
    event
        .facts
        .insert("filler".into(), "x".repeat(FILLER.load(Ordering::Relaxed)));
    Draft {
        stream: Stream::System("gateway".into()),
        phase,
        call: Digest::of(b"call"),
        event,
    }
}

/// Something else that wants a whole core.
fn beside_load<R>(load: bool, act: impl FnOnce() -> R) -> R {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        if load {
            let busy = || {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            };
            thread::Builder::new()
                .name("other load".into())
                .spawn_scoped(scope, busy)
                .unwrap();
        }
        let result = act();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

pub(crate) fn one_caller(root: &Path, n: usize, load: bool) -> Measured {
    let log = open(root, "log");
    beside_load(load, || {
        let (used, started) = (Used::now(), Instant::now());
        let mut times = timed(n, |_| drop(log.append_blocking(draft(Phase::Fact)).unwrap()));
        let took = started.elapsed();
        let now = Used::now();
        let other = now.since(&used).get("other load").copied().unwrap_or_default();
        let cpu = now.total_since(&used).saturating_sub(other);
        let beside = if load { ", beside a busy thread" } else { "" };
        let what = format!("append to receipt, one caller, 1 KiB{beside}");
        row(&what, &mut times, n as u64, took, cpu)
    })
}

/// What one recorded act costs: two appends, from a runtime such as the gateway's.
pub(crate) fn intent_and_outcome(root: &Path, n: usize) {
    let log = open(root, "log");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (used, started) = (Used::now(), Instant::now());
    let acts = async move {
        let mut times = Vec::new();
        for _ in 0..n {
            let before = Instant::now();
            let intent = log.append(draft(Phase::Intent)).await.unwrap();
            let outcome = Phase::Outcome { of: intent.index() };
            drop(log.append(draft(outcome)).await.unwrap());
            times.push(before.elapsed());
        }
        (log, times)
    };
    let (log, mut times) = runtime.block_on(async { tokio::spawn(acts).await.unwrap() });
    let took = started.elapsed();
    let cpu = Used::now().total_since(&used);
    row(
        "intent and outcome, one caller, 1 KiB each",
        &mut times,
        n as u64,
        took,
        cpu,
    );
    cpu::by_thread(&used, n as u64);
    drop(log);
}

/// What a busy log came to.
pub(crate) struct Saturated {
    pub(crate) per_second: f64,
    /// Entries in a batch, about.
    pub(crate) batch: u64,
    pub(crate) leaf_bytes: u64,
}

/// Keeps the log busy until each caller has appended `each`.
pub(crate) fn keep_busy(log: &Log, callers: u64, each: u64) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let log = log.clone();
            tasks.spawn(async move {
                let mut times = Vec::new();
                for _ in 0..each {
                    let before = Instant::now();
                    drop(log.append(draft(Phase::Fact)).await.unwrap());
                    times.push(before.elapsed());
                }
                times
            });
        }
        tasks.join_all().await.into_iter().flatten().collect()
    })
}

pub(crate) fn many_callers(root: &Path, each: u64) -> Saturated {
    let log = open(root, "log");
    let first = log.size();
    let (used, started) = (Used::now(), Instant::now());
    let mut times = keep_busy(&log, CALLERS, each);
    let took = started.elapsed();
    let cpu = Used::now().total_since(&used);
    let done = log.size() - first;
    let what = format!("append to receipt, {CALLERS} callers, 1 KiB");
    row(&what, &mut times, done, took, cpu);
    cpu::by_thread(&used, done);
    println!(
        "{:<66} {:>31}",
        "  entries not yet published at the end",
        log.size() - log.published()
    );
    let stored = log.read(first, 1).unwrap();
    Checkpoint::parse(&log.checkpoint()).unwrap();
    Saturated {
        per_second: per_second(done, took),
        batch: CALLERS / 2,
        leaf_bytes: stored.first().unwrap().leaf.len() as u64,
    }
}
