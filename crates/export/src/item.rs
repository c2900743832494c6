//! What goes out: one entry of a log with its place, or an intent with its outcome already merged in.

use clawstaff_audit::{Entry, Phase, Stored};
use clawstaff_types::{Actor, Digest, Event, EventKind};
use jiff::Timestamp;

/// Which part of an act an [`Item`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It is about to be done; its outcome follows as an item of its own.
    Intent,
    /// What came of the intent at this index.
    Outcome {
        /// The intent's index.
        of: u64,
    },
    /// It stands by itself.
    Fact,
    /// An intent and, once there is one, its outcome; or a fact: a record as the search index has it.
    Record {
        /// The outcome's index.
        outcome: Option<u64>,
    },
}

impl Part {
    /// `intent`, `outcome`, `fact` or `record`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome { .. } => "outcome",
            Self::Fact => "fact",
            Self::Record { .. } => "record",
        }
    }
}

/// The signed checkpoint under which an entry is known to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covering {
    /// Who signed it: the key's name and id, as in a C2SP vkey without the key itself.
    pub key: String,
    /// How many entries it covers.
    pub size: u64,
    /// The root of its tree.
    pub root: Digest,
}

/// One record on its way out. `origin` and `index` together are its identity: whoever receives it twice keeps one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The log's short name: `gateway` or `control`.
    pub log: String,
    /// The log's origin, as its checkpoints say it.
    pub origin: String,
    /// Its index in the log.
    pub index: u64,
    /// Which part of an act it tells of.
    pub part: Part,
    /// When it was recorded.
    pub time: Timestamp,
    /// Its number in the stream of its Claw or process.
    pub seq: u64,
    /// What happened.
    pub event: Event,
    /// The leaf's bytes, exactly as they were hashed; absent for records of the search index.
    pub leaf: Option<Vec<u8>>,
    /// The checkpoint that covers it.
    pub covering: Option<Covering>,
}

impl Item {
    /// The item that an entry makes. One that cannot be read becomes an `audit.gap` of its own with its bytes, so
    /// that nothing is left out and nothing stops.
    pub fn of(log: &str, origin: &str, stored: Stored, covering: Option<Covering>) -> Self {
        let Stored { index, leaf } = stored;
        let (part, time, seq, event) = match Entry::parse(&leaf) {
            Ok(entry) => (part_of(entry.phase), entry.time, entry.seq, entry.event),
            Err(error) => (
                Part::Fact,
                Timestamp::UNIX_EPOCH,
                0,
                unreadable(log, index, &error.to_string()),
            ),
        };
        Self {
            log: log.to_owned(),
            origin: origin.to_owned(),
            index,
            part,
            time,
            seq,
            event,
            leaf: Some(leaf),
            covering: covering.filter(|covering| covering.size > index),
        }
    }

    /// `gateway:12`: the id that the command line and the API use.
    pub fn id(&self) -> String {
        format!("{}:{}", self.log, self.index)
    }

    /// `clawstaff.local/gateway:12`: the same wherever it arrives, and never used again.
    pub fn uid(&self) -> String {
        format!("{}:{}", self.origin, self.index)
    }

    /// The index of the intent that this is about, where it is about one.
    pub const fn intent(&self) -> Option<u64> {
        match self.part {
            Part::Outcome { of } => Some(of),
            Part::Intent => Some(self.index),
            Part::Fact | Part::Record { .. } => None,
        }
    }
}

const fn part_of(phase: Phase) -> Part {
    match phase {
        Phase::Intent => Part::Intent,
        Phase::Outcome { of } => Part::Outcome { of },
        Phase::Fact => Part::Fact,
    }
}

fn unreadable(log: &str, index: u64, why: &str) -> Event {
    let mut event = Event::new(EventKind::AuditGap, Actor::System(log.to_owned()));
    let text = format!("entry {index} cannot be read by this version: {why}");
    event.reason = Some(text.chars().take(300).collect());
    event
}
