//! A log that has grown: what an entry costs then, opening it after a crash, verifying it.

use std::{
    env,
    path::Path,
    process::{self, Command},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use clawstaff_audit::verify;

use crate::{
    cpu::Used,
    log::{FILLER, keep_busy, open},
    row,
};

const CALLERS: u64 = 1024;

pub(crate) fn measure(root: &Path, events: u64) {
    let dir = root.join("grown");
    let filler = FILLER.load(Ordering::Relaxed).to_string();
    let args = [
        "--grow",
        dir.to_str().unwrap(),
        "--events",
        &events.to_string(),
        "--filler",
        &filler,
    ];
    let child = Command::new(env::current_exe().unwrap())
        .args(args)
        .status()
        .unwrap();
    assert!(!child.success(), "the child was to die without closing the log");
    reopen(&dir);
}

/// Opens the log in a folder, closes it and verifies it.
pub(crate) fn reopen(dir: &Path) {
    let (used, started) = (Used::now(), Instant::now());
    let log = open(dir, "log");
    let took = started.elapsed();
    let cpu = Used::now().total_since(&used);
    let size = log.size();
    row(
        &format!("open after a crash, {size} entries"),
        &mut [],
        1,
        took,
        cpu,
    );
    println!("{:<66} {:>31.3}", "  seconds", took.as_secs_f64());
    drop(log);

    let (used, started) = (Used::now(), Instant::now());
    let report = verify::verify_dir(&dir.join("log"), None, None);
    let took = started.elapsed();
    let cpu = Used::now().total_since(&used);
    assert!(report.is_clean(), "{:#?}", report.problems);
    let what = format!("verify, {size} entries with all tiles");
    row(&what, &mut [], report.size, took, cpu);
    println!(
        "{:<66} {:>31.0}",
        "  per second of one core",
        crate::per_second(report.size, cpu)
    );
}

/// Appends, says what an entry cost in the beginning and at the end, and dies.
pub(crate) fn write_and_die(dir: &Path, events: u64) -> ! {
    let log = open(dir, "log");
    let window = (events / 4).min(100_000);
    let measured = |from: u64| {
        let first = log.size();
        keep_busy(&log, CALLERS, from.saturating_sub(first) / CALLERS);
        let (used, started, first) = (Used::now(), Instant::now(), log.size());
        keep_busy(&log, CALLERS, window / CALLERS);
        let (took, done) = (started.elapsed(), log.size() - first);
        let cpu = Used::now().total_since(&used);
        row(
            &format!("  appends after the first {first}"),
            &mut [],
            done,
            took,
            cpu,
        );
        (took.max(Duration::from_nanos(1)), done)
    };
    measured(events.min(10_000));
    measured(events.saturating_sub(window));
    process::abort()
}
