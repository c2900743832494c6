//! Content sealed to a gateway: RFC 9180 HPKE in base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305, one message per encapsulation, empty associated data, the label as `info`.
//!
//! Whoever holds the [`PublicKey`] (command line, browser) seals; only the gateway's [`PrivateKey`] opens. The
//! label says what the content is (`instructions`, `message`), so that one cannot be passed off as the other.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use clawstaff_types::{Digest, Secret, spec::Sealed};
use hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _, aead::ChaCha20Poly1305,
    kdf::HkdfSha256, kem::X25519HkdfSha256,
};

use crate::files::{self, PrivateFileError, Readers};

type Kem = X25519HkdfSha256;

/// The longest content that is sealed or opened, in bytes.
pub const MAX_CONTENT: usize = 1 << 20;
/// Poly1305 tag.
const TAG: usize = 16;
const KEY_FILE_LIMIT: u64 = 256;

/// Why content could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Longer than [`MAX_CONTENT`].
    #[error("content of {0} bytes is longer than the {MAX_CONTENT} that can be sealed")]
    TooLong(usize),
    /// The key is not one that can be sealed to (a point of small order).
    #[error("the public key cannot be sealed to")]
    BadKey,
}

/// Why sealed content could not be opened. It says nothing about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Sealed to another key.
    #[error("sealed to the key {sealed_to}, but this gateway's key is {own}")]
    OtherRecipient {
        /// Digest of the key it names.
        sealed_to: Digest,
        /// Digest of ours.
        own: Digest,
    },
    /// Not base64, too short or too long.
    #[error("the sealed content is malformed")]
    Malformed,
    /// Tampered with, or sealed under another label.
    #[error("the sealed content does not open: it was altered or sealed for another purpose")]
    Refused,
}

/// Why a private key could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file.
    #[error("cannot use the gateway's sealing key")]
    File(#[from] PrivateFileError),
    /// Its content.
    #[error("the gateway's sealing key file does not hold 32 bytes in base64")]
    Malformed,
}

/// The text is not the base64 of a 32-byte X25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an X25519 public key: expected the base64 of 32 bytes")]
pub struct PublicKeyError;

/// An X25519 public key (RFC 7748). Text form: standard base64 of its 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its digest, which people compare and [`Sealed::recipient`] carries.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    fn for_hpke(&self) -> Result<<Kem as hpke::Kem>::PublicKey, SealError> {
        <Kem as hpke::Kem>::PublicKey::from_bytes(&self.0).map_err(|_| SealError::BadKey)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl std::str::FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = BASE64.decode(text).map_err(|_| PublicKeyError)?;
        bytes.try_into().map(Self).map_err(|_| PublicKeyError)
    }
}

/// The gateway's private key. It is never printed and is wiped when dropped.
pub struct PrivateKey {
    secret: <Kem as hpke::Kem>::PrivateKey,
    public: PublicKey,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey(of {})", self.public)
    }
}

impl PrivateKey {
    /// A new key from the system's random number generator.
    pub fn generate() -> Self {
        let (secret, public) = Kem::gen_keypair();
        Self {
            secret,
            public: PublicKey(public.to_bytes().into()),
        }
    }

    /// The key in `path`; it must be readable by its owner alone.
    ///
    /// # Errors
    /// When the file cannot be read, is open to others, or holds no key.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = files::read_private(path, KEY_FILE_LIMIT, Readers::OwnerOnly)?;
        let bytes = BASE64
            .decode(text.expose_secret().trim_ascii())
            .map(Secret::new)
            .map_err(|_| KeyFileError::Malformed)?;
        let secret = <Kem as hpke::Kem>::PrivateKey::from_bytes(bytes.expose_secret())
            .map_err(|_| KeyFileError::Malformed)?;
        let public = PublicKey(Kem::sk_to_pk(&secret).to_bytes().into());
        Ok(Self { secret, public })
    }

    /// Writes the key to `path`, mode 0600, durably; replaces what is there.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let bytes = Secret::new(self.secret.to_bytes().to_vec());
        let text = Secret::new(BASE64.encode(bytes.expose_secret()));
        Ok(files::write_private(path, text.expose_secret().as_bytes())?)
    }

    /// The key in `path`, made and saved first when there is none.
    ///
    /// # Errors
    /// As [`PrivateKey::load`] and [`PrivateKey::save`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        match Self::load(path) {
            Err(KeyFileError::File(e)) if e.is_missing() => {
                let key = Self::generate();
                key.save(path)?;
                Ok(key)
            }
            other => other,
        }
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Opens what was sealed to this key under `label`.
    ///
    /// # Errors
    /// When it was sealed to another key or under another label, or is not as it was sealed.
    pub fn open(&self, sealed: &Sealed, label: &str) -> Result<Secret<Vec<u8>>, UnsealError> {
        let own = self.public.digest();
        if sealed.recipient != own {
            return Err(UnsealError::OtherRecipient {
                sealed_to: sealed.recipient,
                own,
            });
        }
        if sealed.ciphertext.len() > (MAX_CONTENT + TAG).div_ceil(3) * 4 {
            return Err(UnsealError::Malformed);
        }
        let enc = BASE64.decode(&sealed.enc).map_err(|_| UnsealError::Malformed)?;
        let ciphertext = BASE64
            .decode(&sealed.ciphertext)
            .map_err(|_| UnsealError::Malformed)?;
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&enc).map_err(|_| UnsealError::Malformed)?;
        let plaintext = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.secret,
            &enc,
            label.as_bytes(),
            &ciphertext,
            b"",
        )
        .map(Secret::new)
        .map_err(|_| UnsealError::Refused)?;
        if Digest::of(plaintext.expose_secret()) == sealed.digest {
            Ok(plaintext)
        } else {
            Err(UnsealError::Refused)
        }
    }
}

/// Seals `plaintext` to `to` under `label`. Two seals of one text differ in everything but their digest.
///
/// # Errors
/// When the content is too long or the key is not usable.
pub fn seal(to: &PublicKey, label: &str, plaintext: &[u8]) -> Result<Sealed, SealError> {
    if plaintext.len() > MAX_CONTENT {
        return Err(SealError::TooLong(plaintext.len()));
    }
    let (enc, ciphertext) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeS::Base,
        &to.for_hpke()?,
        label.as_bytes(),
        plaintext,
        b"",
    )
    .map_err(|_| SealError::BadKey)?;
    Ok(Sealed {
        recipient: to.digest(),
        enc: BASE64.encode(enc.to_bytes()),
        ciphertext: BASE64.encode(ciphertext),
        digest: Digest::of(plaintext),
    })
}

#[cfg(test)]
mod tests;
