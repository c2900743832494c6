//! `clawstaff audit`: what happened, why, allowed by which grant, and whether the log is whole.

mod bundle;
mod content;
mod custody;
mod evidence;
mod export;
mod filter;
mod logs;
mod prove;
mod sink;
mod verify;

use std::collections::BTreeMap;

use clawstaff_api::people::{AuditPage, AuditRecord, LogView};
use clawstaff_types::{Actor, ClawName};
use serde::Serialize;
use serde_json::{Value, json};

use self::filter::Filter;
use crate::{
    client::{Client, escape},
    context::Context,
    failure::Failure,
    output::{self, Cell, Format},
};

/// Most records that are asked for at once.
const PAGE: u32 = 1000;
/// Most records that `stats` counts.
const MAX_COUNTED: usize = 1_000_000;

/// The audit log: what happened, why, and whether the log is whole
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the newest records, and with -f what comes
    #[command(after_help = "Example:\n  clawstaff audit tail -f --claw support-triage")]
    Tail {
        /// Go on as records come
        #[arg(short, long)]
        follow: bool,
        /// How many of the newest to start with
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        lines: u32,
        #[command(flatten)]
        filter: Filter,
    },
    /// Search the log
    #[command(after_help = "Examples:
  clawstaff audit query --claw support-triage --decision deny --since 24h
  clawstaff audit query --kind tool.call,tool.denied --resource 'repo:acme/*' -o json
  clawstaff audit query --cause msg_01k9x2m4        all that one message led to")]
    Query {
        #[command(flatten)]
        filter: Filter,
        /// At most this many records
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on after an earlier page
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one record whole
    #[command(after_help = "Examples:
  clawstaff audit show gateway:4711
  clawstaff audit show gateway:4711 --content       also what was sent and received, on the gateway's host; recorded")]
    Show {
        /// Its id, as `audit query` shows it
        id: String,
        /// Decrypt what is kept of it, on the gateway's own host, if you are a custodian; recorded
        #[arg(long)]
        content: bool,
    },
    /// Count records by Claw, kind, decision and outcome
    #[command(after_help = "Example:\n  clawstaff audit stats --since 7d")]
    Stats {
        #[command(flatten)]
        filter: Filter,
    },
    /// Print the newest cosigned checkpoints; keep them where nobody of the installation can write
    #[command(after_help = "Example:\n  clawstaff audit checkpoint > /mnt/elsewhere/checkpoints.txt")]
    Checkpoint,
    /// Legal holds: what may neither be erased nor fall to retention
    #[command(subcommand)]
    Hold(custody::HoldCommand),
    /// Erase the content of a subject: its keys and salts are destroyed, every proof stays what it was
    #[command(after_help = "Examples:
  clawstaff audit erase member:uid-1000        what any Claw did on this member's behalf
  clawstaff audit erase claw:support-triage    everything a Claw did

On the gateway's own host, by custodians only. Where two persons are asked for, a second custodian gives the same
command. There is no way back.")]
    Erase(custody::EraseArgs),
    /// Show for how long the gateway's log is kept, or remove now what is older
    #[command(after_help = "Examples:
  clawstaff audit retention
  clawstaff audit retention --apply        on the gateway's host, by a custodian; recorded

The operator decides with `--keep-days DAYS` of `up` and `gateway`; it is looked at every hour. A hold stops it.")]
    Retention(custody::RetentionArgs),
    /// Make the searchable index anew from the logs
    #[command(
        after_help = "Example:\n  clawstaff audit rebuild\n\nThe logs stay as they are. `audit checkpoint -o json` shows how far the new index is."
    )]
    Rebuild,
    /// Prove that an entry is in the log (C2SP tlog-proof), for somebody who has nothing else
    #[command(after_help = "Example:
  clawstaff audit prove gateway:4711 --out 4711.tlog-proof
  clawstaff audit verify 4711.tlog-proof --key VKEY          on another machine")]
    Prove(prove::Args),
    /// Write an evidence bundle: entries, proofs, checkpoints, keys and how to check them
    #[command(after_help = "Examples:
  clawstaff audit bundle --claw support-triage --since 24h --out evidence.tar
  clawstaff audit verify evidence.tar                        anywhere, with nothing else")]
    Bundle(bundle::Args),
    /// Verify logs, proofs and bundles offline: nothing altered, removed, reordered or hidden
    #[command(after_help = "Examples:
  clawstaff audit verify                                     both logs of this installation, against each other
  clawstaff audit verify evidence.tar --policy POLICY        a bundle, with keys that you know
  clawstaff audit verify /mnt/copy/log --from checkpoint.txt
  clawstaff audit verify --from checkpoint.txt               also: everything in that checkpoint is still there

Exit code 6 if anything does not verify.")]
    Verify(verify::Args),
    /// Take records out in another format; that it was done, by whom, is recorded first
    #[command(after_help = "Examples:
  clawstaff audit export --format csv --since 7d --to week.csv
  clawstaff audit export --format ocsf --ocsf-version 1.5 --claw support-triage
  clawstaff audit export --format cef -f | logger --tcp --server siem.example")]
    Export(export::Args),
    #[command(subcommand)]
    Sink(sink::Command),
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let format = context.output;
    match command {
        Command::Tail {
            follow,
            lines,
            filter,
        } => tail(format, &context.api()?, &filter, lines, follow).await,
        Command::Query {
            filter,
            limit,
            cursor,
        } => query(format, &context.api()?, &filter, limit, cursor).await,
        Command::Show { id, content } => {
            let path = format!("/v1/audit/{}", escape(&id));
            let record: AuditRecord = context.api()?.get(&path).await?;
            if content {
                content::show(context, &record).await
            } else {
                show(format, &record)
            }
        }
        Command::Hold(command) => custody::hold(context, command).await,
        Command::Erase(args) => custody::erase(context, args).await,
        Command::Retention(args) => custody::retention(context, args).await,
        Command::Stats { filter } => stats(format, &context.api()?, &filter).await,
        Command::Checkpoint => checkpoint(format, &context.api()?).await,
        Command::Rebuild => rebuild(format, &context.api()?).await,
        Command::Prove(args) => prove::run(context, &args),
        Command::Bundle(args) => bundle::run(context, &args),
        Command::Verify(args) => verify::run(context, args),
        Command::Export(args) => export::run(context, args).await,
        Command::Sink(command) => sink::run(context, command).await,
    }
}

async fn tail(
    format: Format,
    client: &Client,
    filter: &Filter,
    lines: u32,
    follow: bool,
) -> Result<(), Failure> {
    // The stream is opened first: a record that comes in between is in both and shown once.
    let stream = if follow {
        let path = format!("/v1/audit/tail{}", filter.query(None, None)?);
        Some(client.events(&path).await?)
    } else {
        None
    };
    let path = format!("/v1/audit{}", filter.query(Some(lines), None)?);
    let page: AuditPage = client.get(&path).await?;
    let mut shown: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    for record in &page.records {
        shown.insert(record.id.clone());
        print_line(format, record)?;
    }
    let Some(mut events) = stream else {
        return Ok(());
    };
    while let Some(data) = events.next().await? {
        let record: AuditRecord = serde_json::from_str(&data)
            .map_err(|error| Failure::failed(format!("cannot understand a record: {error}")))?;
        // An intent comes again with its outcome; only what was on the first page whole is passed over.
        if !shown.remove(&record.id) || record.outcome_index.is_some() {
            print_line(format, &record)?;
        }
    }
    Err(Failure::unavailable("the stream of records ended").hint("the control plane may have stopped"))
}

async fn query(
    format: Format,
    client: &Client,
    filter: &Filter,
    limit: u32,
    cursor: Option<String>,
) -> Result<(), Failure> {
    let mut left = limit;
    let mut cursor = cursor;
    let mut records: Vec<AuditRecord> = Vec::new();
    let mut behind: Vec<LogView>;
    loop {
        let path = format!("/v1/audit{}", filter.query(Some(left.min(PAGE)), cursor.take())?);
        let page: AuditPage = client.get(&path).await?;
        let got = u32::try_from(page.records.len()).unwrap_or(u32::MAX);
        left = left.saturating_sub(got);
        cursor = page.cursor;
        behind = page.watermarks;
        // Each page is older than the one before it; within a page the newest is last.
        records = page.records.into_iter().chain(records).collect();
        if left == 0 || got == 0 || cursor.is_none() {
            break;
        }
    }
    match format {
        Format::Json => records
            .iter()
            .try_for_each(|record| output::json(&full(record)))?,
        Format::Table => table(&records)?,
    }
    if let Some(cursor) = cursor {
        output::note(&format!("there is more: --cursor {cursor}"));
    }
    if !behind.is_empty() {
        let seen = behind.iter().map(watermark).collect::<Vec<_>>().join(", ");
        output::note(&format!("searched: {seen}"));
    }
    Ok(())
}

/// How much of a log a search has seen.
fn watermark(log: &LogView) -> String {
    let of = if log.known > log.size {
        format!(" of {}", log.known)
    } else {
        String::new()
    };
    format!("{} up to entry {}{of}", log.origin, log.size)
}

fn table(records: &[AuditRecord]) -> Result<(), Failure> {
    let headers = [
        "ID", "TIME", "KIND", "ACTOR", "ACTION", "RESOURCE", "DECISION", "OUTCOME",
    ];
    Format::Table.list(records, &headers, |record| {
        let event = &record.event;
        vec![
            Cell::new(&record.id),
            Cell::new(seconds(record)),
            Cell::new(event.kind),
            Cell::new(actor(&event.actor, event.claw.as_ref())),
            Cell::or_dash(event.action.as_ref()),
            Cell::or_dash(event.resource.as_ref()),
            event.decision.map_or_else(
                || Cell::new("-"),
                |decision| Cell::tinted(output::word(&decision)),
            ),
            event
                .outcome
                .map_or_else(|| Cell::new("-"), |outcome| Cell::tinted(output::word(&outcome))),
        ]
    })
}

fn seconds(record: &AuditRecord) -> String {
    record.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn actor(actor: &Actor, claw: Option<&ClawName>) -> String {
    match (actor, claw) {
        (Actor::Claw(name), _) => name.to_string(),
        (Actor::Member(_) | Actor::System(_), Some(claw)) => format!("{actor} → {claw}"),
        (Actor::Member(_) | Actor::System(_), None) => actor.to_string(),
    }
}

/// One record on one line, for a stream.
fn print_line(format: Format, record: &AuditRecord) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(&full(record));
    }
    let event = &record.event;
    let mut words = vec![
        seconds(record),
        format!("{:12}", record.id),
        format!("{:16}", event.kind.as_str()),
        actor(&event.actor, event.claw.as_ref()),
    ];
    words.extend(event.action.as_ref().map(ToString::to_string));
    words.extend(event.resource.as_ref().map(ToString::to_string));
    words.extend(
        event
            .decision
            .map(|decision| output::tinted(&output::word(&decision))),
    );
    words.extend(
        event
            .outcome
            .map(|outcome| output::tinted(&output::word(&outcome))),
    );
    words.extend(
        event
            .reason
            .as_ref()
            .map(|reason| format!("({})", output::tame(reason, 200))),
    );
    output::line(&words.join(" "))
}

/// A record as JSON in which the documented fields are always present.
fn full(record: &AuditRecord) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        let empty = [
            ("claw", Value::Null),
            ("on_behalf_of", Value::Null),
            ("cause", Value::Null),
            ("action", Value::Null),
            ("resource", Value::Null),
            ("decision", Value::Null),
            ("grants", json!([])),
            ("guardrails", json!([])),
            ("claw_revision", Value::Null),
            ("policy_revision", Value::Null),
            ("outcome", Value::Null),
            ("digests", json!({})),
            ("facts", json!({})),
        ];
        for (name, absent) in empty {
            fields.entry(name).or_insert(absent);
        }
    }
    value
}

fn show(format: Format, record: &AuditRecord) -> Result<(), Failure> {
    let value = full(record);
    if format == Format::Json {
        return output::json(&value);
    }
    let fields = value
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| {
            let text = match value {
                Value::Null => return None,
                Value::String(text) => text.clone(),
                Value::Array(list) if list.is_empty() => return None,
                Value::Object(map) if map.is_empty() => return None,
                other => other.to_string(),
            };
            Some(format!(
                "{name:16}  {}",
                output::tinted(&output::tame(&text, 2000))
            ))
        });
    output::line(&fields.collect::<Vec<_>>().join("\n"))
}

/// How often one combination occurred.
#[derive(Debug, Serialize)]
struct Tally {
    claw: Option<String>,
    kind: String,
    decision: Option<String>,
    outcome: Option<String>,
    count: u64,
}

async fn stats(format: Format, client: &Client, filter: &Filter) -> Result<(), Failure> {
    type Key = (Option<String>, String, Option<String>, Option<String>);
    let mut counts: BTreeMap<Key, u64> = BTreeMap::new();
    let mut cursor = None;
    let mut seen = 0;
    loop {
        let path = format!("/v1/audit{}", filter.query(Some(PAGE), cursor.take())?);
        let page: AuditPage = client.get(&path).await?;
        for record in &page.records {
            let event = &record.event;
            let key = (
                event.claw.as_ref().map(ToString::to_string),
                event.kind.to_string(),
                event.decision.as_ref().map(output::word),
                event.outcome.as_ref().map(output::word),
            );
            *counts.entry(key).or_default() += 1;
        }
        seen += page.records.len();
        cursor = page.cursor;
        if page.records.is_empty() || cursor.is_none() || seen >= MAX_COUNTED {
            break;
        }
    }
    if cursor.is_some() {
        output::note(&format!(
            "only the first {seen} records are counted; narrow it with --since and --until"
        ));
    }
    let counts: Vec<Tally> = counts
        .into_iter()
        .map(|((claw, kind, decision, outcome), count)| Tally {
            claw,
            kind,
            decision,
            outcome,
            count,
        })
        .collect();
    format.list(
        &counts,
        &["CLAW", "KIND", "DECISION", "OUTCOME", "COUNT"],
        |count| {
            vec![
                Cell::or_dash(count.claw.as_ref()),
                Cell::new(&count.kind),
                count
                    .decision
                    .as_ref()
                    .map_or_else(|| Cell::new("-"), Cell::tinted),
                count
                    .outcome
                    .as_ref()
                    .map_or_else(|| Cell::new("-"), Cell::tinted),
                Cell::new(count.count),
            ]
        },
    )
}

async fn rebuild(format: Format, client: &Client) -> Result<(), Failure> {
    let logs: Vec<LogView> = client.post_empty("/v1/audit/rebuild").await?;
    format.list(&logs, &["LOG", "INDEXED", "OF"], |log| {
        vec![Cell::new(&log.origin), Cell::new(log.size), Cell::new(log.known)]
    })
}

async fn checkpoint(format: Format, client: &Client) -> Result<(), Failure> {
    let logs: Vec<LogView> = client.get("/v1/audit/checkpoints").await?;
    match format {
        Format::Json => logs.iter().try_for_each(output::json),
        Format::Table => logs
            .iter()
            .try_for_each(|log| output::line(&format!("{}\n", log.checkpoint))),
    }
}
