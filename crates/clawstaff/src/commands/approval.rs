//! `clawstaff approval`: calls that wait for a human, and the human's answer.

use clawstaff_api::people::{ApprovalView, FromNowOn};
use clawstaff_types::ApprovalId;
use jiff::SignedDuration;

use super::grant::join;
use crate::{
    client::{Client, escape},
    context::Context,
    failure::Failure,
    output::Cell,
};

/// Approvals: calls that wait for a human
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the calls that wait
    #[command(after_help = "Example:\n  clawstaff approval list")]
    List,
    /// Let a waiting call through
    #[command(after_help = "Examples:
  clawstaff approval approve ap_01k9x2m4             this call, one time
  clawstaff approval approve ap_01k9x2m4 --for 1h    and the same action on the same resource for an hour
  clawstaff approval approve ap_01k9x2m4 --grant     and from now on, for as long as the grant that asks")]
    Approve(ApproveArgs),
    /// Refuse a waiting call
    #[command(after_help = "Example:\n  clawstaff approval deny ap_01k9x2m4")]
    Deny {
        /// The call's id, as `approval list` shows it
        id: ApprovalId,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// The call's id, as `approval list` shows it
    id: ApprovalId,
    /// This call, one time: what happens without the other two
    #[arg(long, conflicts_with_all = ["lasts", "grant"])]
    once: bool,
    /// And give a grant of the same action on the same resource for so long
    #[arg(long = "for", value_name = "DURATION", value_parser = while_of, conflicts_with = "grant")]
    lasts: Option<u64>,
    /// And give a grant of the same action on the same resource
    #[arg(long)]
    grant: bool,
}

/// Seconds of `90s`, `1h`, `2h 30m`.
fn while_of(text: &str) -> Result<u64, String> {
    let asked: Option<SignedDuration> = text.parse().ok();
    let seconds = asked.and_then(|asked| u64::try_from(asked.as_secs()).ok());
    seconds
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "write 30m, 1h or 24h".to_owned())
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.api()?;
    match command {
        Command::List => list(context, &client).await,
        Command::Approve(args) => approve(context, &client, args).await,
        Command::Deny { id } => {
            let denied = decide(&client, &id, "deny").await?;
            context
                .output
                .sentence(&denied, |call| format!("denied: {}", words(call)))
        }
    }
}

async fn list(context: &Context, client: &Client) -> Result<(), Failure> {
    let waiting: Vec<ApprovalView> = client.get("/v1/approvals").await?;
    let headers = [
        "ID", "CLAW", "ACTION", "RESOURCE", "FOR", "GRANTS", "UNTIL", "DECIDED",
    ];
    context.output.list(&waiting, &headers, |call| {
        vec![
            Cell::new(&call.id),
            Cell::new(&call.claw),
            Cell::new(&call.action),
            Cell::or_dash(call.resource.as_ref()),
            Cell::or_dash(call.on_behalf_of.as_ref()),
            Cell::new(join(&call.grants)),
            Cell::new(call.until),
            Cell::or_dash(call.decided.as_ref()),
        ]
    })
}

async fn approve(context: &Context, client: &Client, args: ApproveArgs) -> Result<(), Failure> {
    if !args.grant && args.lasts.is_none() {
        let approved = decide(client, &args.id, "approve").await?;
        return context
            .output
            .sentence(&approved, |call| format!("approved, this once: {}", words(call)));
    }
    let path = format!("/v1/approvals/{}/grant", escape(args.id.as_str()));
    let terms = FromNowOn {
        for_seconds: args.lasts,
    };
    let granted: ApprovalView = client.post(&path, &terms).await?;
    context.output.sentence(&granted, |call| {
        format!("approved, with a grant for the like of it: {}", words(call))
    })
}

async fn decide(client: &Client, id: &ApprovalId, verb: &str) -> Result<ApprovalView, Failure> {
    let path = format!("/v1/approvals/{}/{verb}", escape(id.as_str()));
    client.post(&path, &()).await
}

fn words(call: &ApprovalView) -> String {
    let on = call
        .resource
        .as_ref()
        .map_or_else(String::new, |resource| format!(" on {resource}"));
    format!("{} {}{on}", call.claw, call.action)
}
