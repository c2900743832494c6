//! SHA-256 digests, printed as `sha256:<hex>`.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Parts of together no more bytes than this are hashed from the stack.
const SHORT_BYTES: usize = 256;
/// The same, for parts that are not that short. Clearing so much of the stack is still cheaper than the heap.
const MIDDLE_BYTES: usize = 1280;

/// A SHA-256 digest (FIPS 180-4). Text form: `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finished(&digest(&SHA256, bytes))
    }

    /// The digest of the concatenation of `parts`.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        // A context is made on the heap, which takes longer than copying the few bytes that most parts are.
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes <= SHORT_BYTES {
            Self::of_copied::<SHORT_BYTES>(parts)
        } else if bytes <= MIDDLE_BYTES {
            Self::of_copied::<MIDDLE_BYTES>(parts)
        } else {
            Self::of_long_parts(parts)
        }
    }

    fn of_copied<const N: usize>(parts: &[&[u8]]) -> Self {
        let mut copied = [0; N];
        let mut free = &mut copied[..];
        for part in parts {
            let Some((head, rest)) = free.split_at_mut_checked(part.len()) else {
                return Self::of_long_parts(parts);
            };
            head.copy_from_slice(part);
            free = rest;
        }
        let left = free.len();
        Self::of(copied.split_at(N - left).0)
    }

    fn of_long_parts(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        Self::finished(&context.finish())
    }

    fn finished(digest: &aws_lc_rs::digest::Digest) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// A digest that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str("sha256:")?;
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Reads from the text where it stands: there are several in every audit record.
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`sha256:` and 64 hex digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not `sha256:` and 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 hex digits")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.strip_prefix("sha256:").ok_or(DigestError)?;
        let mut out = [0; 32];
        hex::decode_to_slice(digits, &mut out).map_err(|_| DigestError)?;
        Ok(Self(out))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_have_the_digest_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..5000), at in any::<prop::sample::Index>()) {
            let (head, tail) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(Digest::of_parts(&[head, tail]), Digest::of(&bytes));
            prop_assert_eq!(Digest::of_parts(&[&[], &bytes, &[]]), Digest::of(&bytes));
        }

        #[test]
        fn digests_read_back_as_they_print(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string(), format!("sha256:{}", hex::encode(bytes)));
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }
    }
}
