//! The runner's few files: the last wanted state, and what must be remembered of each cage.
//!
//! Each is written beside and renamed over, so that a reader finds the old one or the new one, whole.

use std::{collections::BTreeMap, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use clawstaff_api::nodes::RunnerState;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{memory::Memory, record::Late};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The content.
    #[error("{path} does not hold what it should: {source}")]
    Content {
        /// Which file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What is remembered across restarts of the runner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// By cage.
    pub(crate) cages: BTreeMap<String, Memory>,
    /// What happened while it could not be recorded.
    pub(crate) late: Vec<Late>,
}

/// The runner's folder.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn load_state(&self) -> Result<Option<RunnerState>, FileError> {
        self.load("state.json")
    }

    pub(crate) fn save_state(&self, state: &RunnerState) -> Result<(), FileError> {
        self.save("state.json", state)
    }

    pub(crate) fn load_kept(&self) -> Result<Option<Kept>, FileError> {
        self.load("cages.json")
    }

    pub(crate) fn save_kept(&self, kept: &Kept) -> Result<(), FileError> {
        self.save("cages.json", kept)
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FileError> {
        let path = self.folder.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(FileError::Io {
                    path: path.display().to_string(),
                    source,
                });
            }
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| FileError::Content {
                path: path.display().to_string(),
                source,
            })
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), FileError> {
        let path = self.folder.join(name);
        let bytes = serde_json::to_vec(value).map_err(|source| FileError::Content {
            path: path.display().to_string(),
            source,
        })?;
        let beside = self.folder.join(format!("{name}.new"));
        let write = || {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|source| FileError::Io {
            path: path.display().to_string(),
            source,
        })
    }
}
