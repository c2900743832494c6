//! Where the master key comes from: a 0600 file beside the secrets, a systemd credential, or a command; as the key
//! itself or as a passphrase.
//!
//! `unlock` in the vault's directory says which; without it, it is the file `master.key`, made on first use. A key from
//! elsewhere is an age identity. Anything else that is given is a passphrase, and opens `master.key.sealed`, an age file (scrypt)
//! that is made on first use. A command runs once, before the gateway gives up the right to start programs.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use age::secrecy::{ExposeSecret as _, SecretString};
use clawstaff_types::Secret;

use crate::{
    files::{self, Readers},
    store::{OpenError, holds_secrets, parse_identity},
};

const MASTER_KEY: &str = "master.key";
const WRAPPED_KEY: &str = "master.key.sealed";
const UNLOCK: &str = "unlock";
const MAX_FILE: u64 = 4096;
/// How long a command may take: somebody may have to touch a token.
const PATIENCE: Duration = Duration::from_mins(1);
const PACE: Duration = Duration::from_millis(20);

/// What opens the vault, obtained and not used yet.
#[derive(Debug, Clone, Default)]
pub struct Unlock(Option<Secret<String>>);

/// Where the key or passphrase is found.
enum Source {
    Credential(String),
    Command(String),
}

impl Unlock {
    /// Reads what `unlock` in `dir` points to; nothing where there is no such file. To be called before the process is
    /// confined.
    ///
    /// # Errors
    /// When the file is not understood, or what it points to cannot be had.
    pub fn obtain(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(UNLOCK);
        let text = match files::read_private(&path, MAX_FILE, Readers::Group) {
            Ok(text) => text,
            Err(error) if error.is_missing() => return Ok(Self(None)),
            Err(error) => return Err(OpenError::MasterKey(error)),
        };
        let text =
            std::str::from_utf8(text.expose_secret()).map_err(|_| OpenError::BadUnlock(path.clone()))?;
        let given = match source(text).ok_or(OpenError::BadUnlock(path))? {
            Source::Credential(name) => credential(&name)?,
            Source::Command(line) => command(&line)?,
        };
        Ok(Self(Some(given)))
    }

    /// The identity that opens the secrets in `dir`, and the file that it stands in, where there is one.
    pub(crate) fn identity(self, dir: &Path) -> Result<(age::x25519::Identity, Option<PathBuf>), OpenError> {
        match self.0 {
            None => Ok((from_file(dir)?, Some(dir.join(MASTER_KEY)))),
            Some(given) => match parse_identity(given.expose_secret().as_bytes()) {
                Some(identity) => Ok((identity, None)),
                None => Ok((with_passphrase(dir, given)?, Some(dir.join(WRAPPED_KEY)))),
            },
        }
    }
}

/// One line, comments aside: `credential:NAME` or `command:LINE`.
fn source(text: &str) -> Option<Source> {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (kind, rest) = lines.next()?.split_once(':')?;
    let rest = rest.trim().to_owned();
    match kind {
        _ if rest.is_empty() || lines.next().is_some() => None,
        "credential" if !rest.contains('/') => Some(Source::Credential(rest)),
        "command" => Some(Source::Command(rest)),
        _ => None,
    }
}

/// A systemd credential (systemd.exec(5), `LoadCredential=`).
fn credential(name: &str) -> Result<Secret<String>, OpenError> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let folder = folder.ok_or_else(|| OpenError::NoCredential(name.to_owned()))?;
    let content =
        files::read_private(&folder.join(name), MAX_FILE, Readers::Group).map_err(OpenError::MasterKey)?;
    text_of(content).ok_or_else(|| OpenError::NoCredential(name.to_owned()))
}

/// What a command prints. It gets this process' environment and no input.
fn command(line: &str) -> Result<Secret<String>, OpenError> {
    let failed = |why: String| OpenError::UnlockCommand { why };
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(format!("`{program}` cannot be started: {error}")))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(PACE),
            Ok(None) => {
                let _gone = child.kill();
                let _reaped = child.wait();
                return Err(failed(format!(
                    "`{program}` did not end within {} seconds",
                    PATIENCE.as_secs()
                )));
            }
            Err(error) => return Err(failed(format!("`{program}` was lost: {error}"))),
        }
    };
    let mut content = Vec::with_capacity(4096);
    if let Some(out) = child.stdout.take() {
        let read = out.take(MAX_FILE).read_to_end(&mut content);
        read.map_err(|error| failed(format!("`{program}` cannot be read: {error}")))?;
    }
    let content = Secret::new(content);
    if !status.success() {
        return Err(failed(format!("`{program}` ended with {status}")));
    }
    text_of(content).ok_or_else(|| {
        failed(format!(
            "`{program}` printed nothing that could be a key or a passphrase"
        ))
    })
}

fn text_of(content: Secret<Vec<u8>>) -> Option<Secret<String>> {
    let text = std::str::from_utf8(content.expose_secret())
        .ok()?
        .trim_end_matches(['\r', '\n']);
    (!text.is_empty()).then(|| Secret::new(text.to_owned()))
}

fn from_file(dir: &Path) -> Result<age::x25519::Identity, OpenError> {
    let path = dir.join(MASTER_KEY);
    match files::read_private(&path, MAX_FILE, Readers::OwnerOnly) {
        Ok(content) => parse_identity(content.expose_secret()).ok_or(OpenError::BadMasterKey(path)),
        Err(error) if error.is_missing() && dir.join(WRAPPED_KEY).exists() => {
            Err(OpenError::NeedsUnlock(dir.to_owned()))
        }
        Err(error) if error.is_missing() && holds_secrets(dir) => Err(OpenError::KeyLost(dir.to_owned())),
        Err(error) if error.is_missing() => {
            let identity = age::x25519::Identity::generate();
            let text = identity.to_string();
            files::write_private(&path, text.expose_secret().as_bytes()).map_err(OpenError::MasterKey)?;
            Ok(identity)
        }
        Err(error) => Err(OpenError::MasterKey(error)),
    }
}

/// The identity in `master.key.sealed`; a fresh one, or the one that lay there in the open, where that is not there yet.
fn with_passphrase(dir: &Path, passphrase: Secret<String>) -> Result<age::x25519::Identity, OpenError> {
    let path = dir.join(WRAPPED_KEY);
    let secret = SecretString::from(passphrase.expose_secret().clone());
    match files::read_private(&path, MAX_FILE, Readers::OwnerOnly) {
        Ok(sealed) => {
            let wrong = || OpenError::WrongPassphrase(path.clone());
            let plain = age::decrypt(&age::scrypt::Identity::new(secret), sealed.expose_secret())
                .map_err(|_| wrong())?;
            let plain = Secret::new(plain);
            parse_identity(plain.expose_secret()).ok_or_else(wrong)
        }
        Err(error) if error.is_missing() => wrap(dir, &path, secret),
        Err(error) => Err(OpenError::MasterKey(error)),
    }
}

/// Seals the key to the passphrase; only then is the open one removed.
fn wrap(dir: &Path, path: &Path, passphrase: SecretString) -> Result<age::x25519::Identity, OpenError> {
    let open = dir.join(MASTER_KEY);
    if !open.exists() && holds_secrets(dir) {
        return Err(OpenError::KeyLost(dir.to_owned()));
    }
    let identity = if open.exists() {
        from_file(dir)?
    } else {
        age::x25519::Identity::generate()
    };
    let text = identity.to_string();
    let sealed = seal(passphrase, text.expose_secret().as_bytes())
        .map_err(|_| OpenError::WrongPassphrase(path.to_owned()))?;
    files::write_private(path, &sealed).map_err(OpenError::MasterKey)?;
    files::remove(&open).map_err(OpenError::MasterKey)?;
    Ok(identity)
}

fn seal(passphrase: SecretString, plain: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let encryptor = age::Encryptor::with_user_passphrase(passphrase);
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(plain)?;
    writer.finish()?;
    Ok(sealed)
}
