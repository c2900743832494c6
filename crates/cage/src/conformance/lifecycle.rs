//! The life of a cage, seen from outside: one check for each promise of [`Backend`](crate::Backend).

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use clawstaff_types::spec::Limit;

use super::{
    Finding, leftovers, limits,
    stage::{Stage, Verdict, ensure, text},
    table::{self, Need},
};
use crate::{
    capability::Feature,
    observed::{ExitReason, Observed},
};

pub(super) type Check = for<'a> fn(&'a Stage<'a>) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// A check, the cages that it makes, and what it needs of the host.
pub(super) struct Row {
    pub(super) check: &'static str,
    /// What it shows when it holds.
    pub(super) shows: &'static str,
    pub(super) cages: &'static [&'static str],
    pub(super) needs: Option<Need>,
    pub(super) run: Check,
}

static ROWS: [Row; 18] = [
    Row {
        check: "create-runs-nothing",
        shows: "a created cage runs nothing, and can be created again",
        cages: &["new"],
        needs: None,
        run: |s| Box::pin(create_runs_nothing(s)),
    },
    Row {
        check: "start-is-idempotent",
        shows: "a running cage is not started twice",
        cages: &["twice"],
        needs: None,
        run: |s| Box::pin(start_is_idempotent(s)),
    },
    Row {
        check: "stop-asks-first",
        shows: "a stop is asked for, and obeyed",
        cages: &["polite"],
        needs: None,
        run: |s| Box::pin(stop_asks_first(s)),
    },
    Row {
        check: "stop-kills-after-grace",
        shows: "who does not obey is killed after the grace",
        cages: &["deaf"],
        needs: None,
        run: |s| Box::pin(stop_kills(s)),
    },
    Row {
        check: "data-survives-restart",
        shows: "`/data` is as it was after a kill, `/tmp` is empty",
        cages: &["keeper"],
        needs: None,
        run: |s| Box::pin(data_survives(s)),
    },
    Row {
        check: "snapshot-and-restore",
        shows: "`/data` of a live cage is copied whole and put back as it was, whatever was written since; a running cage is not restored under",
        cages: &["keepsake"],
        needs: None,
        run: |s| Box::pin(snapshot_and_restore(s)),
    },
    Row {
        check: "update-takes-effect",
        shows: "a new spec is in force from the next start, on the old data",
        cages: &["update"],
        needs: None,
        run: |s| Box::pin(update_takes_effect(s)),
    },
    Row {
        check: "exit-code-reported",
        shows: "the exit code is told",
        cages: &["seven"],
        needs: None,
        run: |s| Box::pin(exit_code_reported(s)),
    },
    Row {
        check: "out-of-memory-reported",
        shows: "memory stops at its limit with a typed reason; the neighbour lives",
        cages: &["greedy", "modest"],
        needs: Some(Need::Limit(Limit::Memory)),
        run: |s| Box::pin(out_of_memory_reported(s)),
    },
    Row {
        check: "cpu-limited",
        shows: "CPU time stops at its limit",
        cages: &["spinner"],
        needs: Some(Need::Limit(Limit::Cpus)),
        run: |s| Box::pin(cpu_limited(s)),
    },
    Row {
        check: "pause-stops-everything",
        shows: "a paused cage uses no CPU time, and goes on afterwards",
        cages: &["counter"],
        needs: Some(Need::Feature(Feature::Freeze)),
        run: |s| Box::pin(pause(s)),
    },
    Row {
        check: "paused-can-be-stopped",
        shows: "a paused cage can be stopped and started",
        cages: &["frozen"],
        needs: Some(Need::Feature(Feature::Freeze)),
        run: |s| Box::pin(stop_paused(s)),
    },
    Row {
        check: "exec-is-bounded",
        shows: "an operator's command is bounded in time and needs a running cage",
        cages: &["host"],
        needs: None,
        run: |s| Box::pin(exec_is_bounded(s)),
    },
    Row {
        check: "log-is-bounded",
        shows: "a flood of output is kept in part, the last words among it",
        cages: &["chatter"],
        needs: None,
        run: |s| Box::pin(log_is_bounded(s)),
    },
    Row {
        check: "stats-are-told",
        shows: "what is used is told, and within its limits",
        cages: &["measured"],
        needs: None,
        run: |s| Box::pin(stats_are_told(s)),
    },
    Row {
        check: "lives-are-independent",
        shows: "the end of one cage is not noticed by another",
        cages: &["one", "other"],
        needs: None,
        run: |s| Box::pin(independent(s)),
    },
    Row {
        check: "destroy-leaves-nothing",
        shows: "no process, mount, loop device, cgroup or file is left",
        cages: &["gone"],
        needs: None,
        run: |s| Box::pin(destroy_leaves_nothing(s)),
    },
    Row {
        check: "hostile-data-harms-nobody",
        shows: "links, pipes, shut and endless directories in `/data` neither hang nor mislead who measures, stops and removes",
        cages: &["trapper"],
        needs: None,
        run: |s| Box::pin(hostile_data(s)),
    },
];

/// The lifecycle checks, and what each shows.
pub fn checks() -> impl Iterator<Item = (&'static str, &'static str)> {
    rows().map(|row| (row.check, row.shows))
}

fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(&limits::ROWS)
}

/// Runs every check, and destroys its cages whatever came of it.
pub async fn run(stage: &Stage<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in rows() {
        let missing = table::missing(&stage.backend.capabilities(), row.needs);
        findings.push(match missing {
            Some(why) => Finding::not_enforced(row.check, why),
            None => Finding::of(row.check, checked(stage, row).await),
        });
    }
    findings
}

/// One check and its clearing up.
async fn checked(stage: &Stage<'_>, row: &Row) -> Verdict {
    let verdict = (row.run)(stage).await;
    let mut cleared = Ok(());
    for name in row.cages {
        cleared = cleared.and(stage.clear(name).await);
    }
    let seen = verdict?;
    cleared.map_err(|error| format!("could not clear up: {error}"))?;
    Ok(seen)
}

async fn create_runs_nothing(stage: &Stage<'_>) -> Verdict {
    let spec = stage.spec("new", &["idle"])?;
    ensure(stage.observe(&spec.id).await? == Observed::Absent, || {
        "it was there before".to_owned()
    })?;
    for _ in 0..2 {
        stage.backend.create(&spec).await.map_err(text)?;
        let seen = stage.observe(&spec.id).await?;
        ensure(seen == Observed::Created, || format!("observed {seen:?}"))?;
    }
    let listed = stage.backend.list().await.map_err(text)?.contains(&spec.id);
    ensure(listed, || "it is not in the list".to_owned())?;
    ensure(stage.backend.pause(&spec.id).await.is_err(), || {
        "it could be paused".to_owned()
    })?;
    Ok("created twice, runs nothing".to_owned())
}

async fn start_is_idempotent(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("twice", &["idle"]).await?;
    let pid = stage.pid(&spec.id).await?;
    stage.backend.start(&spec.id).await.map_err(text)?;
    let again = stage.pid(&spec.id).await?;
    ensure(pid == again, || format!("process {pid} became {again}"))?;
    Ok(format!("one init, process {pid}"))
}

async fn stop_asks_first(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("polite", &["idle"]).await?;
    stage.hears(&spec.id, "idle").await?;
    let start = Instant::now();
    stage
        .backend
        .stop(&spec.id, Duration::from_secs(15))
        .await
        .map_err(text)?;
    let took = start.elapsed();
    let exit = stage.exit(&spec.id).await?;
    ensure(exit.reason == ExitReason::Code(0), || {
        format!("ended with {:?}", exit.reason)
    })?;
    ensure(took < Duration::from_secs(10), || format!("took {took:?}"))?;
    stage.backend.stop(&spec.id, Duration::ZERO).await.map_err(text)?;
    Ok(format!("ended by itself after {} ms", took.as_millis()))
}

async fn stop_kills(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("deaf", &["deaf"]).await?;
    stage
        .backend
        .stop(&spec.id, Duration::from_secs(1))
        .await
        .map_err(text)?;
    let exit = stage.exit(&spec.id).await?;
    ensure(exit.reason == ExitReason::Signal(9), || {
        format!("ended with {:?}", exit.reason)
    })?;
    Ok("killed after its grace".to_owned())
}

async fn data_survives(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("keeper", &["idle"]).await?;
    stage
        .does(&spec.id, &["write", "/data/kept", "as it was"])
        .await?;
    stage.does(&spec.id, &["write", "/tmp/lost", "gone"]).await?;
    for _ in 0..2 {
        stage.backend.stop(&spec.id, Duration::ZERO).await.map_err(text)?;
        stage.backend.start(&spec.id).await.map_err(text)?;
    }
    let kept = stage.does(&spec.id, &["read", "/data/kept"]).await?;
    ensure(kept == b"as it was", || {
        format!("/data has {:?}", String::from_utf8_lossy(&kept))
    })?;
    let lost = stage.exec(&spec.id, &["read", "/tmp/lost"]).await?;
    ensure(lost.code == Some(1), || "/tmp kept a file".to_owned())?;
    Ok("/data is as it was after two kills, /tmp is empty".to_owned())
}

async fn snapshot_and_restore(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("keepsake", &["idle"]).await?;
    let (id, backend) = (&spec.id, stage.backend);
    stage.does(id, &["write", "/data/kept", "before"]).await?;
    let taken = match backend.snapshot(id).await {
        Ok(taken) => taken,
        // Where it cannot be frozen it is refused while it runs, and taken when it does not.
        Err(error) => {
            let freezes = table::missing(&backend.capabilities(), Some(Need::Feature(Feature::Freeze)));
            ensure(freezes.is_some(), || error.to_string())?;
            backend.stop(id, Duration::ZERO).await.map_err(text)?;
            let taken = backend.snapshot(id).await.map_err(text)?;
            backend.start(id).await.map_err(text)?;
            taken
        }
    };
    stage.pid(id).await?;
    stage.does(id, &["write", "/data/kept", "after"]).await?;
    ensure(backend.restore(id, &taken.name).await.is_err(), || {
        "it was restored while it ran".to_owned()
    })?;
    backend.stop(id, Duration::ZERO).await.map_err(text)?;
    backend.restore(id, &taken.name).await.map_err(text)?;
    backend.start(id).await.map_err(text)?;
    let kept = stage.does(id, &["read", "/data/kept"]).await?;
    ensure(kept == b"before", || {
        format!("/data has {:?}", String::from_utf8_lossy(&kept))
    })?;
    stage.does(id, &["write", "/data/kept", "again"]).await?;
    let listed = backend.snapshots(id).await.map_err(text)?;
    ensure(listed == [taken.clone()], || format!("listed {listed:?}"))?;
    backend.forget_snapshot(id, &taken.name).await.map_err(text)?;
    let listed = backend.snapshots(id).await.map_err(text)?;
    ensure(listed.is_empty(), || format!("still listed {listed:?}"))?;
    Ok(format!("{} bytes, copied and put back", taken.bytes))
}

async fn update_takes_effect(stage: &Stage<'_>) -> Verdict {
    let mut spec = stage.launch("update", &["idle"]).await?;
    stage.does(&spec.id, &["write", "/data/kept", "x"]).await?;
    spec.revision = 2;
    spec.command = stage.spec("update", &["read", "/data/kept"])?.command;
    stage.backend.create(&spec).await.map_err(text)?;
    stage
        .pid(&spec.id)
        .await
        .map_err(|error| format!("the update disturbed the running cage: {error}"))?;
    stage.backend.stop(&spec.id, Duration::ZERO).await.map_err(text)?;
    stage.backend.start(&spec.id).await.map_err(text)?;
    let exit = stage.exit(&spec.id).await?;
    ensure(exit.reason == ExitReason::Code(0), || {
        format!("the new command ended with {exit:?}")
    })?;
    Ok("the new command ran on the old data".to_owned())
}

async fn exit_code_reported(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("seven", &["exit", "7"]).await?;
    let exit = stage.exit(&spec.id).await?;
    ensure(exit.reason == ExitReason::Code(7), || {
        format!("ended with {:?}", exit.reason)
    })?;
    Ok("code 7".to_owned())
}

async fn out_of_memory_reported(stage: &Stage<'_>) -> Verdict {
    let neighbour = stage.launch("modest", &["idle"]).await?;
    let before = stage.pid(&neighbour.id).await?;
    let spec = stage.launch("greedy", &["eat-memory"]).await?;
    let exit = stage.exit(&spec.id).await?;
    ensure(exit.reason == ExitReason::OutOfMemory, || {
        format!("ended with {exit:?}")
    })?;
    let after = stage.pid(&neighbour.id).await?;
    ensure(before == after, || "its neighbour was killed".to_owned())?;
    Ok("the greedy one ended, its neighbour did not".to_owned())
}

async fn cpu_limited(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("spinner", &["spin", "30"]).await?;
    let (start, before) = (
        Instant::now(),
        stage.backend.stats(&spec.id).await.map_err(text)?.cpu_micros,
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = stage
        .backend
        .stats(&spec.id)
        .await
        .map_err(text)?
        .cpu_micros
        .saturating_sub(before);
    let share = used * 1000 / u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let allowed = u64::from(spec.limits.milli_cpus);
    // A fifth more for the periods at both ends.
    ensure(share <= allowed * 6 / 5, || {
        format!("used {share} thousandths of a CPU, {allowed} allowed")
    })?;
    ensure(share > 0, || "used no CPU at all".to_owned())?;
    Ok(format!("used {share} thousandths of a CPU, {allowed} allowed"))
}

async fn pause(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("counter", &["count"]).await?;
    let cpu = async || {
        stage
            .backend
            .stats(&spec.id)
            .await
            .map(|stats| stats.cpu_micros)
            .map_err(text)
    };
    for _ in 0..2 {
        stage.backend.pause(&spec.id).await.map_err(text)?;
    }
    let seen = stage.observe(&spec.id).await?;
    ensure(seen == Observed::Paused, || format!("observed {seen:?}"))?;
    let before = cpu().await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let after = cpu().await?;
    ensure(before == after, || {
        format!("used {} us of CPU while paused", after - before)
    })?;
    for _ in 0..2 {
        stage.backend.resume(&spec.id).await.map_err(text)?;
    }
    stage.pid(&spec.id).await?;
    let end = Instant::now() + Duration::from_secs(10);
    while cpu().await? <= after {
        ensure(Instant::now() < end, || "did not go on after resume".to_owned())?;
    }
    Ok("no CPU time while paused, some after".to_owned())
}

async fn stop_paused(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("frozen", &["idle"]).await?;
    stage.hears(&spec.id, "idle").await?;
    stage.backend.pause(&spec.id).await.map_err(text)?;
    stage
        .backend
        .stop(&spec.id, Duration::from_secs(5))
        .await
        .map_err(text)?;
    let exit = stage.exit(&spec.id).await?;
    ensure(
        matches!(exit.reason, ExitReason::Code(0) | ExitReason::Signal(9)),
        || format!("{:?}", exit.reason),
    )?;
    stage.backend.start(&spec.id).await.map_err(text)?;
    stage.pid(&spec.id).await?;
    Ok("stopped while paused, and started again".to_owned())
}

async fn exec_is_bounded(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("host", &["idle"]).await?;
    let code = stage.exec(&spec.id, &["exit", "3"]).await?.code;
    ensure(code == Some(3), || format!("code {code:?} instead of 3"))?;
    let deaf: Vec<String> = ["/sbin/claw", "probe", "actor", "deaf"]
        .map(str::to_owned)
        .to_vec();
    let late = stage
        .backend
        .exec(&spec.id, &deaf, Duration::from_millis(500))
        .await
        .map_err(text)?;
    ensure(late.code.is_none(), || format!("ended with {:?}", late.code))?;
    stage.pid(&spec.id).await?;
    stage.backend.stop(&spec.id, Duration::ZERO).await.map_err(text)?;
    let refused = stage
        .backend
        .exec(&spec.id, &deaf, Duration::from_millis(500))
        .await;
    ensure(refused.is_err(), || "a command ran in a stopped cage".to_owned())?;
    Ok("code told, time bounded, cage unharmed".to_owned())
}

async fn log_is_bounded(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("chatter", &["chatter", "8000000"]).await?;
    let log = stage.hears(&spec.id, "last words").await?;
    ensure(log.len() <= 1 << 20, || format!("{} bytes were given", log.len()))?;
    let all = stage.backend.logs(&spec.id, u64::MAX).await.map_err(text)?;
    ensure(all.len() <= 4 << 20, || format!("{} bytes were kept", all.len()))?;
    Ok(format!(
        "8 MB said, {} bytes kept, the last among them",
        all.len()
    ))
}

async fn stats_are_told(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("measured", &["idle"]).await?;
    stage.hears(&spec.id, "idle").await?;
    let stats = stage.backend.stats(&spec.id).await.map_err(text)?;
    let memory = Some(Need::Limit(Limit::Memory));
    if table::missing(&stage.backend.capabilities(), memory).is_none() {
        ensure(
            stats.memory_bytes > 0 && stats.memory_bytes <= spec.limits.memory.0,
            || format!("{stats:?}"),
        )?;
        ensure((1..=u64::from(spec.limits.pids)).contains(&stats.pids), || {
            format!("{stats:?}")
        })?;
    }
    ensure(stats.storage_bytes <= spec.limits.storage.0, || {
        format!("{stats:?}")
    })?;
    Ok(format!("{stats:?}"))
}

async fn independent(stage: &Stage<'_>) -> Verdict {
    let other = stage.launch("other", &["idle"]).await?;
    let pid = stage.pid(&other.id).await?;
    let one = stage.launch("one", &["idle"]).await?;
    stage.backend.stop(&one.id, Duration::ZERO).await.map_err(text)?;
    stage.backend.start(&one.id).await.map_err(text)?;
    stage.backend.destroy(&one.id).await.map_err(text)?;
    let now = stage.pid(&other.id).await?;
    ensure(pid == now, || format!("process {pid} became {now}"))?;
    Ok("the other noticed nothing".to_owned())
}

async fn destroy_leaves_nothing(stage: &Stage<'_>) -> Verdict {
    let spec = stage.launch("gone", &["count"]).await?;
    for _ in 0..2 {
        stage.backend.destroy(&spec.id).await.map_err(text)?;
        let seen = stage.observe(&spec.id).await?;
        ensure(seen == Observed::Absent, || format!("observed {seen:?}"))?;
    }
    let listed = stage.backend.list().await.map_err(text)?.contains(&spec.id);
    ensure(!listed, || "it is in the list".to_owned())?;
    let left = leftovers::of(&spec.id, &stage.setup.searched);
    ensure(left.is_empty(), || format!("left: {}", left.join(", ")))?;
    Ok("no process, mount, loop device, cgroup or file".to_owned())
}

/// Longest that the host may take over one look at a cage full of traps.
const NO_TRAP: Duration = Duration::from_secs(30);

async fn hostile_data(stage: &Stage<'_>) -> Verdict {
    let canary = std::env::temp_dir().join(format!("clawstaff-target-{}", std::process::id()));
    std::fs::create_dir_all(&canary).map_err(text)?;
    std::fs::write(canary.join("kept"), "as it was").map_err(text)?;
    let verdict = tokio::time::timeout(NO_TRAP, among_traps(stage, &canary)).await;
    let kept = std::fs::read_to_string(canary.join("kept"));
    std::fs::remove_dir_all(&canary).map_err(text)?;
    ensure(kept.is_ok_and(|text| text == "as it was"), || {
        "a link was followed to the host".to_owned()
    })?;
    verdict.map_err(|_| "somebody on the host hangs".to_owned())?
}

async fn among_traps(stage: &Stage<'_>, canary: &std::path::Path) -> Verdict {
    let spec = stage
        .launch("trapper", &["trap", &canary.display().to_string()])
        .await?;
    stage.hears(&spec.id, "laid").await?;
    let stats = stage.backend.stats(&spec.id).await.map_err(text)?;
    ensure(stats.storage_bytes < spec.limits.storage.0, || {
        format!("{stats:?}")
    })?;
    stage.backend.stop(&spec.id, Duration::ZERO).await.map_err(text)?;
    stage.backend.start(&spec.id).await.map_err(text)?;
    stage.backend.destroy(&spec.id).await.map_err(text)?;
    let left = leftovers::of(&spec.id, &stage.setup.searched);
    ensure(left.is_empty(), || format!("left: {}", left.join(", ")))?;
    Ok("measured, stopped, started and removed".to_owned())
}
