//! `clawstaff secret`: secrets, on the customer's side only.
//!
//! They go straight to the gateway on its own host, never through the control plane, and are never arguments:
//! a file, standard input, or a prompt without echo.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clawstaff_api::local::{SECRETS, SecretInfo};
use clawstaff_types::{Secret, SecretName};
use http::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

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

One newline at the end is not part of the secret.")]
    Set {
        /// Its name; a connection refers to it as `vault:NAME`
        name: SecretName,
        /// File to read it from, instead of standard input
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
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

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.gateway()?;
    let path = |name: &SecretName| format!("{SECRETS}/{name}");
    match command {
        Command::Set { name, file } => {
            let value = read(&name, file.as_deref())?;
            let body = Bytes::copy_from_slice(value.expose_secret());
            client.tell(Method::PUT, &path(&name), body).await?;
            output::note(&format!("stored {name}"));
            Ok(())
        }
        Command::List => {
            let secrets: Vec<SecretInfo> = client.get(SECRETS).await?;
            context.output.list(&secrets, &["NAME", "UPDATED"], |secret| {
                vec![Cell::new(&secret.name), Cell::new(&secret.updated)]
            })
        }
        Command::Remove { name } => {
            client.tell(Method::DELETE, &path(&name), Bytes::new()).await?;
            output::note(&format!("removed {name}"));
            Ok(())
        }
    }
}

fn read(name: &SecretName, file: Option<&Path>) -> Result<Secret<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot read the secret: {error}"));
    let mut value = Vec::with_capacity(MAX + 1);
    let limit = u64::try_from(MAX).unwrap_or(u64::MAX) + 1;
    match file {
        Some(path) => {
            let opened = std::fs::File::open(path)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
            opened.take(limit).read_to_end(&mut value).map_err(failed)?;
        }
        None if std::io::stdin().is_terminal() => prompt(name, &mut value).map_err(failed)?,
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
fn prompt(name: &SecretName, value: &mut Vec<u8>) -> std::io::Result<()> {
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    output::note(&format!("value of {name} (not shown):"));
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
