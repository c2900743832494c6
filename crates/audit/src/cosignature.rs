//! Cosignatures (C2SP tlog-cosignature, `cosignature/v1`): a witness says that at this time, this was the largest
//! checkpoint it had seen of the log, and that it extends every other one it had seen.
//!
//! The same Ed25519 key may sign a log's own checkpoints and cosign another's: the message begins with a line
//! that no checkpoint of ours can begin with, and the key id has another type byte. Pure.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use jiff::Timestamp;

use crate::note::{
    MAX_SIGNATURES, Note, NoteError, SignatureType, SigningKey, VerifyingKey, key_id, parse_vkey, print_vkey,
    signature_line,
};

/// Checks the cosignatures of one witness. Text form: a vkey of type 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigner {
    name: String,
    public: [u8; 32],
}

impl Cosigner {
    /// What checks the cosignatures that the owner of this key makes.
    pub fn of(key: &VerifyingKey) -> Self {
        Self {
            name: key.name().to_owned(),
            public: *key.public(),
        }
    }

    /// Reads `name+hash+base64(0x04 || public key)`.
    ///
    /// # Errors
    /// When the text has another form, the key another type, or the hash belongs to another key.
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        let (name, public) = parse_vkey(vkey, SignatureType::Cosignature)?;
        Ok(Self { name, public })
    }

    /// The name under which it cosigns.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        key_id(&self.name, SignatureType::Cosignature, &self.public)
    }

    /// Checks that this witness cosigned the note's text, and gives the (last) time at which it says it did.
    ///
    /// # Errors
    /// When there is no cosignature by it, or one that does not fit.
    pub fn verify(&self, note: &Note) -> Result<Timestamp, NoteError> {
        let mut newest = None;
        for line in note.lines_of(&self.name, self.id()) {
            let forged = || NoteError::Forged(self.name.clone());
            let (time, signature) = line.bytes.split_first_chunk::<8>().ok_or_else(forged)?;
            let seconds = u64::from_be_bytes(*time);
            let time = i64::try_from(seconds).map_err(|_| forged())?;
            let time = Timestamp::from_second(time).map_err(|_| forged())?;
            UnparsedPublicKey::new(&ED25519, &self.public)
                .verify(message(seconds, note.text()).as_bytes(), signature)
                .map_err(|_| forged())?;
            newest = newest.max(Some(time));
        }
        newest.ok_or_else(|| NoteError::Unsigned(self.name.clone()))
    }
}

impl fmt::Display for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print_vkey(&self.name, SignatureType::Cosignature, &self.public))
    }
}

/// What is signed.
fn message(seconds: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

/// The cosignature line of `key` over the text of a checkpoint, with its newline.
///
/// Check first that the checkpoint extends what was cosigned before: this signs whatever the text says.
///
/// # Errors
/// When the time is before 1970.
pub fn cosign_line(text: &str, key: &SigningKey, time: Timestamp) -> Result<String, NoteError> {
    let seconds = u64::try_from(time.as_second()).map_err(|_| NoteError::Form("its time is before 1970"))?;
    let cosigner = Cosigner::of(&key.verifying_key());
    let mut signature = seconds.to_be_bytes().to_vec();
    signature.extend(key.sign_bytes(message(seconds, text).as_bytes()));
    Ok(signature_line(&cosigner.name, cosigner.id(), &signature))
}

/// Adds the cosignature of `key` to a signed checkpoint. See [`cosign_line`].
///
/// # Errors
/// When the note has not the form of one, has as many signatures as it may, or this key's already.
pub fn cosign(note: &str, key: &SigningKey, time: Timestamp) -> Result<String, NoteError> {
    let parsed = Note::parse(note)?;
    if parsed.line_count() >= MAX_SIGNATURES {
        return Err(NoteError::Form("it has too many signatures"));
    }
    let cosigner = Cosigner::of(&key.verifying_key());
    if parsed.lines_of(&cosigner.name, cosigner.id()).next().is_some() {
        return Err(NoteError::SignedAlready(cosigner.name));
    }
    Ok(format!("{note}{}", cosign_line(parsed.text(), key, time)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::note;

    fn keys() -> (SigningKey, SigningKey) {
        (
            SigningKey::from_bytes("example.org/log", &[1; 32]).unwrap(),
            SigningKey::from_bytes("example.org/witness", &[2; 32]).unwrap(),
        )
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_cosignature_says_when_and_leaves_the_log_s_signature_valid() {
        let (log, witness) = keys();
        let cosigner = Cosigner::of(&witness.verifying_key());
        let signed = note::sign("origin\n3\nroot\n", &log).unwrap();
        let both = cosign(&signed, &witness, at(1_679_315_147)).unwrap();
        let parsed = Note::parse(&both).unwrap();
        parsed.verify(&log.verifying_key()).unwrap();
        assert_eq!(cosigner.verify(&parsed), Ok(at(1_679_315_147)));
        assert_eq!(
            cosign(&both, &witness, at(2)),
            Err(NoteError::SignedAlready("example.org/witness".into()))
        );
        let unsigned = NoteError::Unsigned("example.org/witness".into());
        assert_eq!(
            cosigner.verify(&Note::parse(&signed).unwrap()),
            Err(unsigned.clone())
        );
        // A plain signature by the same key is no cosignature, and the other way round.
        let plain = note::sign("origin\n3\nroot\n", &witness).unwrap();
        assert_eq!(cosigner.verify(&Note::parse(&plain).unwrap()), Err(unsigned));
        assert!(parsed.verify(&witness.verifying_key()).is_err());
    }

    #[test]
    fn the_key_has_a_text_of_its_own_type() {
        let (log, witness) = keys();
        let cosigner = Cosigner::of(&witness.verifying_key());
        assert_eq!(Cosigner::parse(&cosigner.to_string()).unwrap(), cosigner);
        assert!(Cosigner::parse(&log.vkey()).is_err());
        assert!(VerifyingKey::parse(&cosigner.to_string()).is_err());
    }

    #[test]
    fn another_time_or_text_is_a_forgery() {
        let (log, witness) = keys();
        let cosigner = Cosigner::of(&witness.verifying_key());
        let line = cosign_line("origin\n3\nroot\n", &witness, at(5)).unwrap();
        let other = note::sign("origin\n4\nroot\n", &log).unwrap();
        let moved = Note::parse(&format!("{other}{line}")).unwrap();
        let forged = Err(NoteError::Forged("example.org/witness".into()));
        assert_eq!(cosigner.verify(&moved), forged);
        let short = signature_line(&cosigner.name, cosigner.id(), &[0; 7]);
        let short = Note::parse(&format!("{other}{short}")).unwrap();
        assert_eq!(cosigner.verify(&short), forged);
    }

    proptest! {
        #[test]
        fn no_changed_bit_of_a_cosignature_survives(bit in 0_usize..(72 * 8)) {
            let (log, witness) = keys();
            let cosigner = Cosigner::of(&witness.verifying_key());
            let signed = note::sign("origin\n3\nroot\n", &log).unwrap();
            let mut bytes = note::parse_line(cosign_line("origin\n3\nroot\n", &witness, at(7)).unwrap().trim_end()).unwrap().bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let line = signature_line(&cosigner.name, cosigner.id(), &bytes);
            let changed = Note::parse(&format!("{signed}{line}")).unwrap();
            prop_assert!(cosigner.verify(&changed).is_err());
        }
    }
}
