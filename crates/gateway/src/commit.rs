//! Commitments: keyed digests of what a Claw sent and received.
//!
//! A plain digest of a short text can be guessed by trying texts. These are HMAC-SHA256 under a salt that stays on
//! the gateway's host, so the log shows that a text is the one committed to only to somebody who has both. Content
//! is committed to under the salt of its subject (`content/keyring.rs`), which can be erased. The keys in here are
//! the Claws' own: they derive credential placeholders, which survive a restart and belong to one Claw and connection.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use clawstaff_types::{ClawName, ConnectionName, Digest};
use memchr::memmem::Finder;
use std::io::{Read, Write};

const KEY_BYTES: usize = 32;
/// What stands before the tag in every placeholder.
pub(crate) const PLACEHOLDER_MARK: &[u8] = b"placeholder-";
/// Searches for the mark; made once, since making it takes longer than searching a header.
pub(crate) static MARKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PLACEHOLDER_MARK));
/// Length of a placeholder's tag, in hexadecimal digits.
pub(crate) const PLACEHOLDER_TAG: usize = 32;

/// The commitment keys of all Claws, made on first use.
#[derive(Debug)]
pub(crate) struct Commitments {
    dir: PathBuf,
    keys: Mutex<HashMap<ClawName, Commitment>>,
}

/// The commitment key of one Claw.
#[derive(Debug, Clone)]
pub(crate) struct Commitment(hmac::Key);

/// A commitment key could not be read or made.
#[derive(Debug, thiserror::Error)]
#[error("commitment key of `{claw}` at `{path}`: {source}")]
pub(crate) struct CommitError {
    claw: ClawName,
    path: PathBuf,
    source: io::Error,
}

impl Commitments {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            keys: Mutex::default(),
        }
    }

    /// The key of `claw`, from memory, from its file, or fresh and stored.
    pub(crate) fn of(&self, claw: &ClawName) -> Result<Commitment, CommitError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(claw) {
            return Ok(key.clone());
        }
        let path = self.dir.join(claw.as_str());
        let bytes = load_or_make(&self.dir, &path).map_err(|source| CommitError {
            claw: claw.clone(),
            path,
            source,
        })?;
        let key = Commitment::new(&bytes);
        keys.insert(claw.clone(), key.clone());
        Ok(key)
    }
}

fn load_or_make(dir: &Path, path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match fs::File::open(path) {
        Ok(mut file) => {
            let mut key = [0; KEY_BYTES];
            file.read_exact(&mut key)?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(dir, path),
        Err(error) => Err(error),
    }
}

fn make(dir: &Path, path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    private_dir(dir)?;
    write_private(path, &key)?;
    Ok(key)
}

/// Makes a directory 0700, with its parents.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Puts `bytes` at `path`, 0600, durable, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

impl Commitment {
    /// Commitments under this salt.
    pub(crate) fn new(salt: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, salt))
    }

    /// The commitment to `parts` under `label`; each part is framed by its length.
    pub(crate) fn to(&self, label: &str, parts: &[&[u8]]) -> Digest {
        let mut running = self.begin(label);
        for part in parts {
            running.update(&(part.len() as u64).to_le_bytes());
            running.update(part);
        }
        running.end()
    }

    /// A commitment under `label` to bytes that are still to come.
    pub(crate) fn begin(&self, label: &str) -> Running {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(label.as_bytes());
        context.update(&[0]);
        Running(context)
    }

    /// What stands in the cage for the credential of `connection`: it has the shape of the real one, is this
    /// Claw's alone and opens nothing.
    pub(crate) fn placeholder(&self, prefix: &str, connection: &ConnectionName) -> String {
        format!("{prefix}placeholder-{}", self.placeholder_tag(connection))
    }

    /// What tells a placeholder from all others, after [`PLACEHOLDER_MARK`].
    pub(crate) fn placeholder_tag(&self, connection: &ConnectionName) -> String {
        let tag = self.to("placeholder", &[connection.as_str().as_bytes()]);
        hex::encode(tag.as_bytes().get(..PLACEHOLDER_TAG / 2).unwrap_or_default())
    }
}

/// A commitment in the making.
pub(crate) struct Running(hmac::Context);

impl Running {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn end(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.sign().as_ref());
        Digest::from_bytes(out)
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_a_restart_and_belongs_to_one_claw() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b): (ClawName, ClawName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let first = Commitments::new(dir.path().join("commit"));
        let again = Commitments::new(dir.path().join("commit"));
        let text: &[&[u8]] = &[b"yes"];
        assert_eq!(
            first.of(&a).unwrap().to("request", text),
            again.of(&a).unwrap().to("request", text)
        );
        assert_ne!(
            first.of(&a).unwrap().to("request", text),
            first.of(&b).unwrap().to("request", text)
        );
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let key = Commitments::new(dir.path().to_owned())
            .of(&"a".parse().unwrap())
            .unwrap();
        assert_ne!(key.to("r", &[b"ab", b"c"]), key.to("r", &[b"a", b"bc"]));
    }
}
