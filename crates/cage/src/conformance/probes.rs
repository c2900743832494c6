//! The probes: what is tried from inside, and how it is judged from outside.
//!
//! The attempts themselves are `claw probe NAME`; this is the same list, with what each shows and what it must be
//! told.

use std::{fs, path::PathBuf, time::Duration};

use clawstaff_types::spec::{Limit, Limits};
use serde::Deserialize;

use super::{
    Finding, Outcome,
    lifecycle::unenforced,
    stage::{Stage, Verdict, ensure, text},
};
use crate::{TMP_BYTES, backend::Backend, id::CageId, observed::Observed};

/// Longest that one probe may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// An attempt to get out.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Its name, for `claw probe`.
    pub name: &'static str,
    /// What it shows when it holds, for people.
    pub shows: &'static str,
    /// Whether it disturbs other processes of the cage: not for a cage at work.
    pub disruptive: bool,
    /// The limit that it tests, if any.
    pub needs: Option<Limit>,
}

const fn probe(name: &'static str, shows: &'static str) -> Probe {
    Probe {
        name,
        shows,
        disruptive: false,
        needs: None,
    }
}

const fn bomb(name: &'static str, shows: &'static str, needs: Option<Limit>) -> Probe {
    Probe {
        name,
        shows,
        disruptive: true,
        needs,
    }
}

/// Every probe, in the order in which they run.
pub const PROBES: [Probe; 40] = [
    probe(
        "capabilities-empty",
        "no process has a capability, or a way to get one",
    ),
    probe(
        "no-new-privileges",
        "no program can give more rights than its caller has",
    ),
    probe("not-root", "nothing runs as root, not even a root of its own"),
    probe("seccomp-filter", "system calls are filtered"),
    probe("processes-hidden", "no process outside the cage is in sight"),
    bomb(
        "signals-stay-inside",
        "no signal reaches a process outside the cage",
        None,
    ),
    probe("descriptors-clean", "nothing open was inherited from the host"),
    probe("environment-clean", "no variable was inherited from the host"),
    probe("no-core-dumps", "a crash writes no memory anywhere"),
    probe("no-terminal-injection", "nothing can be typed into a terminal"),
    probe("no-mounts", "no file system can be mounted, moved or unmounted"),
    probe("no-namespaces", "no new namespace can be made or joined"),
    probe("no-tracing", "no process can read or steer another"),
    probe(
        "no-bpf-or-perf",
        "no program can be loaded into the kernel, no counter opened",
    ),
    probe("no-userfaultfd", "page faults cannot be handled by the cage"),
    probe("no-io-uring", "there is no second road for system calls"),
    probe(
        "no-modules-or-kexec",
        "the kernel can be neither extended nor replaced",
    ),
    probe(
        "no-file-handles",
        "no file can be opened by number, past the mounts",
    ),
    probe("no-keyrings", "the kernel's keyrings are out of reach"),
    probe("no-clocks", "the machine's clocks cannot be set"),
    probe("no-identity-change", "no process can become another user"),
    probe(
        "no-administration",
        "the machine cannot be restarted, renamed or listened to",
    ),
    probe("root-read-only", "the root file system cannot be changed"),
    probe("door-read-only", "the door's directory cannot be changed"),
    probe(
        "devices-minimal",
        "only harmless devices exist, and none can be made",
    ),
    probe("proc-masked", "/proc tells nothing of the host"),
    probe("sys-masked", "/sys and cgroups cannot be changed"),
    probe("core-pattern-locked", "the kernel's settings cannot be changed"),
    probe("no-engine-socket", "no engine's or system's socket is in sight"),
    bomb(
        "neighbours-unreachable",
        "no file of another cage or of the host is in sight",
        None,
    ),
    probe("loopback-only", "there is no network interface but loopback"),
    probe("no-metadata-service", "cloud metadata addresses fail at once"),
    probe("no-private-network", "private addresses fail at once"),
    probe("no-internet", "public IPv4 addresses fail at once"),
    probe("no-internet-v6", "public IPv6 addresses fail at once"),
    probe(
        "no-datagrams",
        "no datagram leaves, broadcast and multicast included",
    ),
    probe(
        "no-special-sockets",
        "no socket but Unix, TCP and UDP can be opened",
    ),
    bomb(
        "fork-bomb-bounded",
        "processes stop at their limit",
        Some(Limit::Pids),
    ),
    bomb("tmp-bounded", "temporary files stop at their limit", None),
    bomb(
        "storage-bounded",
        "storage stops at its limit",
        Some(Limit::Storage),
    ),
];

/// The probes, for tables and documentation.
pub fn probes() -> &'static [Probe] {
    &PROBES
}

/// What a probe must be told.
pub fn arguments(probe: &Probe, limits: &Limits) -> Vec<String> {
    match probe.name {
        "fork-bomb-bounded" => vec![limits.pids.to_string()],
        "tmp-bounded" => vec![TMP_BYTES.to_string()],
        "storage-bounded" => vec![limits.storage.0.to_string()],
        _ => Vec::new(),
    }
}

/// Runs one probe in a live cage.
pub async fn ask(backend: &dyn Backend, id: &CageId, probe: &Probe, arguments: &[String]) -> Finding {
    let mut command: Vec<String> = ["/sbin/claw", "probe", probe.name].map(str::to_owned).to_vec();
    command.extend_from_slice(arguments);
    let verdict = match backend.exec(id, &command, PATIENCE).await {
        Ok(output) => judge(probe.name, output.code, &output.stdout)
            .map_err(|error| format!("{error} {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(error.to_string()),
    };
    Finding::of(probe.name, verdict)
}

/// The one line that a probe prints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    probe: String,
    held: bool,
    detail: String,
}

/// Most characters taken of a probe's own words: they come from inside.
const MOST_WORDS: usize = 2000;

fn judge(name: &str, code: Option<i32>, stdout: &[u8]) -> Verdict {
    let answer: Answer = serde_json::from_slice(stdout)
        .map_err(|_| format!("no answer from the probe (exit code {code:?})"))?;
    let detail: String = answer
        .detail
        .chars()
        .filter(|c| !c.is_control())
        .take(MOST_WORDS)
        .collect();
    ensure(answer.probe == name, || {
        format!("another probe answered: {:.80}", answer.probe)
    })?;
    if answer.held && code == Some(0) {
        Ok(detail)
    } else {
        Err(detail)
    }
}

/// The cage from which everything is tried, and the one that must notice nothing.
const INSIDE: &str = "prober";
const NEIGHBOUR: &str = "bystander";

/// Runs every probe and clears up.
pub async fn run(stage: &Stage<'_>) -> Vec<Finding> {
    let mark = Mark::new();
    let findings = match all(stage, &mark).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::of("probes-can-run", Err(error))],
    };
    let mut cleared = Ok(String::new());
    for name in [INSIDE, NEIGHBOUR] {
        cleared = cleared.and(stage.clear(name).await.map(|()| String::new()));
    }
    let failed = cleared.is_err().then(|| Finding::of("probes-clear-up", cleared));
    findings.into_iter().chain(failed).collect()
}

async fn all(stage: &Stage<'_>, mark: &Mark) -> Result<Vec<Finding>, String> {
    let neighbour = stage.launch(NEIGHBOUR, &["idle"]).await?.id;
    stage
        .does(&neighbour, &["write", &format!("/data/{}", mark.name), "mark"])
        .await?;
    let inside = stage.launch(INSIDE, &["idle"]).await?;
    stage.hears(&inside.id, "idle").await?;
    let mut findings = vec![same_list(stage, &inside.id).await];
    for probe in &PROBES {
        if let Some(why) = unenforced(stage, probe.needs) {
            findings.push(Finding {
                check: probe.name,
                outcome: Outcome::NotEnforced,
                detail: why,
            });
            continue;
        }
        let told = told(stage, probe, &neighbour, mark).await?;
        let before = (stage.pid(&neighbour).await?, stage.pid(&inside.id).await?);
        let mut finding = ask(stage.backend, &inside.id, probe, &told).await;
        let after = (stage.pid(&neighbour).await, stage.pid(&inside.id).await);
        if after != (Ok(before.0), Ok(before.1)) {
            finding.outcome = Outcome::Broken;
            finding.detail = format!(
                "a cage ended or restarted meanwhile: {after:?}; {}",
                finding.detail
            );
            // The next probe needs a cage.
            stage.backend.start(&inside.id).await.map_err(text)?;
        }
        findings.push(finding);
    }
    Ok(findings)
}

async fn told(
    stage: &Stage<'_>,
    probe: &Probe,
    neighbour: &CageId,
    mark: &Mark,
) -> Result<Vec<String>, String> {
    Ok(match probe.name {
        "signals-stay-inside" => match stage.observe(neighbour).await? {
            Observed::Running { pid, .. } => vec![pid.to_string(), std::process::id().to_string()],
            other => return Err(format!("the neighbour does not run: {other:?}")),
        },
        "neighbours-unreachable" => vec![mark.name.clone()],
        _ => arguments(probe, &stage.setup.limits),
    })
}

/// The two lists of probes, here and in `claw`, are one.
async fn same_list(stage: &Stage<'_>, id: &CageId) -> Finding {
    let command: Vec<String> = ["/sbin/claw", "probe", "list"].map(str::to_owned).to_vec();
    let verdict = match stage.backend.exec(id, &command, PATIENCE).await {
        Ok(output) => {
            let there = String::from_utf8_lossy(&output.stdout).into_owned();
            let here = PROBES.iter().map(|probe| probe.name);
            ensure(there.lines().eq(here), || {
                format!("`claw` has other probes: {there}")
            })
            .map(|()| format!("{} probes", PROBES.len()))
        }
        Err(error) => Err(error.to_string()),
    };
    Finding::of("probes-are-complete", verdict)
}

/// A file name that exists in the neighbour's storage and in the host's `/tmp`, and must be nowhere in the cage.
struct Mark {
    name: String,
    on_host: PathBuf,
}

impl Mark {
    fn new() -> Self {
        let name = format!("clawstaff-mark-{}", std::process::id());
        let on_host = std::env::temp_dir().join(&name);
        // Without it the search still has the neighbour's.
        let _ = fs::write(&on_host, "mark");
        Self { name, on_host }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.on_host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_believed_only_with_its_own_name_and_a_good_exit_code() {
        let line = br#"{"probe": "a", "held": true, "detail": "fine"}"#;
        assert_eq!(judge("a", Some(0), line), Ok("fine".to_owned()));
        assert!(judge("b", Some(0), line).is_err());
        assert!(judge("a", Some(1), line).is_err());
        assert!(judge("a", Some(0), br#"{"probe": "a", "held": false, "detail": "out"}"#).is_err());
        assert!(judge("a", None, b"").is_err());
    }
}
