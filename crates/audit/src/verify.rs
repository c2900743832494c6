//! Verifies a log offline and trusts nothing in it: every hash, root, tile and rule is derived again.
//!
//! Used by `clawstaff audit verify`, by the tests as their oracle, and by strangers. It only reads. What it
//! cannot know is whether the end was cut off together with the checkpoint that spoke of it; for that, hand in
//! a checkpoint that you kept elsewhere (`from`).

mod held;
mod run;
#[cfg(test)]
mod tests;
mod tiles;

use std::path::{Path, PathBuf};

pub use self::held::{Held, HeldError, read_checkpoint};
use self::run::Verification;
use crate::{checkpoint::Checkpoint, log::Unfinished, note::VerifyingKey, tree::Hash};

/// What sort of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// A file cannot be read, or there is no log.
    Unreadable,
    /// A record of the journal is changed, missing, out of place, or breaks a rule.
    Damaged,
    /// Bytes after the last whole batch: an interrupted write that opening cuts off, or a change.
    InterruptedWrite,
    /// The key file is not a key, or not the one you hold.
    Key,
    /// A checkpoint is malformed, unsigned or of another log.
    Checkpoint,
    /// There are fewer entries than a checkpoint was signed over.
    RolledBack,
    /// The entries are not those that a checkpoint was signed over.
    Rewritten,
    /// What the log has written down of itself, for opening or when it was pruned, is not what its entries give.
    State,
    /// A tile or entry bundle is not what the journal says, is missing, or should not be there.
    Tile,
}

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What sort.
    pub kind: ProblemKind,
    /// The first entry concerned, where that can be said.
    pub index: Option<u64>,
    /// The file.
    pub path: PathBuf,
    /// The byte in it, where that can be said.
    pub offset: Option<u64>,
    /// In plain words.
    pub text: String,
}

/// What verifying found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log's name, as its journal says.
    pub origin: Option<String>,
    /// The first entry that is there: those before it were pruned. 0 in most logs.
    pub first: u64,
    /// How many entries there are, the pruned ones included, up to the last that was found good.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The published checkpoint, if it could be read.
    pub checkpoint: Option<Checkpoint>,
    /// What is wrong; the first is the first bad record. Empty: nothing is.
    pub problems: Vec<Problem>,
    /// What could not be checked, in words.
    pub unchecked: Vec<String>,
    /// Intents without an outcome. Not a problem while their acts are under way.
    pub unfinished: Vec<Unfinished>,
    /// Of each checkpoint that was held against the log, whether it extends it.
    pub extends: Vec<bool>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies the log in `dir`.
///
/// `vkey` is the key that you know to be the log's; without it the one in the directory is used, which shows
/// only that the log agrees with itself. `from` is a checkpoint that you hold, whose signature you have
/// checked: the log must extend it. The log may be in use meanwhile; then its newest entries may be left out.
pub fn verify_dir(dir: &Path, vkey: Option<&VerifyingKey>, from: Option<&Checkpoint>) -> Report {
    let held: Vec<Held> = from
        .map(|checkpoint| Held {
            name: "the checkpoint you hold".to_owned(),
            checkpoint: checkpoint.clone(),
        })
        .into_iter()
        .collect();
    verify_against(dir, vkey, &held)
}

/// [`verify_dir`] against any number of checkpoints, in one reading.
pub fn verify_against(dir: &Path, vkey: Option<&VerifyingKey>, held: &[Held]) -> Report {
    Verification::new(dir).run(vkey, held)
}
