//! `clawstaff apply`: what the spec file says becomes what is.

use std::{collections::BTreeMap, path::PathBuf};

use clawstaff_api::people::{ApplyAnswer, ApplyRequest, Change, ChangeVerb, Effect, Spec};

use super::{
    gateways::Gateways,
    wait::{self, Goal, WaitArgs},
};
use crate::{
    client::Client,
    context::Context,
    failure::Failure,
    output::{self, Format},
    spec::{self, Document},
};

/// Make what a spec file says so, and say what changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clawstaff apply -f staff.toml --dry-run     only say what would change
  clawstaff apply -f staff/ --prune           a folder of files, and nothing beside it
  cat staff.toml | clawstaff apply -f -

Lines that start with `+` are added, `~` changed, `-` removed.")]
pub(crate) struct Args {
    /// Spec file, folder of *.toml, or `-` for standard input
    #[arg(short, long, value_name = "FILE|DIR|-")]
    file: PathBuf,

    /// Say what would change and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Also remove Claws, connections and guardrails that the file does not have
    #[arg(long)]
    prune: bool,

    #[command(flatten)]
    wait: WaitArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let document = spec::load(&args.file)?;
    let client = context.api()?;
    let spec = seal(context, &client, document).await?;
    let request = ApplyRequest {
        spec,
        dry_run: args.dry_run,
        prune: args.prune,
    };
    send(context, &client, &request, &args.wait).await
}

/// Places what must be placed, and seals what must be sealed, to the gateways that will have it.
pub(super) async fn seal(
    context: &Context,
    client: &Client,
    mut document: Document,
) -> Result<Spec, Failure> {
    let elsewhere = document
        .claws
        .iter()
        .any(|claw| claw.spec.node.is_some() || claw.pool.is_some());
    if !elsewhere && !document.has_plain_instructions() {
        return Ok(document.seal(&BTreeMap::new())?);
    }
    let mut gateways = Gateways::ask(context, client, elsewhere).await?;
    gateways.place(&mut document)?;
    let mut keys = BTreeMap::new();
    for node in document.nodes_to_seal_for() {
        keys.insert(node.clone(), gateways.key(&node).await?);
    }
    Ok(document.seal(&keys)?)
}

/// Applies, says what changed, waits.
pub(super) async fn send(
    context: &Context,
    client: &Client,
    request: &ApplyRequest,
    wait: &WaitArgs,
) -> Result<(), Failure> {
    let answer: ApplyAnswer = client.post("/v1/apply", request).await?;
    match context.output {
        Format::Json => output::json(&answer)?,
        Format::Table => output::line(&describe(&answer))?,
    }
    if !answer.applied || !wait.wanted() {
        return Ok(());
    }
    let goal = Goal {
        claws: request
            .spec
            .claws
            .iter()
            .map(|claw| claw.spec.name.clone())
            .collect(),
        gateway_revision: Some(answer.revision),
        starts_above: None,
    };
    wait::until(client, &goal, wait).await
}

fn describe(answer: &ApplyAnswer) -> String {
    let mut lines: Vec<String> = answer.changes.iter().map(describe_change).collect();
    let widening = answer
        .changes
        .iter()
        .filter(|change| change.effect == Effect::Widens)
        .count();
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let of_which = match widening {
        0 => String::new(),
        1 => ", 1 of which widens access".to_owned(),
        n => format!(", {n} of which widen access"),
    };
    lines.push(match (answer.changes.len(), answer.applied) {
        (0, _) => "nothing to change".to_owned(),
        (n, true) => format!(
            "applied {}{of_which}; revision {}",
            count(n, "change"),
            answer.revision
        ),
        (n, false) => format!("would make {}{of_which}; nothing was applied", count(n, "change")),
    });
    lines.join("\n")
}

fn describe_change(change: &Change) -> String {
    let sign = match change.verb {
        ChangeVerb::Add => "+",
        ChangeVerb::Change => "~",
        ChangeVerb::Remove => "-",
    };
    let mut line = format!("{sign} {}", output::tame(&change.what, 200));
    if !change.detail.is_empty() {
        line = format!("{line}: {}", output::tame(&change.detail, 300));
    }
    match change.effect {
        Effect::Widens => format!("{line}  [{} access]", output::tinted("widens")),
        Effect::Narrows => format!("{line}  [narrows access]"),
        Effect::Neutral => line,
    }
}
