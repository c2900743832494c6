//! Backups: every secret with its binding and version in one file, and putting them back.
//!
//! The file is an age file, sealed to a recipient of its own or to a passphrase and never to the master key, so that it opens when that is
//! lost. Putting back is all or nothing: what is restored is first written whole into a folder beside, and one rename decides. A crash before
//! it leaves the vault as it was; after it, the next opening goes on (see [`finish`]).
//!
//! ```text
//!   clawstaff-backup/1 ⏎            inside the age file
//!   LENGTH ⏎ a record's text         once for each secret, as inside its own seal
//! ```

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use age::secrecy::SecretString;
use clawstaff_types::{Secret, SecretName};

use crate::{
    files::{self, PrivateFileError},
    record::Record,
    store::{StoreError, Vault},
};

/// The longest backup, in bytes.
pub const MAX_BACKUP: usize = 32 << 20;
const FORMAT: &[u8] = b"clawstaff-backup/1\n";
/// The rest of a line with a length.
const MAX_DIGITS: usize = 8;
/// What is being written, and what was decided on.
const STAGING: &str = ".restore-new";
const DECIDED: &str = ".restore";

/// Why a backup could not be made or put back. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What should seal it is a private key.
    #[error("that is a private key: give the recipient that belongs to it (age1…)")]
    PrivateKey,
    /// What should seal it looks like a recipient and is none.
    #[error("that begins like a recipient of age and is none")]
    BadRecipient,
    /// Nothing to seal it to, or to open it with.
    #[error("a backup needs a passphrase or a key, and this is empty")]
    NoKey,
    /// A secret cannot be read, so it would be missing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// age refused.
    #[error("the backup cannot be sealed")]
    Seal,
    /// There are more secrets than a backup holds.
    #[error("a backup holds at most {MAX_BACKUP} bytes")]
    TooLarge,
    /// The file does not open.
    #[error(
        "the backup does not open: it is another file, was altered, or the key or passphrase is not the one"
    )]
    Unopenable,
    /// It opened and is no backup.
    #[error("the file opened and is no backup of this program")]
    Malformed,
    /// Secrets are in the way.
    #[error("the vault has secrets of these names already, and nothing was changed: {}", names(.0))]
    Exists(Vec<SecretName>),
    /// The file system refused.
    #[error("cannot write the secrets that are to be restored")]
    File(#[from] PrivateFileError),
    /// The file system refused.
    #[error("cannot {doing}")]
    Io {
        /// What.
        doing: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

fn names(all: &[SecretName]) -> String {
    let names: Vec<&str> = all.iter().map(SecretName::as_str).collect();
    names.join(", ")
}

fn io_error(doing: &'static str) -> impl FnOnce(std::io::Error) -> BackupError {
    move |source| BackupError::Io { doing, source }
}

/// What was read from a backup, checked.
#[derive(Debug)]
pub struct Contents(Vec<(SecretName, Record)>);

impl Contents {
    /// The secrets in it, by name.
    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Opens a backup with a passphrase, or the identity (`AGE-SECRET-KEY-1…`) that it was sealed to.
    ///
    /// # Errors
    /// When it does not open or is no backup.
    pub fn read(file: &[u8], key: &Secret<String>) -> Result<Self, BackupError> {
        let text = key.expose_secret().trim();
        if text.is_empty() {
            return Err(BackupError::NoKey);
        }
        let plain = match text.parse::<age::x25519::Identity>() {
            Ok(identity) => opened(file, &identity),
            Err(_) => opened(
                file,
                &age::scrypt::Identity::new(SecretString::from(text.to_owned())),
            ),
        };
        let plain = plain.ok_or(BackupError::Unopenable)?;
        parsed(plain.expose_secret())
            .map(Self)
            .ok_or(BackupError::Malformed)
    }
}

impl Vault {
    /// All secrets in one file, sealed to `key`: a recipient (`age1…`) or else a passphrase. Gives the names as well.
    ///
    /// # Errors
    /// When one of them cannot be read, they are too many, or `key` is neither.
    pub fn backup(&self, key: &Secret<String>) -> Result<(Vec<u8>, Vec<SecretName>), BackupError> {
        let encryptor = encryptor(key.expose_secret().trim())?;
        let names: Vec<SecretName> = self.list()?.into_iter().map(|info| info.name).collect();
        let mut sealed = Vec::new();
        let mut writer = encryptor
            .wrap_output(&mut sealed)
            .map_err(|_| BackupError::Seal)?;
        writer.write_all(FORMAT).map_err(|_| BackupError::Seal)?;
        let mut length = 0;
        for name in &names {
            let record = self.record(name)?;
            let text = record.to_text(name).ok_or(BackupError::Seal)?;
            let text = text.expose_secret();
            length += text.len();
            if length > MAX_BACKUP / 2 {
                return Err(BackupError::TooLarge);
            }
            write!(writer, "{}\n{text}", text.len()).map_err(|_| BackupError::Seal)?;
        }
        writer.finish().map_err(|_| BackupError::Seal)?;
        Ok((sealed, names))
    }

    /// Whether [`Vault::restore`] would begin, for saying so before.
    ///
    /// # Errors
    /// When secrets are in the way, or the master key is lost.
    pub fn may_restore(&self, contents: &Contents, replace: bool) -> Result<(), BackupError> {
        self.check_key()?;
        let there = contents.names().filter(|name| self.contains(name));
        let there: Vec<SecretName> = there.cloned().collect();
        if replace || there.is_empty() {
            Ok(())
        } else {
            Err(BackupError::Exists(there))
        }
    }

    /// Puts back what `contents` holds, durably: all of it or nothing. With `replace`, secrets of the same names give way; their version is one
    /// more, or that of the backup if it is higher.
    ///
    /// # Errors
    /// As [`Vault::may_restore`], or when the file system refuses.
    pub fn restore(&self, contents: &Contents, replace: bool) -> Result<(), BackupError> {
        let _writing = self.hold_writing();
        self.may_restore(contents, replace)?;
        let staging = self.dir().join(STAGING);
        remove_folder(&staging)?;
        let made = fs::DirBuilder::new().mode(0o700).create(&staging);
        made.map_err(io_error("make a folder for what is to be restored"))?;
        for (name, record) in &contents.0 {
            let before = self.record(name);
            let before = before.map_or(1, |old| old.version.saturating_add(1));
            let record = Record {
                version: record.version.max(before),
                ..record.clone()
            };
            let sealed = self
                .seal(name, &record)
                .ok_or_else(|| StoreError::Seal(name.clone()))?;
            files::write_private(&staging.join(file_of(name)), &sealed)?;
        }
        let decided = fs::rename(&staging, self.dir().join(DECIDED));
        decided.map_err(io_error("decide on what is to be restored"))?;
        files::sync_dir(self.dir())?;
        self.forget_all();
        finish(self.dir())
    }
}

/// The file of a secret.
pub(crate) fn file_of(name: &SecretName) -> String {
    format!("{name}.age")
}

/// Brings a restoring that was decided on to its end, and removes one that was not.
pub(crate) fn finish(dir: &Path) -> Result<(), BackupError> {
    remove_folder(&dir.join(STAGING))?;
    let decided = dir.join(DECIDED);
    let entries = match fs::read_dir(&decided) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read what is to be restored")(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_error("read what is to be restored"))?;
        let moved = fs::rename(entry.path(), dir.join(entry.file_name()));
        moved.map_err(io_error("put a secret back"))?;
    }
    files::sync_dir(dir)?;
    remove_folder(&decided)
}

fn remove_folder(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("remove a folder of a restoring")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn encryptor(key: &str) -> Result<age::Encryptor, BackupError> {
    if key.is_empty() {
        return Err(BackupError::NoKey);
    }
    if key.starts_with("AGE-SECRET-KEY-") {
        return Err(BackupError::PrivateKey);
    }
    if !key.starts_with("age1") {
        return Ok(age::Encryptor::with_user_passphrase(SecretString::from(
            key.to_owned(),
        )));
    }
    let recipient: age::x25519::Recipient = key.parse().map_err(|_| BackupError::BadRecipient)?;
    age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
        .map_err(|_| BackupError::Seal)
}

fn opened(file: &[u8], identity: &dyn age::Identity) -> Option<Secret<Vec<u8>>> {
    let decryptor = age::Decryptor::new_buffered(file).ok()?;
    // The plaintext is shorter than its seal, so this buffer never grows and leaves no copy behind.
    let mut plain = Vec::with_capacity(file.len());
    let read = decryptor
        .decrypt(std::iter::once(identity))
        .ok()?
        .read_to_end(&mut plain);
    let plain = Secret::new(plain);
    read.ok()?;
    Some(plain)
}

fn parsed(plain: &[u8]) -> Option<Vec<(SecretName, Record)>> {
    let mut rest = plain.strip_prefix(FORMAT)?;
    let mut found: Vec<(SecretName, Record)> = Vec::new();
    while !rest.is_empty() {
        let digits = rest.iter().take(MAX_DIGITS).position(|byte| *byte == b'\n')?;
        let (length, after) = rest.split_at_checked(digits)?;
        let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
        let (text, after) = after.get(1..)?.split_at_checked(length)?;
        let (name, record) = Record::parse_named(std::str::from_utf8(text).ok()?)?;
        if found.iter().any(|(other, _)| *other == name) {
            return None;
        }
        found.push((name, record));
        rest = after;
    }
    Some(found)
}
