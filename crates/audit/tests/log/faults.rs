//! Every file operation fails, in every way, and the power is cut at every one: what was acknowledged is there.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clawstaff_audit::{AppendError, Checkpoint, Environment, Log, OpenError, Phase, verify};
use clawstaff_types::Digest;

use crate::{
    sim::{Fault, Plan, Random, Sim},
    support::{append, append_together, assert_clean, draft, heavy, key, open, options, scratch},
};

/// An environment on the simulated disk that publishes without pause.
fn environment(sim: &Sim) -> Environment {
    Environment {
        disk: Arc::new(sim.clone()),
        publish_every: Duration::ZERO,
        ..Environment::default()
    }
}

/// What the callers were told.
#[derive(Default)]
struct Told {
    acknowledged: Vec<(u64, Digest)>,
    refused: Vec<AppendError>,
    checkpoint: Option<Checkpoint>,
}

/// Opens the log, appends in batches of different sizes and weights, and closes it.
fn work(sim: &Sim, seed: u64, batches: usize) -> Result<Told, OpenError> {
    let mut random = Random(seed);
    let mut told = Told::default();
    let (log, _) = Log::open_in(options(Path::new("/")), environment(sim))?;
    for round in 0..batches {
        let drafts: Vec<_> = (0..=random.below(4))
            .map(|i| heavy(&format!("{seed} {round} {i}"), 1 << random.below(16)))
            .collect();
        let calls: Vec<_> = drafts.iter().map(|draft| draft.call).collect();
        for (result, call) in append_together(&log, drafts).into_iter().zip(calls) {
            match result {
                Ok(receipt) => {
                    assert!(told.refused.is_empty(), "acknowledged after it had stopped");
                    told.acknowledged.push((receipt.index(), call));
                }
                Err(error) => told.refused.push(error),
            }
        }
        told.checkpoint = Some(Checkpoint::parse(&log.checkpoint()).unwrap());
    }
    Ok(told)
}

/// The oracle: after the crash the log opens, has everything that was acknowledged, goes on, and verifies.
fn assert_recovers(sim: &Sim, seed: u64, told: &Told, what: &str) {
    assert_eq!(sim.breaches(), Vec::<String>::new(), "{what}");
    let root = scratch();
    sim.put_down(seed, root.path());
    let (log, recovery) = Log::open(options(root.path()))
        .map_err(|error| format!("{what}: {error}"))
        .unwrap();
    for (index, call) in &told.acknowledged {
        let stored = log.read(*index, 1).unwrap();
        let entry = stored.first().map(|stored| stored.entry().unwrap());
        assert_eq!(
            entry.map(|entry| entry.call),
            Some(*call),
            "{what}: entry {index}"
        );
    }
    let receipt = append(&log, draft("claw:after", Phase::Fact, "after"));
    assert_eq!(receipt.index(), recovery.size, "{what}");
    drop(log);
    let report = verify::verify_dir(
        &root.path().join("log"),
        Some(&key().verifying_key()),
        told.checkpoint.as_ref(),
    );
    assert!(report.is_clean(), "{what}: {:#?}", report.problems);
}

fn fail_every_operation(fault: Fault) {
    let batches = 4;
    let whole = Sim::default();
    work(&whole, 1, batches).unwrap();
    // The threads' operations interleave differently each time, so go somewhat beyond the count of one run.
    for at in 1..=whole.operations() + 10 {
        let what = format!("{fault:?} at operation {at}");
        let sim = Sim::with(Some(Plan { at, fault }));
        let told = work(&sim, 1, batches).unwrap_or_default();
        for error in &told.refused {
            assert!(matches!(error, AppendError::Stopped { .. }), "{what}: {error}");
        }
        assert_recovers(&sim, at, &told, &what);
    }
}

#[test]
fn when_any_operation_fails_without_effect_nothing_acknowledged_is_lost() {
    fail_every_operation(Fault::Lost);
}

#[test]
fn when_any_operation_fails_but_has_its_effect_nothing_acknowledged_is_lost() {
    fail_every_operation(Fault::Happened);
}

#[test]
fn when_the_power_is_cut_at_any_operation_nothing_acknowledged_is_lost() {
    fail_every_operation(Fault::PowerCut);
}

#[test]
fn a_write_that_is_cut_short_is_completed() {
    let whole = Sim::default();
    work(&whole, 2, 2).unwrap();
    for at in 1..=whole.operations() {
        let sim = Sim::with(Some(Plan {
            at,
            fault: Fault::Short,
        }));
        let told = work(&sim, 2, 2).unwrap();
        assert_eq!(told.refused, [], "short write at operation {at}");
        assert_recovers(&sim, at, &told, &format!("short write at operation {at}"));
    }
}

#[test]
fn many_power_cuts_at_random_places_lose_nothing_acknowledged() {
    let started = Instant::now();
    let mut seed = 0;
    while seed < 20 || (seed < 1000 && started.elapsed() < Duration::from_secs(4)) {
        seed += 1;
        let mut random = Random(seed);
        let at = 1 + random.below(400) as u64;
        let fault = Fault::PowerCut;
        let sim = Sim::with(Some(Plan { at, fault }));
        let told = work(&sim, seed, 12).unwrap_or_default();
        assert_recovers(&sim, random.next(), &told, &format!("seed {seed}"));
    }
}

#[test]
fn a_failed_sync_stops_the_log_for_good_and_reading_goes_on() {
    // Find a sync of the journal: the operation whose failure stops the log.
    let whole = Sim::default();
    work(&whole, 3, 4).unwrap();
    let mut stopped = 0;
    for at in 1..=whole.operations() {
        let fault = Fault::Lost;
        let sim = Sim::with(Some(Plan { at, fault }));
        let Ok((log, _)) = Log::open_in(options(Path::new("/")), environment(&sim)) else {
            continue;
        };
        let results: Vec<_> = (0..6)
            .map(|i| log.append_blocking(heavy(&format!("{i}"), 30_000)))
            .collect();
        let Some(first) = results.iter().position(Result::is_err) else {
            continue;
        };
        stopped += 1;
        assert!(results[first..].iter().all(Result::is_err), "at {at}");
        assert!(log.stopped().is_some());
        assert_eq!(log.read(0, 10).unwrap().len(), first);
        assert_eq!(log.size(), first as u64);
    }
    assert!(stopped > 5, "{stopped}");
}

#[test]
fn a_full_disk_refuses_new_acts_but_takes_outcomes_and_recovers_by_itself() {
    let sim = Sim::default();
    let (log, _) = Log::open_in(options(Path::new("/")), environment(&sim)).unwrap();
    let intent = append(&log, draft("claw:a", Phase::Intent, "call"));
    sim.set_full(true);
    let mut accepted = 1;
    let refused = loop {
        match log.append_blocking(heavy("x", 20_000)) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::NoSpace);
    let outcome = Phase::Outcome { of: intent.index() };
    append(&log, draft("claw:a", outcome, "call"));
    assert_eq!(log.read(0, 100).unwrap().len(), accepted + 1);
    assert_eq!(log.stopped(), None);

    sim.set_full(false);
    let started = Instant::now();
    while let Err(error) = log.append_blocking(heavy("after", 20_000)) {
        assert_eq!(error, AppendError::NoSpace);
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "space is back, but it goes on refusing"
        );
        std::thread::yield_now();
    }
    for i in 0..20 {
        append(&log, heavy(&format!("{i}"), 20_000));
    }
    drop(log);
    let root = tempfile::tempdir().unwrap();
    sim.put_down(0, root.path());
    drop(open(root.path()));
    assert_clean(root.path());
}

#[test]
fn more_appends_than_the_queue_holds_are_refused_as_busy_and_the_rest_kept() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    let drafts =
        (0..3 * clawstaff_audit::log::QUEUE_LENGTH).map(|i| draft("claw:a", Phase::Fact, &format!("{i}")));
    let results = append_together(&log, drafts.collect());
    let kept = results.iter().filter(|result| result.is_ok()).count();
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(error, AppendError::Busy);
    }
    assert_eq!(log.size(), kept as u64);
    drop(log);
    assert_clean(root.path());
}
