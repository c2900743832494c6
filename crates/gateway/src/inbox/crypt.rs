//! Encryption of inbox items at rest: AES-256-GCM (NIST SP 800-38D), random nonce, bound to Claw and id.
//!
//! File layout: one version byte, 12 bytes of nonce, ciphertext, 16 bytes of tag.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use clawstaff_types::{ClawName, EventId, Secret};

use super::files;

const VERSION: u8 = 1;
const KEY_LEN: usize = 32;

/// Why the key of the inbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("cannot use the inbox's key `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not 32 bytes.
    #[error("the inbox's key `{}` is not {KEY_LEN} bytes", .0.display())]
    Malformed(PathBuf),
    /// Others can read it.
    #[error("the inbox's key `{}` can be read by others than its owner: run `chmod 600`", .0.display())]
    Exposed(PathBuf),
    /// The system gave no randomness.
    #[error("the system gave no randomness for the inbox's key")]
    NoRandomness,
}

/// The key under which items lie on the disk.
#[derive(Debug)]
pub struct InboxKey(RandomizedNonceKey);

impl InboxKey {
    /// A key from its bytes, if they are 32.
    pub fn new(bytes: &Secret<Vec<u8>>) -> Option<Self> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes.expose_secret())
            .map(Self)
            .ok()
    }

    /// The key in `path` (32 bytes, mode 0600), made first when there is none.
    ///
    /// # Errors
    /// When the file cannot be used, or is open to others.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        if !path.exists() {
            let mut bytes = vec![0; KEY_LEN];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
            let bytes = Secret::new(bytes);
            files::replace(path, bytes.expose_secret()).map_err(io)?;
        }
        if files::is_exposed(path).map_err(io)? {
            return Err(KeyError::Exposed(path.to_owned()));
        }
        let bytes = Secret::new(files::read_bounded(path, KEY_LEN as u64 + 1).map_err(io)?);
        Self::new(&bytes).ok_or_else(|| KeyError::Malformed(path.to_owned()))
    }

    /// Encrypts one item.
    pub(super) fn seal(&self, claw: &ClawName, id: &EventId, mut plaintext: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(bound_to(claw, id)), &mut plaintext)
            .ok()?;
        let mut file = Vec::with_capacity(1 + NONCE_LEN + plaintext.len());
        file.push(VERSION);
        file.extend_from_slice(nonce.as_ref());
        file.append(&mut plaintext);
        Some(file)
    }

    /// Decrypts what was encrypted for this Claw and id.
    pub(super) fn open(&self, claw: &ClawName, id: &EventId, file: &[u8]) -> Option<Vec<u8>> {
        let (&version, rest) = file.split_first()?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>()?;
        if version != VERSION {
            return None;
        }
        let mut buffer = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plaintext = self
            .0
            .open_in_place(nonce, Aad::from(bound_to(claw, id)), &mut buffer)
            .ok()?;
        Some(plaintext.to_vec())
    }
}

/// Neither name holds a line break, so the pair reads one way only.
fn bound_to(claw: &ClawName, id: &EventId) -> String {
    format!("clawstaff/inbox/1\n{claw}\n{id}")
}
