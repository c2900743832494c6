//! `clawstaff connection`: the organization's own authenticated tools.
//!
//! What MCP servers offer is looked at and approved on the gateway's own host, as secrets are kept there.

use std::collections::BTreeMap;

use bytes::Bytes;
use clawstaff_api::local::{ApproveTools, MCP, OfferedTool};
use clawstaff_types::{ConnectionName, spec::Connection};
use http::Method;

use crate::{
    client::Client,
    context::Context,
    failure::Failure,
    output::{self, Cell},
};

/// Connections: the organization's own authenticated tools
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the connections
    #[command(after_help = "Example:\n  clawstaff connection list")]
    List,
    /// Show the tools that an MCP server offers, and how each stands
    #[command(after_help = "Examples:
  clawstaff connection tools files
  clawstaff connection tools files --full       the whole definitions, as the server says them

A tool is offered to Claws once it is approved, and as long as its definition is the one that was approved. A `changed`
one is held. The words are the server's: a model would read them, so read them as what somebody wants it to do.")]
    Tools {
        /// The connection, to an MCP server
        name: ConnectionName,
        /// Show whole definitions, and what was approved before
        #[arg(long)]
        full: bool,
    },
    /// Approve tools of an MCP server as they are defined now
    #[command(after_help = "Examples:
  clawstaff connection approve files read_file list_files
  clawstaff connection approve files --all

Nothing is granted by it: a Claw may call what it holds a grant on.")]
    Approve {
        /// The connection, to an MCP server
        name: ConnectionName,
        /// Tools, by their names
        #[arg(required_unless_present = "all")]
        tools: Vec<String>,
        /// All that there are now
        #[arg(long, conflicts_with = "tools")]
        all: bool,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            let connections: Vec<Connection> = context.api()?.get("/v1/connections").await?;
            let headers = ["NAME", "CONNECTOR", "CREDENTIAL", "ADDRESS"];
            context.output.list(&connections, &headers, |connection| {
                vec![
                    Cell::new(&connection.name),
                    Cell::new(&connection.connector),
                    Cell::new(String::from(connection.credential.clone())),
                    Cell::or_dash(connection.base_url.as_ref()),
                ]
            })
        }
        Command::Tools { name, full } => tools(context, &name, full).await,
        Command::Approve { name, tools, all } => approve(&context.gateway()?, &name, &tools, all).await,
    }
}

async fn tools(context: &Context, name: &ConnectionName, full: bool) -> Result<(), Failure> {
    let offered: Vec<OfferedTool> = context.gateway()?.get(&format!("{MCP}/{name}")).await?;
    if full && context.output == output::Format::Table {
        for tool in &offered {
            output::line(&described(tool))?;
        }
        return Ok(());
    }
    context.output.list(
        &offered,
        &["TOOL", "STANDING", "WARNINGS", "DESCRIPTION"],
        |tool| {
            vec![
                Cell::new(&tool.name),
                Cell::tinted(&tool.standing),
                Cell::new(output::tame(&tool.warnings.join("; "), 60)),
                Cell::new(output::tame(&description(tool), 60)),
            ]
        },
    )
}

fn description(tool: &OfferedTool) -> String {
    let said: serde_json::Value = serde_json::from_str(&tool.definition).unwrap_or_default();
    said.get("description")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// One tool in full. What the server says is tamed: no control character of it reaches the terminal.
fn described(tool: &OfferedTool) -> String {
    const MAX: usize = 64 << 10;
    let mut lines = vec![
        format!("{} ({}), {}", tool.name, tool.standing, tool.digest),
        format!("  now:      {}", output::tame(&tool.definition, MAX)),
    ];
    if let Some(before) = &tool.approved_definition {
        lines.push(format!("  approved: {}", output::tame(before, MAX)));
    }
    let warnings = tool.warnings.iter();
    lines.extend(warnings.map(|warning| format!("  warning:  {}", output::tame(warning, 200))));
    lines.join("\n")
}

async fn approve(
    client: &Client,
    connection: &ConnectionName,
    names: &[String],
    all: bool,
) -> Result<(), Failure> {
    let path = format!("{MCP}/{connection}");
    let offered: Vec<OfferedTool> = client.get(&path).await?;
    let meant = |tool: &OfferedTool| all || names.contains(&tool.name);
    let known: BTreeMap<String, _> = offered
        .into_iter()
        .filter(meant)
        .map(|tool| (tool.name, tool.digest))
        .collect();
    if let Some(name) = names.iter().find(|name| !known.contains_key(*name)) {
        let text = format!(
            "the server of `{connection}` has no tool `{}`",
            output::tame(name, 80)
        );
        return Err(Failure::new(crate::failure::Exit::NotFound, text));
    }
    let count = known.len();
    let body = serde_json::to_vec(&ApproveTools { tools: known }).unwrap_or_default();
    client
        .tell(Method::POST, &format!("{path}/approve"), Bytes::from(body))
        .await?;
    output::note(&format!("approved {count} tools of {connection}"));
    Ok(())
}
