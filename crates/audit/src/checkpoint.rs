//! Checkpoints (C2SP tlog-checkpoint v1.0.0): what a log says it is, in three lines that it signs.
//!
//! Pure text and keys. Our own checkpoints carry no extension lines, and one that has any is refused, because
//! nobody could check what they say.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    note::{self, Note, NoteError, SigningKey, VerifyingKey},
    tree::Hash,
};

/// A log's state: so many entries, with this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, unique in the world; a schema-less URL by custom.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The RFC 6962 root over them.
    pub root: Hash,
}

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it is malformed, unsigned or forged.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not a checkpoint.
    #[error("not a checkpoint: {0}")]
    Form(&'static str),
}

/// Whether `origin` can stand in a checkpoint's first line (and, as ours are used, as a key name).
pub(crate) fn is_origin(origin: &str) -> bool {
    (1..=256).contains(&origin.len())
        && origin
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && c != '+')
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_note_body(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root.as_bytes())
        )
    }

    /// Reads the text that is signed.
    ///
    /// # Errors
    /// When it is not exactly an origin, a size without leading zeroes and a root.
    pub fn from_note_body(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) = (
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
        ) else {
            return Err(CheckpointError::Form("it is three lines: origin, size and root"));
        };
        if !is_origin(origin) {
            return Err(CheckpointError::Form("its origin is empty or has spaces or `+`"));
        }
        let number: u64 = size
            .parse()
            .map_err(|_| CheckpointError::Form("its size is not a number"))?;
        if number.to_string() != size {
            return Err(CheckpointError::Form("its size is not written in the one way"));
        }
        let bytes = STANDARD.decode(root).ok();
        let root = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        Ok(Self {
            origin: origin.to_owned(),
            size: number,
            root: Hash::from_bytes(root.ok_or(CheckpointError::Form("its root is not 32 bytes in base64"))?),
        })
    }

    /// Reads a signed checkpoint without checking its signatures: it says, but nobody vouches.
    ///
    /// # Errors
    /// When it is not a note, or its text is not a checkpoint.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        Self::from_note_body(Note::parse(note)?.text())
    }

    /// Signs it: the whole note, ready to publish.
    ///
    /// # Errors
    /// When the origin cannot stand in a note.
    pub fn sign(&self, key: &SigningKey) -> Result<String, CheckpointError> {
        if !is_origin(&self.origin) {
            return Err(CheckpointError::Form("its origin is empty or has spaces or `+`"));
        }
        Ok(note::sign(&self.to_note_body(), key)?)
    }

    /// Reads a signed checkpoint and checks that `key` signed it.
    ///
    /// # Errors
    /// When it is malformed, not signed by `key`, or the signature does not fit.
    pub fn verify(note: &str, key: &VerifyingKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        note.verify(key)?;
        Self::from_note_body(note.text())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree;

    #[test]
    fn the_example_of_the_standard_reads_and_prints_back() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— \
            example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
        let read = Checkpoint::parse(text).unwrap();
        assert_eq!(read.size, 20_852_163);
        assert!(text.starts_with(&read.to_note_body()));
    }

    #[test]
    fn a_signed_checkpoint_verifies_and_a_changed_one_does_not() {
        let key = SigningKey::generate("example.org/log").unwrap();
        let checkpoint = Checkpoint {
            origin: "example.org/log".into(),
            size: 7,
            root: tree::empty_root(),
        };
        let note = checkpoint.sign(&key).unwrap();
        assert_eq!(
            Checkpoint::verify(&note, &key.verifying_key()).unwrap(),
            checkpoint
        );
        let changed = note.replacen("\n7\n", "\n8\n", 1);
        assert!(Checkpoint::verify(&changed, &key.verifying_key()).is_err());
    }

    #[test]
    fn other_ways_to_write_the_same_checkpoint_are_refused() {
        let root = STANDARD.encode([1_u8; 32]);
        for bad in [
            format!("o\n01\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n1\n{root}\nextension\n"),
            format!("\n1\n{root}\n"),
            format!("a b\n1\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n1\n{root}"),
            "o\n1\nAAAA\n".to_owned(),
        ] {
            assert!(Checkpoint::from_note_body(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_prints_or_refused(text in "[a-z]{0,3}\n[0-9]{0,20}\n[A-Za-z0-9+/=]{0,44}\n") {
            if let Ok(read) = Checkpoint::from_note_body(&text) {
                prop_assert_eq!(read.to_note_body(), text);
            }
        }
    }
}
