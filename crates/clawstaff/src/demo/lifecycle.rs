//! One Claw is stopped, updated and destroyed while the others go on working.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{
    cli::text,
    stage::Stage,
    story::Story,
    work::{spec_for, until},
};

/// A Claw's last number in its own event sequence.
async fn last_seq(stage: &Stage, claw: &str) -> anyhow::Result<u64> {
    let records = stage
        .cli
        .json(&["audit", "query", "--claw", claw, "--limit", "1000"])
        .await?;
    Ok(records
        .iter()
        .filter(|record| text(record, "log").ends_with("/gateway"))
        .filter_map(|record| record.get("seq")?.as_u64())
        .max()
        .unwrap_or_default())
}

/// Gives a Claw something to do and waits until it has made a tool call since.
async fn works(stage: &Stage, claw: &str) -> anyhow::Result<(u64, u64)> {
    let before = last_seq(stage, claw).await?;
    stage
        .cli
        .must(&["claw", "message", claw, "What is open?"], None)
        .await?;
    let worked = async || {
        let records = stage
            .cli
            .json(&[
                "audit",
                "query",
                "--claw",
                claw,
                "--kind",
                "tool.call",
                "--limit",
                "1000",
            ])
            .await?;
        let new = |record: &Value| {
            record.get("seq").and_then(Value::as_u64) > Some(before) && text(record, "outcome") == "succeeded"
        };
        Ok(records.iter().any(new))
    };
    until(&format!("{claw} to work"), Duration::from_secs(30), worked).await?;
    Ok((before, last_seq(stage, claw).await?))
}

async fn phase(stage: &Stage, claw: &str) -> anyhow::Result<(String, u64)> {
    let claws = stage.cli.json(&["claw", "list"]).await?;
    let found = claws.iter().find(|one| text(one, "name") == claw);
    let revision = found
        .and_then(|claw| claw.get("running_revision")?.as_u64())
        .unwrap_or_default();
    Ok((
        found.map_or("gone", |claw| text(claw, "phase")).to_owned(),
        revision,
    ))
}

async fn reaches(stage: &Stage, claw: &str, wanted: &str) -> anyhow::Result<()> {
    let there = async || Ok(phase(stage, claw).await?.0 == wanted);
    until(&format!("{claw} to be {wanted}"), Duration::from_secs(20), there).await
}

/// Stop, update, destroy: nothing else notices.
pub(super) async fn independent(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    story.chapter("One Claw is stopped, updated and destroyed; the others go on working");
    stage.cli.must(&["claw", "stop", "support-triage"], None).await?;
    reaches(stage, "support-triage", "stopped").await?;
    others_work(
        story,
        stage,
        "support-triage is stopped",
        &["github-triage", "weekly-report"],
    )
    .await?;
    update(story, stage).await?;
    stage
        .cli
        .must(&["claw", "destroy", "weekly-report"], None)
        .await?;
    reaches(stage, "weekly-report", "gone").await?;
    others_work(story, stage, "weekly-report is destroyed", &["github-triage"]).await
}

async fn others_work(story: &mut Story, stage: &Stage, what: &str, others: &[&str]) -> anyhow::Result<()> {
    let mut told = Vec::new();
    for claw in others {
        let (before, after) = works(stage, claw).await?;
        told.push(format!("{claw} went from event {before} to {after}"));
    }
    story.observe(true, format!("{what}: {}", told.join(", ")));
    Ok(())
}

async fn update(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    let mut spec = spec_for(stage)?;
    let claws = spec
        .get_mut("claw")
        .and_then(toml::Value::as_array_mut)
        .context("no Claws in the spec")?;
    let triage = claws
        .first_mut()
        .and_then(toml::Value::as_table_mut)
        .context("no Claw in the spec")?;
    triage.insert(
        "description".to_owned(),
        "Turns support messages into tickets, second edition".into(),
    );
    let path = stage
        .prop("demo-2.toml", &spec.to_string())?
        .display()
        .to_string();
    stage
        .cli
        .must(&["claw", "update", "support-triage", "-f", &path], None)
        .await?;
    stage.cli.must(&["claw", "start", "support-triage"], None).await?;
    reaches(stage, "support-triage", "running").await?;
    let (phase, revision) = phase(stage, "support-triage").await?;
    story.observe(
        phase == "running" && revision == 2,
        format!("support-triage is updated and started: revision {revision} is {phase}"),
    );
    Ok(())
}
