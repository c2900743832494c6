//! What a caller hands in ([`Draft`]) and what stands in the log ([`Entry`]), with the JSON between them.
//!
//! A leaf is the JSON of an [`Entry`], written once by the sequencer and never again: hashes are over those
//! bytes. What the event means is none of this crate's business; that it holds no content is the type's.

use std::{fmt, io::Write as _, str::FromStr};

use clawstaff_types::{ClawName, Digest, Event};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest leaf, in bytes: entry bundles write lengths in 16 bits.
pub const MAX_LEAF_BYTES: usize = 65_535;
/// The version of the leaf's JSON.
pub const ENTRY_VERSION: u32 = 1;

/// Whose acts are counted together. Sequence numbers are dense within a stream, so that a gap can be seen.
///
/// Text form: `claw:support-triage`, `system:runner`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The acts of one Claw.
    Claw(ClawName),
    /// The acts of one of our own processes, or of people through it: 1 to 64 printable ASCII characters.
    System(String),
}

impl Stream {
    pub(crate) fn is_well_formed(&self) -> bool {
        match self {
            Self::Claw(_) => true,
            Self::System(part) => is_part(part),
        }
    }
}

fn is_part(part: &str) -> bool {
    (1..=64).contains(&part.len())
        && part
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

impl From<ClawName> for Stream {
    fn from(name: ClawName) -> Self {
        Self::Claw(name)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claw(name) => write!(f, "claw:{name}"),
            Self::System(part) => write!(f, "system:{part}"),
        }
    }
}

/// The text is not `claw:NAME` or `system:PART`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stream is `claw:NAME` or `system:PART`")]
pub struct StreamError;

impl FromStr for Stream {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        match text.split_once(':') {
            Some(("claw", name)) => name.parse().map(Self::Claw).map_err(|_| StreamError),
            Some(("system", part)) if is_part(part) => Ok(Self::System(part.to_owned())),
            _ => Err(StreamError),
        }
    }
}

impl Serialize for Stream {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Which part of an act an entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// It is about to be done; an outcome must follow.
    Intent,
    /// What came of the intent at this index, of the same stream and the same call. At most one for each.
    Outcome {
        /// The intent's index.
        of: u64,
    },
    /// It stands by itself: a denial, a login, a change that is already made.
    Fact,
}

/// What a caller wants recorded. Index, time and sequence number are the log's to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Whose act.
    pub stream: Stream,
    /// Which part of it.
    pub phase: Phase,
    /// The digest of the canonical call; the receipt carries it, and an outcome has its intent's.
    pub call: Digest,
    /// What happened. Identifiers, counts and digests, never content.
    pub event: Event,
}

/// One entry as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`ENTRY_VERSION`].
    pub v: u32,
    /// When it was sequenced; never before the entry before it. To the microsecond.
    pub time: Timestamp,
    /// Whose act.
    pub stream: Stream,
    /// How many entries its stream had before it.
    pub seq: u64,
    /// Which part of the act.
    pub phase: Phase,
    /// The digest of the canonical call.
    pub call: Digest,
    /// What happened.
    pub event: Event,
}

/// The bytes of a leaf are not an entry of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an entry: {0}")]
pub struct EntryError(String);

impl Entry {
    /// Reads a leaf.
    ///
    /// # Errors
    /// When it is too long, not JSON of this form, has a field we do not know, or is of another version.
    pub fn parse(leaf: &[u8]) -> Result<Self, EntryError> {
        let entry: Self = parse_bounded(leaf)?;
        checked_version(entry.v)?;
        Ok(entry)
    }
}

pub(crate) fn parse_bounded<'a, T: Deserialize<'a>>(leaf: &'a [u8]) -> Result<T, EntryError> {
    if leaf.len() > MAX_LEAF_BYTES {
        return Err(EntryError(format!("it has more than {MAX_LEAF_BYTES} bytes")));
    }
    serde_json::from_slice(leaf).map_err(|error| EntryError(error.to_string()))
}

pub(crate) fn checked_version(v: u32) -> Result<(), EntryError> {
    if v == ENTRY_VERSION {
        Ok(())
    } else {
        Err(EntryError(format!("it has version {v}, not {ENTRY_VERSION}")))
    }
}

/// Room in a leaf for everything but the event: generous, so that it may be used as a bound.
pub(crate) const LEAF_OVERHEAD: usize = 512;

/// The end of a leaf, from its phase on: what the caller of an append knows, written on the caller's thread.
///
/// # Errors
/// When the event cannot be written as JSON.
pub(crate) fn leaf_tail(phase: Phase, call: &Digest, event: &Event) -> serde_json::Result<Vec<u8>> {
    let mut tail = Vec::with_capacity(1024);
    tail.extend_from_slice(b",\"phase\":");
    serde_json::to_writer(&mut tail, &phase)?;
    tail.extend_from_slice(b",\"call\":");
    serde_json::to_writer(&mut tail, call)?;
    tail.extend_from_slice(b",\"event\":");
    serde_json::to_writer(&mut tail, event)?;
    tail.push(b'}');
    Ok(tail)
}

/// Writes a whole leaf: the JSON of [`Entry`], byte for byte. `time` and `stream` need no escapes.
pub(crate) fn write_leaf(out: &mut Vec<u8>, time: &str, stream: &Stream, seq: u64, tail: &[u8]) {
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "{{\"v\":{ENTRY_VERSION},\"time\":\"{time}\",\"stream\":\"{stream}\",\"seq\":{seq}"
    );
    out.extend_from_slice(tail);
}

/// A leaf and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its index.
    pub index: u64,
    /// Its bytes, as they were hashed.
    pub leaf: Vec<u8>,
}

impl Stored {
    /// The entry it holds.
    ///
    /// # Errors
    /// When the bytes are not an entry of this version.
    pub fn entry(&self) -> Result<Entry, EntryError> {
        Entry::parse(&self.leaf)
    }
}

#[cfg(test)]
mod tests {
    use clawstaff_types::{Actor, EventKind};
    use proptest::prelude::*;

    use super::*;

    fn entry(phase: Phase) -> Entry {
        Entry {
            v: ENTRY_VERSION,
            time: "2026-11-23T08:00:00.123456Z".parse().unwrap(),
            stream: Stream::Claw("support".parse().unwrap()),
            seq: 7,
            phase,
            call: Digest::of(b"call"),
            event: Event::new(EventKind::ToolCall, Actor::System("gateway".into())),
        }
    }

    #[test]
    fn the_spliced_leaf_is_the_json_of_the_entry() {
        for phase in [Phase::Intent, Phase::Outcome { of: 3 }, Phase::Fact] {
            let entry = entry(phase);
            let tail = leaf_tail(phase, &entry.call, &entry.event).unwrap();
            let mut bytes = Vec::new();
            write_leaf(
                &mut bytes,
                &entry.time.to_string(),
                &entry.stream,
                entry.seq,
                &tail,
            );
            assert_eq!(bytes, serde_json::to_vec(&entry).unwrap());
            assert_eq!(Entry::parse(&bytes).unwrap(), entry);
        }
    }

    #[test]
    fn leaves_of_another_version_or_with_unknown_fields_are_refused() {
        let text = serde_json::to_string(&entry(Phase::Fact)).unwrap();
        for bad in [
            text.replace("\"v\":1", "\"v\":2"),
            text.replace("\"v\":1", "\"v\":1,\"note\":\"x\""),
            text.replace("\"seq\":7", "\"seq\":-7"),
            text.replace("claw:support", "claw:../x"),
            format!("{text} x"),
        ] {
            assert!(Entry::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entry::parse(&bytes);
        }

        #[test]
        fn streams_read_back_as_they_print(text in "(claw|system):[a-z0-9-]{0,66}") {
            if let Ok(stream) = text.parse::<Stream>() {
                prop_assert!(stream.is_well_formed());
                prop_assert_eq!(stream.to_string(), text);
            }
        }
    }
}
