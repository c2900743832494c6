//! Making a bundle out of the published form of logs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::{
    Files, Line, MANIFEST, MAX_ENTRIES, Manifest, README, SUMS, in_log, is_folder, proof_path, sums,
};
use crate::{
    entry::Entry,
    policy::{Distrust, Policy},
    proof::{MakeError, Proof},
    published::{Published, TileHashes, TileMissing},
    tree,
};

/// Why no bundle could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeBundleError {
    /// The log's folder in the bundle has an impossible name, or one that is there already.
    #[error("`{0}` cannot be the name of a log in the bundle")]
    Name(String),
    /// The policy is none.
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
    /// The checkpoint is not one that the policy believes.
    #[error("the checkpoint is not to be believed: {0}")]
    Checkpoint(#[from] Distrust),
    /// An entry is not one.
    #[error("entry {index} is {why}")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        why: String,
    },
    /// Tiles or entries are missing.
    #[error("the log's files do not suffice: {0}")]
    Tiles(#[from] TileMissing),
    /// The tiles contradict the checkpoint.
    #[error("the log does not prove its own entry {index}: {why}; verify the log first")]
    Proof {
        /// Which entry.
        index: u64,
        /// Why.
        why: String,
    },
    /// Too many entries were selected.
    #[error("more than {MAX_ENTRIES} entries of one log were selected; narrow the selection")]
    TooMany,
    /// Nothing was selected.
    #[error("no entry was selected")]
    Nothing,
}

/// How many entries of a log went into a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selected {
    /// Entries selected.
    pub entries: usize,
    /// Entries that the checkpoint covers.
    pub of: u64,
}

/// A bundle being made.
#[derive(Debug, Default)]
pub struct Bundler {
    files: Files,
    logs: BTreeSet<String>,
}

impl Bundler {
    /// Adds the entries of a log that `select` chooses, proved against `checkpoint`, which `policy` must believe.
    /// A log of which nothing is chosen is left out.
    ///
    /// # Errors
    /// See [`MakeBundleError`].
    pub fn add_log(
        &mut self,
        name: &str,
        published: &Published,
        checkpoint: &str,
        policy: &str,
        select: &mut dyn FnMut(u64, &Entry) -> bool,
    ) -> Result<Selected, MakeBundleError> {
        if !is_folder(name) || self.logs.contains(name) {
            return Err(MakeBundleError::Name(name.to_owned()));
        }
        let known = Policy::parse(policy)?;
        let stated = known.check(checkpoint)?.checkpoint;
        let leaves = selected(published, stated.size, select)?;
        let chosen = Selected {
            entries: leaves.len(),
            of: stated.size,
        };
        if leaves.is_empty() {
            return Ok(chosen);
        }
        let hashes = TileHashes::new(published, stated.size);
        let mut events = Vec::new();
        for (index, leaf) in &leaves {
            let proof = prove(&hashes, *index, leaf, checkpoint)?;
            proof
                .verify(leaf, &known)
                .map_err(|error| MakeBundleError::Proof {
                    index: *index,
                    why: error.to_string(),
                })?;
            self.files
                .insert(proof_path(name, *index), proof.to_string().into_bytes());
            events.extend(line(*index, leaf)?);
        }
        // The root's tiles too, so that the tiles alone lead to the checkpoint.
        tree::root_of(&hashes, stated.size)?;
        for (tile, bytes) in hashes.into_used() {
            self.files.insert(in_log(name, &tile.to_string()), bytes);
        }
        let key = known.logs().iter().find(|log| log.key.name() == stated.origin);
        let key = key.map(|log| format!("{}\n", log.key)).unwrap_or_default();
        for (file, bytes) in [
            ("checkpoint", checkpoint.as_bytes().to_vec()),
            ("policy", policy.as_bytes().to_vec()),
            ("vkey", key.into_bytes()),
            ("events.jsonl", events),
        ] {
            self.files.insert(in_log(name, file), bytes);
        }
        self.logs.insert(name.to_owned());
        Ok(chosen)
    }

    /// The bundle. `selected_by` says by what the entries were selected, for people.
    ///
    /// # Errors
    /// When nothing was selected.
    pub fn finish(mut self, selected_by: BTreeMap<String, String>) -> Result<Files, MakeBundleError> {
        if self.logs.is_empty() {
            return Err(MakeBundleError::Nothing);
        }
        let manifest = Manifest {
            v: 1,
            logs: self.logs.into_iter().collect(),
            selected_by,
        };
        let manifest = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        self.files.insert(MANIFEST.to_owned(), manifest);
        self.files
            .insert(README.to_owned(), include_bytes!("readme.txt").to_vec());
        let sums = sums(&self.files);
        self.files.insert(SUMS.to_owned(), sums.into_bytes());
        Ok(self.files)
    }
}

fn selected(
    published: &Published,
    size: u64,
    select: &mut dyn FnMut(u64, &Entry) -> bool,
) -> Result<Vec<(u64, Vec<u8>)>, MakeBundleError> {
    let mut leaves = Vec::new();
    let mut failed = None;
    published.leaves(published.first(), size, &mut |index, leaf| {
        match Entry::parse(leaf) {
            Ok(entry) if select(index, &entry) => leaves.push((index, leaf.to_vec())),
            Ok(_) => {}
            Err(error) => {
                let why = error.to_string();
                failed = Some(MakeBundleError::Entry { index, why });
            }
        }
        failed.is_none() && leaves.len() <= MAX_ENTRIES
    })?;
    match failed {
        Some(error) => Err(error),
        None if leaves.len() > MAX_ENTRIES => Err(MakeBundleError::TooMany),
        None => Ok(leaves),
    }
}

fn prove(
    hashes: &TileHashes<'_, Published>,
    index: u64,
    leaf: &[u8],
    checkpoint: &str,
) -> Result<Proof, MakeBundleError> {
    Proof::make(hashes, index, leaf, checkpoint).map_err(|error| match error {
        MakeError::Hashes(missing) => MakeBundleError::Tiles(missing),
        MakeError::NotCovered { .. } | MakeError::Checkpoint(_) => MakeBundleError::Proof {
            index,
            why: error.to_string(),
        },
    })
}

/// A line of `events.jsonl`, with its newline.
fn line(index: u64, leaf: &[u8]) -> Result<Vec<u8>, MakeBundleError> {
    let bad = |error: serde_json::Error| MakeBundleError::Entry {
        index,
        why: error.to_string(),
    };
    let raw: &RawValue = serde_json::from_slice(leaf).map_err(bad)?;
    let line = Line {
        index,
        leaf_hash: tree::leaf_hash(leaf),
        leaf: raw,
    };
    let mut bytes = serde_json::to_vec(&line).map_err(bad)?;
    bytes.push(b'\n');
    Ok(bytes)
}
