//! `clawstaff grant`: who may do what to which resource, and why (not).

mod explain;

use bytes::Bytes;
use clawstaff_api::people::{CheckAnswer, CheckRequest, GrantInput, GrantRequest};
use clawstaff_types::{
    ActionId, ActionPattern, ClawName, Conditions, ConnectionName, Grant, GrantId, MemberId, Mode,
    ResourcePattern, ResourceRef, Window, grant::ArgumentIs, spec::Budget,
};
use http::Method;
use jiff::Timestamp;

use crate::{
    client::{Client, escape, query},
    context::Context,
    failure::Failure,
    output::{self, Cell, Field},
    spec::parse_instant,
};

/// Grants: who may do what to which resource, and why (not)
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List grants
    #[command(after_help = "Example:\n  clawstaff grant list --claw support-triage")]
    List {
        /// Only those of this Claw
        #[arg(long)]
        claw: Option<ClawName>,
    },
    /// Give a Claw one more grant
    #[command(after_help = "Example:
  clawstaff grant add support-triage slack --action messages.read --resource channel:C0SUPPORT --expires 2027-01-31
  clawstaff grant add support-triage github --action 'issues.*' --resource 'repo:acme/*' --argument state=open,closed \\
      --hours 'mon-fri 09:00-17:00 Europe/Berlin' --requests-per-minute 10")]
    Add(AddArgs),
    /// Take a grant away; it bites at once
    #[command(after_help = "Example:\n  clawstaff grant revoke gr_01k9x2m4")]
    Revoke {
        /// The grant's id, as `grant list` shows it
        id: GrantId,
    },
    /// Ask whether a Claw could do something
    #[command(after_help = "Examples:
  clawstaff grant check support-triage slack:messages.read channel:C0SUPPORT
  clawstaff grant check support-triage github:contents.write '*'      any repository at all?")]
    Check {
        /// The Claw
        claw: ClawName,
        /// The action, as in `slack:messages.read`
        action: ActionId,
        /// The resource, as in `channel:C0SUPPORT`; `*` asks about any resource
        resource: String,
    },
    /// Say in words what a Claw may do, grant by grant
    #[command(after_help = "Examples:
  clawstaff grant explain support-triage                         everything it may do
  clawstaff grant explain support-triage slack:messages.send     and why it may or may not do this")]
    Explain {
        /// The Claw
        claw: ClawName,
        /// Only about this action
        action: Option<ActionId>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The Claw
    claw: ClawName,
    /// The connection
    connection: ConnectionName,
    /// Action or pattern, as in `messages.read` or `issues.*`; may be given several times
    #[arg(long = "action", value_name = "ACTION", required = true)]
    actions: Vec<ActionPattern>,
    /// Resource or pattern, as in `channel:C0SUPPORT`, `repo:acme/*` or `*`; may be given several times
    #[arg(long = "resource", value_name = "RESOURCE", required = true)]
    resources: Vec<ResourcePattern>,
    /// Hold each call until a human agrees
    #[arg(long)]
    ask: bool,
    #[command(flatten)]
    conditions: ConditionArgs,
    /// After this instant it allows nothing: a date (its first moment, UTC) or RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    expires: Option<Timestamp>,
}

/// What else must hold
#[derive(Debug, clap::Args)]
struct ConditionArgs {
    /// Only on behalf of this member; may be given several times
    #[arg(long, value_name = "MEMBER")]
    on_behalf_of: Vec<MemberId>,
    /// Only with one of these values of an argument, as in `state=open,closed`; may be given several times
    #[arg(long = "argument", value_name = "NAME=VALUE[,VALUE]", value_parser = argument)]
    arguments: Vec<ArgumentIs>,
    /// Only in this window of the week, as in `mon-fri 09:00-17:00 Europe/Berlin`; may be given several times
    #[arg(long, value_name = "WINDOW")]
    hours: Vec<Window>,
    /// At most so many calls in any 60 seconds
    #[arg(long, value_name = "CALLS")]
    requests_per_minute: Option<u32>,
    /// At most so many model tokens in a day (UTC)
    #[arg(long, value_name = "TOKENS")]
    tokens_per_day: Option<u64>,
}

impl From<ConditionArgs> for Conditions {
    fn from(args: ConditionArgs) -> Self {
        Self {
            on_behalf_of: args.on_behalf_of,
            arguments: args.arguments,
            hours: args.hours,
            budget: Budget {
                requests_per_minute: args.requests_per_minute,
                tokens_per_day: args.tokens_per_day,
                ..Budget::default()
            },
        }
    }
}

fn argument(text: &str) -> Result<ArgumentIs, String> {
    let (name, values) = text
        .split_once('=')
        .ok_or("write NAME=VALUE, with commas between several values")?;
    Ok(ArgumentIs {
        name: name.to_owned(),
        one_of: values.split(',').map(str::to_owned).collect(),
    })
}

pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    parse_instant(text).ok_or_else(|| "write 2027-01-31 or 2027-01-31T12:00:00Z".to_owned())
}

/// Names side by side.
pub(super) fn join<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.api()?;
    match command {
        Command::List { claw } => list(context, &client, claw).await,
        Command::Add(args) => add(context, &client, args).await,
        Command::Revoke { id } => {
            let path = format!("/v1/grants/{}", escape(id.as_str()));
            client.tell(Method::DELETE, &path, Bytes::new()).await?;
            output::note(&format!("revoked {id}"));
            Ok(())
        }
        Command::Check {
            claw,
            action,
            resource,
        } => {
            let resource = parse_resource(&resource)?;
            let answer = check(&client, claw, action, resource).await?;
            context.output.one(&answer, check_fields)
        }
        Command::Explain { claw, action } => explain::run(context, &client, claw, action).await,
    }
}

async fn list(context: &Context, client: &Client, claw: Option<ClawName>) -> Result<(), Failure> {
    let query = query(&[("claw", claw.map(|claw| claw.to_string()))]);
    let grants: Vec<Grant> = client.get(&format!("/v1/grants{query}")).await?;
    let headers = [
        "ID",
        "CLAW",
        "CONNECTION",
        "ACTIONS",
        "RESOURCES",
        "MODE",
        "EXPIRES",
    ];
    context.output.list(&grants, &headers, |grant| {
        vec![
            Cell::new(&grant.id),
            Cell::new(&grant.claw),
            Cell::new(&grant.connection),
            Cell::new(join(&grant.actions)),
            Cell::new(join(&grant.resources)),
            Cell::tinted(output::word(&grant.mode)),
            Cell::or_dash(grant.expires),
        ]
    })
}

async fn add(context: &Context, client: &Client, args: AddArgs) -> Result<(), Failure> {
    let request = GrantRequest {
        claw: args.claw,
        grant: GrantInput {
            connection: args.connection,
            actions: args.actions,
            resources: args.resources,
            conditions: args.conditions.into(),
            mode: if args.ask { Mode::Ask } else { Mode::Allow },
            expires: args.expires,
        },
    };
    let grant: Grant = client.post("/v1/grants", &request).await?;
    context.output.sentence(&grant, |grant| {
        format!(
            "granted {}: {} may {} on {} ({})",
            grant.id,
            grant.claw,
            join(&grant.actions),
            join(&grant.resources),
            grant.connection
        )
    })
}

/// `*` asks about any resource.
fn parse_resource(text: &str) -> Result<Option<ResourceRef>, Failure> {
    if text == "*" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(Failure::usage)
}

async fn check(
    client: &Client,
    claw: ClawName,
    action: ActionId,
    resource: Option<ResourceRef>,
) -> Result<CheckAnswer, Failure> {
    let request = CheckRequest {
        claw,
        action,
        resource,
    };
    client.post("/v1/grants/check", &request).await
}

fn check_fields(answer: &CheckAnswer) -> Vec<Field> {
    vec![
        ("decision", output::word(&answer.decision)),
        ("why", answer.reason.clone()),
        ("grants", join(&answer.grants)),
        ("guardrails", join(&answer.guardrails)),
    ]
}
