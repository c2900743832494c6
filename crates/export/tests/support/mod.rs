//! Items of every kind, ordinary and hostile, for the tests of all formats.
#![allow(dead_code, reason = "each test binary uses a part")]

use clawstaff_audit::{Entry, Phase, Stored, Stream, entry::ENTRY_VERSION};
use clawstaff_export::{Covering, Item, Part};
use clawstaff_types::{Actor, Cause, Decision, Digest, Event, EventKind, Outcome, event::EventKind as Kind};
use jiff::Timestamp;

/// The strings that an attacker would try.
pub(crate) const HOSTILE: &[&str] = &[
    "",
    "line\nbreak\r\nand\rmore",
    "a|b=c\\d\"e'f,g;h",
    "]\\\" x=\"y\"] <14>1 2026-01-01T00:00:00Z h a - - - forged",
    "CEF:0|Evil|x|1|1|forged|10|act=allow\nCEF:0|Evil|x|1|1|forged|10|",
    "=HYPERLINK(\"http://evil\")",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "'quoted",
    "\t=tab",
    "\r=return",
    "＝full-width",
    "u\u{2028}n\u{2029}i\u{85}c\u{b}o\u{c}d\u{0}e\u{feff}",
    "\u{202e}drowssap\u{2066}",
    "{\"forged\":true}\n{\"kind\":\"claw.started\"}",
    "\\u000a \\n \\\\",
    "",
];

pub(crate) fn time() -> Timestamp {
    "2026-11-23T08:00:00.123456Z".parse().unwrap()
}

/// An event of this kind with everything that it could have.
pub(crate) fn full(kind: EventKind) -> Event {
    let mut event = Event::new(kind, Actor::Claw("support".parse().unwrap()));
    event.claw = Some("support".parse().unwrap());
    event.on_behalf_of = Some("uid-1000".parse().unwrap());
    event.cause = Some(Cause("msg_01k9x2m4".parse().unwrap()));
    event.claw_revision = Some(3);
    event.policy_revision = Some(12);
    event.connection = Some("slack".parse().unwrap());
    event.action = Some("slack:messages.read".parse().unwrap());
    event.resource = Some("channel:C0SUPPORT".parse().unwrap());
    event.decision = Some(Decision::Allow);
    event.grants = vec!["gr_01".parse().unwrap()];
    event.guardrails = vec!["no-production".parse().unwrap()];
    event.reason = Some("because".to_owned());
    event.outcome = Some(Outcome::Succeeded);
    event.digests.insert("request".to_owned(), Digest::of(b"q"));
    for (label, fact) in [
        ("status", "200"),
        ("tokens_in", "12"),
        ("tokens_out", "30"),
        ("model", "claude-sonnet-5"),
        ("actions", "messages.read, messages.write"),
        ("thing", "connection"),
    ] {
        event.facts.insert(label.to_owned(), fact.to_owned());
    }
    event
}

/// An event of this kind with nothing but what it must have.
pub(crate) fn bare(kind: EventKind) -> Event {
    Event::new(kind, Actor::System("control-plane".to_owned()))
}

pub(crate) fn member(kind: EventKind) -> Event {
    Event::new(kind, Actor::Member("uid-0".parse().unwrap()))
}

/// An item as it comes from a log: with its leaf.
pub(crate) fn item(index: u64, phase: Phase, event: Event) -> Item {
    let entry = Entry {
        v: ENTRY_VERSION,
        time: time(),
        stream: Stream::System("gateway".to_owned()),
        seq: index,
        phase,
        call: Digest::of(b"call"),
        event,
    };
    let leaf = serde_json::to_vec(&entry).unwrap();
    let covering = Covering {
        key: "clawstaff.local/gateway+c7ba1c7a".to_owned(),
        size: index + 1,
        root: Digest::of(b"root"),
    };
    Item::of(
        "gateway",
        "clawstaff.local/gateway",
        Stored { index, leaf },
        Some(covering),
    )
}

/// An item as it comes from the search index: without leaf.
pub(crate) fn record(index: u64, outcome: Option<u64>, event: Event) -> Item {
    Item {
        log: "control".to_owned(),
        origin: "clawstaff.local/control".to_owned(),
        index,
        part: Part::Record { outcome },
        time: time(),
        seq: index,
        event,
        leaf: None,
        covering: None,
    }
}

/// Every kind, each in several states.
pub(crate) fn of_every_kind() -> Vec<Item> {
    let mut items = Vec::new();
    for kind in Kind::ALL.iter().copied() {
        let mut intent = full(kind);
        intent.outcome = None;
        items.push(item(1, Phase::Intent, intent.clone()));
        items.push(record(2, None, intent));
        for outcome in [
            Outcome::Succeeded,
            Outcome::Failed,
            Outcome::Refused,
            Outcome::Unknown,
        ] {
            let mut event = full(kind);
            event.outcome = Some(outcome);
            items.push(item(3, Phase::Outcome { of: 1 }, event.clone()));
            items.push(record(4, Some(5), event));
        }
        for decision in [Decision::Deny, Decision::Ask] {
            let mut event = full(kind);
            (event.decision, event.outcome) = (Some(decision), None);
            items.push(item(6, Phase::Fact, event));
        }
        for event in [bare(kind), member(kind)] {
            items.push(item(7, Phase::Fact, event.clone()));
            items.push(record(8, None, event));
        }
    }
    items
}

/// An event with this text wherever an event takes free text.
pub(crate) fn with_text(text: &str) -> Event {
    let mut event = full(EventKind::ToolCall);
    event.reason = Some(text.to_owned());
    event.actor = Actor::System(if text.is_empty() {
        "x".to_owned()
    } else {
        text.to_owned()
    });
    event.facts.insert(text.to_owned(), text.to_owned());
    for label in ["status", "denial", "thing", "model", "actions"] {
        event.facts.insert(label.to_owned(), text.to_owned());
    }
    event.digests.insert(text.to_owned(), Digest::of(b"x"));
    event
}
