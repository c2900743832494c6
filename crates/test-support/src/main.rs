//! Runs one stand-in service as a process of its own, on a loopback address, until it is ended.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use clawstaff_test_support::{github::GitHub, model::Model, notion::Notion, server::serve, slack::Slack};

/// Stand-ins for Slack, Notion, GitHub and model APIs. They speak the vendors' protocols and keep a journal at
/// /_standin/journal. For the demo and the tests; not part of a release.
#[derive(Debug, Parser)]
#[command(name = "clawstaff-standins")]
struct Arguments {
    /// Loopback address to listen on; port 0 picks a free one, which is said on standard output.
    #[arg(long, default_value = "127.0.0.1:0", global = true)]
    listen: SocketAddr,
    /// File that holds the credential to accept.
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
    #[command(subcommand)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum Service {
    /// Slack Web API and Events API.
    Slack {
        /// File that holds the secret with which events are signed.
        #[arg(long)]
        signing_secret_file: PathBuf,
    },
    /// Notion API.
    Notion {
        /// A database that the integration can see; may be repeated.
        #[arg(long)]
        database: Vec<String>,
    },
    /// GitHub REST API.
    Github {
        /// The repository that the token can see, as owner/name.
        #[arg(long)]
        repository: String,
    },
    /// Anthropic Messages and OpenAI Chat Completions over one scripted model.
    Model,
}

fn read_secret(path: &PathBuf) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(text.trim_end().to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let token = read_secret(
        arguments
            .token_file
            .as_ref()
            .context("--token-file is required")?,
    )?;
    let router = match &arguments.service {
        Service::Slack { signing_secret_file } => {
            Slack::new(&token, &read_secret(signing_secret_file)?).router()
        }
        Service::Notion { database } => Notion::new(&token, database.clone()).router(),
        Service::Github { repository } => GitHub::new(&token, repository).router(),
        Service::Model => Model::new(&token).router(),
    };
    serve(arguments.listen, router).await
}
