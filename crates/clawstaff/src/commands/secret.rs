//! `clawstaff secret`: secrets, on the customer's side only.
//!
//! They go straight to the gateway on its own host, never through the control plane, and are never arguments:
//! a file, standard input, or a prompt without echo.

mod backup;

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clawstaff_api::local::{GatewayInfo, INFO, SECRETS, SecretInfo};
use clawstaff_types::{ConnectionName, Secret, SecretName};
use http::Method;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::grant::instant;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Cell},
};

/// The longest secret, in bytes.
const MAX: usize = 64 * 1024;

/// Secrets, on the customer's side only
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Store a secret, or replace it
    #[command(after_help = "Examples:
  clawstaff secret set slack-bot                  asks, without echo
  clawstaff secret set slack-bot < token.txt
  clawstaff secret set slack-bot -f token.txt
  clawstaff secret set ghe --connection github --host ghe.acme.com

One newline at the end is not part of the secret. Where it may be used is part of its seal. What is not said here is
filled in at the first use: with the connection that uses it, and with the hosts of that connection's connector, never
with a `base_url`.")]
    Set {
        /// Its name; a connection refers to it as `vault:NAME`
        name: SecretName,
        /// File to read it from, instead of standard input
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        uses: Uses,
        #[command(flatten)]
        end: End,
    },
    /// Give a secret a new value; the next call uses it
    #[command(after_help = "Example:\n  clawstaff secret rotate slack-bot < token.txt

Calls under way end with the value that they began with. Where it may be used stays as it is.")]
    Rotate {
        /// Its name
        name: SecretName,
        /// File to read it from, instead of standard input
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        end: End,
    },
    /// Say where a secret is found instead of storing it
    #[command(after_help = "Examples:
  clawstaff secret ref slack-bot file:/run/secrets/slack
  clawstaff secret ref github \"exec:pass show github\" --host ghe.acme.com
  clawstaff secret ref notion bao:main/agents/notion#token

It is looked up at each use, by the gateway.")]
    Ref {
        /// Its name; a connection refers to it as `vault:NAME`
        name: SecretName,
        /// `env:VARIABLE`, `file:/path`, `exec:command`, `bao:STORE/PATH#FIELD` or `k8s:STORE/NAMESPACE/SECRET#KEY`
        reference: String,
        #[command(flatten)]
        uses: Uses,
        #[command(flatten)]
        end: End,
    },
    /// Let a secret be used by further connections or go to further hosts
    #[command(after_help = "Examples:
  clawstaff secret bind ghe --host ghe.acme.com
  clawstaff secret bind ghe --connection github --host ghe.acme.com --only")]
    Bind {
        /// Its name
        name: SecretName,
        #[command(flatten)]
        uses: Uses,
        /// Take the place of what was allowed instead of adding to it
        #[arg(long)]
        only: bool,
    },
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    /// List the secrets' names; never a value
    #[command(after_help = "Example:\n  clawstaff secret list")]
    List,
    /// Remove a secret
    #[command(after_help = "Example:\n  clawstaff secret remove slack-bot")]
    Remove {
        /// Its name
        name: SecretName,
    },
}

/// When a value ends
#[derive(Debug, clap::Args)]
pub(crate) struct End {
    /// When the value stops being good: a date (its first moment, UTC) or RFC 3339. `secret list` and `status` warn from 14 days before, and
    /// an incident is opened when it has come; calls are made all the same
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    expires: Option<Timestamp>,
}

impl End {
    fn query(&self) -> String {
        let expires = self.expires.map(|expires| expires.to_string());
        let escaped = expires.map(|text| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string());
        escaped.map_or_else(String::new, |text| format!("&expires={text}"))
    }
}

/// Where a secret may be used
#[derive(Debug, clap::Args)]
pub(crate) struct Uses {
    /// A connection that may use it; may be repeated
    #[arg(long = "connection", value_name = "NAME")]
    connections: Vec<ConnectionName>,
    /// A host that it may go to, `*.domain` or `host:port`; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
}

impl Uses {
    fn query(&self, add: bool) -> String {
        let connections: Vec<&str> = self.connections.iter().map(ConnectionName::as_str).collect();
        let mut parts = vec![format!("add={add}")];
        let lists = [
            ("connections", connections.join(",")),
            ("hosts", self.hosts.join(",")),
        ];
        for (label, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            let list = utf8_percent_encode(list, NON_ALPHANUMERIC);
            parts.push(format!("{label}={list}"));
        }
        parts.join("&")
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.gateway()?;
    let path = |name: &SecretName| format!("{SECRETS}/{name}");
    match command {
        Command::Set {
            name,
            file,
            uses,
            end,
        } => {
            let body = value(&name, file.as_deref())?;
            let path = format!("{}?{}{}", path(&name), uses.query(false), end.query());
            client.tell(Method::PUT, &path, body).await?;
            output::note(&format!("stored {name}"));
            Ok(())
        }
        Command::Rotate { name, file, end } => {
            let body = value(&name, file.as_deref())?;
            let path = format!("{}/rotate?{}", path(&name), end.query().trim_start_matches('&'));
            client.tell(Method::POST, &path, body).await?;
            output::note(&format!("rotated {name}"));
            Ok(())
        }
        Command::Ref {
            name,
            reference,
            uses,
            end,
        } => {
            let path = format!("{}/reference?{}{}", path(&name), uses.query(false), end.query());
            client.tell(Method::PUT, &path, Bytes::from(reference)).await?;
            output::note(&format!("{name} is looked up at each use"));
            Ok(())
        }
        Command::Bind { name, uses, only } => {
            let path = format!("{}/binding?{}", path(&name), uses.query(!only));
            client.tell(Method::PUT, &path, Bytes::new()).await?;
            output::note(&format!("bound {name}"));
            Ok(())
        }
        Command::Backup(args) => backup::backup(&client, args).await,
        Command::Restore(args) => backup::restore(&client, args).await,
        Command::List => {
            let secrets: Vec<SecretInfo> = client.get(SECRETS).await?;
            let gateway: GatewayInfo = client.get(INFO).await?;
            for warning in gateway.warnings {
                output::note(&format!("warning: {warning}"));
            }
            let columns = ["NAME", "VERSION", "CONNECTIONS", "HOSTS", "UPDATED", "EXPIRES"];
            context.output.list(&secrets, &columns, |secret| {
                let connections: Vec<&str> = secret.connections.iter().map(ConnectionName::as_str).collect();
                let version = secret
                    .version
                    .map_or_else(|| "unreadable".to_owned(), |v| v.to_string());
                vec![
                    Cell::new(&secret.name),
                    Cell::new(version),
                    Cell::new(connections.join(" ")),
                    Cell::new(secret.hosts.join(" ")),
                    Cell::new(&secret.updated),
                    Cell::or_dash(secret.expires),
                ]
            })
        }
        Command::Remove { name } => {
            client.tell(Method::DELETE, &path(&name), Bytes::new()).await?;
            output::note(&format!("removed {name}"));
            Ok(())
        }
    }
}

fn value(name: &SecretName, file: Option<&Path>) -> Result<Bytes, Failure> {
    let what = format!("value of {name}");
    Ok(Bytes::copy_from_slice(read(&what, file)?.expose_secret()))
}

/// What is asked for as `what`: from a file, the terminal without echo, or standard input.
fn read(what: &str, file: Option<&Path>) -> Result<Secret<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot read the secret: {error}"));
    let mut value = Vec::with_capacity(MAX + 1);
    let limit = u64::try_from(MAX).unwrap_or(u64::MAX) + 1;
    match file {
        Some(path) => {
            let opened = std::fs::File::open(path)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
            opened.take(limit).read_to_end(&mut value).map_err(failed)?;
        }
        None if std::io::stdin().is_terminal() => prompt(what, &mut value).map_err(failed)?,
        None => {
            std::io::stdin()
                .lock()
                .take(limit)
                .read_to_end(&mut value)
                .map_err(failed)?;
        }
    }
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    let value = Secret::new(value);
    match value.expose_secret().len() {
        0 => Err(Failure::usage("the secret is empty")),
        n if n > MAX => Err(Failure::usage(format!(
            "the secret is longer than {} KiB",
            MAX / 1024
        ))),
        _ => Ok(value),
    }
}

/// Asks on the terminal without echo; the terminal is put back whatever happens.
fn prompt(what: &str, value: &mut Vec<u8>) -> std::io::Result<()> {
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    output::note(&format!("{what} (not shown):"));
    tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
    let read = read_line(value);
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    read
}

fn read_line(value: &mut Vec<u8>) -> std::io::Result<()> {
    for byte in std::io::stdin().lock().bytes().take(MAX + 1) {
        let byte = byte?;
        if byte == b'\n' {
            break;
        }
        value.push(byte);
    }
    Ok(())
}
