//! Reads what the log's own rules are about out of leaves, fast.
//!
//! The log writes leaves in one way, so their bytes can be compared with what it would have written, instead of
//! being read as any JSON. Whatever is not found as expected is read the general way, and that verdict counts: the
//! fast way may only ever say yes where the general one would.

mod event;
mod plain;

use std::str::FromStr;

use clawstaff_types::{Digest, EventKind};
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};

use self::plain::Plain;
use crate::entry::{
    ENTRY_VERSION, Entry, EntryError, MAX_LEAF_BYTES, Phase, Stream, checked_version, parse_bounded,
};

/// The part of an entry that the log's own rules are about.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Heading {
    v: u32,
    pub(crate) time: Timestamp,
    pub(crate) stream: Stream,
    pub(crate) seq: u64,
    pub(crate) phase: Phase,
    pub(crate) call: Digest,
    #[serde(rename = "event")]
    _event: IgnoredAny,
}

/// Reads leaf after leaf. Neighbours often have their time, stream and kind in common, so the last ones are
/// kept.
#[derive(Debug, Default)]
pub(crate) struct Headings {
    time: Option<(String, Timestamp)>,
    stream: Option<(String, Stream)>,
    kind: Option<EventKind>,
}

impl Headings {
    /// The heading of a leaf whose event need not be looked into, beyond that it is JSON.
    ///
    /// # Errors
    /// When the leaf is not an entry's JSON.
    pub(crate) fn of_any_event(&mut self, leaf: &[u8]) -> Result<Heading, EntryError> {
        if let Some(heading) = self.as_written(leaf) {
            return Ok(heading);
        }
        let heading: Heading = parse_bounded(leaf)?;
        checked_version(heading.v)?;
        Ok(heading)
    }

    /// The heading of a leaf that is an [`Entry`] in every part.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn of_entry(&mut self, leaf: &[u8]) -> Result<Heading, EntryError> {
        if let Some(heading) = self.as_written(leaf) {
            return Ok(heading);
        }
        let entry = Entry::parse(leaf)?;
        Ok(Heading {
            v: entry.v,
            time: entry.time,
            stream: entry.stream,
            seq: entry.seq,
            phase: entry.phase,
            call: entry.call,
            _event: IgnoredAny,
        })
    }

    /// The heading, if the leaf is an entry and written as the log writes.
    fn as_written(&mut self, leaf: &[u8]) -> Option<Heading> {
        if leaf.len() > MAX_LEAF_BYTES {
            return None;
        }
        let mut rest = Plain::new(leaf)?;
        let time = rest.after("{\"v\":1,\"time\":\"")?.string()?;
        let stream = rest.after(",\"stream\":\"")?.string()?;
        let seq = rest.after(",\"seq\":")?.number()?;
        let phase = phase(rest.after(",\"phase\":")?)?;
        let call = rest.after(",\"call\":\"")?.string()?;
        event::read(rest.after(",\"event\":")?, &mut self.kind)?;
        rest.after("}")?.end()?;
        Some(Heading {
            v: ENTRY_VERSION,
            time: *known(&mut self.time, time)?,
            stream: known(&mut self.stream, stream)?.clone(),
            seq,
            phase,
            call: call.parse().ok()?,
            _event: IgnoredAny,
        })
    }
}

/// What `text` says, parsed only if it is not the last one.
fn known<'k, T: FromStr>(last: &'k mut Option<(String, T)>, text: &str) -> Option<&'k T> {
    if last.as_ref().is_none_or(|(known, _)| known != text) {
        *last = Some((text.to_owned(), text.parse().ok()?));
    }
    last.as_ref().map(|(_, value)| value)
}

fn phase(rest: &mut Plain<'_>) -> Option<Phase> {
    if rest.after("\"intent\"").is_some() {
        return Some(Phase::Intent);
    }
    if rest.after("\"fact\"").is_some() {
        return Some(Phase::Fact);
    }
    let of = rest.after("{\"outcome\":{\"of\":")?.number()?;
    rest.after("}}")?;
    Some(Phase::Outcome { of })
}

#[cfg(test)]
mod tests {
    use clawstaff_types::{Actor, Cause, Decision, Event, Outcome};
    use proptest::prelude::*;

    use super::*;
    use crate::entry::{leaf_tail, write_leaf};

    /// An event with every field there is.
    fn full() -> Event {
        let mut event = Event::new(EventKind::ToolCall, Actor::Claw("a".parse().unwrap()));
        event.claw = Some("a".parse().unwrap());
        event.on_behalf_of = Some("uid-1".parse().unwrap());
        event.cause = Some(Cause("ev-1".parse().unwrap()));
        event.claw_revision = Some(1);
        event.policy_revision = Some(2);
        event.connection = Some("slack".parse().unwrap());
        event.action = Some("slack:messages.read".parse().unwrap());
        event.resource = Some("channel:C0".parse().unwrap());
        event.decision = Some(Decision::Allow);
        event.grants = vec!["gr_1".parse().unwrap()];
        event.guardrails = vec!["no".parse().unwrap()];
        event.reason = Some("ü\u{2028} of three".into());
        event.outcome = Some(Outcome::Succeeded);
        event.digests.insert("request".into(), Digest::of(b"x"));
        event.digests.insert("response".into(), Digest::of(b"y"));
        event.facts.insert("ids".into(), String::new());
        event.facts.insert("status".into(), "200".into());
        event
    }

    fn leaf(phase: Phase, event: &Event) -> Vec<u8> {
        let (call, mut leaf) = (Digest::of(b"call"), Vec::new());
        let tail = leaf_tail(phase, &call, event).unwrap();
        let time = "2026-11-23T08:00:00.123456Z";
        write_leaf(&mut leaf, time, &"claw:support".parse().unwrap(), 7, &tail);
        leaf
    }

    fn slow(leaf: &[u8]) -> Option<(Timestamp, Stream, u64, Phase, Digest)> {
        let entry = Entry::parse(leaf).ok()?;
        Some((entry.time, entry.stream, entry.seq, entry.phase, entry.call))
    }

    fn parts(heading: Heading) -> (Timestamp, Stream, u64, Phase, Digest) {
        (
            heading.time,
            heading.stream,
            heading.seq,
            heading.phase,
            heading.call,
        )
    }

    fn is_fast(phase: Phase, event: &Event) {
        let leaf = leaf(phase, event);
        let heading = Headings::default().as_written(&leaf);
        assert_eq!(heading.map(parts), slow(&leaf), "{event:?}");
    }

    #[test]
    fn leaves_as_the_log_writes_them_are_read_the_fast_way() {
        for phase in [Phase::Intent, Phase::Outcome { of: 3 }, Phase::Fact] {
            is_fast(phase, &full());
            is_fast(
                phase,
                &Event::new(EventKind::AuthLogin, Actor::System("x".into())),
            );
        }
        for kind in EventKind::ALL {
            is_fast(
                Phase::Fact,
                &Event::new(*kind, Actor::Member("uid-1".parse().unwrap())),
            );
        }
        for decision in [Decision::Allow, Decision::Deny, Decision::Ask] {
            for outcome in [
                Outcome::Succeeded,
                Outcome::Failed,
                Outcome::Refused,
                Outcome::Unknown,
            ] {
                let (decision, outcome) = (Some(decision), Some(outcome));
                is_fast(
                    Phase::Intent,
                    &Event {
                        decision,
                        outcome,
                        ..full()
                    },
                );
            }
        }
    }

    #[test]
    fn texts_with_escapes_are_read_the_general_way() {
        let mut event = full();
        event.reason = Some("line\nbreak \"".into());
        let leaf = leaf(Phase::Fact, &event);
        let mut headings = Headings::default();
        assert_eq!(headings.as_written(&leaf), None);
        assert_eq!(headings.of_entry(&leaf).ok().map(parts), slow(&leaf));
    }

    proptest! {
        #[test]
        fn the_fast_way_says_what_the_general_one_says(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..3),
            plain in any::<bool>(),
        ) {
            let event = if plain { Event::new(EventKind::ToolCall, Actor::System("x".into())) } else { full() };
            let mut leaf = leaf(Phase::Outcome { of: 12 }, &event);
            for (at, byte, how) in changes {
                let at = at.index(leaf.len());
                match how {
                    0 => leaf[at] = byte,
                    1 => leaf.insert(at, byte),
                    _ => drop(leaf.remove(at)),
                }
            }
            let mut headings = Headings::default();
            prop_assert_eq!(headings.of_entry(&leaf).ok().map(parts), slow(&leaf));
            let general = parse_bounded::<Heading>(&leaf).ok().filter(|heading| heading.v == ENTRY_VERSION);
            prop_assert_eq!(headings.of_any_event(&leaf).ok(), general);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut headings = Headings::default();
            let _ = headings.of_entry(&bytes);
            let _ = headings.of_any_event(&bytes);
        }
    }
}
