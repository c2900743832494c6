//! Signed notes (C2SP signed-note v1.0.0) with Ed25519 keys, and the keys themselves.
//!
//! A note is text, an empty line, and one signature line per signer. Checkpoints are notes; a cosignature
//! (`cosignature.rs`) is one more line, of another type. Nothing here knows what the text says.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawstaff_types::{Digest, Secret};
use zeroize::Zeroizing;

/// The signature types that we know: the byte in key ids and verifier keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureType {
    /// Over the note's text.
    Ed25519 = 0x01,
    /// Over the time and the note's text: a witness's cosignature.
    Cosignature = 0x04,
}

/// A note longer than this is refused unread. Sixteen signatures of any defined kind fit.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;
/// A note with more signature lines than this is refused.
pub const MAX_SIGNATURES: usize = 32;
/// A key name longer than this is refused.
const MAX_NAME_BYTES: usize = 256;

/// Why a key or a note was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The name is empty, too long, or has a space, a `+` or a control character.
    #[error("`{0}` is not a key name: 1 to 256 bytes without spaces, `+` and control characters")]
    Name(String),
    /// Not `name+hash+key`, or the hash does not belong to the key.
    #[error("not a verifier key: {0}")]
    VerifierKey(&'static str),
    /// The system gave no randomness, or the cryptographic library refused the key.
    #[error("making a signing key failed")]
    Key,
    /// The note does not have the form of the standard.
    #[error("not a signed note: {0}")]
    Form(&'static str),
    /// No signature line is by this key.
    #[error("no signature by `{0}`")]
    Unsigned(String),
    /// A signature line names this key, but the signature is not by it or not over this text.
    #[error("the signature by `{0}` does not fit the text")]
    Forged(String),
    /// A cosignature by this key is there already.
    #[error("`{0}` has signed already")]
    SignedAlready(String),
}

fn checked_name(name: &str) -> Result<(), NoteError> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
    if fits
        && name
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && c != '+')
    {
        Ok(())
    } else {
        let shown = name.chars().filter(|c| !c.is_control()).take(80).collect();
        Err(NoteError::Name(shown))
    }
}

/// `SHA-256(name || 0x0A || type || public key)`, its first four bytes.
pub(crate) fn key_id(name: &str, kind: SignatureType, public: &[u8; 32]) -> [u8; 4] {
    let digest = Digest::of_parts(&[name.as_bytes(), b"\n", &[kind as u8], public]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

/// Reads `name+hash+base64(type || public key)` of an Ed25519 key of this type.
pub(crate) fn parse_vkey(text: &str, kind: SignatureType) -> Result<(String, [u8; 32]), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::VerifierKey("it is `name+hash+key`"));
    };
    checked_name(name)?;
    let bytes = STANDARD
        .decode(key)
        .map_err(|_| NoteError::VerifierKey("the key is not base64"))?;
    let public = match (bytes.split_first(), kind) {
        (Some((first, public)), _) if *first == kind as u8 => public.try_into(),
        (_, SignatureType::Ed25519) => {
            return Err(NoteError::VerifierKey("the key is not of type Ed25519 (1)"));
        }
        (_, SignatureType::Cosignature) => {
            return Err(NoteError::VerifierKey("the key is not of a witness's type (4)"));
        }
    };
    let public = public.map_err(|_| NoteError::VerifierKey("the key does not have 32 bytes"))?;
    if hex::encode(key_id(name, kind, &public)) != hash {
        return Err(NoteError::VerifierKey("the hash does not belong to the key"));
    }
    Ok((name.to_owned(), public))
}

/// Writes what [`parse_vkey`] reads.
pub(crate) fn print_vkey(name: &str, kind: SignatureType, public: &[u8; 32]) -> String {
    let mut key = vec![kind as u8];
    key.extend_from_slice(public);
    let id = hex::encode(key_id(name, kind, public));
    format!("{name}+{id}+{}", STANDARD.encode(key))
}

/// A signature line with its newline: `— name base64(id || signature)`.
pub(crate) fn signature_line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    let bytes = [id.as_slice(), signature].concat();
    format!("— {name} {}\n", STANDARD.encode(bytes))
}

/// A named Ed25519 key that signs notes. The seed is wiped on drop and never printed.
pub struct SigningKey {
    name: String,
    seed: Secret<[u8; 32]>,
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl SigningKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// When the name is not a key name, or the system has no randomness.
    pub fn generate(name: &str) -> Result<Self, NoteError> {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| NoteError::Key)?;
        Self::from_bytes(name, &seed)
    }

    /// The key with this 32-byte seed (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// When the name is not a key name.
    pub fn from_bytes(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        checked_name(name)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Key)?;
        let public = pair.public_key().as_ref().try_into();
        Ok(Self {
            name: name.to_owned(),
            seed: Secret::new(*seed),
            pair,
            public: public.map_err(|_| NoteError::Key)?,
        })
    }

    /// The seed, to be stored where nobody else reads it.
    pub fn to_bytes(&self) -> Secret<[u8; 32]> {
        self.seed.clone()
    }

    /// The name under which it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that checks its signatures.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey {
            name: self.name.clone(),
            id: key_id(&self.name, SignatureType::Ed25519, &self.public),
            public: self.public,
        }
    }

    /// The raw Ed25519 signature over `message`.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// The verifier key as text: `name+hash+base64(0x01 || public key)`.
    pub fn vkey(&self) -> String {
        self.verifying_key().to_string()
    }

    /// A signature line over `text`, with its newline.
    fn line(&self, text: &str) -> String {
        let id = key_id(&self.name, SignatureType::Ed25519, &self.public);
        signature_line(&self.name, id, &self.sign_bytes(text.as_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, …)", self.vkey())
    }
}

/// A named Ed25519 key that checks signatures on notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

impl VerifyingKey {
    /// Reads `name+hash+base64(0x01 || public key)`.
    ///
    /// # Errors
    /// When the text has another form, the key another type, or the hash belongs to another key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, public) = parse_vkey(text, SignatureType::Ed25519)?;
        let id = key_id(&name, SignatureType::Ed25519, &public);
        Ok(Self { name, id, public })
    }

    /// The name under which it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key itself (RFC 8032).
    pub(crate) const fn public(&self) -> &[u8; 32] {
        &self.public
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print_vkey(&self.name, SignatureType::Ed25519, &self.public))
    }
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) name: String,
    pub(crate) id: [u8; 4],
    pub(crate) bytes: Vec<u8>,
}

/// A note as it was read: its form is right, its signatures are unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Reads a note and checks its form, not its signatures.
    ///
    /// # Errors
    /// When it is too long, has control characters, no empty line, no signature, or too many.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::Form("it is too long"));
        }
        if note.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(NoteError::Form("it has control characters"));
        }
        let at = note
            .rfind("\n\n")
            .ok_or(NoteError::Form("it has no empty line"))?;
        let (text, rest) = note.split_at(at + 1);
        let lines = rest.strip_prefix('\n').unwrap_or(rest);
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::Form("its last line does not end"))?;
        let signatures: Vec<_> = lines
            .split('\n')
            .take(MAX_SIGNATURES + 1)
            .map(parse_line)
            .collect::<Result<_, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Form("it has too many signatures"));
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The signed text, which ends in a newline. Means nothing until [`Note::verify`] has agreed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines by this name and key id, unchecked.
    pub(crate) fn lines_of(&self, name: &str, id: [u8; 4]) -> impl Iterator<Item = &Signature> {
        self.signatures
            .iter()
            .filter(move |signature| signature.name == name && signature.id == id)
    }

    /// How many signature lines it has.
    pub(crate) fn line_count(&self) -> usize {
        self.signatures.len()
    }

    /// The names on the signature lines, unchecked.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.name.as_str())
    }

    /// Checks that `key` signed the text. Signatures of other keys are ignored.
    ///
    /// # Errors
    /// When there is no signature by `key`, or one that does not fit.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), NoteError> {
        let mut found = false;
        for signature in self.lines_of(&key.name, key.id) {
            UnparsedPublicKey::new(&ED25519, &key.public)
                .verify(self.text.as_bytes(), &signature.bytes)
                .map_err(|_| NoteError::Forged(key.name.clone()))?;
            found = true;
        }
        if found {
            Ok(())
        } else {
            Err(NoteError::Unsigned(key.name.clone()))
        }
    }
}

pub(crate) fn parse_line(line: &str) -> Result<Signature, NoteError> {
    let body = line
        .strip_prefix("— ")
        .ok_or(NoteError::Form("a signature line does not start with a dash"))?;
    let (name, encoded) = body
        .split_once(' ')
        .ok_or(NoteError::Form("a signature line lacks its signature"))?;
    checked_name(name)?;
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| NoteError::Form("a signature is not base64"))?;
    let (id, bytes) = bytes
        .split_first_chunk::<4>()
        .ok_or(NoteError::Form("a signature is too short"))?;
    Ok(Signature {
        name: name.to_owned(),
        id: *id,
        bytes: bytes.to_vec(),
    })
}

/// Signs `text`, which must end in a newline, as a note with one signature.
///
/// # Errors
/// When the text is empty, does not end in a newline, or has other control characters.
pub fn sign(text: &str, key: &SigningKey) -> Result<String, NoteError> {
    if !text.ends_with('\n') || text.bytes().any(|b| b < 0x20 && b != b'\n') {
        return Err(NoteError::Form(
            "its text does not end in a newline or has control characters",
        ));
    }
    Ok(format!("{text}\n{}", key.line(text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the standard's own Go package, golang.org/x/mod/sumdb/note.
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what \
        your problem is.\n\n— PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_signed_by_the_reference_implementation_verifies() {
        let key = VerifyingKey::parse(PETER).unwrap();
        let note = Note::parse(NOTE).unwrap();
        note.verify(&key).unwrap();
        assert_eq!(key.to_string(), PETER);
        let changed = Note::parse(&NOTE.replace("answer", "Answer")).unwrap();
        assert_eq!(
            changed.verify(&key),
            Err(NoteError::Forged("PeterNeumann".into()))
        );
    }

    #[test]
    fn a_seed_gives_the_same_key_again_and_debug_hides_it() {
        let key = SigningKey::from_bytes("example.org/log", &[7; 32]).unwrap();
        let again = SigningKey::from_bytes("example.org/log", key.to_bytes().expose_secret()).unwrap();
        assert_eq!(key.vkey(), again.vkey());
        assert_eq!(VerifyingKey::parse(&key.vkey()).unwrap(), key.verifying_key());
        assert!(!format!("{key:?}").contains("[7, 7"));
        assert_ne!(
            SigningKey::generate("a").unwrap().vkey(),
            SigningKey::generate("a").unwrap().vkey()
        );
    }

    #[test]
    fn names_that_would_break_a_line_are_refused() {
        for bad in ["", "a b", "a+b", "a\nb", "a\u{2003}b", &"x".repeat(257)] {
            assert!(SigningKey::from_bytes(bad, &[1; 32]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn verifier_keys_with_a_wrong_hash_type_or_length_are_refused() {
        for bad in [
            "",
            "a",
            "a+b",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+BBpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc2QcUPDhM",
            "PeterNeumann+c74f20a3+***",
        ] {
            assert!(VerifyingKey::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Note::parse(&text);
            let _ = VerifyingKey::parse(&text);
            let _ = Note::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_single_changed_character_survives(at in 0_usize..160, with in "[ -~]") {
            let key = SigningKey::from_bytes("log", &[3; 32]).unwrap();
            let note = sign("origin\n12\nroot\n", &key).unwrap();
            let mut changed: Vec<char> = note.chars().collect();
            let at = at % changed.len();
            changed[at] = with.chars().next().unwrap();
            let changed: String = changed.into_iter().collect();
            if changed != note {
                let verdict = Note::parse(&changed).and_then(|n| n.verify(&key.verifying_key()));
                prop_assert!(verdict.is_err());
            }
        }
    }
}
