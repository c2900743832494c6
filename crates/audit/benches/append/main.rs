//! What the log costs, beside what it cannot do without: a bare sync, bare writes of the same bytes, bare hashes.
//!
//! Prints a table; nothing is asserted but that it worked. `cargo bench -p clawstaff-audit` for the figures that
//! count; run by `cargo test` it makes a short round to see that it still works. Set `TMPDIR` to the disk that is
//! meant, and run it as root (or with the right to raise a thread's priority) on a quiet machine.
//!
//! `cargo bench -p clawstaff-audit --bench append -- --events 10000000` sets how many entries the log has that is
//! opened after a crash and verified; it needs some 3 KiB of disk for each. `--filler 120` makes the leaves as short as
//! those of ordinary calls (some 400 bytes; 720, about 1 KiB, without it). `--only grown` leaves the rest out;
//! `--grow FOLDER --events N` leaves such a log, `--reopen FOLDER` opens and verifies it.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has no result")]

mod bare;
mod cpu;
mod grown;
mod log;

use std::{
    env,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// How long the rounds are.
struct Rounds {
    /// Appends by one caller.
    single: usize,
    /// Appends by each of many callers.
    many: u64,
    /// Entries in the log that is opened again.
    events: u64,
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let filler = value("--filler").map_or(720, |n| n.parse().unwrap());
    log::FILLER.store(filler, Ordering::Relaxed);
    if let Some(dir) = value("--grow") {
        // The child of `grown`: writes, and dies without closing.
        grown::write_and_die(dir.as_ref(), value("--events").unwrap().parse().unwrap());
    }
    if let Some(dir) = value("--reopen") {
        return grown::reopen(dir.as_ref());
    }
    let full = args.iter().any(|arg| arg == "--bench");
    let events = value("--events").map(|n| n.parse().unwrap());
    let rounds = if full {
        Rounds {
            single: 4_000,
            many: 400,
            events: events.unwrap_or(1_000_000),
        }
    } else {
        Rounds {
            single: 100,
            many: 4,
            events: events.unwrap_or(5_000),
        }
    };
    let root = tempfile::tempdir().unwrap();
    println!(
        "{:<66} {:>9} {:>9} {:>11} {:>9}",
        "", "p50 us", "p99 us", "per second", "cpu us"
    );
    if value("--only").as_deref() == Some("grown") {
        return grown::measure(root.path(), rounds.events);
    }
    let sync = bare::sync(root.path(), rounds.single);
    for load in [false, true] {
        let ack = log::one_caller(root.path(), rounds.single, load);
        ratio("  times the bare sync, p50", ack.p50, sync.p50);
        ratio("  times the bare sync, p99", ack.p99, sync.p99);
    }
    log::intent_and_outcome(root.path(), rounds.single);
    let hashes = bare::hashes();
    let saturated = log::many_callers(root.path(), rounds.many);
    let writes = bare::writes(root.path(), saturated.batch, saturated.leaf_bytes);
    ratio("  of the bare writes", saturated.per_second, writes);
    ratio("  of the bare hashes", saturated.per_second, hashes);
    grown::measure(root.path(), rounds.events);
}

/// What a row came to.
struct Measured {
    p50: f64,
    p99: f64,
}

fn ratio(what: &str, value: f64, of: f64) {
    println!("{what:<66} {:>31.2}", value / of);
}

/// Prints a row: times of single acts, how many in how long, and the processor's time for each.
fn row(what: &str, times: &mut [Duration], done: u64, took: Duration, cpu: Duration) -> Measured {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    let measured = Measured {
        p50: at(50),
        p99: at(99),
    };
    let shown = |value: f64| {
        if value.is_nan() {
            "-".to_owned()
        } else {
            format!("{value:.0}")
        }
    };
    println!(
        "{what:<66} {:>9} {:>9} {:>11.0} {:>9.2}",
        shown(measured.p50),
        shown(measured.p99),
        per_second(done, took),
        cpu.as_secs_f64() * 1e6 / count(done.max(1)),
    );
    measured
}

fn per_second(done: u64, took: Duration) -> f64 {
    count(done) / took.as_secs_f64()
}

fn count(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

fn timed(n: usize, mut act: impl FnMut(usize)) -> Vec<Duration> {
    (0..n)
        .map(|i| {
            let before = Instant::now();
            act(i);
            before.elapsed()
        })
        .collect()
}
