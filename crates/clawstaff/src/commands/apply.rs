//! `clawstaff apply`: what the spec file says becomes what is.

use std::path::PathBuf;

use clawstaff_api::people::{ApplyAnswer, ApplyRequest, Change, ChangeVerb, Effect, ServerStatus, Spec};
use clawstaff_vault::seal::PublicKey;

use super::wait::{self, Goal, WaitArgs};
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
    let spec = seal(&client, document).await?;
    let request = ApplyRequest {
        spec,
        dry_run: args.dry_run,
        prune: args.prune,
    };
    send(context, &client, &request, &args.wait).await
}

/// Seals what must be sealed, to the gateway that the control plane names.
pub(super) async fn seal(client: &Client, document: Document) -> Result<Spec, Failure> {
    if !document.has_plain_instructions() {
        return Ok(document.seal(None)?);
    }
    let key = gateway_key(client).await?;
    Ok(document.seal(Some(&key))?)
}

/// The key to which content is sealed.
pub(super) async fn gateway_key(client: &Client) -> Result<PublicKey, Failure> {
    let status: ServerStatus = client.get("/v1/status").await?;
    let gateway = status.gateway.ok_or_else(|| {
        Failure::unavailable("no gateway has connected yet, so there is no key to seal the text to")
            .hint("wait until `clawstaff status` shows the gateway")
    })?;
    gateway
        .seal_key
        .parse()
        .map_err(|error| Failure::failed(format!("cannot use the gateway's key: {error}")))
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
