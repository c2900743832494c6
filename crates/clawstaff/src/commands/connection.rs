//! `clawstaff connection`: the organization's own authenticated tools.

use clawstaff_types::spec::Connection;

use crate::{context::Context, failure::Failure, output::Cell};

/// Connections: the organization's own authenticated tools
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the connections
    #[command(after_help = "Example:\n  clawstaff connection list")]
    List,
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
    }
}
