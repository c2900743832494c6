//! `clawstaff secret backup` and `secret restore`: the vault in one sealed file, and back.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clawstaff_api::local::{Restored, VAULT};
use clawstaff_types::Secret;
use http::Method;

use super::read;
use crate::{client::Client, failure::Failure, output};

/// The longest backup, in bytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// Write every secret, with where it may be used, into one sealed file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clawstaff secret backup vault.age --to age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  clawstaff secret backup vault.age                  asks for a passphrase, without echo
  clawstaff secret backup vault.age < passphrase.txt

For root, the gateway's own user and custodians. The file opens without the vault's own key, so that it helps when that is lost. It is
recorded that it was made.")]
pub(crate) struct BackupArgs {
    /// The file to make; one that is there is not overwritten
    file: PathBuf,
    /// Seal it to this recipient of age instead of a passphrase
    #[arg(long, value_name = "RECIPIENT")]
    to: Option<String>,
    /// Read the passphrase from here
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    passphrase_file: Option<PathBuf>,
}

/// Put the secrets of a backup into the vault: all of them or none
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clawstaff secret restore vault.age --key-file identity.txt
  clawstaff secret restore vault.age --replace       asks for the passphrase, without echo

Each secret is recorded as set or rotated.")]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Read the identity (`AGE-SECRET-KEY-1…`) or passphrase from here
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Let secrets of the same names give way, instead of changing nothing
    #[arg(long)]
    replace: bool,
}

pub(super) async fn backup(client: &Client, args: BackupArgs) -> Result<(), Failure> {
    let key = if let Some(recipient) = args.to {
        Bytes::from(recipient)
    } else {
        let passphrase = read("passphrase of the backup", args.passphrase_file.as_deref())?;
        Bytes::copy_from_slice(passphrase.expose_secret())
    };
    let mut file = create(&args.file)?;
    let sealed = client.bytes(Method::POST, &format!("{VAULT}/backup"), key).await;
    let written = sealed.and_then(|sealed| {
        let written = file.write_all(&sealed).and_then(|()| file.sync_all());
        written.map_err(|error| Failure::failed(format!("cannot write {}: {error}", args.file.display())))
    });
    if written.is_err() {
        // What is there is empty or half a backup.
        let _gone = std::fs::remove_file(&args.file);
    }
    written?;
    output::note(&format!("wrote {}", args.file.display()));
    Ok(())
}

fn create(path: &Path) -> Result<std::fs::File, Failure> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.map_err(|error| Failure::failed(format!("cannot make {}: {error}", path.display())))
}

pub(super) async fn restore(client: &Client, args: RestoreArgs) -> Result<(), Failure> {
    let unreadable = |why: String| Failure::usage(format!("cannot read {}: {why}", args.file.display()));
    let size = std::fs::metadata(&args.file).map_err(|error| unreadable(error.to_string()))?;
    if size.len() > MAX_FILE {
        return Err(unreadable(format!("a backup has at most {MAX_FILE} bytes")));
    }
    let file = std::fs::read(&args.file).map_err(|error| unreadable(error.to_string()))?;
    let key = read("passphrase or identity of the backup", args.key_file.as_deref())?;
    let key = first_line(&key);
    let mut body = Vec::with_capacity(key.len() + 1 + file.len());
    body.extend_from_slice(key);
    body.push(b'\n');
    body.extend_from_slice(&file);
    let path = format!("{VAULT}/restore?replace={}", args.replace);
    let answer = client.bytes(Method::POST, &path, Bytes::from(body)).await?;
    let restored: Restored = serde_json::from_slice(&answer)
        .map_err(|error| Failure::failed(format!("cannot understand the gateway's answer: {error}")))?;
    let names: Vec<String> = restored.secrets.iter().map(ToString::to_string).collect();
    output::note(&format!("restored {}: {}", names.len(), names.join(", ")));
    Ok(())
}

/// The line with the key: the first one that is no comment, as `age-keygen` writes the file.
fn first_line(key: &Secret<Vec<u8>>) -> &[u8] {
    let mut lines = key.expose_secret().split(|byte| *byte == b'\n');
    lines
        .find(|line| !line.is_empty() && !line.starts_with(b"#"))
        .unwrap_or_default()
        .trim_ascii()
}
