//! The keys, prompts and responses of this run, searched for in everything the control plane has.

use serde_json::Value;

use super::{
    cli::text,
    memory::{search_files, search_process},
    stage::Stage,
    story::Story,
    work::{calls, messages, spec_for},
};

/// Texts that must not be there, by what they are.
struct Canaries {
    keys: Vec<Vec<u8>>,
    prompts: Vec<Vec<u8>>,
    responses: Vec<Vec<u8>>,
}

/// Searches the control plane's files, output and memory; then shows that the search can find something.
pub(super) async fn searched(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    story.chapter("Keys, prompts and responses are searched for in all that the control plane has");
    let canaries = canaries(stage).await?;
    let all: Vec<Vec<u8>> = [
        canaries.keys.clone(),
        canaries.prompts.clone(),
        canaries.responses.clone(),
    ]
    .concat();
    story.note(format!(
        "{} keys, {} prompts and messages, {} responses",
        canaries.keys.len(),
        canaries.prompts.len(),
        canaries.responses.len()
    ));
    let files = search_files(&stage.data.join("control"), &all)?;
    story.observe(
        files.is_empty(),
        format!(
            "database, log and files of the control plane: {} found",
            files.len()
        ),
    );
    let output = std::fs::read(stage.props.join("up.log")).unwrap_or_default();
    let said = all
        .iter()
        .filter(|needle| String::from_utf8_lossy(&output).contains(&*String::from_utf8_lossy(needle)))
        .count();
    story.observe(
        said == 0,
        format!("what the processes wrote to their output: {said} found"),
    );
    in_memory(story, stage, &canaries, &all)
}

fn in_memory(story: &mut Story, stage: &Stage, canaries: &Canaries, all: &[Vec<u8>]) -> anyhow::Result<()> {
    let control = stage.process("control")?.pid;
    let (found, bytes) = search_process(control, all)?;
    story.observe(
        found.is_empty(),
        format!(
            "memory of the control plane, {} MiB: {} found",
            bytes >> 20,
            found.len()
        ),
    );
    let known = vec![b"support-triage".to_vec()];
    let (name, _) = search_process(control, &known)?;
    story.observe(
        name.len() == 1,
        "the same search finds a Claw's name there, so it would have found a key",
    );
    match search_process(stage.process("gateway")?.pid, &canaries.keys) {
        Ok((keys, _)) => {
            story.observe(
                !keys.is_empty(),
                format!(
                    "and {} of the keys in the gateway, where they are used",
                    keys.len()
                ),
            );
        }
        Err(error) => story.note(format!("the gateway's memory is closed to this user: {error:#}")),
    }
    Ok(())
}

async fn canaries(stage: &Stage) -> anyhow::Result<Canaries> {
    let spec = spec_for(stage)?;
    let claws = spec
        .get("claw")
        .and_then(toml::Value::as_array)
        .cloned()
        .unwrap_or_default();
    let instructions = claws
        .iter()
        .filter_map(|claw| claw.get("instructions")?.as_str().map(str::to_owned));
    let messages = messages()?
        .into_iter()
        .map(|message| text(&message, "text").to_owned());
    let prompts = instructions
        .chain(messages)
        .map(|prompt| distinctive(&prompt))
        .collect();
    let answers = calls(stage, "anthropic").await?;
    let blocks = answers
        .iter()
        .filter_map(|answer| answer.pointer("/detail/content")?.as_array());
    let said = blocks
        .flatten()
        .filter_map(|block| block.get("text").and_then(Value::as_str));
    let mut responses: Vec<Vec<u8>> = said.filter(|words| words.len() > 12).map(distinctive).collect();
    responses.sort();
    responses.dedup();
    Ok(Canaries {
        keys: stage
            .secrets
            .values()
            .map(|key| key.clone().into_bytes())
            .collect(),
        prompts,
        responses,
    })
}

/// A piece from the middle of a text, so that no shared beginning hides it: at most 48 bytes.
fn distinctive(text: &str) -> Vec<u8> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let start = bytes.len().saturating_sub(48) / 2;
    bytes.iter().skip(start).take(48).copied().collect()
}
