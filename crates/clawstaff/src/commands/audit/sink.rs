//! `clawstaff audit sink`: where the gateway sends the records of the logs.

use std::path::PathBuf;

use bytes::Bytes;
use clawstaff_api::people::SinkView;
use clawstaff_types::{Sink, SinkKind, SinkName, spec::CredentialRef};
use http::Method;

use crate::{
    client::escape,
    context::Context,
    failure::Failure,
    output::{self, Cell},
};

/// Where the gateway sends every record of both logs
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Send every record somewhere, from the first one on
    #[command(after_help = "Examples:
  clawstaff audit sink add siem --kind syslog --address siem.example:6514 --ca siem-ca.pem
  clawstaff audit sink add hook --kind webhook --address https://in.example/audit --credential vault:sink-hook
  clawstaff audit sink add otel --kind otlp --address https://otel.example/v1/logs --credential vault:sink-otel
  clawstaff audit sink add archive --kind s3 --format jsonl --credential vault:sink-s3 \\
    --address 'https://s3.eu-central-1.amazonaws.com/bucket/prefix/?region=eu-central-1'
  clawstaff audit sink add files --kind file --format csv

A credential is a secret of the gateway's vault whose name begins with `sink-`: `clawstaff secret set sink-hook`.")]
    Add {
        /// Its name
        name: SinkName,
        /// How records are delivered
        #[arg(long, value_parser = kind)]
        kind: SinkKind,
        /// Where: `host:port` for syslog, an URL for webhook, otlp and s3
        #[arg(long, default_value = "", hide_default_value = true)]
        address: String,
        /// Format of the records: jsonl, csv, cef, ocsf, ocsf-1.5.0, …
        #[arg(long)]
        format: Option<String>,
        /// PEM file with the certificate authorities to trust there, instead of the public ones
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// The secret it needs: `vault:sink-NAME`
        #[arg(long, value_name = "REFERENCE", value_parser = credential)]
        credential: Option<CredentialRef>,
    },
    /// List the sinks, and how far each has come
    #[command(after_help = "Example:\n  clawstaff audit sink list -o json")]
    List,
    /// Stop sending there; what it has not sent by then it never sends
    #[command(after_help = "Example:\n  clawstaff audit sink remove siem")]
    Remove {
        /// Its name
        name: SinkName,
    },
}

fn kind(text: &str) -> Result<SinkKind, String> {
    let found = SinkKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| "one of syslog, webhook, otlp, s3, file".to_owned())
}

fn credential(text: &str) -> Result<CredentialRef, String> {
    CredentialRef::try_from(text.to_owned()).map_err(|error| error.to_string())
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.api()?;
    match command {
        Command::List => {
            let sinks: Vec<SinkView> = client.get("/v1/audit/sinks").await?;
            let headers = [
                "NAME",
                "KIND",
                "ADDRESS",
                "LAST SENT",
                "WAITING",
                "LAG",
                "LAST ERROR",
            ];
            context.output.list(&sinks, &headers, row)
        }
        Command::Add {
            name,
            kind,
            address,
            format,
            ca,
            credential,
        } => {
            let read = |path: PathBuf| {
                std::fs::read_to_string(&path)
                    .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
            };
            let sink = Sink {
                name,
                kind,
                address,
                format,
                ca: ca.map(read).transpose()?,
                credential,
            };
            let added: Sink = client.post("/v1/audit/sinks", &sink).await?;
            context
                .output
                .sentence(&added, |added| format!("added sink {}", added.name))
        }
        Command::Remove { name } => {
            let path = format!("/v1/audit/sinks/{}", escape(name.as_str()));
            client.tell(Method::DELETE, &path, Bytes::new()).await?;
            output::note(&format!("removed sink {name}"));
            Ok(())
        }
    }
}

fn row(view: &SinkView) -> Vec<Cell> {
    let status = view.status.as_ref();
    let sent = status.map(|status| {
        let last = |log: &clawstaff_api::nodes::SinkProgress| {
            let last = log
                .next
                .checked_sub(1)
                .map_or_else(|| "-".to_owned(), |last| last.to_string());
            format!("{}:{last}", log.log)
        };
        status.logs.iter().map(last).collect::<Vec<_>>().join(" ")
    });
    let waiting = status.map(|status| status.logs.iter().map(|log| log.waiting).sum::<u64>());
    vec![
        Cell::new(&view.sink.name),
        Cell::new(view.sink.kind.as_str()),
        Cell::or_dash((!view.sink.address.is_empty()).then_some(&view.sink.address)),
        Cell::or_dash(sent),
        Cell::or_dash(waiting),
        Cell::or_dash(status.map(|status| format!("{} s", status.lag_seconds))),
        Cell::or_dash(
            status
                .and_then(|status| status.error.as_deref())
                .map(|text| output::tame(text, 120)),
        ),
    ]
}
