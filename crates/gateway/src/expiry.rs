//! Secrets that end: warnings before, an incident after, once for each.
//!
//! Beside the line: a secret that is said to have ended is used all the same, since its service decides whether it is good.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clawstaff_audit::Stream;
use clawstaff_types::{Actor, Digest, Event, EventKind, ResourceRef, SecretName};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{inbox, record, settle::chain, shared::Gateway};

/// How long before its end a secret is warned of.
const AHEAD: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How often it is looked.
const EVERY: Duration = Duration::from_mins(1);
const MAX_NOTED: u64 = 1 << 20;

/// Ends of secrets, by name.
type Ends = BTreeMap<SecretName, Timestamp>;

/// What to say at `now` of secrets that end within 14 days or have ended.
pub(crate) fn warnings(gateway: &Gateway, now: Timestamp) -> Vec<String> {
    let soon = ends(gateway).into_iter().filter(|(_, end)| is_soon(*end, now));
    soon.map(|(name, end)| warning(&name, end, now)).collect()
}

fn is_soon(end: Timestamp, now: Timestamp) -> bool {
    end.duration_since(now) <= AHEAD
}

fn warning(name: &SecretName, end: Timestamp, now: Timestamp) -> String {
    let remedy = format!("give it a new value with `clawstaff secret rotate {name} --expires DATE`");
    if end <= now {
        return format!("the secret `{name}` ended at {end}: {remedy}");
    }
    let days = end.duration_since(now).as_hours() / 24;
    format!("the secret `{name}` ends at {end}, in {days} days: {remedy}")
}

/// The ends that are known.
fn ends(gateway: &Gateway) -> Ends {
    let listed = gateway.vault.list().unwrap_or_default();
    let ends = listed
        .into_iter()
        .filter_map(|secret| Some((secret.name, secret.sealed?.expires?)));
    ends.collect()
}

/// Opens an incident for each secret that has ended, until `shutdown`. Those in `noted` were told before.
pub(crate) async fn run(gateway: Arc<Gateway>, noted: PathBuf, shutdown: CancellationToken) {
    loop {
        if let Err(why) = look(&gateway, &noted, Timestamp::now()).await {
            tracing::error!(
                why,
                "that a secret has ended cannot be recorded; it is tried again"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(gateway: &Gateway, noted: &Path, now: Timestamp) -> Result<(), String> {
    let over: Ends = ends(gateway).into_iter().filter(|(_, end)| *end <= now).collect();
    let known = inbox::read_bounded(noted, MAX_NOTED).unwrap_or_default();
    // Unreadable notes mean telling once more.
    let known: Ends = serde_json::from_slice(&known).unwrap_or_default();
    if known == over {
        return Ok(());
    }
    for (name, end) in over.iter().filter(|(name, end)| known.get(*name) != Some(*end)) {
        incident(gateway, name, *end).await?;
    }
    let bytes = serde_json::to_vec(&over).map_err(|error| error.to_string())?;
    inbox::replace(noted, &bytes).map_err(|error| error.to_string())
}

async fn incident(gateway: &Gateway, name: &SecretName, end: Timestamp) -> Result<(), String> {
    let mut event = Event::new(EventKind::IncidentOpened, Actor::System("gateway".to_owned()));
    let kind = "secret".parse();
    event.resource = kind.and_then(|kind| ResourceRef::new(kind, name.as_str())).ok();
    event.policy_revision = Some(gateway.state.load().revision());
    event.reason = Some(format!("secret expired: `{name}` ended at {end}"));
    let facts = [
        ("rule", "secret_expired".to_owned()),
        ("expires", end.to_string()),
    ];
    event
        .facts
        .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
    tracing::warn!(%name, %end, "a secret has ended");
    let stream = Stream::System("gateway".to_owned());
    let recorded = record::fact(gateway, stream, Digest::of(b""), event).await;
    recorded.map(drop).map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_soon_from_fourteen_days_before_it_on_however_far_off_it_is() {
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
        for (end, soon) in [
            (now + AHEAD, true),
            (now + AHEAD + SignedDuration::from_nanos(1), false),
            (now, true),
            (Timestamp::MIN, true),
            (Timestamp::MAX, false),
        ] {
            assert_eq!(is_soon(end, now), soon, "{end}");
        }
    }
}
