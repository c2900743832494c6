//! `clawstaff guardrail`: what nobody may, whatever is granted.

use bytes::Bytes;
use clawstaff_types::{ActionPattern, Guardrail, GuardrailName, ResourcePattern};
use http::Method;

use super::grant::join;
use crate::{
    client::escape,
    context::Context,
    failure::Failure,
    output::{self, Cell},
};

/// Guardrails: what nobody may, whatever is granted
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the guardrails
    #[command(after_help = "Example:\n  clawstaff guardrail list -o json")]
    List,
    /// Forbid actions on resources to every Claw
    #[command(after_help = "Example:
  clawstaff guardrail add no-production-writes --action 'github:*.write' --resource repo:acme/production")]
    Add {
        /// Its name
        name: GuardrailName,
        /// Action or pattern, as in `github:*.write`; may be given several times
        #[arg(long = "action", value_name = "ACTION", required = true)]
        actions: Vec<ActionPattern>,
        /// Resource or pattern, as in `repo:acme/*`, or `*`; may be given several times
        #[arg(long = "resource", value_name = "RESOURCE", required = true)]
        resources: Vec<ResourcePattern>,
    },
    /// Take a guardrail away
    #[command(after_help = "Example:\n  clawstaff guardrail remove no-production-writes")]
    Remove {
        /// Its name
        name: GuardrailName,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.api()?;
    match command {
        Command::List => {
            let guardrails: Vec<Guardrail> = client.get("/v1/guardrails").await?;
            context
                .output
                .list(&guardrails, &["NAME", "FORBIDS", "ON"], |guardrail| {
                    vec![
                        Cell::new(&guardrail.name),
                        Cell::new(join(&guardrail.actions)),
                        Cell::new(join(&guardrail.resources)),
                    ]
                })
        }
        Command::Add {
            name,
            actions,
            resources,
        } => {
            let guardrail = Guardrail {
                name,
                actions,
                resources,
            };
            let added: Guardrail = client.post("/v1/guardrails", &guardrail).await?;
            context
                .output
                .sentence(&added, |added| format!("added guardrail {}", added.name))
        }
        Command::Remove { name } => {
            let path = format!("/v1/guardrails/{}", escape(name.as_str()));
            client.tell(Method::DELETE, &path, Bytes::new()).await?;
            output::note(&format!("removed guardrail {name}"));
            Ok(())
        }
    }
}
