//! `clawstaff claw`: the Claws, their lives and their revisions.

mod live;
mod selftest;
mod snapshot;

use std::path::PathBuf;

use clawstaff_api::{
    nodes::Phase,
    people::{ApplyRequest, ClawView, MessageAccepted, MessageRequest, RevisionView, RollbackRequest},
};
use clawstaff_types::ClawName;
use clawstaff_vault::seal::seal;

use super::{
    apply,
    gateways::Gateways,
    wait::{self, Goal, WaitArgs},
};
use crate::{
    client::{Client, escape},
    context::Context,
    failure::{Exit, Failure},
    output::{self, Cell, Field, Format},
    spec,
};

/// HPKE info under which messages are sealed.
const MESSAGE_LABEL: &str = "message";
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 16 * 1024;

/// Claws: their lives and their revisions
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the Claws
    #[command(
        after_help = "Example:\n  clawstaff claw list -o json | jq -r 'select(.phase != \"running\").name'"
    )]
    List,
    /// Show one Claw
    #[command(after_help = "Example:\n  clawstaff claw show support-triage")]
    Show(Named),
    /// List the revisions of a Claw
    #[command(after_help = "Example:\n  clawstaff claw history support-triage")]
    History(Named),
    /// Start a stopped Claw
    #[command(after_help = "Example:\n  clawstaff claw start support-triage")]
    Start(Acted),
    /// Stop a Claw; its storage is kept
    #[command(after_help = "Example:\n  clawstaff claw stop support-triage --no-wait")]
    Stop(Acted),
    /// Stop a Claw and start it again; also the way out of a failure
    #[command(after_help = "Example:\n  clawstaff claw restart support-triage")]
    Restart(Acted),
    /// Freeze a Claw where it is
    #[command(after_help = "Example:\n  clawstaff claw pause support-triage")]
    Pause(Acted),
    /// Let a paused Claw go on
    #[command(after_help = "Example:\n  clawstaff claw resume support-triage")]
    Resume(Acted),
    /// Remove a Claw, its cage and its storage, for ever
    #[command(after_help = "Example:\n  clawstaff claw destroy support-triage")]
    Destroy(Acted),
    /// Apply one Claw of a spec file and nothing else of it
    #[command(after_help = "Example:\n  clawstaff claw update support-triage -f staff.toml")]
    Update {
        /// The Claw
        name: ClawName,
        /// Spec file, folder of *.toml, or `-` for standard input
        #[arg(short, long, value_name = "FILE|DIR|-")]
        file: PathBuf,
        /// Say what would change and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Make an earlier revision the newest one
    #[command(after_help = "Example:\n  clawstaff claw rollback support-triage 3")]
    Rollback {
        /// The Claw
        name: ClawName,
        /// The revision to go back to
        revision: u32,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Show what a Claw uses
    #[command(after_help = "Example:\n  clawstaff claw stats support-triage -o json")]
    Stats(Named),
    /// Say something to a Claw; the text is sealed to the gateway
    #[command(after_help = "Examples:
  clawstaff claw message support-triage 'please look at ticket 4711'
  clawstaff claw message support-triage - < message.txt")]
    Message {
        /// The Claw
        name: ClawName,
        /// The text; `-` reads it from standard input
        text: String,
    },
    /// Print the last output of a Claw's cage, on the runner's host
    #[command(after_help = "Example:\n  clawstaff claw logs support-triage --tail 200")]
    Logs(live::LogsArgs),
    /// Run the escape and egress probes inside a live cage, on the runner's host; recorded
    #[command(
        after_help = "Examples:\n  clawstaff claw selftest support-triage\n  clawstaff claw selftest support-triage --report review.md\n\nExit code 6 if any probe did not hold."
    )]
    Selftest(selftest::Args),
    /// Copy a Claw's /data to a snapshot on the runner's host; recorded. A running cage is frozen meanwhile
    #[command(
        after_help = "Examples:\n  clawstaff claw snapshot support-triage\n  clawstaff claw snapshot support-triage --list\n\nAt most 4 for each Claw; they go when it is destroyed."
    )]
    Snapshot(snapshot::SnapshotArgs),
    /// Make /data of a stopped Claw what it was in a snapshot; recorded
    #[command(after_help = "Example:\n  clawstaff claw restore support-triage 20260131T235959.123Z")]
    Restore(snapshot::RestoreArgs),
    /// Run a command inside a live cage, on the runner's host; recorded
    #[command(after_help = "Example:\n  clawstaff claw exec support-triage -- /sbin/claw probe list")]
    Exec(live::ExecArgs),
}

/// One Claw.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The Claw
    name: ClawName,
}

/// One Claw, and whether to wait for what is wished.
#[derive(Debug, clap::Args)]
pub(crate) struct Acted {
    /// The Claw
    name: ClawName,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Logs(args) => return live::logs(context, args).await,
        Command::Exec(args) => return live::exec(context, args).await,
        Command::Selftest(args) => return selftest::run(context, args).await,
        Command::Snapshot(args) => return snapshot::snapshot(context, args).await,
        Command::Restore(args) => return snapshot::restore(context, args).await,
        _ => {}
    }
    let client = context.api()?;
    let format = context.output;
    match command {
        Command::List => list(format, &client).await,
        Command::Show(named) => format.one(&view(&client, &named.name).await?, fields),
        Command::History(named) => history(format, &client, &named.name).await,
        Command::Start(acted) => act(format, &client, acted, "start").await,
        Command::Stop(acted) => act(format, &client, acted, "stop").await,
        Command::Restart(acted) => act(format, &client, acted, "restart").await,
        Command::Pause(acted) => act(format, &client, acted, "pause").await,
        Command::Resume(acted) => act(format, &client, acted, "resume").await,
        Command::Destroy(acted) => destroy(format, &client, acted).await,
        Command::Update {
            name,
            file,
            dry_run,
            wait,
        } => {
            let request = only(context, &client, &name, &file, dry_run).await?;
            apply::send(context, &client, &request, &wait).await
        }
        Command::Rollback { name, revision, wait } => {
            let path = path(&name, "/rollback");
            let wished: ClawView = client.post(&path, &RollbackRequest { revision }).await?;
            settle(format, &client, &wished, None, &wait).await
        }
        Command::Stats(named) => stats(format, &client, &named.name).await,
        Command::Message { name, text } => message(context, &client, &name, text).await,
        Command::Logs(_)
        | Command::Exec(_)
        | Command::Selftest(_)
        | Command::Snapshot(_)
        | Command::Restore(_) => Ok(()),
    }
}

fn path(name: &ClawName, rest: &str) -> String {
    format!("/v1/claws/{}{rest}", escape(name.as_str()))
}

async fn view(client: &Client, name: &ClawName) -> Result<ClawView, Failure> {
    client.get(&path(name, "")).await
}

async fn list(format: Format, client: &Client) -> Result<(), Failure> {
    let claws: Vec<ClawView> = client.get("/v1/claws").await?;
    let headers = ["NAME", "PHASE", "READY", "REV", "GRANTS", "MODEL", "REASON"];
    format.list(&claws, &headers, |claw| {
        vec![
            Cell::new(&claw.name),
            Cell::tinted(output::word(&claw.phase)),
            Cell::new(if claw.ready { "yes" } else { "-" }),
            Cell::new(claw.revision),
            Cell::new(claw.grants),
            Cell::or_dash(claw.model.as_ref()),
            Cell::or_dash(claw.reason.as_ref()),
        ]
    })
}

fn fields(claw: &ClawView) -> Vec<Field> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut fields = vec![
        ("name", claw.name.to_string()),
        ("description", claw.description.clone()),
        ("phase", output::word(&claw.phase)),
        ("cause", text(claw.cause.as_ref().map(output::word))),
        ("reason", text(claw.reason.clone())),
        ("wanted", output::word(&claw.desired)),
        ("ready", if claw.ready { "yes" } else { "not yet" }.to_owned()),
        ("revision", claw.revision.to_string()),
        (
            "running",
            text(
                claw.running_revision
                    .map(|revision| format!("revision {revision}")),
            ),
        ),
        ("cage", claw.cage.clone()),
        ("starts", claw.starts.to_string()),
        ("model", text(claw.model.clone())),
        ("grants", claw.grants.to_string()),
    ];
    if let Some(stats) = &claw.stats {
        fields.extend(stats_fields(stats));
    }
    fields
}

fn stats_fields(stats: &clawstaff_api::nodes::CageStats) -> Vec<Field> {
    vec![
        ("memory", mebibytes(stats.memory_bytes)),
        (
            "cpu",
            format!(
                "{}.{:03} s",
                stats.cpu_micros / 1_000_000,
                stats.cpu_micros / 1000 % 1000
            ),
        ),
        ("pids", stats.pids.to_string()),
        ("storage", mebibytes(stats.storage_bytes)),
    ]
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

async fn history(format: Format, client: &Client, name: &ClawName) -> Result<(), Failure> {
    let revisions: Vec<RevisionView> = client.get(&path(name, "/history")).await?;
    format.list(&revisions, &["REV", "AT", "BY", "DIGEST"], |revision| {
        vec![
            Cell::new(revision.revision),
            Cell::new(revision.at),
            Cell::new(&revision.by),
            Cell::new(&revision.digest),
        ]
    })
}

async fn act(format: Format, client: &Client, acted: Acted, verb: &str) -> Result<(), Failure> {
    let before = view(client, &acted.name).await?;
    let wished: ClawView = client.post_empty(&path(&acted.name, &format!("/{verb}"))).await?;
    let starts = (verb == "restart").then_some(before.starts);
    settle(format, client, &wished, starts, &acted.wait).await
}

/// Waits until the wish is fulfilled and prints the Claw as it is then.
async fn settle(
    format: Format,
    client: &Client,
    wished: &ClawView,
    starts_above: Option<u32>,
    wait: &WaitArgs,
) -> Result<(), Failure> {
    let goal = Goal {
        claws: vec![wished.name.clone()],
        gateway_revision: None,
        starts_above,
    };
    let now = if wait.wanted() {
        wait::until(client, &goal, wait).await?;
        view(client, &wished.name).await?
    } else {
        wished.clone()
    };
    format.sentence(&now, |claw| {
        format!(
            "{} is {}, revision {}",
            claw.name,
            output::word(&claw.phase),
            claw.revision
        )
    })
}

async fn destroy(format: Format, client: &Client, acted: Acted) -> Result<(), Failure> {
    let gone: ClawView = client.delete(&path(&acted.name, "")).await?;
    if acted.wait.wanted() {
        wait::until_gone(client, &acted.name, &gone.cage, &acted.wait).await?;
    }
    format.sentence(&gone, |claw| {
        format!("destroyed {}, its cage and its storage", claw.name)
    })
}

/// A request with one Claw of a file.
async fn only(
    context: &Context,
    client: &Client,
    name: &ClawName,
    file: &std::path::Path,
    dry_run: bool,
) -> Result<ApplyRequest, Failure> {
    let mut document = spec::load(file)?;
    document.connections.clear();
    document.guardrails.clear();
    document.claws.retain(|claw| claw.spec.name == *name);
    if document.claws.is_empty() {
        let message = format!("there is no Claw `{name}` in {}", file.display());
        return Err(Failure::new(Exit::NotFound, message));
    }
    Ok(ApplyRequest {
        spec: apply::seal(context, client, document).await?,
        dry_run,
        prune: false,
    })
}

async fn stats(format: Format, client: &Client, name: &ClawName) -> Result<(), Failure> {
    let claw = view(client, name).await?;
    let stats = claw.stats.ok_or_else(|| match claw.phase {
        Phase::Running | Phase::Paused | Phase::Quarantined => {
            Failure::unavailable(format!("what `{name}` uses has not been measured yet"))
                .hint("the runner measures every 10 s")
        }
        Phase::Pending
        | Phase::Starting
        | Phase::Stopping
        | Phase::Stopped
        | Phase::Failed
        | Phase::Destroyed => Failure::failed(format!(
            "Claw `{name}` is {}, so it uses nothing",
            output::word(&claw.phase)
        )),
    })?;
    format.one(&stats, stats_fields)
}

async fn message(context: &Context, client: &Client, name: &ClawName, text: String) -> Result<(), Failure> {
    let text = if text == "-" {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::usage(format!("cannot read the message: {error}")))?
    } else {
        text
    };
    if text.trim().is_empty() || text.len() > MAX_MESSAGE {
        return Err(Failure::usage("a message has 1 byte to 16 KiB of text"));
    }
    let gateways = Gateways::ask(context, client, true).await?;
    let key = gateways.key(&gateways.of(name)?).await?;
    let sealed = seal(&key, MESSAGE_LABEL, text.as_bytes()).map_err(Failure::failed)?;
    let accepted: MessageAccepted = client
        .post(&path(name, "/messages"), &MessageRequest { sealed })
        .await?;
    context.output.sentence(&accepted, |accepted| {
        format!(
            "sent as {id}; what it leads to: `clawstaff audit query --cause {id}`",
            id = accepted.id
        )
    })
}
