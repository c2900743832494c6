//! Encrypted parts in append-only files, 4,096 records to a file.
//!
//! ```text
//!   0   4   "csp1"
//!   4   8   index of the record, little endian
//!  12   1   label
//!  13   4   length of what follows
//!  17  12   nonce
//!  29   n   ciphertext and tag (AES-256-GCM), bound to record, label and subject
//! ```

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};

use super::{Label, MAX_PART, SubjectKey, Whose};
use crate::commit::private_dir;

const MAGIC: [u8; 4] = *b"csp1";
const HEAD: usize = 17;
/// Records to a file.
const RECORDS: u64 = 4096;
const OVERHEAD: usize = NONCE_LEN + 16;

/// Why a part is not kept, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
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
    /// It is longer than what is kept.
    #[error("a part of {0} bytes is longer than {MAX_PART}")]
    TooLong(usize),
    /// It could not be encrypted.
    #[error("a part could not be encrypted")]
    Crypt,
    /// The process is ending.
    #[error("the gateway is ending")]
    Ended,
}

/// A part as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    index: u64,
    pub(crate) label: Label,
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

impl Kept {
    /// The plaintext, if this is the key of the subject it was kept for.
    pub(crate) fn open(&self, whose: &Whose, key: &SubjectKey) -> Option<Vec<u8>> {
        let mut buffer = self.ciphertext.clone();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let aad = Aad::from(bound(self.index, self.label, whose));
        key.seal
            .open_in_place(nonce, aad, &mut buffer)
            .ok()
            .map(|plain| plain.to_vec())
    }
}

/// The files.
#[derive(Debug)]
pub(super) struct Parts {
    dir: PathBuf,
    keep: bool,
    /// The files whose end was looked at since the start; held while one is written.
    sound: Mutex<BTreeSet<u64>>,
}

impl Parts {
    pub(super) fn new(dir: &Path, keep: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            keep,
            sound: Mutex::default(),
        }
    }

    pub(super) const fn keeps(&self) -> bool {
        self.keep
    }

    /// Appends a part and makes it durable.
    pub(super) fn put(
        &self,
        index: u64,
        label: Label,
        whose: &Whose,
        key: &SubjectKey,
        mut plaintext: Vec<u8>,
    ) -> Result<(), PartsError> {
        if plaintext.len() > MAX_PART {
            return Err(PartsError::TooLong(plaintext.len()));
        }
        let aad = Aad::from(bound(index, label, whose));
        let nonce = key.seal.seal_in_place_append_tag(aad, &mut plaintext);
        let nonce = nonce.map_err(|_| PartsError::Crypt)?;
        let length = u32::try_from(NONCE_LEN + plaintext.len()).map_err(|_| PartsError::Crypt)?;
        let mut frame = Vec::with_capacity(HEAD + NONCE_LEN + plaintext.len());
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&index.to_le_bytes());
        frame.push(code(label));
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(nonce.as_ref());
        frame.append(&mut plaintext);
        let path = self.path(index);
        self.append(index / RECORDS, &path, &frame)
            .map_err(|source| PartsError::Io {
                doing: "append to",
                path,
                source,
            })
    }

    /// One writer at a time, so that frames lie one after the other.
    fn append(&self, ordinal: u64, path: &Path, frame: &[u8]) -> io::Result<()> {
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        private_dir(&self.dir)?;
        let fresh = !path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        if !sound.contains(&ordinal) {
            // What a crash left half written at the end would hide what comes after it.
            let end = walk(&mut file, |_, _| Ok(()))?;
            file.set_len(end)?;
            sound.insert(ordinal);
        }
        let before = file.metadata()?.len();
        let written = file.write_all(frame).and_then(|()| file.sync_data());
        if written.is_err() {
            sound.remove(&ordinal);
            let _looked_at_again_with_the_next = file.set_len(before);
        }
        drop(sound);
        written?;
        if fresh {
            fs::File::open(&self.dir)?.sync_all()
        } else {
            Ok(())
        }
    }

    /// The parts of one record.
    pub(super) fn of(&self, index: u64) -> Result<Vec<Kept>, PartsError> {
        let path = self.path(index);
        let mut found = Vec::new();
        let read = File::open(&path).and_then(|mut file| {
            walk(&mut file, |head, file| {
                if head.index == index {
                    found.push(head.read(file)?);
                }
                Ok(())
            })
        });
        match read {
            Ok(_) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(found),
            Err(source) => Err(PartsError::Io {
                doing: "read",
                path,
                source,
            }),
        }
    }

    /// Removes the files that hold nothing but parts of records before `first`, oldest first.
    pub(super) fn forget_before(&self, first: u64) -> Result<(), PartsError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| PartsError::Io { doing, path, source }
        };
        let names = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names.map_err(failed("list", &self.dir))?,
        };
        let ordinal = |name: &str| name.strip_suffix(".parts")?.parse::<u64>().ok();
        let mut ordinals: Vec<u64> = names
            .flatten()
            .filter_map(|entry| ordinal(entry.file_name().to_str()?))
            .filter(|ordinal| *ordinal < first / RECORDS)
            .collect();
        ordinals.sort_unstable();
        let _nobody_writes = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        for ordinal in ordinals {
            let path = self.path(ordinal.saturating_mul(RECORDS));
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{:012}.parts", index / RECORDS))
    }
}

/// The beginning of a frame.
struct Head {
    index: u64,
    label: Label,
    length: u32,
}

impl Head {
    fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (index, rest) = rest.split_first_chunk::<8>()?;
        let (&label, rest) = rest.split_first()?;
        let length = u32::from_le_bytes(rest.try_into().ok()?);
        let bounds = OVERHEAD..=MAX_PART + OVERHEAD;
        bounds.contains(&usize::try_from(length).ok()?).then_some(())?;
        Some(Self {
            index: u64::from_le_bytes(*index),
            label: Label::ALL.into_iter().find(|known| code(*known) == label)?,
            length,
        })
    }

    fn read(&self, file: &mut File) -> io::Result<Kept> {
        let mut nonce = [0; NONCE_LEN];
        file.read_exact(&mut nonce)?;
        let length = usize::try_from(self.length)
            .unwrap_or_default()
            .saturating_sub(NONCE_LEN);
        let mut ciphertext = vec![0; length];
        file.read_exact(&mut ciphertext)?;
        Ok(Kept {
            index: self.index,
            label: self.label,
            nonce,
            ciphertext,
        })
    }
}

/// Goes from frame to frame; gives where the last whole one ends.
fn walk(file: &mut File, mut see: impl FnMut(&Head, &mut File) -> io::Result<()>) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; HEAD];
        let end = at + HEAD as u64;
        if end > size {
            return Ok(at);
        }
        file.read_exact(&mut head)?;
        let Some(head) = Head::parse(&head) else {
            return Ok(at);
        };
        let end = end + u64::from(head.length);
        if end > size {
            return Ok(at);
        }
        see(&head, file)?;
        at = end;
    }
}

const fn code(label: Label) -> u8 {
    match label {
        Label::Request => 1,
        Label::Response => 2,
        Label::Message => 3,
    }
}

fn bound(index: u64, label: Label, whose: &Whose) -> String {
    let member = whose.member.as_ref().map(ToString::to_string).unwrap_or_default();
    format!(
        "clawstaff/part/1\n{index}\n{}\n{}\n{member}",
        label.name(),
        whose.claw
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Subjects;

    #[test]
    fn parts_of_records_that_are_gone_go_by_whole_files() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Subjects::open(dir.path()).unwrap();
        let whose = Whose::new("a".parse().unwrap(), None);
        let key = keys.of(&whose).unwrap();
        let parts = Parts::new(&dir.path().join("content"), true);
        parts.forget_before(9).unwrap();
        let indices = [0, RECORDS - 1, RECORDS, 3 * RECORDS];
        for index in indices {
            parts
                .put(index, Label::Request, &whose, &key, b"x".to_vec())
                .unwrap();
        }
        let left = || indices.map(|index| parts.of(index).unwrap().len());
        parts.forget_before(RECORDS - 1).unwrap();
        assert_eq!(left(), [1, 1, 1, 1]);
        parts.forget_before(2 * RECORDS - 1).unwrap();
        assert_eq!(left(), [0, 0, 1, 1]);
        parts.forget_before(3 * RECORDS).unwrap();
        assert_eq!(left(), [0, 0, 0, 1]);
    }

    #[test]
    fn parts_come_back_after_a_torn_write_and_open_for_their_subject_only() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Subjects::open(dir.path()).unwrap();
        let whose = |claw: &str| Whose::new(claw.parse().unwrap(), None);
        let (a, b) = (whose("a"), whose("b"));
        let key = keys.of(&a).unwrap();
        let place = dir.path().join("content");
        let parts = Parts::new(&place, true);
        parts.put(7, Label::Request, &a, &key, b"one".to_vec()).unwrap();
        parts.put(8, Label::Request, &a, &key, b"two".to_vec()).unwrap();
        let mut file = OpenOptions::new().append(true).open(parts.path(7)).unwrap();
        file.write_all(b"csp1half a frame").unwrap();
        let parts = Parts::new(&place, true);
        parts
            .put(7, Label::Response, &a, &key, b"three".to_vec())
            .unwrap();
        let kept = parts.of(7).unwrap();
        let plain: Vec<_> = kept
            .iter()
            .map(|kept| (kept.label, kept.open(&a, &key).unwrap()))
            .collect();
        assert_eq!(
            plain,
            [
                (Label::Request, b"one".to_vec()),
                (Label::Response, b"three".to_vec())
            ]
        );
        assert_eq!(kept[0].open(&b, &key), None);
        assert_eq!(kept[0].open(&a, &keys.of(&b).unwrap()), None);
        assert!(parts.of(9).unwrap().is_empty() && parts.of(99_999).unwrap().is_empty());
    }
}
