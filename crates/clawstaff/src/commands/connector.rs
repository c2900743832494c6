//! `clawstaff connector`: the tools that ClawStaff knows, and the actions they have.

use std::{io::Read as _, path::PathBuf};

use clawstaff_api::people::ConnectorView;
use clawstaff_connectors::Connector;
use clawstaff_types::ConnectorId;
use serde::Serialize;

use crate::{
    client::escape,
    context::Context,
    failure::Failure,
    output::{self, Cell, Format},
};

/// Connectors: the tools that ClawStaff knows, and the actions they have
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the connectors
    #[command(after_help = "Example:\n  clawstaff connector list")]
    List,
    /// Show a connector and its actions
    #[command(after_help = "Example:\n  clawstaff connector show slack")]
    Show {
        /// Its id
        id: ConnectorId,
    },
    /// Check a connector manifest
    #[command(after_help = "Example:\n  clawstaff connector check connectors/slack.toml")]
    Check {
        /// The manifest
        file: PathBuf,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            let connectors: Vec<ConnectorView> = context.api()?.get("/v1/connectors").await?;
            let headers = ["ID", "NAME", "ACTIONS", "DESCRIPTION"];
            context.output.list(&connectors, &headers, |connector| {
                vec![
                    Cell::new(&connector.id),
                    Cell::new(&connector.name),
                    Cell::new(connector.actions.len()),
                    Cell::new(&connector.description),
                ]
            })
        }
        Command::Show { id } => {
            let path = format!("/v1/connectors/{}", escape(id.as_str()));
            let connector: ConnectorView = context.api()?.get(&path).await?;
            show(context.output, &connector)
        }
        Command::Check { file } => check(context.output, &file),
    }
}

fn show(format: Format, connector: &ConnectorView) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(connector);
    }
    output::line(&format!(
        "{} ({}): {}\nhosts: {}\n",
        connector.id,
        connector.name,
        output::tame(&connector.description, 300),
        connector.hosts.join(" ")
    ))?;
    format.list(
        &connector.actions,
        &["ACTION", "ACCESS", "RESOURCE", "MCP TOOL", "DESCRIPTION"],
        |action| {
            vec![
                Cell::new(&action.id),
                Cell::new(output::word(&action.access)),
                Cell::or_dash(action.resource.as_ref()),
                Cell::or_dash(action.tool.as_ref()),
                Cell::new(&action.description),
            ]
        },
    )
}

/// The largest manifest, in bytes.
const MAX_MANIFEST: u64 = 1024 * 1024;

/// Checks a manifest without a server.
fn check(format: Format, path: &std::path::Path) -> Result<(), Failure> {
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_MANIFEST).read_to_string(&mut text))
        .map_err(unreadable)?;
    let connector = Connector::parse(&text).map_err(|error| {
        let named = error
            .connector
            .map_or_else(String::new, |id| format!("connector `{id}`: "));
        let failure = Failure::failed(format!(
            "{}:{}: {named}{}",
            path.display(),
            error.line,
            error.what
        ));
        match error.remedy {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        }
    })?;
    let checked = Checked {
        id: connector.id().clone(),
        actions: connector.actions().len(),
        tools: connector.tools().count(),
    };
    format.sentence(&checked, |checked| {
        format!(
            "{} is in order: {} actions, {} of them MCP tools",
            checked.id, checked.actions, checked.tools
        )
    })
}

/// A manifest that is in order.
#[derive(Debug, Serialize)]
struct Checked {
    id: ConnectorId,
    actions: usize,
    tools: usize,
}
