//! Whether a text is an event as the log writes one, without making the event: the fields of
//! [`clawstaff_types::Event`] in their order, each through the check that its type has.

use clawstaff_types::{
    ActionId, Actor, ClawName, ConnectionName, EventId, EventKind, GrantId, GuardrailName, MemberId,
    ResourceRef,
};

use super::plain::Plain;

/// Passes one event. `last` is the kind of the one before, which is often this one's.
pub(super) fn read(rest: &mut Plain<'_>, last: &mut Option<EventKind>) -> Option<()> {
    let kind = rest.after("{\"kind\":\"")?.string()?;
    if last.is_none_or(|last| last.as_str() != kind) {
        *last = Some(kind.parse().ok()?);
    }
    Actor::is_one(rest.after(",\"actor\":\"")?.string()?).then_some(())?;
    text(rest, ",\"claw\":\"", ClawName::is_one)?;
    text(rest, ",\"on_behalf_of\":\"", MemberId::is_one)?;
    text(rest, ",\"cause\":\"", EventId::is_one)?;
    number(rest, ",\"claw_revision\":", u32::MAX.into())?;
    number(rest, ",\"policy_revision\":", u64::MAX)?;
    text(rest, ",\"connection\":\"", ConnectionName::is_one)?;
    text(rest, ",\"action\":\"", ActionId::is_one)?;
    text(rest, ",\"resource\":\"", ResourceRef::is_one)?;
    text(rest, ",\"decision\":\"", is_decision)?;
    list(rest, ",\"grants\":[\"", GrantId::is_one)?;
    list(rest, ",\"guardrails\":[\"", GuardrailName::is_one)?;
    text(rest, ",\"reason\":\"", |_| true)?;
    text(rest, ",\"outcome\":\"", is_outcome)?;
    map(rest, ",\"digests\":{\"", is_digest)?;
    map(rest, ",\"facts\":{\"", |_| true)?;
    rest.after("}").map(drop)
}

fn is_decision(text: &str) -> bool {
    matches!(text, "allow" | "deny" | "ask")
}

fn is_outcome(text: &str) -> bool {
    matches!(text, "succeeded" | "failed" | "refused" | "unknown")
}

fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().fold(true, |all, b| all & hex(b)))
}

/// A field that is a string, if it is there.
fn text(rest: &mut Plain<'_>, name: &str, is_one: impl Fn(&str) -> bool) -> Option<()> {
    match rest.after(name) {
        Some(rest) => is_one(rest.string()?).then_some(()),
        None => Some(()),
    }
}

/// A field that is a number, if it is there.
fn number(rest: &mut Plain<'_>, name: &str, most: u64) -> Option<()> {
    match rest.after(name) {
        Some(rest) => (rest.number()? <= most).then_some(()),
        None => Some(()),
    }
}

/// A field that is a list of strings, at least one, if it is there.
fn list(rest: &mut Plain<'_>, name: &str, is_one: impl Fn(&str) -> bool) -> Option<()> {
    if rest.after(name).is_none() {
        return Some(());
    }
    loop {
        is_one(rest.string()?).then_some(())?;
        if rest.after(",\"").is_none() {
            return rest.after("]").map(drop);
        }
    }
}

/// A field that is a map of strings to strings, at least one, if it is there.
fn map(rest: &mut Plain<'_>, name: &str, is_one: impl Fn(&str) -> bool) -> Option<()> {
    if rest.after(name).is_none() {
        return Some(());
    }
    loop {
        rest.string()?;
        is_one(rest.after(":\"")?.string()?).then_some(())?;
        if rest.after(",\"").is_none() {
            return rest.after("}").map(drop);
        }
    }
}
