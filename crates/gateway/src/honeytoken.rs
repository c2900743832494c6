//! A placeholder that is anywhere but in its own Claw's call to its own connection tells that it leaked, and whose
//! it was.
//!
//! Placeholders open nothing, so nothing is lost when one is seen; but nobody has a reason to carry one around
//! either. A call with a stray one is refused, and an incident names the Claw to which the placeholder was given.
//! One exception is no less an incident, but goes on: an agent that looked at its own environment tells its own model
//! what it saw with every further prompt, and would be cut off from it for ever. It is found as it is, in headers also inside basic authentication; an agent that disguises it gains nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clawstaff_connectors::RecordKind;
use clawstaff_types::{Actor, ClawName, ConnectionName, Digest, Event, EventKind};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};

use crate::{
    commit::{MARKS, PLACEHOLDER_MARK, PLACEHOLDER_TAG},
    map::{Call, MapError},
    parse::Request,
    record::{self, Stop, Who},
    settle::chain,
    shared::Gateway,
    state::{Link, State},
};

/// Candidates looked at in one place; more are not placeholders but noise.
const MAX_SEEN: usize = 64;
/// One leak opens one incident in this time, however often it is seen.
const QUIET: SignedDuration = SignedDuration::from_hours(1);

/// To whom a placeholder was given, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) claw: ClawName,
    pub(crate) connection: ConnectionName,
}

/// Where in a call a placeholder was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Header,
    Address,
    Body,
    /// In an event from outside.
    Inbound,
}

impl Place {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Address => "address",
            Self::Body => "body",
            Self::Inbound => "inbound event",
        }
    }
}

/// A placeholder of this installation that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sighting {
    pub(crate) owner: Owner,
    pub(crate) place: Place,
}

/// The placeholders that are out, and the incidents that were opened lately.
#[derive(Debug, Default)]
pub(crate) struct Honeytokens {
    known: Mutex<(u64, Arc<HashMap<String, Owner>>)>,
    opened: Mutex<HashMap<(Sighting, String), Timestamp>>,
}

impl Honeytokens {
    /// The owners of all placeholders of `state` by their tag; made anew when the state changes.
    fn known(&self, gateway: &Gateway, state: &State) -> Arc<HashMap<String, Owner>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != state.revision() {
            *known = (state.revision(), Arc::new(all_of(gateway, state)));
        }
        Arc::clone(&known.1)
    }

    /// Whether a sighting by `seen_by` opens an incident: it is the first for some time.
    fn is_news(&self, sighting: &Sighting, seen_by: &str, now: Timestamp) -> bool {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, since| now.duration_since(*since) < QUIET);
        opened
            .insert((sighting.clone(), seen_by.to_owned()), now)
            .is_none()
    }
}

fn all_of(gateway: &Gateway, state: &State) -> HashMap<String, Owner> {
    let mut all = HashMap::new();
    for claw in state.claw_names() {
        match gateway.commitments.of(claw) {
            Ok(key) => all.extend(state.links().map(|link| {
                let owner = Owner {
                    claw: claw.clone(),
                    connection: link.name().clone(),
                };
                (key.placeholder_tag(link.name()), owner)
            })),
            Err(error) => tracing::error!(error = chain(&error), "no placeholders of a Claw"),
        }
    }
    all
}

/// What looks like the tag of a placeholder in `text`.
fn tags(text: &[u8]) -> impl Iterator<Item = &str> {
    MARKS
        .find_iter(text)
        .filter_map(|at| {
            let start = at + PLACEHOLDER_MARK.len();
            std::str::from_utf8(text.get(start..start + PLACEHOLDER_TAG)?).ok()
        })
        .take(MAX_SEEN)
}

/// What basic authentication says, where a header has it.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, told) = text.split_once(' ')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    is_basic.then(|| BASE64_STANDARD.decode(told.trim()).ok())?
}

fn in_headers(headers: &HeaderMap) -> Vec<String> {
    let mut found = Vec::new();
    for value in headers.values() {
        found.extend(tags(value.as_bytes()).map(str::to_owned));
        if let Some(told) = basic(value.as_bytes()) {
            found.extend(tags(&told).map(str::to_owned));
        }
    }
    found
}

/// The placeholders in a request, each place once.
pub(crate) fn sightings(gateway: &Gateway, state: &State, request: &Request) -> HashSet<Sighting> {
    let query = request.query.as_deref().unwrap_or_default();
    let mut seen: Vec<(String, Place)> = Vec::new();
    let mut note = |tag: &str, place| seen.push((tag.to_owned(), place));
    for tag in in_headers(&request.headers) {
        note(&tag, Place::Header);
    }
    for tag in tags(request.path.as_bytes()).chain(tags(query.as_bytes())) {
        note(tag, Place::Address);
    }
    for tag in tags(&request.body) {
        note(tag, Place::Body);
    }
    if seen.is_empty() {
        return HashSet::new();
    }
    let known = gateway.honeytokens.known(gateway, state);
    let ours = |(tag, place): (String, Place)| {
        let owner = known.get(&tag)?.clone();
        Some(Sighting { owner, place })
    };
    seen.into_iter().filter_map(ours).collect()
}

/// Lets a call pass in which every placeholder is where it belongs.
///
/// # Errors
/// The refusal, recorded as an incident, of a call with a stray one.
pub(crate) async fn checked(
    gateway: &Gateway,
    who: &Who,
    sightings: HashSet<Sighting>,
    mapped: Result<Call, MapError>,
) -> Result<Result<Call, MapError>, Stop> {
    let (told, stray): (Vec<_>, Vec<_>) = sightings
        .into_iter()
        .filter(|seen| !is_at_home(seen, &who.claw, &mapped))
        .partition(|seen| is_told_to_its_model(seen, &who.claw, &mapped));
    if let Some(stray) = stray.into_iter().next() {
        return Err(refused(gateway, who, stray, mapped).await);
    }
    for seen in told {
        let seen_by = format!("a prompt of Claw `{}`", who.claw);
        opened(gateway, &seen, who.claw.as_str(), &seen_by).await?;
    }
    Ok(mapped)
}

/// Whether it is the Claw's own credential on its way to its own connection.
fn is_at_home(seen: &Sighting, claw: &ClawName, mapped: &Result<Call, MapError>) -> bool {
    let aim = aim(mapped).ok().map(Link::name);
    seen.place == Place::Header && seen.owner.claw == *claw && Some(&seen.owner.connection) == aim
}

/// Whether it is the Claw's own, in the body of a call of a model.
fn is_told_to_its_model(seen: &Sighting, claw: &ClawName, mapped: &Result<Call, MapError>) -> bool {
    let prompt = matches!(mapped, Ok(call) if call.mapped.record == RecordKind::Model);
    prompt && seen.place == Place::Body && seen.owner.claw == *claw
}

/// The connection that a call was for, or the host where no connection was found.
fn aim(mapped: &Result<Call, MapError>) -> Result<&Link, &str> {
    match mapped {
        Ok(Call { link, .. }) | Err(MapError::Unknown { link, .. }) => Ok(link),
        Err(MapError::UnknownHost { host } | MapError::Ambiguous { host }) => Err(host),
    }
}

/// Opens the incident of a call with a stray placeholder, unless it is open, and gives the refusal.
async fn refused(gateway: &Gateway, who: &Who, stray: Sighting, mapped: Result<Call, MapError>) -> Stop {
    let toward = aim(&mapped).map_or_else(|host| host, |link| link.base.host());
    let seen_by = format!("a call of Claw `{}` to `{toward}`", who.claw);
    match opened(gateway, &stray, &who.claw.to_string(), &seen_by).await {
        Ok(()) => crate::line::stops::honeytoken(who, &stray, toward),
        Err(stop) => stop,
    }
}

/// Looks through an event that came in at `connection`: a placeholder in it left the cage by some other way.
pub(crate) async fn inbound(gateway: &Gateway, connection: &ConnectionName, body: &[u8]) {
    if MARKS.find(body).is_none() {
        return;
    }
    let state = gateway.state.load_full();
    let known = gateway.honeytokens.known(gateway, &state);
    for owner in tags(body).filter_map(|tag| known.get(tag)) {
        let sighting = Sighting {
            owner: owner.clone(),
            place: Place::Inbound,
        };
        let seen_by = format!("an event at connection `{connection}`");
        let _the_log_itself_reports_it = opened(gateway, &sighting, connection.as_str(), &seen_by).await;
    }
}

/// Records `incident.opened` under the Claw whose placeholder it is, if it is news.
async fn opened(gateway: &Gateway, seen: &Sighting, by: &str, seen_by: &str) -> Result<(), Stop> {
    if !gateway.honeytokens.is_news(seen, by, Timestamp::now()) {
        return Ok(());
    }
    let state = gateway.state.load_full();
    let owner = Who::now(gateway, &state, &seen.owner.claw);
    let mut event = owner.event(EventKind::IncidentOpened);
    event.actor = Actor::System("gateway".to_owned());
    event.cause = None;
    event.on_behalf_of = None;
    event.connection = Some(seen.owner.connection.clone());
    event.reason = Some(format!(
        "honeytoken: the placeholder that Claw `{}` holds for connection `{}` was seen in {seen_by} ({})",
        seen.owner.claw,
        seen.owner.connection,
        seen.place.as_str(),
    ));
    facts(&mut event, by, seen.place);
    tracing::warn!(claw = %seen.owner.claw, connection = %seen.owner.connection, "a placeholder leaked");
    record::fact(gateway, owner.stream(), Digest::of(b""), event)
        .await
        .map(drop)
        .map_err(|error| crate::line::stops::unrecorded(&error))
}

fn facts(event: &mut Event, by: &str, place: Place) {
    let facts = [("rule", "honeytoken"), ("seen_by", by), ("place", place.as_str())];
    let facts = facts.map(|(label, fact)| (label.to_owned(), fact.to_owned()));
    event.facts.extend(facts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_as_they_are_and_inside_basic_authentication() {
        let tag = "0123456789abcdef0123456789abcdef";
        let text = format!("token=xoxb-placeholder-{tag}&more, xoxb-placeholder-short");
        assert_eq!(tags(text.as_bytes()).collect::<Vec<_>>(), [tag]);
        let mut headers = HeaderMap::new();
        let told = BASE64_STANDARD.encode(format!("git:ghp_placeholder-{tag}"));
        headers.insert("authorization", format!("Basic {told}").parse().unwrap());
        assert_eq!(in_headers(&headers), [tag]);
    }
}
