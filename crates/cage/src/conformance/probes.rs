//! The probes: what is tried from inside, and how it is judged from outside.
//!
//! The attempts themselves are `claw probe NAME`; the rows are in [`table`](super::table), the host's own look at the
//! cage in [`outside`](super::outside), what is planted for the cage to find in [`canary`](super::canary).

use std::time::Duration;

use clawstaff_types::spec::Limits;
use serde::Deserialize;

use super::{
    Finding, Outcome,
    canary::Canaries,
    outside::{self, Look, Sight},
    stage::{Stage, Verdict, ensure, text},
    table::{self, Judge, PROBES, Probe, Told},
};
use crate::{TMP_BYTES, backend::Backend, id::CageId};

/// Longest that one probe may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a probe is told in a cage at work, where nothing was planted for it.
pub(super) fn told_by_limits(probe: &Probe, limits: &Limits) -> Vec<String> {
    match probe.told {
        Told::Pids => vec![limits.pids.to_string()],
        Told::TmpBytes => vec![TMP_BYTES.to_string()],
        Told::StorageBytes => vec![limits.storage.0.to_string()],
        Told::Nothing | Told::Processes | Told::MarkName | Told::MarkPath | Told::SharedName | Told::Port => {
            Vec::new()
        }
    }
}

/// Judges a row in a live cage: by the cage's own word, or by the host's look at it.
pub(super) async fn judged(
    backend: &dyn Backend,
    id: &CageId,
    probe: &Probe,
    arguments: &[String],
    sight: Sight,
) -> Finding {
    match probe.judge {
        Judge::Inside | Judge::Both => ask(backend, id, probe, arguments).await,
        Judge::Outside => match outside::look(probe.name, sight) {
            Look::Seen(verdict) => Finding::of(probe.name, verdict),
            Look::Barred(why) => Finding::not_enforced(probe.name, why),
        },
    }
}

/// Runs one probe in a live cage.
async fn ask(backend: &dyn Backend, id: &CageId, probe: &Probe, arguments: &[String]) -> Finding {
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
pub(super) async fn run(stage: &Stage<'_>) -> Vec<Finding> {
    let findings = match all(stage).await {
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

/// The cages and canaries among which the probes run.
struct Scene {
    inside: CageId,
    neighbour: CageId,
    canaries: Canaries,
}

impl Scene {
    async fn set(stage: &Stage<'_>) -> Result<Self, String> {
        let canaries = Canaries::plant()?;
        let port = canaries.port.to_string();
        let neighbour = stage
            .launch(NEIGHBOUR, &["hold", &canaries.name, &port])
            .await?
            .id;
        stage.hears(&neighbour, "idle").await?;
        stage
            .does(
                &neighbour,
                &["write", &format!("/data/{}", canaries.name), "mark"],
            )
            .await?;
        let inside = stage.launch(INSIDE, &["idle"]).await?.id;
        stage.hears(&inside, "idle").await?;
        Ok(Self {
            inside,
            neighbour,
            canaries,
        })
    }

    async fn sight(&self, stage: &Stage<'_>) -> Result<Sight, String> {
        Ok(Sight {
            init: stage.pid(&self.inside).await?,
            neighbour: Some(stage.pid(&self.neighbour).await?),
        })
    }

    fn told(&self, probe: &Probe, limits: &Limits, sight: Sight) -> Vec<String> {
        let canaries = &self.canaries;
        match probe.told {
            Told::Processes => sight
                .neighbour
                .into_iter()
                .chain([std::process::id()])
                .map(|pid| pid.to_string())
                .collect(),
            Told::MarkName | Told::SharedName => vec![canaries.name.clone()],
            Told::MarkPath => vec![canaries.file.display().to_string()],
            Told::Port => vec![canaries.port.to_string()],
            Told::Nothing | Told::Pids | Told::TmpBytes | Told::StorageBytes => told_by_limits(probe, limits),
        }
    }

    /// Runs one probe; a cage that it ended is a broken boundary, whatever the probe says.
    async fn probe(&self, stage: &Stage<'_>, probe: &Probe) -> Result<Finding, String> {
        let before = self.sight(stage).await?;
        if probe.name == "host-untouched" {
            return Ok(Finding::of(probe.name, self.canaries.untouched()));
        }
        let told = self.told(probe, &stage.setup.limits, before);
        let mut finding = judged(stage.backend, &self.inside, probe, &told, before).await;
        let after = (
            stage.pid(&self.inside).await,
            stage.pid(&self.neighbour).await.map(Some),
        );
        if after != (Ok(before.init), Ok(before.neighbour)) {
            finding.outcome = Outcome::Broken;
            finding.detail = format!(
                "a cage ended or restarted meanwhile: {after:?}; {}",
                finding.detail
            );
            // The next probe needs a cage.
            stage.backend.start(&self.inside).await.map_err(text)?;
        }
        Ok(finding)
    }
}

async fn all(stage: &Stage<'_>) -> Result<Vec<Finding>, String> {
    let scene = Scene::set(stage).await?;
    let mut findings = vec![same_list(stage, &scene.inside).await];
    for probe in &PROBES {
        findings.push(match table::missing(&stage.backend.capabilities(), probe.needs) {
            Some(why) => Finding::not_enforced(probe.name, why),
            None => scene.probe(stage, probe).await?,
        });
    }
    Ok(findings)
}

/// The two lists of probes, here and in `claw`, are one.
async fn same_list(stage: &Stage<'_>, id: &CageId) -> Finding {
    let command: Vec<String> = ["/sbin/claw", "probe", "list"].map(str::to_owned).to_vec();
    let verdict = match stage.backend.exec(id, &command, PATIENCE).await {
        Ok(output) => {
            let there = String::from_utf8_lossy(&output.stdout).into_owned();
            let here: Vec<&str> = PROBES
                .iter()
                .filter(|probe| probe.judge != Judge::Outside)
                .map(|probe| probe.name)
                .collect();
            ensure(there.lines().eq(here.iter().copied()), || {
                format!("`claw` has other probes: {there}")
            })
            .map(|()| format!("{} probes", here.len()))
        }
        Err(error) => Err(error.to_string()),
    };
    Finding::of("probes-are-complete", verdict)
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
