//! Proofs that stand alone (C2SP tlog-proof): one entry's place in a log, its path to the root, and the checkpoint
//! with its cosignatures. Whoever has the leaf and a policy needs nothing else to believe it.
//!
//! Ours carry the leaf itself as the format's extra data, so that one file is enough. Pure.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    entry::MAX_LEAF_BYTES,
    note::MAX_NOTE_BYTES,
    policy::{Distrust, Policy, Vouched},
    tree::{self, Hash, Hashes},
};

/// The first line.
pub const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// A path is at most so long: one hash for each level of a tree of 2^64 leaves.
const MAX_HASHES: usize = 64;
/// A longer proof is refused unread: the longest leaf in base64, a path, a note.
pub const MAX_PROOF_BYTES: usize = MAX_LEAF_BYTES * 4 / 3 + MAX_HASHES * 45 + MAX_NOTE_BYTES + 256;

/// Why a proof was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It does not have the form of the standard.
    #[error("not a proof: {0}")]
    Form(&'static str),
    /// Its checkpoint is not good enough.
    #[error("the proof's checkpoint is not to be believed: {0}")]
    Checkpoint(#[from] Distrust),
    /// The path does not lead from this leaf to the checkpoint's root.
    #[error(
        "entry {index} with this content is not in the log of {size} entries that the checkpoint is signed over"
    )]
    NotIncluded {
        /// Its index, as the proof says.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
}

/// Why a proof could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError<E: std::error::Error + 'static> {
    /// The checkpoint does not cover the entry.
    #[error("entry {index} is not below {size}, the size of the checkpoint")]
    NotCovered {
        /// The entry.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// It is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A hash of the tree could not be had.
    #[error("a hash of the tree cannot be had")]
    Hashes(#[source] E),
}

/// A proof that an entry is in a log. What it says is nothing until [`Proof::verify`] has agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Extra data; ours is the leaf.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// The path, the leaf's sibling first.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

impl Proof {
    /// Makes the proof of entry `index` with this leaf, against a signed checkpoint, from hashes of the tree.
    ///
    /// # Errors
    /// When the checkpoint is none or does not cover the entry, or a hash cannot be had.
    pub fn make<H: Hashes>(
        hashes: &H,
        index: u64,
        leaf: &[u8],
        checkpoint: &str,
    ) -> Result<Self, MakeError<H::Error>>
    where
        H::Error: std::error::Error + 'static,
    {
        let size = Checkpoint::parse(checkpoint)?.size;
        let path = tree::inclusion_proof(hashes, index, size).map_err(MakeError::Hashes)?;
        Ok(Self {
            extra: Some(leaf.to_vec()),
            index,
            hashes: path.ok_or(MakeError::NotCovered { index, size })?,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// When it does not have the form of the standard, to the byte.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let form = |why| ProofError::Form(why);
        if text.len() > MAX_PROOF_BYTES {
            return Err(form("it is too long"));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(form("it has no empty line"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(MAGIC) {
            return Err(form("it does not begin with `c2sp.org/tlog-proof@v1`"));
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.and_then(|line| line.strip_prefix("extra "));
        let extra = extra.map(|data| STANDARD.decode(data)).transpose();
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.ok_or(form("it has no index"))?;
        let number: u64 = index.parse().map_err(|_| form("its index is not a number"))?;
        if number.to_string() != index {
            return Err(form("its index is not written in the one way"));
        }
        let hashes: Vec<Hash> = lines
            .take(MAX_HASHES + 1)
            .map(parse_hash)
            .collect::<Result<_, _>>()?;
        if hashes.len() > MAX_HASHES {
            return Err(form("its path is too long"));
        }
        Checkpoint::parse(checkpoint).map_err(|_| form("it does not end with a checkpoint"))?;
        Ok(Self {
            extra: extra.map_err(|_| form("its extra data is not base64"))?,
            index: number,
            hashes,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks that `leaf` is the entry that this proof is about, and that the policy believes its checkpoint.
    ///
    /// # Errors
    /// When it does not, or the path does not lead to the checkpoint's root.
    pub fn verify(&self, leaf: &[u8], policy: &Policy) -> Result<Vouched, ProofError> {
        let vouched = policy.check(&self.checkpoint)?;
        let Checkpoint { size, root, .. } = &vouched.checkpoint;
        let leaf = tree::leaf_hash(leaf);
        if tree::verify_inclusion(&leaf, self.index, *size, &self.hashes, root) {
            return Ok(vouched);
        }
        Err(ProofError::NotIncluded {
            index: self.index,
            size: *size,
        })
    }
}

fn parse_hash(line: &str) -> Result<Hash, ProofError> {
    let bytes = STANDARD.decode(line).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes
        .map(Hash::from_bytes)
        .ok_or(ProofError::Form("a hash of its path is not 32 bytes in base64"))
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", STANDARD.encode(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{note::SigningKey, tree::CompactRange};

    /// A proof in the tree of three leaves, and the policy that believes its log.
    fn proof() -> (Proof, Policy) {
        let key = SigningKey::from_bytes("example.org/log", &[5; 32]).unwrap();
        let mut tree = CompactRange::new();
        for leaf in ["a", "b", "c"] {
            tree.push(tree::leaf_hash(leaf.as_bytes()));
        }
        let checkpoint = Checkpoint {
            origin: "example.org/log".into(),
            size: 3,
            root: tree.root(),
        };
        let proof = Proof {
            extra: Some(b"b".to_vec()),
            index: 1,
            hashes: vec![tree::leaf_hash(b"a"), tree::leaf_hash(b"c")],
            checkpoint: checkpoint.sign(&key).unwrap(),
        };
        (proof, Policy::of_log(key.verifying_key()))
    }

    #[test]
    fn a_proof_reads_back_and_verifies_for_its_own_leaf_alone() {
        let (proof, policy) = proof();
        let read = Proof::parse(&proof.to_string()).unwrap();
        assert_eq!(read, proof);
        assert_eq!(read.verify(b"b", &policy).unwrap().checkpoint.size, 3);
        assert_eq!(
            read.verify(b"a", &policy),
            Err(ProofError::NotIncluded { index: 1, size: 3 })
        );
        let stranger = SigningKey::from_bytes("example.org/log", &[6; 32]).unwrap();
        let other = Policy::of_log(stranger.verifying_key());
        assert!(matches!(
            read.verify(b"b", &other),
            Err(ProofError::Checkpoint(_))
        ));
    }

    #[test]
    fn the_text_is_that_of_the_standard() {
        let (proof, _) = proof();
        let text = proof.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(&lines[..3], ["c2sp.org/tlog-proof@v1", "extra Yg==", "index 1"]);
        assert_eq!((lines[5], lines[6]), ("", "example.org/log"));
        let bare = Proof { extra: None, ..proof };
        assert_eq!(Proof::parse(&bare.to_string()).unwrap(), bare);
    }

    #[test]
    fn other_ways_to_write_a_proof_are_refused() {
        let (proof, _) = proof();
        let text = proof.to_string();
        for (from, to) in [
            ("@v1", "@v2"),
            ("index 1", "index 01"),
            ("index 1", "index -1"),
            ("index 1", "index 1 "),
            ("index 1\n", ""),
            ("extra Yg==", "extra Yg"),
            ("extra Yg==", "extra Yh=="),
            ("\n\n", "\n"),
            ("example.org/log\n3", "example.org/log\n03"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            assert!(Proof::parse(&bad).is_err(), "{from} -> {to}");
        }
        let long = proof.hashes[0];
        let long = Proof {
            hashes: vec![long; 65],
            ..proof
        };
        assert!(Proof::parse(&long.to_string()).is_err());
    }

    #[test]
    fn no_changed_byte_of_a_proof_that_is_not_extra_survives() {
        let (proof, policy) = proof();
        let text = proof.to_string();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let read = String::from_utf8(bytes)
                    .ok()
                    .and_then(|text| Proof::parse(&text).ok());
                let holds = read.is_some_and(|read| {
                    let leaf = read.extra.clone().unwrap_or_default();
                    read.verify(&leaf, &policy).is_ok()
                });
                assert!(!holds, "byte {at}, bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_prints_or_refused(text in "c2sp.org/tlog-proof@v1\n(extra [A-Za-z=]{0,4}\n)?index [0-9]{1,2}\n([A-Za-z0-9+/]{42}[AEI]=\n){0,2}\n[a-z]\n[0-9]\n[A-Za-z0-9+/]{42}[AEI]=\n\n— [a-z] [A-Z]{8}\n") {
            if let Ok(read) = Proof::parse(&text) {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
