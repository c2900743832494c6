//! Slack's Events API, read strictly: the v0 request signature and the few event shapes that matter here.
//!
//! Pure. The signature is `v0=` and the hex of HMAC-SHA256 over `v0:{timestamp}:{body}` under the app's signing
//! secret (<https://docs.slack.dev/authentication/verifying-requests-from-slack>).

use aws_lc_rs::hmac;
use axum::http::HeaderMap;
use clawstaff_types::{EventId, ResourceRef, Secret};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

const SIGNATURE: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";
/// Seconds that a signature's timestamp may lie in the past or the future.
const MAX_AGE: i64 = 300;

/// Why a request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Doubt {
    /// A header is missing or malformed.
    Unsigned,
    /// The timestamp is too far away.
    Stale,
    /// The signature is another.
    WrongSignature,
}

impl Doubt {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "the signature is missing or malformed",
            Self::Stale => "the signature's timestamp is more than 5 minutes away",
            Self::WrongSignature => "the signature does not match",
        }
    }
}

/// Whether the request comes from whoever holds the signing secret, and is fresh.
pub(super) fn check(
    headers: &HeaderMap,
    body: &[u8],
    secret: &Secret<String>,
    now: Timestamp,
) -> Result<(), Doubt> {
    let timestamp = only(headers, TIMESTAMP).ok_or(Doubt::Unsigned)?;
    let signature = only(headers, SIGNATURE)
        .and_then(|text| text.strip_prefix("v0="))
        .and_then(|text| hex::decode(text).ok())
        .ok_or(Doubt::Unsigned)?;
    let digits = (1..=12).contains(&timestamp.len()) && timestamp.bytes().all(|b| b.is_ascii_digit());
    let seconds: i64 = timestamp.parse().ok().filter(|_| digits).ok_or(Doubt::Unsigned)?;
    if now.as_second().abs_diff(seconds) > MAX_AGE.unsigned_abs() {
        return Err(Doubt::Stale);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let mut signed = Vec::with_capacity(16 + body.len());
    signed.extend_from_slice(b"v0:");
    signed.extend_from_slice(timestamp.as_bytes());
    signed.push(b':');
    signed.extend_from_slice(body);
    // Compares in constant time.
    hmac::verify(&key, &signed, &signature).map_err(|_| Doubt::WrongSignature)
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// What Slack posts.
#[derive(Debug, PartialEq)]
pub(super) enum Envelope {
    /// It wants to see that the address is ours.
    Challenge(String),
    /// Somebody said something.
    Message(Box<Message>),
    /// Anything else: other events, bots, edits.
    Ignored,
}

/// A message that a person posted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) event_id: EventId,
    /// `channel:<id>`
    pub(super) channel: ResourceRef,
    pub(super) user: String,
    pub(super) ts: String,
    /// Content.
    pub(super) text: String,
    /// Whether it is, or contains, a mention of the app.
    pub(super) mentions_app: bool,
    /// Whether it is Slack's `message` event rather than the `app_mention` about the same post.
    pub(super) posted: bool,
    kind: String,
    team: String,
    thread_ts: Option<String>,
}

impl Message {
    /// The event as the Claw receives it.
    pub(super) fn for_inbox(&self) -> Value {
        json!({
            "type": self.kind,
            "channel": self.channel.id(),
            "user": self.user,
            "text": self.text,
            "ts": self.ts,
            "thread_ts": self.thread_ts,
            "team": self.team,
            "event_id": self.event_id,
        })
    }
}

/// The body is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAnEvent;

#[derive(Deserialize)]
struct Outer {
    r#type: String,
    challenge: Option<String>,
    event_id: Option<EventId>,
    team_id: Option<String>,
    api_app_id: Option<String>,
    #[serde(default)]
    authorizations: Vec<Authorization>,
    event: Option<Value>,
}

#[derive(Deserialize)]
struct Authorization {
    user_id: Option<String>,
}

#[derive(Deserialize)]
struct Inner {
    channel: String,
    user: Option<String>,
    #[serde(default)]
    text: String,
    ts: String,
    thread_ts: Option<String>,
    subtype: Option<String>,
    bot_id: Option<String>,
    app_id: Option<String>,
    bot_profile: Option<serde::de::IgnoredAny>,
}

/// Reads a body.
pub(super) fn parse(body: &[u8]) -> Result<Envelope, NotAnEvent> {
    let outer: Outer = serde_json::from_slice(body).map_err(|_| NotAnEvent)?;
    match outer.r#type.as_str() {
        "url_verification" => outer.challenge.map(Envelope::Challenge).ok_or(NotAnEvent),
        "event_callback" => event(outer),
        _ => Ok(Envelope::Ignored),
    }
}

fn event(outer: Outer) -> Result<Envelope, NotAnEvent> {
    let (Some(event), Some(event_id)) = (outer.event, outer.event_id) else {
        return Err(NotAnEvent);
    };
    let kind = event
        .get("type")
        .and_then(Value::as_str)
        .ok_or(NotAnEvent)?
        .to_owned();
    if kind != "message" && kind != "app_mention" {
        return Ok(Envelope::Ignored);
    }
    // A message that changed or vanished has another shape; it is none that somebody posted.
    if !is_a_post(event.get("subtype").and_then(Value::as_str)) {
        return Ok(Envelope::Ignored);
    }
    let inner: Inner = serde_json::from_value(event).map_err(|_| NotAnEvent)?;
    let apps: Vec<&str> = outer
        .authorizations
        .iter()
        .filter_map(|a| a.user_id.as_deref())
        .collect();
    let Some(user) = inner
        .user
        .clone()
        .filter(|user| is_a_person(&inner, user, &apps, outer.api_app_id.as_deref()))
    else {
        return Ok(Envelope::Ignored);
    };
    let channel = "channel"
        .parse()
        .and_then(|kind| ResourceRef::new(kind, &inner.channel));
    let mentions_app =
        kind == "app_mention" || apps.iter().any(|app| inner.text.contains(&format!("<@{app}>")));
    Ok(Envelope::Message(Box::new(Message {
        event_id,
        channel: channel.map_err(|_| NotAnEvent)?,
        user,
        ts: checked_ts(inner.ts)?,
        text: inner.text,
        mentions_app,
        posted: kind == "message",
        kind,
        team: outer.team_id.unwrap_or_default(),
        thread_ts: inner.thread_ts.map(checked_ts).transpose()?,
    })))
}

/// Subtypes of messages that a person posts; the others are edits, deletions, joins and bots.
fn is_a_post(subtype: Option<&str>) -> bool {
    matches!(subtype, None | Some("thread_broadcast" | "file_share"))
}

fn is_a_person(inner: &Inner, user: &str, apps: &[&str], our_app: Option<&str>) -> bool {
    let from_our_app = inner.app_id.is_some() && inner.app_id.as_deref() == our_app;
    inner.bot_id.is_none()
        && inner.bot_profile.is_none()
        && inner.subtype.as_deref() != Some("bot_message")
        && !from_our_app
        && !apps.contains(&user)
}

/// Slack's timestamps are ids: digits and one dot. They go into records.
fn checked_ts(ts: String) -> Result<String, NotAnEvent> {
    let fine = (1..=32).contains(&ts.len()) && ts.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    fine.then_some(ts).ok_or(NotAnEvent)
}

#[cfg(test)]
mod tests;
