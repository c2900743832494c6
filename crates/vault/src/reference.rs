//! Where a credential is found, resolved at use: `vault:`, `env:`, `file:`, `exec:`, `bao:`, `k8s:`.
//!
//! Below `release`; decides nothing about who may have the value. Everything read is bounded in size and
//! time, and no error carries any of it.

use std::{path::Path, process::Stdio, time::Duration};

use clawstaff_types::{Secret, SecretName, spec::CredentialRef};
use tokio::{io::AsyncReadExt as _, process::Command};

use crate::{
    files::{self, PrivateFileError, Readers},
    lookup::{LookupError, Store},
    record::Body,
    store::{MAX_SECRET, StoreError, Vault, without_line_break},
};

/// How long a command may take.
const EXEC_TIME: Duration = Duration::from_secs(5);
/// The search path of a command; the rest of its environment is empty.
const EXEC_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a credential could not be resolved. It names the reference, never the value.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The vault has no such secret, or cannot open it.
    #[error("cannot read the secret `{name}` from the vault")]
    Vault {
        /// The secret.
        name: SecretName,
        /// The cause.
        source: StoreError,
    },
    /// The variable is not set, or not text.
    #[error("the variable `{0}` is not set in the gateway's environment")]
    NoVariable(String),
    /// The file cannot be used.
    #[error("cannot use the credential's file")]
    File(#[from] PrivateFileError),
    /// The file lies in the gateway's own directory.
    #[error("`{0}` lies in the gateway's own directory and is not a credential")]
    OwnFile(String),
    /// The command is not one that this host lets the gateway run.
    #[error(
        "this host does not let the gateway run `{0}`: add the line to `exec.allow` in the gateway's directory and restart the gateway"
    )]
    CommandNotAllowed(String),
    /// The command could not be started.
    #[error(
        "cannot run `{program}`; a gateway that started without an `exec.allow` file has given up the right to start processes"
    )]
    Exec {
        /// The program.
        program: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The command did not end in time.
    #[error("`{program}` did not end within {} seconds", EXEC_TIME.as_secs())]
    ExecTime {
        /// The program.
        program: String,
    },
    /// The command failed.
    #[error("`{program}` failed ({status})")]
    ExecFailed {
        /// The program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A store elsewhere did not give it.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// There is nothing in it.
    #[error("the credential's source gave an empty value")]
    Empty,
    /// There is too much in it.
    #[error("the credential's source gave more than {MAX_SECRET} bytes")]
    TooLong,
    /// It is not UTF-8.
    #[error("the credential's source gave something that is not text")]
    NotText,
}

impl Vault {
    /// The value that `reference` stands for now.
    pub(crate) async fn resolve(&self, reference: &CredentialRef) -> Result<Secret<String>, ResolveError> {
        match reference {
            CredentialRef::Vault(name) => {
                let failed = |source| ResolveError::Vault {
                    name: name.clone(),
                    source,
                };
                match &self.record(name).map_err(failed)?.body {
                    Body::Value(value) => Ok(value.clone()),
                    Body::Reference(direct) => self.direct(direct).await,
                }
            }
            CredentialRef::Env(_)
            | CredentialRef::File(_)
            | CredentialRef::Exec(_)
            | CredentialRef::Bao(_)
            | CredentialRef::Kubernetes(_) => self.direct(reference).await,
        }
    }

    /// The value of a reference that does not lead back to the vault.
    async fn direct(&self, reference: &CredentialRef) -> Result<Secret<String>, ResolveError> {
        match reference {
            CredentialRef::Vault(name) => Err(ResolveError::Vault {
                name: name.clone(),
                source: StoreError::NoReference(name.clone()),
            }),
            CredentialRef::Env(name) => {
                let value = std::env::var(name).map_err(|_| ResolveError::NoVariable(name.clone()))?;
                text_of(Secret::new(value.into_bytes()))
            }
            CredentialRef::File(path) => self.of_file(path),
            CredentialRef::Exec(command) => self.of_command(command).await,
            CredentialRef::Bao(place) => text_of(self.stores().look_up(Store::Bao, place).await?),
            CredentialRef::Kubernetes(place) => {
                text_of(self.stores().look_up(Store::Kubernetes, place).await?)
            }
        }
    }

    fn of_file(&self, path: &str) -> Result<Secret<String>, ResolveError> {
        // The real path, so that neither `..` nor a symbolic link leads back to our own keys.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        if self.own_directory().is_some_and(|own| real.starts_with(own)) {
            return Err(ResolveError::OwnFile(path.to_owned()));
        }
        text_of(files::read_private(
            Path::new(path),
            MAX_SECRET as u64,
            Readers::Group,
        )?)
    }

    async fn of_command(&self, command: &str) -> Result<Secret<String>, ResolveError> {
        if !self.commands().iter().any(|allowed| allowed == command) {
            return Err(ResolveError::CommandNotAllowed(command.to_owned()));
        }
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or_default().to_owned();
        let run = output_of(&program, words.collect());
        match tokio::time::timeout(EXEC_TIME, run).await {
            Ok(output) => text_of(output?),
            Err(_) => Err(ResolveError::ExecTime { program }),
        }
    }
}

/// The token for a store in a file of the host's: one line, which only owner and group may read.
///
/// # Errors
/// When the file cannot be read, is open to others, empty, or longer than a secret may be.
pub fn read_token(path: &Path) -> Result<Secret<String>, ResolveError> {
    text_of(files::read_private(path, MAX_SECRET as u64, Readers::Group)?)
}

/// Runs a program without shell and with an empty environment; its standard output, bounded. Dropping the
/// future kills the program.
async fn output_of(program: &str, arguments: Vec<&str>) -> Result<Secret<Vec<u8>>, ResolveError> {
    let failed = |source| ResolveError::Exec {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", EXEC_PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut output = Secret::new(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        output = read_bounded(stdout).await.map_err(failed)?;
    }
    if output.expose_secret().len() > MAX_SECRET {
        return Err(ResolveError::TooLong);
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        Ok(output)
    } else {
        Err(ResolveError::ExecFailed {
            program: program.to_owned(),
            status,
        })
    }
}

async fn read_bounded(source: impl tokio::io::AsyncRead + Unpin) -> std::io::Result<Secret<Vec<u8>>> {
    let limit = MAX_SECRET as u64 + 2;
    let mut output = Vec::with_capacity(MAX_SECRET + 64);
    let read = source.take(limit).read_to_end(&mut output).await;
    let output = Secret::new(output);
    read.map(|_| output)
}

/// The value as text without one trailing line break; neither empty nor longer than a secret may be.
fn text_of(value: Secret<Vec<u8>>) -> Result<Secret<String>, ResolveError> {
    let text = std::str::from_utf8(value.expose_secret()).map_err(|_| ResolveError::NotText)?;
    let text = without_line_break(text);
    match text.len() {
        0 => Err(ResolveError::Empty),
        1..=MAX_SECRET => Ok(Secret::new(text.to_owned())),
        _ => Err(ResolveError::TooLong),
    }
}
