//! Deploying the three Claws, and the support messages becoming tickets.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    cli::text,
    stage::{DATABASE, Stage},
    story::Story,
    web,
};

const SPEC: &str = include_str!("../../../../examples/demo.toml");
const MESSAGES: &str = include_str!("../../../../examples/support/messages.json");
/// The delivery that carries the injection.
pub(super) const INJECTION: &str = "Ev0SUP009";
const CHANNEL: &str = "C0SUPPORT";

/// The messages of the example.
pub(super) fn messages() -> anyhow::Result<Vec<Value>> {
    serde_json::from_str(MESSAGES).context("examples/support/messages.json is not JSON")
}

/// The example's spec file with each connection pointed at its stand-in.
pub(super) fn spec_for(stage: &Stage) -> anyhow::Result<toml::Table> {
    let mut spec: toml::Table = SPEC.parse().context("examples/demo.toml is not TOML")?;
    let connections = spec.get_mut("connection").and_then(toml::Value::as_array_mut);
    for connection in connections.context("examples/demo.toml has no connections")? {
        let table = connection.as_table_mut().context("a connection is not a table")?;
        let name = table
            .get("name")
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let path = if name == "slack" { "/api" } else { "" };
        table.insert(
            "base_url".to_owned(),
            format!("{}{path}", stage.standin(&name)).into(),
        );
    }
    if !rustix::process::geteuid().is_root() {
        accept_unenforced(&mut spec);
    }
    Ok(spec)
}

/// An ordinary user without a delegated cgroup can enforce no limits; a real deploy would be refused for that.
fn accept_unenforced(spec: &mut toml::Table) {
    let claws = spec.get_mut("claw").and_then(toml::Value::as_array_mut);
    for claw in claws.into_iter().flatten() {
        if let Some(limits) = claw.get_mut("limits").and_then(toml::Value::as_table_mut) {
            let all = ["memory", "cpus", "pids", "storage"].map(toml::Value::from);
            limits.insert("accept_unenforced".to_owned(), toml::Value::Array(all.to_vec()));
        }
    }
}

/// Puts the secrets into the vault and applies the spec file.
pub(super) async fn deploy(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    story.chapter("Three Claws are deployed from one spec file");
    for (name, value) in &stage.secrets {
        // The stand-in services are at home here; the real ones need no `--host`.
        let set = ["secret", "set", name, "--host", "127.0.0.1"];
        stage.cli.must(&set, Some(value)).await?;
    }
    story.note(format!(
        "{} secrets went into the vault through standard input",
        stage.secrets.len()
    ));
    let spec = stage
        .prop("demo.toml", &spec_for(stage)?.to_string())?
        .display()
        .to_string();
    if !rustix::process::geteuid().is_root() {
        story.note("as an ordinary user not every limit can be enforced here; the demo's spec accepts that");
    }
    let began = std::time::Instant::now();
    stage
        .cli
        .must(&["apply", "-f", &spec, "--wait", "--timeout", "60"], None)
        .await?;
    story.note(format!("applied in {:.1} s", began.elapsed().as_secs_f32()));
    wait_ready(stage).await?;
    for claw in stage.cli.json(&["claw", "list"]).await? {
        let running = text(&claw, "phase") == "running";
        let grants = claw.get("grants").and_then(Value::as_u64).unwrap_or_default();
        story.observe(
            running,
            format!(
                "{:<15} {} · {grants} grants",
                text(&claw, "name"),
                text(&claw, "phase")
            ),
        );
    }
    Ok(())
}

/// Waits until every agent has reported itself ready.
async fn wait_ready(stage: &Stage) -> anyhow::Result<()> {
    let ready = async || {
        let claws = stage.cli.json(&["claw", "list"]).await?;
        let ready = |claw: &Value| claw.get("ready").and_then(Value::as_bool) == Some(true);
        Ok(claws.len() == 3 && claws.iter().all(ready))
    };
    until("the agents to be ready", Duration::from_secs(20), ready).await
}

/// Polls until `done` says yes.
pub(super) async fn until(
    what: &str,
    bound: Duration,
    done: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + bound;
    while !done().await? {
        anyhow::ensure!(
            tokio::time::Instant::now() < deadline,
            "waited {} s in vain for {what}",
            bound.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The example's messages arrive as signed Slack deliveries and become tickets.
pub(super) async fn tickets(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    story.chapter("Support messages arrive, signed by Slack, and become tickets");
    let messages = messages()?;
    let (mut accepted, mut expected) = (0, Vec::new());
    for message in &messages {
        let answer = deliver(stage, message).await?;
        accepted += usize::from(answer.get("status").and_then(Value::as_u64) == Some(200));
        if text(message, "event_id") != INJECTION {
            expected.push(link_of(text(message, "ts")));
        }
    }
    story.observe(
        accepted == messages.len(),
        format!(
            "{accepted} of {} deliveries acknowledged after they were durable",
            messages.len()
        ),
    );
    let filed = async || Ok(pages(stage).await?.len() >= expected.len());
    until("the tickets", Duration::from_mins(1), filed).await?;
    bad_deliveries(story, stage, messages.first().context("no messages")?).await?;
    finished(stage).await?;
    check_pages(story, stage, &expected).await
}

async fn deliver(stage: &Stage, message: &Value) -> anyhow::Result<Value> {
    let url = format!("{}/ingress/slack/slack", stage.ingress);
    web::post(
        &format!("{}/_standin/deliver", stage.standin("slack")),
        &json!({"url": url, "channel": CHANNEL, "message": message}),
    )
    .await
}

fn link_of(ts: &str) -> String {
    format!(
        "https://acme.slack.com/archives/{CHANNEL}/p{}",
        ts.replace('.', "")
    )
}

/// The pages that the Notion stand-in has really made.
async fn pages(stage: &Stage) -> anyhow::Result<Vec<Value>> {
    let journal = calls(stage, "notion").await?;
    let made = journal.into_iter().filter(|line| {
        text(line, "call") == "POST /v1/pages" && line.get("status").and_then(Value::as_u64) == Some(200)
    });
    Ok(made.filter_map(|line| line.get("detail").cloned()).collect())
}

/// What reached a stand-in.
pub(super) async fn calls(stage: &Stage, standin: &str) -> anyhow::Result<Vec<Value>> {
    let journal = web::get(&format!("{}/_standin/journal", stage.standin(standin))).await?;
    Ok(journal.as_array().cloned().unwrap_or_default())
}

/// Waits until the model has said its last words about every message, the injection included.
async fn finished(stage: &Stage) -> anyhow::Result<()> {
    let expected = messages()?.len();
    let said = async || {
        let answers = calls(stage, "anthropic").await?;
        let last =
            |line: &&Value| line.pointer("/detail/stop_reason").and_then(Value::as_str) == Some("end_turn");
        Ok(answers.iter().filter(last).count() >= expected)
    };
    until("every message to be finished", Duration::from_mins(1), said).await
}

/// A forged and a replayed delivery.
async fn bad_deliveries(story: &mut Story, stage: &Stage, message: &Value) -> anyhow::Result<()> {
    let forged = http::Request::post(format!("{}/ingress/slack/slack", stage.ingress))
        .header("content-type", "application/json")
        .header(
            "x-slack-request-timestamp",
            jiff::Timestamp::now().as_second().to_string(),
        )
        .header("x-slack-signature", format!("v0={}", "0".repeat(64)))
        .body(http_body_util::Full::from(r#"{"type":"event_callback"}"#))?;
    let (status, _) = web::send(forged).await?;
    story.observe(
        status == 401,
        format!(
            "a delivery with a forged signature is refused with {}",
            status.as_u16()
        ),
    );
    let before = pages(stage).await?.len();
    let replayed = deliver(stage, message).await?;
    let quiet = replayed.get("status").and_then(Value::as_u64) == Some(200);
    story.observe(
        quiet && pages(stage).await?.len() == before,
        "a replayed delivery is acknowledged and makes no second ticket",
    );
    Ok(())
}

async fn check_pages(story: &mut Story, stage: &Stage, expected: &[String]) -> anyhow::Result<()> {
    let pages = pages(stage).await?;
    let field = |page: &Value, pointer: &str| {
        page.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    for page in &pages {
        let (title, priority) = (
            field(page, "/properties/Name/title/0/text/content"),
            field(page, "/properties/Priority/select/name"),
        );
        story.note(format!("{priority:<3} {title}"));
    }
    let filed = |link: &String| {
        pages
            .iter()
            .filter(|page| field(page, "/properties/Link/url") == *link)
            .count()
            == 1
    };
    let in_database = pages
        .iter()
        .all(|page| field(page, "/parent/database_id").replace('-', "") == DATABASE);
    let complete = pages.len() == expected.len() && expected.iter().all(filed) && in_database;
    story.observe(
        complete,
        format!(
            "{} tickets in Notion, one per message, each with title, priority and link",
            pages.len()
        ),
    );
    let posted = calls(stage, "slack")
        .await?
        .iter()
        .filter(|line| text(line, "call").ends_with("chat.postMessage"))
        .count();
    story.observe(
        posted == 0,
        "nothing was written to Slack: answering was not granted",
    );
    Ok(())
}
