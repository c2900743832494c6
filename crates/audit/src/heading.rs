//! Reads what the log's own rules are about out of leaves, fast.
//!
//! The log writes leaves in one way, so their bytes can be compared with what it would have written, instead of
//! being read as any JSON. Whatever is not found as expected is read the general way, and that verdict counts: the
//! fast way may only ever say yes where the general one would.

use std::{fmt, marker::PhantomData, str::FromStr};

use clawstaff_types::{
    ActionId, Cause, ClawName, ConnectionName, Decision, Digest, EventKind, GrantId, GuardrailName, MemberId,
    Outcome, ResourceRef,
};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess},
};

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

/// Reads leaf after leaf. Neighbours often have their time and their stream in common, so the last ones are kept.
#[derive(Debug, Default)]
pub(crate) struct Headings {
    time: Option<(Vec<u8>, Timestamp)>,
    stream: Option<(Vec<u8>, Stream)>,
}

impl Headings {
    /// The heading of a leaf whose event need not be looked into, beyond that it is JSON.
    ///
    /// # Errors
    /// When the leaf is not an entry's JSON.
    pub(crate) fn of_any_event(&mut self, leaf: &[u8]) -> Result<Heading, EntryError> {
        if let Some((heading, event)) = self.as_written(leaf)
            && serde_json::from_slice::<IgnoredAny>(event).is_ok()
        {
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
        if let Some((heading, event)) = self.as_written(leaf)
            && serde_json::from_slice::<Checked>(event).is_ok()
        {
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

    /// The heading and the event's bytes, if the leaf is written as the log writes.
    fn as_written<'l>(&mut self, leaf: &'l [u8]) -> Option<(Heading, &'l [u8])> {
        if leaf.len() > MAX_LEAF_BYTES {
            return None;
        }
        let (time, rest) = quoted(leaf.strip_prefix(b"{\"v\":1,\"time\":\"")?)?;
        let (stream, rest) = quoted(rest.strip_prefix(b",\"stream\":\"")?)?;
        let (seq, rest) = number(rest.strip_prefix(b",\"seq\":")?)?;
        let (phase, rest) = phase(rest.strip_prefix(b",\"phase\":")?)?;
        let (call, rest) = quoted(rest.strip_prefix(b",\"call\":\"")?)?;
        let event = rest.strip_prefix(b",\"event\":")?.strip_suffix(b"}")?;
        let heading = Heading {
            v: ENTRY_VERSION,
            time: *known(&mut self.time, time)?,
            stream: known(&mut self.stream, stream)?.clone(),
            seq,
            phase,
            call: text(call)?.parse().ok()?,
            _event: IgnoredAny,
        };
        Some((heading, event))
    }
}

/// What `bytes` say, parsed only if they are not the last ones.
fn known<'k, T: FromStr>(last: &'k mut Option<(Vec<u8>, T)>, bytes: &[u8]) -> Option<&'k T> {
    if last.as_ref().is_none_or(|(known, _)| known != bytes) {
        *last = Some((bytes.to_vec(), text(bytes)?.parse().ok()?));
    }
    last.as_ref().map(|(_, value)| value)
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

/// A string without escapes up to its closing quote, and what follows.
fn quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20))?;
    let (found, rest) = bytes.split_at(end);
    Some((found, rest.strip_prefix(b"\"")?))
}

/// A number in the one way in which it is written, and what follows.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|b| !b.is_ascii_digit())?;
    let (digits, rest) = bytes.split_at(end);
    if digits.len() > 1 && digits.starts_with(b"0") {
        return None;
    }
    Some((text(digits)?.parse().ok()?, rest))
}

fn phase(bytes: &[u8]) -> Option<(Phase, &[u8])> {
    if let Some(rest) = bytes.strip_prefix(b"\"intent\"") {
        return Some((Phase::Intent, rest));
    }
    if let Some(rest) = bytes.strip_prefix(b"\"fact\"") {
        return Some((Phase::Fact, rest));
    }
    let (of, rest) = number(bytes.strip_prefix(b"{\"outcome\":{\"of\":")?)?;
    Some((Phase::Outcome { of }, rest.strip_prefix(b"}}")?))
}

/// An event of which nothing is kept: the fields of [`clawstaff_types::Event`], each through the same checks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "reading them is the check")]
struct Checked {
    kind: EventKind,
    actor: clawstaff_types::Actor,
    #[serde(default)]
    claw: Option<ClawName>,
    #[serde(default)]
    on_behalf_of: Option<MemberId>,
    #[serde(default)]
    cause: Option<Cause>,
    #[serde(default)]
    claw_revision: Option<u32>,
    #[serde(default)]
    policy_revision: Option<u64>,
    #[serde(default)]
    connection: Option<ConnectionName>,
    #[serde(default)]
    action: Option<ActionId>,
    #[serde(default)]
    resource: Option<ResourceRef>,
    #[serde(default)]
    decision: Option<Decision>,
    #[serde(default)]
    grants: Vec<GrantId>,
    #[serde(default)]
    guardrails: Vec<GuardrailName>,
    #[serde(default)]
    reason: Option<Text>,
    #[serde(default)]
    outcome: Option<Outcome>,
    #[serde(default)]
    digests: Pairs<Digest>,
    #[serde(default)]
    facts: Pairs<Text>,
}

/// A string, whatever it says.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl de::Visitor<'_> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }

        deserializer.deserialize_str(Any)
    }
}

/// A map from strings to `T`.
struct Pairs<T>(PhantomData<T>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Each<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                while map.next_entry::<Text, T>()?.is_some() {}
                Ok(Pairs(PhantomData))
            }
        }

        deserializer.deserialize_map(Each(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use clawstaff_types::{Actor, Event};
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
        event.reason = Some("line\nbreak \"ü\u{2028}".into());
        event.outcome = Some(Outcome::Succeeded);
        event.digests.insert("request".into(), Digest::of(b"x"));
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

    #[test]
    fn leaves_as_the_log_writes_them_are_read_the_fast_way() {
        for phase in [Phase::Intent, Phase::Outcome { of: 3 }, Phase::Fact] {
            for event in [
                full(),
                Event::new(EventKind::AuthLogin, Actor::System("x".into())),
            ] {
                let leaf = leaf(phase, &event);
                let (heading, event) = Headings::default().as_written(&leaf).unwrap();
                assert!(serde_json::from_slice::<Checked>(event).is_ok());
                assert_eq!(Some(parts(heading)), slow(&leaf));
            }
        }
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
