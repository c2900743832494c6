//! What the engine says of a container and of itself, in our words.

use std::time::SystemTime;

use bollard::{
    errors::Error as EngineError,
    models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, SystemInfo},
    query_parameters::StatsOptionsBuilder,
};
use clawstaff_types::spec::Limit;
use futures_util::StreamExt;

use super::engine::Kind;
use crate::{
    capability::{Capabilities, Enforcement, Feature},
    observed::{Exit, ExitReason, Observed, Stats},
    reached::{Counts, PLACES, Periods, Reached, Sight, TEMPORARY},
    tail,
};

fn state(found: &ContainerInspectResponse) -> ContainerState {
    found.state.clone().unwrap_or_default()
}

pub(super) fn is_paused(found: &ContainerInspectResponse) -> bool {
    state(found).status == Some(Status::PAUSED)
}

/// Whether its processes exist.
pub(super) fn is_live(found: &ContainerInspectResponse) -> bool {
    matches!(
        state(found).status,
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING)
    )
}

/// The cage as the engine describes it. `output` is asked for only when the cage has ended.
pub(super) async fn observed(
    found: &ContainerInspectResponse,
    output: impl AsyncFnOnce() -> Vec<u8>,
) -> Result<Observed, String> {
    let state = state(found);
    match state.status {
        Some(Status::CREATED) => Ok(Observed::Created),
        Some(Status::PAUSED) => Ok(Observed::Paused),
        Some(Status::RUNNING | Status::RESTARTING | Status::STOPPING) => {
            let pid = state
                .pid
                .and_then(|pid| u32::try_from(pid).ok())
                .unwrap_or_default();
            Ok(Observed::Running {
                pid,
                started: time(state.started_at.as_deref()),
            })
        }
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) => {
            let last_lines = tail::lines(&output().await);
            Ok(Observed::Exited(Exit {
                reason: reason(&state),
                last_lines,
            }))
        }
        Some(Status::EMPTY) | None => Err("the engine does not say what state it is in".to_owned()),
    }
}

fn time(text: Option<&str>) -> SystemTime {
    let parsed = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

/// The engine gives a signal as 128 and its number, which a program may also return; only SIGKILL is certain
/// enough to be told as a signal.
fn reason(state: &ContainerState) -> ExitReason {
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    match code {
        Some(1..) if state.oom_killed == Some(true) => ExitReason::OutOfMemory,
        Some(137) => ExitReason::Signal(9),
        Some(code) => ExitReason::Code(code),
        None => ExitReason::Unknown,
    }
}

pub(super) async fn stats(engine: &bollard::Docker, name: &str) -> Result<Stats, EngineError> {
    let options = StatsOptionsBuilder::default()
        .stream(false)
        .one_shot(true)
        .build();
    let Some(said) = engine.stats(name, Some(options)).next().await.transpose()? else {
        return Ok(Stats::default());
    };
    let periods = said
        .cpu_stats
        .as_ref()
        .and_then(|cpu| cpu.throttling_data.as_ref())
        .and_then(|data| data.periods.zip(data.throttled_periods))
        .map(|(all, throttled)| Periods { all, throttled });
    let cpu = said.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage);
    Ok(Stats {
        counts: Counts {
            periods,
            ..Counts::default()
        },
        memory_bytes: said
            .memory_stats
            .and_then(|memory| memory.usage)
            .unwrap_or_default(),
        cpu_micros: cpu.unwrap_or_default() / 1000,
        pids: said.pids_stats.and_then(|pids| pids.current).unwrap_or_default(),
        ..Stats::default()
    })
}

/// Adds what is seen of the container's processes and file systems, where they are on this machine and we may look.
/// `sized` says whether `/data` has a size of its own.
pub(super) fn look(found: &ContainerInspectResponse, sized: bool, counts: &mut Counts) {
    let pid = state(found).pid.and_then(|pid| u32::try_from(pid).ok());
    let Some((init, id)) = pid.filter(|pid| *pid > 0).zip(found.id.as_deref()) else {
        return;
    };
    // An engine elsewhere speaks of other processes than ours.
    let groups = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap_or_default();
    if id.is_empty() || !groups.contains(id) {
        return;
    }
    let sight = Sight::of(init);
    (counts.bytes, counts.files) = sight.room(if sized { &PLACES } else { TEMPORARY });
    counts.descriptors = sight.processes().ok().map(|seen| seen.descriptors);
}

/// What the engine says it can do.
pub(super) fn capabilities(kind: Kind, info: &SystemInfo, storage: Enforcement) -> Capabilities {
    let says = |yes: bool, what: &str| {
        if yes {
            Enforcement::Enforced
        } else {
            Enforcement::missing(
                format!("the engine says that it cannot limit {what}"),
                "give it the cgroup controller (rootful engine, kernel option `swapaccount=1` for swap)",
            )
        }
    };
    let options = info.security_options.clone().unwrap_or_default();
    let has = |name: &str| {
        options
            .iter()
            .any(|option| option.starts_with(&format!("name={name}")))
    };
    let limits = [
        (
            Limit::Memory,
            says(
                info.memory_limit == Some(true) && info.swap_limit == Some(true),
                "memory and swap",
            ),
        ),
        (Limit::Cpus, says(info.cpu_cfs_quota == Some(true), "CPU time")),
        (Limit::Pids, says(info.pids_limit == Some(true), "processes")),
        (Limit::Storage, storage),
    ];
    let seccomp = if has("seccomp") {
        Enforcement::Enforced
    } else {
        Enforcement::missing(
            "the engine was built or started without seccomp",
            "use an engine with seccomp",
        )
    };
    let features = [
        (
            Feature::OwnUser,
            Enforcement::missing(
                "all containers of the engine share one range of host users",
                "use the native back end as root; `userns-remap` at least keeps them apart from the host's users",
            ),
        ),
        (Feature::Seccomp, seccomp),
        (
            Feature::Landlock,
            Enforcement::missing(
                "the engine sets no Landlock rules",
                "use the native back end for this second wall",
            ),
        ),
        (Feature::Freeze, Enforcement::Enforced),
    ];
    Capabilities {
        limits: limits.into(),
        features: features.into(),
        told: told(kind).into(),
    }
}

/// Which limits the engine, or the host's `/proc` beside it, tells of.
fn told(kind: Kind) -> [(Reached, Enforcement); 6] {
    let remedy = "use the native back end to be told";
    let closed = || {
        let root = rustix::process::geteuid().is_root();
        let barred = || {
            Enforcement::missing(
                "the host's /proc is closed to this process",
                "start the runner as root",
            )
        };
        if root { Enforcement::Enforced } else { barred() }
    };
    [
        (
            Reached::Memory,
            Enforcement::missing(
                "the engine tells of such a kill only when it ends the cage",
                remedy,
            ),
        ),
        (
            Reached::Output,
            Enforcement::missing("the engine does not count the output that it drops", remedy),
        ),
        (
            Reached::Cpus,
            match kind {
                Kind::Docker => Enforcement::Enforced,
                Kind::Podman => Enforcement::missing("Podman does not tell of CPU time in periods", remedy),
            },
        ),
        (Reached::Storage, closed()),
        (Reached::Inodes, closed()),
        (Reached::Descriptors, closed()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i64, oom: bool) -> ContainerState {
        ContainerState {
            exit_code: Some(code),
            oom_killed: Some(oom),
            ..ContainerState::default()
        }
    }

    #[test]
    fn exits_are_told_apart() {
        assert_eq!(reason(&exited(0, true)), ExitReason::Code(0));
        assert_eq!(reason(&exited(7, false)), ExitReason::Code(7));
        assert_eq!(reason(&exited(137, false)), ExitReason::Signal(9));
        assert_eq!(reason(&exited(137, true)), ExitReason::OutOfMemory);
    }

    #[test]
    fn an_engine_that_says_nothing_enforces_nothing() {
        let capabilities = capabilities(Kind::Docker, &SystemInfo::default(), Enforcement::Enforced);
        for limit in [Limit::Memory, Limit::Cpus, Limit::Pids] {
            assert!(
                matches!(capabilities.limits[&limit], Enforcement::NotEnforced { .. }),
                "{limit:?}"
            );
        }
    }

    #[test]
    fn the_engines_times_are_read() {
        let moment = time(Some("2026-11-23T09:00:00.123456789Z"));
        assert!(moment > SystemTime::UNIX_EPOCH);
        assert_eq!(time(Some("nonsense")), SystemTime::UNIX_EPOCH);
    }
}
