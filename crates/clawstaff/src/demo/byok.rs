//! The keys, prompts and responses of this run, searched for in everything the control plane has.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::Value;

use super::{
    canary::{Canaries, Kind},
    cli::text,
    memory::{search_files, search_process},
    stage::Stage,
    story::Story,
    work::{calls, messages, spec_for},
};

/// What an auditor or an operator can get out of the control plane.
const EXPORTS: [&[&str]; 9] = [
    &["get"],
    &["audit", "query", "--limit", "1000", "-o", "json"],
    &["claw", "list", "-o", "json"],
    &["grant", "list", "-o", "json"],
    &["connection", "list", "-o", "json"],
    &["audit", "export", "--format", "jsonl"],
    &["audit", "export", "--format", "csv"],
    &["audit", "export", "--format", "ocsf"],
    &["audit", "export", "--format", "cef"],
];

/// Searches the control plane's files, output, answers and memory; then shows that the search can find something.
pub(super) async fn searched(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    story.chapter("Keys, prompts and responses are searched for in all that the control plane has");
    let canaries = canaries(stage).await?;
    story.note(format!(
        "{} keys, {} prompts and messages, {} responses, {} tool arguments; each plain, in base64, hexadecimal, \
         escaped, and inside gzip and zlib",
        canaries.count(Kind::Key),
        canaries.count(Kind::Prompt),
        canaries.count(Kind::Response),
        canaries.count(Kind::Argument),
    ));
    let files = search_files(&stage.data.join("control"), &canaries)?;
    story.observe(
        files.is_empty(),
        format!(
            "database, log and files of the control plane: {} found",
            files.len()
        ),
    );
    let mut said = BTreeSet::new();
    canaries.search(&std::fs::read(stage.props.join("up.log"))?, &mut said);
    story.observe(
        said.is_empty(),
        format!("what the processes wrote to their output: {} found", said.len()),
    );
    let mut told = BTreeSet::new();
    for command in EXPORTS {
        canaries.search(stage.cli.must(command, None).await?.as_bytes(), &mut told);
    }
    story.observe(
        told.is_empty(),
        format!(
            "what it answers when asked for everything, exports in every format among it: {} found",
            told.len()
        ),
    );
    backed_up(story, stage, &canaries).await?;
    in_memory(story, stage, &canaries)
}

/// A backup of the vault has every key, and shows none.
async fn backed_up(story: &mut Story, stage: &Stage, canaries: &Canaries) -> anyhow::Result<()> {
    let file = stage.props.join("vault.age");
    let path = file.to_str().context("the directory's name is not text")?;
    stage
        .cli
        .must(&["secret", "backup", path], Some("the demo's passphrase"))
        .await?;
    let backup = std::fs::read(&file)?;
    let mut shown = BTreeSet::new();
    canaries.search(&backup, &mut shown);
    story.observe(
        shown.is_empty() && backup.len() > 200,
        format!(
            "a backup of the vault, {} bytes: {} found",
            backup.len(),
            shown.len()
        ),
    );
    Ok(())
}

fn in_memory(story: &mut Story, stage: &Stage, canaries: &Canaries) -> anyhow::Result<()> {
    let control = stage.process("control")?.pid;
    let (found, bytes) = search_process(control, canaries)?;
    story.observe(
        found.is_empty(),
        format!(
            "memory of the control plane, {} MiB: {} found",
            bytes >> 20,
            found.len()
        ),
    );
    let known = Canaries::of([(Kind::Prompt, b"support-triage".to_vec())])?;
    let (name, _) = search_process(control, &known)?;
    story.observe(
        name.len() == 1,
        "the same search finds a Claw's name there, so it would have found a key",
    );
    match search_process(stage.process("gateway")?.pid, canaries) {
        Ok((there, _)) => {
            let keys = canaries.of_kind(&there, Kind::Key);
            story.observe(
                keys > 0,
                format!("and {keys} of the keys in the gateway, where they are used"),
            );
        }
        Err(error) => story.note(format!("the gateway's memory is closed to this user: {error:#}")),
    }
    Ok(())
}

async fn canaries(stage: &Stage) -> anyhow::Result<Canaries> {
    let spec = spec_for(stage)?;
    let claws = spec.get("claw").and_then(toml::Value::as_array);
    let instructions = claws
        .into_iter()
        .flatten()
        .filter_map(|claw| claw.get("instructions")?.as_str().map(str::to_owned));
    let messages = messages()?
        .into_iter()
        .map(|message| text(&message, "text").to_owned());
    let answers = calls(stage, "anthropic").await?;
    let blocks: Vec<&Value> = answers
        .iter()
        .filter_map(|answer| answer.pointer("/detail/content")?.as_array())
        .flatten()
        .collect();
    let said = blocks
        .iter()
        .filter_map(|block| block.get("text").and_then(Value::as_str))
        .filter(|words| words.len() > 12);
    let inputs = blocks.iter().filter_map(|block| block.get("input"));
    let mut arguments = Vec::new();
    for input in inputs {
        sentences(input, &mut arguments);
    }
    let keys = stage
        .secrets
        .values()
        .map(|key| (Kind::Key, key.clone().into_bytes()));
    let prompts = instructions
        .chain(messages)
        .map(|text| (Kind::Prompt, distinctive(&text)));
    let responses = said.map(|text| (Kind::Response, distinctive(text)));
    let arguments = arguments.iter().map(|text| (Kind::Argument, distinctive(text)));
    Canaries::of(keys.chain(prompts).chain(responses).chain(arguments))
}

/// The texts in a tool's arguments that are somebody's words; ids and names are in the log, where they belong.
fn sentences(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() > 12 && text.contains(' ') => found.push(text.clone()),
        Value::Array(all) => {
            for one in all {
                sentences(one, found);
            }
        }
        Value::Object(all) => {
            for one in all.values() {
                sentences(one, found);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A piece from the middle of a text, so that no shared beginning hides it: at most 48 bytes.
fn distinctive(text: &str) -> Vec<u8> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let start = bytes.len().saturating_sub(48) / 2;
    bytes.iter().skip(start).take(48).copied().collect()
}
