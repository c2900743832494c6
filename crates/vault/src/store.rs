//! The sealed files: open, set, remove, list, and the one private way in that `reference` uses.
//!
//! Crash rule: every write is a new file put in place of the old one, so a secret is the old value or the new
//! one, never half of either.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clawstaff_types::{ConnectionName, Secret, SecretName, spec::CredentialRef};
use jiff::Timestamp;

use crate::{
    backup::{self, file_of},
    binding::{Binding, Destination, Misuse},
    files::{self, PrivateFileError, Readers, Stamp},
    lookup::{Lookup, NoStores},
    record::{Body, Record},
    unlock::Unlock,
};

/// The longest secret, in bytes.
pub const MAX_SECRET: usize = 64 * 1024;
/// A sealed file: the secret, its header and age's own framing.
const MAX_SEALED: u64 = 2 * MAX_SECRET as u64;
const SUFFIX: &str = ".age";

/// Why the vault could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory.
    #[error("cannot make the vault's directory `{}` private", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Its master key.
    #[error("cannot use the vault's master key")]
    MasterKey(#[source] PrivateFileError),
    /// The master key is no age identity.
    #[error("`{}` does not hold an age identity (AGE-SECRET-KEY-1…)", .0.display())]
    BadMasterKey(PathBuf),
    /// The file that says where the master key comes from is not understood.
    #[error("`{}` does not say where the master key comes from: one line, `credential:NAME` or `command:LINE`", .0.display())]
    BadUnlock(PathBuf),
    /// The service manager gave no such credential.
    #[error(
        "there is no credential `{0}`: give it to the gateway's service with `LoadCredential=` (systemd.exec)"
    )]
    NoCredential(String),
    /// The command that gives the key or passphrase failed.
    #[error("the command that opens the vault failed: {why}")]
    UnlockCommand {
        /// Why; nothing of what it printed.
        why: String,
    },
    /// The passphrase is not the one.
    #[error("`{}` does not open with this passphrase", .0.display())]
    WrongPassphrase(PathBuf),
    /// The master key is sealed to a passphrase that nobody gave.
    #[error("the master key in `{}` is sealed to a passphrase: say in `unlock` beside it where the passphrase comes from, `credential:NAME` or `command:LINE`", .0.display())]
    NeedsUnlock(PathBuf),
    /// Secrets without the key that opens them.
    #[error("the vault in `{}` holds secrets but its master.key is gone: put the key back; or move the *.age files away, start the gateway, and bring the secrets back with `clawstaff secret restore` from a backup or with `clawstaff secret set`", .0.display())]
    KeyLost(PathBuf),
    /// A restoring that was decided on cannot be brought to its end.
    #[error("cannot go on with the restoring that was under way")]
    Restoring(#[source] backup::BackupError),
}

/// Why a secret could not be stored, removed or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The value is empty.
    #[error("the secret `{0}` cannot be empty")]
    Empty(SecretName),
    /// The value is longer than [`MAX_SECRET`].
    #[error("the secret `{0}` is longer than {MAX_SECRET} bytes")]
    TooLong(SecretName),
    /// A reference that only leads back to the vault.
    #[error(
        "the secret `{0}` cannot refer to another secret of the vault: name `env:`, `file:`, `exec:`, `bao:` or `k8s:`"
    )]
    NoReference(SecretName),
    /// No such secret.
    #[error("there is no secret `{0}` in the vault: set it with `clawstaff secret set {0}`")]
    Missing(SecretName),
    /// The key is gone from the disk, so what is sealed now would be lost with this process.
    #[error(
        "the vault's master key is gone from `{}` and only the running gateway still has it: run `clawstaff secret backup` now; then stop the gateway, move the *.age files away, start it, and run `clawstaff secret restore`", .0.display()
    )]
    KeyLost(PathBuf),
    /// age refused to seal.
    #[error("cannot seal the secret `{0}`")]
    Seal(SecretName),
    /// The file does not open with the master key, or holds another secret than its name says.
    #[error(
        "the sealed file of `{0}` does not open: it was altered, moved here from another name, or sealed to another key"
    )]
    Unopenable(SecretName),
    /// The file system refused.
    #[error("cannot keep the secret `{name}`")]
    File {
        /// The secret.
        name: SecretName,
        /// The cause.
        source: PrivateFileError,
    },
    /// The directory cannot be listed.
    #[error("cannot list the vault")]
    List(#[source] std::io::Error),
}

/// Why a secret could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

/// What [`Vault::set`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOutcome {
    /// There was no secret of this name.
    Created,
    /// The value was replaced.
    Replaced,
}

/// What is said of a secret when it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// Where it may be used; as before when nothing is said.
    pub binding: Option<Binding>,
    /// When its value stops being good, if that is known.
    pub expires: Option<Timestamp>,
}

/// A secret, never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// When it was last written.
    pub updated: Timestamp,
    /// What its seal says of it; nothing when the seal does not open.
    pub sealed: Option<SealedInfo>,
}

/// What a seal says of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedInfo {
    /// Counts the values that it has had, from 1.
    pub version: u32,
    /// Where it may be used.
    pub binding: Binding,
    /// When its value stops being good, if that was said.
    pub expires: Option<Timestamp>,
    /// Where its value is found, if not in the vault.
    pub reference: Option<CredentialRef>,
}

/// The store of secrets in one directory. One process may have it open for writing.
pub struct Vault {
    dir: PathBuf,
    identity: age::x25519::Identity,
    /// What has the master key, where it is a file.
    key_file: Option<PathBuf>,
    commands: Vec<String>,
    stores: Arc<dyn Lookup>,
    /// Held while a secret is written or removed.
    writing: Mutex<()>,
    /// Secrets that were asked for, each good for as long as its file is as it was: opening a seal takes longer
    /// than everything else between a decision and its request.
    opened: Mutex<HashMap<SecretName, Opened>>,
}

/// A secret and the state of the file that it was in.
struct Opened {
    stamp: Stamp,
    record: Arc<Record>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the vault in `dir`; makes directory (0700) and master key (0600) when there are none.
    ///
    /// # Errors
    /// When the directory cannot be used, or the master key is readable by others, malformed, or lost.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, Unlock::default())
    }

    /// The same with what [`Unlock::obtain`] gave.
    ///
    /// # Errors
    /// As [`Vault::open`], or when the passphrase is not the one.
    pub fn open_with(dir: &Path, unlock: Unlock) -> Result<Self, OpenError> {
        make_private_dir(dir).map_err(|source| OpenError::Directory {
            path: dir.to_owned(),
            source,
        })?;
        let (identity, key_file) = unlock.identity(dir)?;
        backup::finish(dir).map_err(OpenError::Restoring)?;
        Ok(Self {
            dir: dir.to_owned(),
            identity,
            key_file,
            commands: Vec::new(),
            stores: Arc::new(NoStores),
            writing: Mutex::new(()),
            opened: Mutex::default(),
        })
    }

    /// The same vault, with the exact command lines that `exec:` references may run on this host. The list
    /// is the host's own: what a control plane sends cannot extend it.
    #[must_use]
    pub fn with_commands(mut self, commands: Vec<String>) -> Self {
        self.commands = commands;
        self
    }

    /// The same vault, with whoever looks values up in other stores. Which ones there are is the host's own too.
    #[must_use]
    pub fn with_stores(mut self, stores: Arc<dyn Lookup>) -> Self {
        self.stores = stores;
        self
    }

    /// The directory whose files are never credentials: the vault's parent, where the gateway's keys are.
    pub(crate) fn own_directory(&self) -> Option<PathBuf> {
        fs::canonicalize(self.dir.parent()?).ok()
    }

    pub(crate) fn commands(&self) -> &[String] {
        &self.commands
    }

    pub(crate) fn stores(&self) -> &dyn Lookup {
        &*self.stores
    }

    /// Stores `value` under `name`, durably; where it may be used stays as it was. One trailing line break is not
    /// part of the value. Calls under way go on with the value that they have; the next one has this one.
    ///
    /// # Errors
    /// When the value is empty or too long, or cannot be written.
    pub fn set(&self, name: &SecretName, value: Secret<String>) -> Result<SetOutcome, StoreError> {
        self.put(name, body_of(name, &value)?, Terms::default())
    }

    /// The same, and it may be used as `binding` says from now on.
    ///
    /// # Errors
    /// As [`Vault::set`].
    pub fn set_bound(
        &self,
        name: &SecretName,
        value: Secret<String>,
        binding: Binding,
    ) -> Result<SetOutcome, StoreError> {
        let terms = Terms {
            binding: Some(binding),
            expires: None,
        };
        self.set_under(name, value, terms)
    }

    /// The same under these terms.
    ///
    /// # Errors
    /// As [`Vault::set`].
    pub fn set_under(
        &self,
        name: &SecretName,
        value: Secret<String>,
        terms: Terms,
    ) -> Result<SetOutcome, StoreError> {
        self.put(name, body_of(name, &value)?, terms)
    }

    /// A new value for a secret that is there, used as before.
    ///
    /// # Errors
    /// As [`Vault::set`], or when there is no such secret.
    pub fn rotate(&self, name: &SecretName, value: Secret<String>) -> Result<SetOutcome, StoreError> {
        self.rotate_until(name, value, None)
    }

    /// The same, and the value is good until `expires`.
    ///
    /// # Errors
    /// As [`Vault::rotate`].
    pub fn rotate_until(
        &self,
        name: &SecretName,
        value: Secret<String>,
        expires: Option<Timestamp>,
    ) -> Result<SetOutcome, StoreError> {
        let value = body_of(name, &value)?;
        if !self.contains(name) {
            return Err(StoreError::Missing(name.clone()));
        }
        let terms = Terms {
            binding: None,
            expires,
        };
        self.put(name, value, terms)
    }

    /// Stores under `name` where the value is found, instead of the value. It is looked up at each use.
    ///
    /// # Errors
    /// When the reference leads back to the vault, or cannot be written.
    pub fn refer(
        &self,
        name: &SecretName,
        reference: CredentialRef,
        terms: Terms,
    ) -> Result<SetOutcome, StoreError> {
        match reference {
            CredentialRef::Vault(_) => Err(StoreError::NoReference(name.clone())),
            CredentialRef::Env(_)
            | CredentialRef::File(_)
            | CredentialRef::Exec(_)
            | CredentialRef::Bao(_)
            | CredentialRef::Kubernetes(_) => self.put(name, Body::Reference(reference), terms),
        }
    }

    /// Where a secret may be used; nothing said when there is none or its seal does not open.
    pub fn binding(&self, name: &SecretName) -> Binding {
        let record = self.record(name);
        record.map(|record| record.binding.clone()).unwrap_or_default()
    }

    /// Says anew where a secret may be used; its value stays.
    ///
    /// # Errors
    /// When there is no such secret, it does not open, or cannot be written.
    pub fn bind(&self, name: &SecretName, binding: Binding) -> Result<(), StoreError> {
        let _writing = self.hold_writing();
        let record = Record {
            binding,
            ..(*self.record(name)?).clone()
        };
        self.write(name, &record)
    }

    /// The secret for a use by `connection` toward `to`. A first use fills in what its binding leaves open.
    pub(crate) fn for_use(
        &self,
        name: &SecretName,
        connection: &ConnectionName,
        to: &Destination<'_>,
    ) -> Result<Arc<Record>, UseError> {
        let record = self.record(name)?;
        record.binding.check(name, connection, to)?;
        if record.binding.is_complete() {
            return Ok(record);
        }
        let _writing = self.hold_writing();
        // Another call may have been the first.
        let record = self.record(name)?;
        record.binding.check(name, connection, to)?;
        let bound = Record {
            binding: record.binding.clone().completed(connection, to),
            ..(*record).clone()
        };
        self.write(name, &bound)?;
        Ok(Arc::new(bound))
    }

    fn put(&self, name: &SecretName, body: Body, terms: Terms) -> Result<SetOutcome, StoreError> {
        let _writing = self.hold_writing();
        let (outcome, before) = if self.contains(name) {
            (SetOutcome::Replaced, self.record(name).ok())
        } else {
            (SetOutcome::Created, None)
        };
        let kept = before.as_ref().map(|record| record.binding.clone());
        let record = Record {
            version: before.map_or(1, |record| record.version.saturating_add(1)),
            binding: terms.binding.or(kept).unwrap_or_default(),
            expires: terms.expires,
            body,
        };
        self.write(name, &record)?;
        Ok(outcome)
    }

    /// Refuses to seal anything to a master key that is gone from the disk: the next start could open nothing.
    ///
    /// # Errors
    /// When the key's file is gone.
    pub fn check_key(&self) -> Result<(), StoreError> {
        let lost = self.key_file.as_deref().filter(|path| !path.exists());
        lost.map_or(Ok(()), |path| Err(StoreError::KeyLost(path.to_owned())))
    }

    fn write(&self, name: &SecretName, record: &Record) -> Result<(), StoreError> {
        self.check_key()?;
        let sealed = self
            .seal(name, record)
            .ok_or_else(|| StoreError::Seal(name.clone()))?;
        self.forget(name);
        files::write_private(&self.path(name), &sealed).map_err(|source| StoreError::File {
            name: name.clone(),
            source,
        })
    }

    /// Removes a secret, durably.
    ///
    /// # Errors
    /// When there is none of this name, or the file system refuses.
    pub fn remove(&self, name: &SecretName) -> Result<(), StoreError> {
        let _writing = self.hold_writing();
        self.forget(name);
        match files::remove(&self.path(name)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Missing(name.clone())),
            Err(source) => Err(StoreError::File {
                name: name.clone(),
                source,
            }),
        }
    }

    /// Whether there is a secret of this name.
    pub fn contains(&self, name: &SecretName) -> bool {
        self.path(name).exists()
    }

    /// The secrets by name, without their values.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<SecretInfo>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(StoreError::List)? {
            let entry = entry.map_err(StoreError::List)?;
            let file = entry.file_name();
            let name = file.to_str().and_then(|f| f.strip_suffix(SUFFIX));
            let Some(name) = name.and_then(|n| n.parse::<SecretName>().ok()) else {
                continue;
            };
            let modified = entry.metadata().map_err(StoreError::List)?.mtime();
            let updated = Timestamp::from_second(modified).unwrap_or(Timestamp::UNIX_EPOCH);
            let sealed = self.record(&name).ok().map(|record| SealedInfo {
                version: record.version,
                binding: record.binding.clone(),
                expires: record.expires,
                reference: match &record.body {
                    Body::Value(_) => None,
                    Body::Reference(reference) => Some(reference.clone()),
                },
            });
            found.push(SecretInfo {
                name,
                updated,
                sealed,
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// A secret, opened. Stays inside this crate: the ways out are `release` and `signing_secret`.
    pub(crate) fn record(&self, name: &SecretName) -> Result<Arc<Record>, StoreError> {
        let found = Stamp::of(&self.path(name)).map_err(|source| unreadable(name, source));
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match (found, opened.get(name)) {
            (Ok(stamp), Some(kept)) if kept.stamp == stamp => return Ok(Arc::clone(&kept.record)),
            (Ok(_), _) => {}
            (Err(error), _) => {
                opened.remove(name);
                return Err(error);
            }
        }
        opened.remove(name);
        let fresh = self.open_seal(name)?;
        let record = Arc::clone(&fresh.record);
        opened.insert(name.clone(), fresh);
        Ok(record)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Nobody writes or removes a secret while this is held.
    pub(crate) fn hold_writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wipes all values from memory.
    pub(crate) fn forget_all(&self) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Wipes the value from memory.
    fn forget(&self, name: &SecretName) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.remove(name);
    }

    fn open_seal(&self, name: &SecretName) -> Result<Opened, StoreError> {
        let (sealed, stamp) = files::read_stamped(&self.path(name), MAX_SEALED, Readers::OwnerOnly)
            .map_err(|source| unreadable(name, source))?;
        let record = self
            .unseal(name, sealed.expose_secret())
            .ok_or_else(|| StoreError::Unopenable(name.clone()))?;
        let record = Arc::new(record);
        Ok(Opened { stamp, record })
    }

    fn path(&self, name: &SecretName) -> PathBuf {
        self.dir.join(file_of(name))
    }

    pub(crate) fn seal(&self, name: &SecretName, record: &Record) -> Option<Vec<u8>> {
        let recipient = self.identity.to_public();
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).ok()?;
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).ok()?;
        writer
            .write_all(record.to_text(name)?.expose_secret().as_bytes())
            .ok()?;
        writer.finish().ok()?;
        Some(sealed)
    }

    fn unseal(&self, name: &SecretName, sealed: &[u8]) -> Option<Record> {
        let decryptor = age::Decryptor::new_buffered(sealed).ok()?;
        let identity = std::iter::once(&self.identity as &dyn age::Identity);
        // The plaintext is shorter than its seal, so this buffer never grows and leaves no copy behind.
        let mut plaintext = Vec::with_capacity(sealed.len());
        let read = decryptor.decrypt(identity).ok()?.read_to_end(&mut plaintext);
        let plaintext = Secret::new(plaintext);
        read.ok()?;
        let text = std::str::from_utf8(plaintext.expose_secret()).ok()?;
        Record::parse(name, text)
    }
}

fn unreadable(name: &SecretName, source: PrivateFileError) -> StoreError {
    if source.is_missing() {
        return StoreError::Missing(name.clone());
    }
    StoreError::File {
        name: name.clone(),
        source,
    }
}

/// The value without its trailing line break; neither empty nor too long.
fn body_of(name: &SecretName, value: &Secret<String>) -> Result<Body, StoreError> {
    let value = without_line_break(value.expose_secret());
    match value.len() {
        0 => Err(StoreError::Empty(name.clone())),
        1..=MAX_SECRET => Ok(Body::Value(Secret::new(value.to_owned()))),
        _ => Err(StoreError::TooLong(name.clone())),
    }
}

/// The text without one trailing `\n` or `\r\n`.
pub(crate) fn without_line_break(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if fs::metadata(dir)?.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The first line that is no comment, as `age-keygen` writes the file.
pub(crate) fn parse_identity(content: &[u8]) -> Option<age::x25519::Identity> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.next()?.parse().ok()
}

pub(crate) fn holds_secrets(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|e| e == "age"))
}
