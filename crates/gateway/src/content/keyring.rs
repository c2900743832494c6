//! One key and one salt for each subject, wrapped by the gateway's own; destroying the file erases the subject.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use clawstaff_api::local::Subject;
use clawstaff_types::{ClawName, MemberId, Secret};
use zeroize::Zeroizing;

use crate::{
    commit::{Commitment, private_dir, write_private},
    inbox::{read_bounded, read_if_present},
};

const KEY: usize = 32;
const VERSION: u8 = 1;
/// Version, nonce, key, salt and tag.
const FILE: usize = 1 + NONCE_LEN + KEY + KEY + 16;

/// Whose content a record holds: the Claw's that acted, for the member on whose behalf it did, if for anybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Whose {
    pub(crate) claw: ClawName,
    pub(crate) member: Option<MemberId>,
}

impl Whose {
    pub(crate) const fn new(claw: ClawName, member: Option<MemberId>) -> Self {
        Self { claw, member }
    }

    /// Whether erasing `subject` erases this.
    pub(crate) fn concerns(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Claw(claw) => *claw == self.claw,
            Subject::Member(member) => self.member.as_ref() == Some(member),
        }
    }

    /// No name holds a `~`, so the file's name reads one way only.
    fn file(&self) -> String {
        let member = self.member.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{}~{member}", self.claw)
    }

    fn parse(file: &str) -> Option<Self> {
        let (claw, member) = file.split_once('~')?;
        let member = if member.is_empty() {
            None
        } else {
            Some(member.parse().ok()?)
        };
        Some(Self::new(claw.parse().ok()?, member))
    }

    fn bound(&self) -> String {
        format!("clawstaff/subject/1\n{}", self.file())
    }
}

/// What a subject's content is committed to and encrypted with.
#[derive(Debug)]
pub(crate) struct SubjectKey {
    pub(crate) commit: Commitment,
    pub(super) seal: RandomizedNonceKey,
}

/// Why a subject's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The key that wraps the others is gone.
    #[error("`{}` is missing, but keys in `{}` were wrapped with it: put it back from a backup, or remove that folder and give up the content it opens", .0.display(), .1.display())]
    Missing(PathBuf, PathBuf),
    /// A file does not hold what it should.
    #[error("`{}` is not what was written", .0.display())]
    Malformed(PathBuf),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    NoRandomness,
}

impl KeyringError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// The keys of all subjects, made on first use.
#[derive(Debug)]
pub(crate) struct Subjects {
    dir: PathBuf,
    wrap: RandomizedNonceKey,
    known: Mutex<HashMap<Whose, Arc<SubjectKey>>>,
}

impl Subjects {
    /// The keys below `keys`.
    ///
    /// # Errors
    /// When the wrapping key cannot be read or made, or is missing although keys were wrapped with it.
    pub(crate) fn open(keys: &Path) -> Result<Self, KeyringError> {
        let (path, dir) = (keys.join("subjects.key"), keys.join("subjects"));
        private_dir(&dir).map_err(KeyringError::io("make", &dir))?;
        let wrap = match read_bounded(&path, KEY as u64 + 1) {
            Ok(bytes) => Secret::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh_wrap(&path, &dir)?,
            Err(error) => return Err(KeyringError::io("read", &path)(error)),
        };
        let wrap = RandomizedNonceKey::new(&AES_256_GCM, wrap.expose_secret());
        Ok(Self {
            dir,
            wrap: wrap.map_err(|_| KeyringError::Malformed(path))?,
            known: Mutex::default(),
        })
    }

    /// The key of a subject, made if there is none.
    ///
    /// # Errors
    /// When its file cannot be read or made.
    pub(crate) fn of(&self, whose: &Whose) -> Result<Arc<SubjectKey>, KeyringError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(whose) {
            return Ok(Arc::clone(key));
        }
        let key = match self.load(whose)? {
            Some(key) => key,
            None => self.make(whose)?,
        };
        known.insert(whose.clone(), Arc::clone(&key));
        drop(known);
        Ok(key)
    }

    /// The key of a subject if there is one: after an erasure there is none.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub(crate) fn existing(&self, whose: &Whose) -> Result<Option<Arc<SubjectKey>>, KeyringError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(whose) {
            Some(key) => Ok(Some(Arc::clone(key))),
            None => self.load(whose),
        }
    }

    /// Everybody who has a key and whom erasing `subject` concerns.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn concerned(&self, subject: &Subject) -> Result<Vec<Whose>, KeyringError> {
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.dir).map_err(KeyringError::io("list", &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(KeyringError::io("list", &self.dir))?;
            let whose = entry.file_name().to_str().and_then(Whose::parse);
            found.extend(whose.filter(|whose| whose.concerns(subject)));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Destroys a subject's key and salt: overwritten, made durable, removed. There is no way back.
    ///
    /// # Errors
    /// When the disk refuses; then it may be destroyed or not, and doing it again is right.
    pub(crate) fn destroy(&self, whose: &Whose) -> Result<(), KeyringError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(whose);
        let io = |error| KeyringError::io("destroy", &path)(error);
        let mut file = OpenOptions::new().write(true).open(&path).map_err(io)?;
        file.write_all(&[0; FILE]).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::remove_file(&path).map_err(io)?;
        fs::File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(io)?;
        known.remove(whose);
        drop(known);
        Ok(())
    }

    fn path(&self, whose: &Whose) -> PathBuf {
        self.dir.join(whose.file())
    }

    fn load(&self, whose: &Whose) -> Result<Option<Arc<SubjectKey>>, KeyringError> {
        let path = self.path(whose);
        let malformed = || KeyringError::Malformed(path.clone());
        let kept = read_if_present(&path, FILE as u64 + 1).map_err(KeyringError::io("read", &path))?;
        let Some(bytes) = kept else {
            return Ok(None);
        };
        let (&version, rest) = bytes.split_first().ok_or_else(malformed)?;
        let (nonce, wrapped) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(malformed)?;
        if version != VERSION {
            return Err(malformed());
        }
        let mut pair = Zeroizing::new(wrapped.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .wrap
            .open_in_place(nonce, Aad::from(whose.bound()), &mut pair);
        let opened = opened.map_err(|_| malformed())?;
        let key = subject_key(opened).ok_or_else(malformed)?;
        Ok(Some(Arc::new(key)))
    }

    fn make(&self, whose: &Whose) -> Result<Arc<SubjectKey>, KeyringError> {
        let mut pair = Zeroizing::new(vec![0; KEY + KEY]);
        aws_lc_rs::rand::fill(&mut pair).map_err(|_| KeyringError::NoRandomness)?;
        let key = subject_key(&pair).ok_or(KeyringError::NoRandomness)?;
        let nonce = self
            .wrap
            .seal_in_place_append_tag(Aad::from(whose.bound()), &mut *pair)
            .map_err(|_| KeyringError::NoRandomness)?;
        let mut file = Vec::with_capacity(FILE);
        file.push(VERSION);
        file.extend_from_slice(nonce.as_ref());
        file.extend_from_slice(&pair);
        let path = self.path(whose);
        write_private(&path, &file).map_err(KeyringError::io("write", &path))?;
        Ok(Arc::new(key))
    }
}

/// A key for encryption, then a salt for commitments.
fn subject_key(pair: &[u8]) -> Option<SubjectKey> {
    let (key, salt) = pair.split_at_checked(KEY)?;
    (salt.len() == KEY).then_some(())?;
    Some(SubjectKey {
        commit: Commitment::new(salt),
        seal: RandomizedNonceKey::new(&AES_256_GCM, key).ok()?,
    })
}

/// A new wrapping key, unless there are keys that another one wrapped.
fn fresh_wrap(path: &Path, dir: &Path) -> Result<Secret<Vec<u8>>, KeyringError> {
    let mut wrapped = fs::read_dir(dir).map_err(KeyringError::io("list", dir))?;
    if wrapped.next().is_some() {
        return Err(KeyringError::Missing(path.to_owned(), dir.to_owned()));
    }
    let mut bytes = vec![0; KEY];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyringError::NoRandomness)?;
    let bytes = Secret::new(bytes);
    write_private(path, bytes.expose_secret()).map_err(KeyringError::io("write", path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(member: Option<&str>) -> Whose {
        Whose::new("a".parse().unwrap(), member.map(|member| member.parse().unwrap()))
    }

    #[test]
    fn a_key_survives_a_restart_and_is_gone_once_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let (ana, nobody) = (whose(Some("uid-1")), whose(None));
        let text: &[&[u8]] = &[b"yes"];
        let first = Subjects::open(dir.path()).unwrap();
        let digest = first.of(&ana).unwrap().commit.to("request", text);
        first.of(&nobody).unwrap();
        let again = Subjects::open(dir.path()).unwrap();
        assert_eq!(again.of(&ana).unwrap().commit.to("request", text), digest);
        let member = "member:uid-1".parse().unwrap();
        assert_eq!(again.concerned(&member).unwrap(), std::slice::from_ref(&ana));
        assert_eq!(
            again.concerned(&"claw:a".parse().unwrap()).unwrap(),
            [nobody.clone(), ana.clone()]
        );
        again.destroy(&ana).unwrap();
        assert!(again.existing(&ana).unwrap().is_none());
        assert!(again.existing(&nobody).unwrap().is_some());
        assert_ne!(again.of(&ana).unwrap().commit.to("request", text), digest);
    }

    #[test]
    fn without_the_wrapping_key_nothing_starts_that_would_make_another_one() {
        let dir = tempfile::tempdir().unwrap();
        Subjects::open(dir.path()).unwrap().of(&whose(None)).unwrap();
        fs::remove_file(dir.path().join("subjects.key")).unwrap();
        let error = Subjects::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("put it back from a backup"), "{error}");
    }

    #[test]
    fn a_wrapped_key_opens_for_its_own_subject_only() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Subjects::open(dir.path()).unwrap();
        keys.of(&whose(Some("uid-1"))).unwrap();
        fs::rename(
            dir.path().join("subjects/a~uid-1"),
            dir.path().join("subjects/a~uid-2"),
        )
        .unwrap();
        assert!(matches!(
            keys.existing(&whose(Some("uid-2"))),
            Err(KeyringError::Malformed(_))
        ));
    }
}
