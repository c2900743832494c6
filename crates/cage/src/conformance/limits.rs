//! Each limit that a cage can meet without being ended for it: it is met, it is told, and the cage goes on.

use std::time::{Duration, Instant};

use clawstaff_types::spec::Limit;

use super::{
    lifecycle::Row,
    stage::{PATIENCE, Stage, Verdict, ensure, text},
    table::{self, Need},
};
use crate::{
    observed::{ExitReason, Observed, Stats},
    reached::{Counts, Reached},
    spec::CageSpec,
};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) static ROWS: [Row; 8] = [
    Row {
        check: "no-limit-met-none-told",
        shows: "a cage that waits for work is said to meet no limit",
        cages: &["quiet"],
        needs: None,
        run: |s| Box::pin(none_met(s)),
    },
    Row {
        check: "pids-met-told",
        shows: "a fork bomb is told as such, and the cage goes on",
        cages: &["forker"],
        needs: Some(Need::Limit(Limit::Pids)),
        run: |s| Box::pin(met(s, "forker", &["storm", "fork"], Reached::Pids)),
    },
    Row {
        check: "memory-met-told",
        shows: "a process killed for want of memory is told, or ends the whole cage with that reason",
        cages: &["feeder"],
        needs: Some(Need::Told(Reached::Memory)),
        run: |s| Box::pin(memory_met(s)),
    },
    Row {
        check: "storage-met-told",
        shows: "a full `/data`, or `/tmp` where `/data` has no size, is told, and the cage goes on",
        cages: &["filler"],
        needs: Some(Need::Told(Reached::Storage)),
        run: |s| Box::pin(async { met(s, "filler", &["fill", place(s)], Reached::Storage).await }),
    },
    Row {
        check: "inodes-met-told",
        shows: "a `/data`, or `/tmp` where `/data` has no size, that takes no more files is told, and the cage goes on",
        cages: &["filer"],
        needs: Some(Need::Told(Reached::Inodes)),
        run: |s| Box::pin(async { met(s, "filer", &["fill-files", place(s)], Reached::Inodes).await }),
    },
    Row {
        check: "descriptors-met-told",
        shows: "a process that can open no more files is told, and the cage goes on",
        cages: &["opener"],
        needs: Some(Need::Told(Reached::Descriptors)),
        run: |s| Box::pin(met(s, "opener", &["hold-files"], Reached::Descriptors)),
    },
    Row {
        check: "output-met-told",
        shows: "a flood of output is told, and the cage goes on",
        cages: &["flooder"],
        needs: Some(Need::Told(Reached::Output)),
        run: |s| Box::pin(met(s, "flooder", &["storm", "log"], Reached::Output)),
    },
    Row {
        check: "cpus-met-told",
        shows: "a cage that wants more CPU time than its share is told of, and goes on",
        cages: &["hog"],
        needs: Some(Need::Told(Reached::Cpus)),
        run: |s| Box::pin(cpus_met(s)),
    },
];

/// What is filled.
fn place(stage: &Stage<'_>) -> &'static str {
    let sized = Some(Need::Limit(Limit::Storage));
    match table::missing(&stage.backend.capabilities(), sized) {
        None => "/data",
        Some(_) => "/tmp",
    }
}

async fn none_met(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("quiet", &["idle"]).await?;
    stage.hears(&spec.id, "idle").await?;
    let before = stats(stage, &spec).await?;
    tokio::time::sleep(LOOK_AGAIN).await;
    let now = stats(stage, &spec).await?;
    let reached = now.counts.reached(before.counts, now.pids, &spec.limits);
    ensure(reached.is_empty(), || format!("told of {reached:?}: {now:?}"))?;
    Ok("none".to_owned())
}

/// Plays a part that meets one limit.
async fn met(stage: &Stage<'_>, name: &str, part: &[&str], limit: Reached) -> Verdict {
    let spec = stage.launch(name, part).await?;
    told(stage, &spec, limit).await
}

/// A small share, because the machine itself may have little to give.
async fn cpus_met(stage: &Stage<'_>) -> Verdict {
    let mut spec = stage.spec("hog", &["storm", "cpu"])?;
    spec.limits.milli_cpus = 50;
    stage.backend.create(&spec).await.map_err(text)?;
    stage.backend.start(&spec.id).await.map_err(text)?;
    told(stage, &spec, Reached::Cpus).await
}

/// The limit must be told, and the cage must run on.
async fn told(stage: &Stage<'_>, spec: &CageSpec, limit: Reached) -> Verdict {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = stats(stage, spec).await?;
        let reached = now.counts.reached(Counts::default(), now.pids, &spec.limits);
        if reached.contains(&limit) {
            break;
        }
        ensure(Instant::now() < end, || format!("not told: {now:?}"))?;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    stage.pid(&spec.id).await?;
    Ok("told, and it goes on".to_owned())
}

async fn memory_met(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("feeder", &["feed"]).await?;
    let end = Instant::now() + PATIENCE;
    loop {
        if let Observed::Exited(exit) = stage.observe(&spec.id).await? {
            ensure(exit.reason == ExitReason::OutOfMemory, || {
                format!("ended with {exit:?}")
            })?;
            return Ok("the whole cage ended, with that reason".to_owned());
        }
        let now = stats(stage, &spec).await?;
        let reached = now.counts.reached(Counts::default(), now.pids, &spec.limits);
        if reached.contains(&Reached::Memory) {
            return Ok("told, and it goes on".to_owned());
        }
        ensure(Instant::now() < end, || format!("not told: {now:?}"))?;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn stats(stage: &Stage<'_>, spec: &CageSpec) -> Result<Stats, String> {
    stage.backend.stats(&spec.id).await.map_err(text)
}
