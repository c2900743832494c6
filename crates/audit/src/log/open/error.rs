//! Why a log does not open, in words for the person who has to do something about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::CheckpointError,
    log::ReadError,
    scan::{Damage, ScanError},
};

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error("{doing} {path} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process (or handle) has it open.
    #[error("the audit log in {dir} is open already: a log has one writer")]
    Locked {
        /// Which directory.
        dir: PathBuf,
    },
    /// The origin cannot stand in a checkpoint.
    #[error("`{origin}` is not an origin: 1 to 256 bytes without spaces and `+`")]
    Origin {
        /// What was given.
        origin: String,
    },
    /// The directory holds a log of another name.
    #[error("the log in {dir} is `{found}`, not `{wanted}`")]
    OtherLog {
        /// Which directory.
        dir: PathBuf,
        /// Its origin.
        found: String,
        /// The origin asked for.
        wanted: String,
    },
    /// The log was signed with another key.
    #[error("the log in {dir} was signed with another key: {why}")]
    WrongKey {
        /// Which directory.
        dir: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A record that was durable once cannot be read or breaks a rule. Nothing was changed.
    #[error("the log is damaged: {path}, byte {offset}, entry {index}: {why}")]
    Damaged {
        /// The first entry concerned.
        index: u64,
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// In words.
        why: String,
    },
    /// The checkpoint file or the anchor cannot be read as a checkpoint of this log.
    #[error("{path} is not a checkpoint of this log")]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// The log lacks entries that it has signed for: an older copy was put back, or entries were removed.
    #[error("the log has {have} entries, but {path}, which it signed, says {signed}: it was rolled back")]
    RolledBack {
        /// Entries in the journal.
        have: u64,
        /// Entries signed for.
        signed: u64,
        /// The checkpoint that says so.
        path: PathBuf,
    },
    /// The first entries are others than those it has signed.
    #[error("the first {size} entries are not those that {path} was signed over: the log was rewritten")]
    Rewritten {
        /// How many.
        size: u64,
        /// The checkpoint that says so.
        path: PathBuf,
    },
    /// The log was pruned, and what it keeps of the entries that are gone cannot be used. Nothing was changed.
    #[error("the log was pruned, but {path} cannot be used: {why}")]
    Base {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// An intent that was just read cannot be read again.
    #[error("reading an intent without outcome failed")]
    Read(#[from] ReadError),
    /// A thread could not be started.
    #[error("starting a thread of the log failed")]
    Thread(#[source] io::Error),
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Io { path, source } => io_error("reading", &path)(source),
            ScanError::Damage(Damage {
                index,
                path,
                offset,
                text,
            }) => Self::Damaged {
                index,
                path,
                offset,
                why: text,
            },
        }
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
