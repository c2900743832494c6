//! A checkpoint that somebody kept, to hold the log against.

use std::path::{Path, PathBuf};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    disk::{Disk as _, RealDisk},
    note::{MAX_NOTE_BYTES, VerifyingKey},
};

/// A checkpoint that somebody kept, whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which one it is, for whoever reads the report: `the checkpoint in FILE`.
    pub name: String,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
}

/// Reads a checkpoint that you hold, for `from`: from a file with the note in it.
///
/// # Errors
/// When the file cannot be read, is no checkpoint, or (with a key) is not signed by it.
pub fn read_checkpoint(path: &Path, vkey: Option<&VerifyingKey>) -> Result<Checkpoint, HeldError> {
    let bytes = RealDisk
        .read(path, MAX_NOTE_BYTES as u64)
        .map_err(|source| HeldError::Read {
            path: path.to_owned(),
            source,
        })?;
    let text = String::from_utf8_lossy(&bytes);
    vkey.map_or_else(|| Checkpoint::parse(&text), |key| Checkpoint::verify(&text, key))
        .map_err(|source| HeldError::Checkpoint {
            path: path.to_owned(),
            source,
        })
}

/// Why a checkpoint that you hold could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// The file could not be read.
    #[error("reading {path} failed")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a checkpoint, or not signed as it should be.
    #[error("{path} is not a checkpoint to verify from")]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CheckpointError,
    },
}
