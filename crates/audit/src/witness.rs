//! What is said to an external witness and what it answers (C2SP tlog-witness v1.0.0, `add-checkpoint`): text only.
//!
//! ```text
//! POST PREFIX/add-checkpoint      old 17            the size that the witness cosigned last, 0 at first
//!                                 BASE64            the consistency proof from there, one hash a line
//!                                 …
//!                                                   an empty line, then the signed checkpoint
//! 200                             — name BASE64     its cosignatures over that checkpoint
//! 409 text/x.tlog.size            20                it has cosigned another size meanwhile: try again from there
//! ```
//!
//! Who sends it, when, and what a contradiction means is the caller's.

use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use crate::{
    cosignature::Cosigner,
    note::{MAX_NOTE_BYTES, Note, NoteError},
    tree::Hash,
};

/// The path below a witness's submission prefix.
pub const ADD_CHECKPOINT: &str = "add-checkpoint";
/// The longest proof that the standard allows.
pub const MAX_PROOF: usize = 63;

/// A request to cosign a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness has cosigned last, as far as we know.
    pub old: u64,
    /// That the checkpoint extends the tree of that size.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, a note.
    pub checkpoint: String,
}

/// The text is not a request or an answer of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// Another form.
    #[error("not a witness's protocol: {0}")]
    Form(&'static str),
    /// The cosignature is not the witness's, or over something else.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl AddCheckpoint {
    /// The request's body.
    pub fn to_body(&self) -> String {
        let lines = self
            .proof
            .iter()
            .flat_map(|hash| [STANDARD.encode(hash.as_bytes()), "\n".to_owned()]);
        let proof: String = lines.collect();
        format!("old {}\n{proof}\n{}", self.old, self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = WitnessError;

    fn from_str(body: &str) -> Result<Self, WitnessError> {
        let form = WitnessError::Form;
        let (head, checkpoint) = body
            .split_once("\n\n")
            .ok_or(form("there is no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old
            .and_then(decimal)
            .ok_or(form("the first line is `old` and a size"))?;
        let proof: Vec<Hash> = lines
            .take(MAX_PROOF + 1)
            .map(hash)
            .collect::<Option<_>>()
            .ok_or(form("a line of the proof is not 32 bytes in base64"))?;
        if proof.len() > MAX_PROOF || checkpoint.len() > MAX_NOTE_BYTES {
            return Err(form("it is too long"));
        }
        Ok(Self {
            old,
            proof,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

fn hash(line: &str) -> Option<Hash> {
    let bytes: [u8; 32] = STANDARD.decode(line).ok()?.try_into().ok()?;
    Some(Hash::from_bytes(bytes))
}

/// A number in the one way in which it is written.
fn decimal(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|number: &u64| number.to_string() == text)
}

/// The size in the body of a 409 answer.
///
/// # Errors
/// When it is none.
pub fn conflicting_size(body: &str) -> Result<u64, WitnessError> {
    let size = body.strip_suffix('\n').and_then(decimal);
    size.ok_or(WitnessError::Form("a conflict's body is a size"))
}

/// The signature lines of a 200 answer, once one of them is known to be this witness's over this checkpoint: lines
/// that may be added to the checkpoint, and the time that it says.
///
/// # Errors
/// When the body is not signature lines, has none by the witness, or one that does not fit.
pub fn cosignatures(
    body: &str,
    checkpoint: &str,
    witness: &Cosigner,
) -> Result<(String, Timestamp), WitnessError> {
    let text = Note::parse(checkpoint)?.text().to_owned();
    let note = Note::parse(&format!("{text}\n{body}"))?;
    let time = witness.verify(&note)?;
    // Lines of others are none of our business, and nobody has looked at them.
    let id = witness.id();
    let own = body.split_inclusive('\n').filter(|line| {
        let line = Note::parse(&format!("{text}\n{line}"));
        line.is_ok_and(|line| line.lines_of(witness.name(), id).next().is_some())
    });
    Ok((own.collect(), time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Checkpoint, SigningKey, cosignature::cosign_line, note, tree};

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_bytes(name, &[seed; 32]).unwrap()
    }

    fn checkpoint() -> String {
        let checkpoint = Checkpoint {
            origin: "example.org/log".into(),
            size: 3,
            root: tree::empty_root(),
        };
        checkpoint.sign(&key("example.org/log", 1)).unwrap()
    }

    #[test]
    fn the_request_is_the_one_of_the_standard() {
        let request = AddCheckpoint {
            old: 17,
            proof: vec![Hash::from_bytes([0; 32])],
            checkpoint: checkpoint(),
        };
        let body = request.to_body();
        let expected = "old 17\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nexample.org/log\n3\n";
        assert!(body.starts_with(expected), "{body}");
        assert_eq!(body.parse::<AddCheckpoint>().unwrap(), request);
        for bad in [
            body.replace("old 17", "old 017"),
            body.replace("old 17", "size 17"),
            body.replace("AAA=", "AA=="),
            format!(
                "old 1\n{}\n{}",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(64),
                checkpoint()
            ),
        ] {
            assert!(bad.parse::<AddCheckpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_witness_s_own_good_lines_are_taken() {
        let (note, witness, other) = (checkpoint(), key("w.example", 2), key("o.example", 3));
        let cosigner = Cosigner::of(&witness.verifying_key());
        let text = Note::parse(&note).unwrap().text().to_owned();
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        let line = cosign_line(&text, &witness, time).unwrap();
        let others = cosign_line(&text, &other, time).unwrap();
        let both = format!("{others}{line}");
        assert_eq!(
            cosignatures(&both, &note, &cosigner).unwrap(),
            (line.clone(), time)
        );
        let elsewhere = cosign_line("other\n3\nroot\n", &witness, time).unwrap();
        let plain = note::sign("example.org/log\n3\n", &witness).unwrap();
        for bad in [others.as_str(), &elsewhere, "", "\n", &plain, &format!("{line}x")] {
            assert!(cosignatures(bad, &note, &cosigner).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_conflict_names_one_size() {
        assert_eq!(conflicting_size("20\n").unwrap(), 20);
        for bad in ["", "20", "020\n", "20\n\n", "-1\n", "18446744073709551616\n"] {
            assert!(conflicting_size(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_as_it_prints_or_refused(body in "(old )?[0-9]{0,4}\n([A-Za-z0-9+/=]{44}\n){0,3}\n[a-z\n]{0,20}") {
            if let Ok(request) = body.parse::<AddCheckpoint>() {
                prop_assert_eq!(request.to_body(), body);
            }
        }
    }
}
