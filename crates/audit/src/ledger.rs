//! The rules that bind entries to each other: dense sequences, pairs of intent and outcome, time that does not
//! run backwards.
//!
//! Pure. The sequencer keeps them when it writes, opening restores them, verifying checks them.

use std::collections::{BTreeMap, HashMap};

use clawstaff_types::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    entry::{Phase, Stream},
    heading::Heading,
};

/// A rule that an entry breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error("it is number {found} of {stream}, but number {expected} is the next: entries are missing")]
    Sequence {
        stream: Stream,
        expected: u64,
        found: u64,
    },
    #[error("its time, {found}, is before that of the entry before it, {last}")]
    Time { last: Timestamp, found: Timestamp },
    #[error("it is the outcome of entry {of}, which is no earlier intent without an outcome")]
    NoIntent { of: u64 },
    #[error("it is the outcome of entry {of}, which is of another stream or another call")]
    OtherCall { of: u64 },
}

/// What the rules need to remember.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ledger {
    next_seq: HashMap<Stream, u64>,
    /// Intents without an outcome, by index.
    open: BTreeMap<u64, (Stream, Digest)>,
    last_time: Option<Timestamp>,
}

impl Ledger {
    /// The sequence number that the next entry of `stream` gets.
    pub(crate) fn next_seq(&self, stream: &Stream) -> u64 {
        self.next_seq.get(stream).copied().unwrap_or_default()
    }

    /// The time of the last entry.
    pub(crate) fn last_time(&self) -> Option<Timestamp> {
        self.last_time
    }

    /// Whether an entry of this phase, stream and call may follow.
    pub(crate) fn check_phase(&self, phase: Phase, stream: &Stream, call: &Digest) -> Result<(), Breach> {
        match phase {
            Phase::Intent | Phase::Fact => Ok(()),
            Phase::Outcome { of } => match self.open.get(&of) {
                None => Err(Breach::NoIntent { of }),
                Some((of_stream, of_call)) if of_stream == stream && of_call == call => Ok(()),
                Some(_) => Err(Breach::OtherCall { of }),
            },
        }
    }

    /// Whether this entry may come next.
    pub(crate) fn check(&self, entry: &Heading) -> Result<(), Breach> {
        let expected = self.next_seq(&entry.stream);
        if entry.seq != expected {
            return Err(Breach::Sequence {
                stream: entry.stream.clone(),
                expected,
                found: entry.seq,
            });
        }
        if let Some(last) = self.last_time.filter(|last| entry.time < *last) {
            return Err(Breach::Time {
                last,
                found: entry.time,
            });
        }
        self.check_phase(entry.phase, &entry.stream, &entry.call)
    }

    /// Takes note of the entry at `index`, which was checked.
    pub(crate) fn apply(&mut self, index: u64, stream: &Stream, phase: Phase, call: Digest, time: Timestamp) {
        match phase {
            Phase::Intent => {
                self.open.insert(index, (stream.clone(), call));
            }
            Phase::Outcome { of } => {
                self.open.remove(&of);
            }
            Phase::Fact => {}
        }
        match self.next_seq.get_mut(stream) {
            Some(next) => *next += 1,
            None => drop(self.next_seq.insert(stream.clone(), 1)),
        }
        self.last_time = Some(time);
    }

    /// The oldest intent without an outcome; `u64::MAX` if there is none.
    pub(crate) fn oldest_open(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(u64::MAX)
    }

    /// The intents without an outcome, oldest first.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u64, &Stream, &Digest)> {
        self.open
            .iter()
            .map(|(index, (stream, call))| (*index, stream, call))
    }
}
