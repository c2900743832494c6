//! The audit log: entries that were durable before the act they announce, in a tree that anybody can check.
//!
//! Each writing process has one log and is its only writer. The log knows entries, not what they mean; it
//! uses no crate of ours but `types`, no network and no runtime. It issues [`Receipt`], without which nothing
//! leaves the gateway.
//!
//! # Words
//!
//! | word | means |
//! |---|---|
//! | sequenced | the entry has its index, time and number in its stream. In memory only |
//! | durable | its batch, closed by a signed checkpoint, is on stable storage in the *journal*. This is when [`Log::append`] answers |
//! | published | tiles, entry bundles and the checkpoint file (C2SP) show it to readers, some time later |
//!
//! # What lies in the directory
//!
//! ```text
//! journal/00000000.seg …   the truth: segments, zero-filled in advance (record.rs has the bytes)
//! tile/ checkpoint         derived: C2SP tlog-tiles, readable by other people's tools
//! snapshot                 the writer's state when a segment began: opening reads on from there
//! pruned                   the same, in place of entries that were pruned; only then is it there
//! vkey                     the key that checks the signatures, for convenience; trust the copy you hold
//! lock                     held by the one writer
//! ```
//!
//! # If we die
//!
//! | when | then |
//! |---|---|
//! | the entry waits in the queue | it is not in the log; its caller got no receipt, so nothing was done |
//! | the batch is being written | opening cuts it off, unless all of it arrived; no receipt either way |
//! | the batch is durable, the receipt is not out | the entry is in the log, the act was not done: [`Recovery::unfinished`] names it |
//! | the receipt is out | the entry is in the log; if the outcome is not, [`Recovery::unfinished`] names it |
//! | the log is being published | tiles are derived again from the journal |
//! | a write or sync fails | the log stops for good: every append says so until it is opened again |
//! | the disk is full | appends are refused until there is space; nothing is lost, reading goes on |
//!
//! Start reading at `log/commit.rs`, which has the order of all effects, and `verify.rs`, which trusts none of it.

pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod disk;
pub mod entry;
mod heading;
mod ledger;
pub mod log;
pub mod note;
pub mod policy;
pub mod proof;
pub mod published;
mod record;
mod scan;
mod segment;
mod state;
pub mod tile;
pub mod tree;
pub mod verify;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosignature::Cosigner;
pub use entry::{Draft, Entry, EntryError, Phase, Stored, Stream};
pub use log::{
    AppendError, AtError, Cost, DEFAULT_SEGMENT_BYTES, Environment, Log, OpenError, Options, Priority,
    PruneError, Pruned, ReadError, Receipt, Recovery, Unfinished,
};
pub use note::{NoteError, SigningKey, VerifyingKey};
pub use policy::Policy;
pub use proof::Proof;
