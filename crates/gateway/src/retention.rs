//! Retention: entries that are older than the operator keeps them go from the log, with the content kept of them.
//!
//! A log loses entries at its beginning only, so a hold of anything stops it, and so does a control plane that has
//! not cosigned them yet. What is left of them is their hashes: every proof made before still verifies.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use clawstaff_api::local::Retention;
use clawstaff_audit::{
    AppendError, AtError, Checkpoint, Draft, Log, Phase, PruneError, Pruned, Stream, VerifyingKey,
    note::MAX_NOTE_BYTES,
};
use clawstaff_types::{Actor, Digest, Event, EventKind, Outcome};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{inbox::read_bounded, settle::chain, shared::Gateway};

/// How often it is looked whether something is too old. Also how long the machine has after a start to set its clock.
const EVERY: Duration = Duration::from_hours(1);

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetentionError {
    #[error("the gateway was started without `--keep-days`: nothing falls to retention")]
    NoPolicy,
    #[error("hold `{0}` forbids that anything falls to retention")]
    Held(String),
    #[error("the log cannot be written, so nothing was removed")]
    Unrecorded(#[from] AppendError),
    #[error("it cannot be told what is too old")]
    Unknown(#[from] AtError),
    #[error("the log was not pruned")]
    Prune(#[from] PruneError),
    #[error("the gateway is ending")]
    Ending,
}

/// Applies the operator's policy until `shutdown`.
pub(crate) async fn run(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    if gateway.instance.custody.keep_days.is_none() {
        return;
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match apply(&gateway, Actor::System("gateway".to_owned())).await {
            Ok(_) => {}
            Err(RetentionError::Held(hold)) => tracing::info!(hold, "a hold stops retention"),
            Err(error) => tracing::error!(error = chain(&error), "retention failed; it is tried again"),
        }
    }
}

/// What is kept, and what stops its end.
pub(crate) async fn info(gateway: &Gateway) -> Retention {
    Retention {
        keep_days: gateway.instance.custody.keep_days,
        first: gateway.log.first(),
        size: gateway.log.size(),
        held: gateway.custody.lock().await.holds.keys().next().cloned(),
        removed: 0,
    }
}

/// Removes what is too old, on record before it is done. Whole segments and what was cosigned only, so some of it
/// may stay for a while.
///
/// # Errors
/// When there is no policy, something is held, or the log cannot be written or pruned.
pub(crate) async fn apply(gateway: &Arc<Gateway>, by: Actor) -> Result<Retention, RetentionError> {
    let days = gateway
        .instance
        .custody
        .keep_days
        .ok_or(RetentionError::NoPolicy)?;
    // Until it is done nobody places a hold.
    let custody = gateway.custody.lock().await;
    let mut event = Event::new(EventKind::AuditErase, by);
    fact(&mut event, "what", "retention");
    fact(&mut event, "keep_days", days);
    if let Some(hold) = custody.holds.keys().next() {
        fact(&mut event, "hold", hold);
        if matches!(event.actor, Actor::Member(_)) {
            event.outcome = Some(Outcome::Refused);
            append(&gateway.log, Phase::Fact, event).await?;
        }
        return Err(RetentionError::Held(hold.clone()));
    }
    let before = too_old(gateway, days).await?.min(cosigned(gateway));
    let mut removed = 0;
    if before > gateway.log.first() {
        fact(&mut event, "before", before);
        removed = prune(gateway, before, event).await?.entries;
    }
    // Also what an earlier time was interrupted at.
    let ending = Arc::clone(gateway);
    let forgotten = tokio::task::spawn_blocking(move || ending.content.forget_before(ending.log.first()));
    forgotten.await.map_err(|_| RetentionError::Ending)?;
    drop(custody);
    Ok(Retention {
        removed,
        ..info(gateway).await
    })
}

async fn too_old(gateway: &Gateway, days: u32) -> Result<u64, RetentionError> {
    let kept = SignedDuration::from_hours(24).saturating_mul(i32::try_from(days).unwrap_or(i32::MAX));
    let cutoff = Timestamp::now().checked_sub(kept).unwrap_or(Timestamp::MIN);
    let log = gateway.log.clone();
    let found = tokio::task::spawn_blocking(move || log.first_since(cutoff)).await;
    Ok(found.map_err(|_| RetentionError::Ending)??)
}

/// How many entries the control plane has taken in and cosigned.
fn cosigned(gateway: &Gateway) -> u64 {
    let read = || {
        let note = read_bounded(&gateway.cosigned_file, MAX_NOTE_BYTES as u64).ok()?;
        let key = VerifyingKey::parse(&gateway.instance.log_vkey).ok()?;
        Checkpoint::verify(str::from_utf8(&note).ok()?, &key).ok()
    };
    read().map_or(0, |checkpoint| checkpoint.size)
}

/// Prunes between an intent and its outcome.
async fn prune(gateway: &Arc<Gateway>, before: u64, mut event: Event) -> Result<Pruned, RetentionError> {
    let (of, call) = append(&gateway.log, Phase::Intent, event.clone()).await?;
    let log = gateway.log.clone();
    let pruned = tokio::task::spawn_blocking(move || log.prune(before)).await;
    let pruned = pruned.map_err(|_| RetentionError::Ending)?;
    event.outcome = Some(Outcome::Failed);
    if let Ok(pruned) = &pruned {
        event.outcome = Some(Outcome::Succeeded);
        fact(&mut event, "first", pruned.first);
        fact(&mut event, "entries", pruned.entries);
    }
    let outcome = Draft {
        stream: stream(),
        phase: Phase::Outcome { of },
        call,
        event,
    };
    gateway.log.append(outcome).await?;
    Ok(pruned?)
}

fn fact(event: &mut Event, label: &str, value: impl ToString) {
    event.facts.insert(label.to_owned(), value.to_string());
}

fn stream() -> Stream {
    Stream::System("gateway".to_owned())
}

async fn append(log: &Log, phase: Phase, event: Event) -> Result<(u64, Digest), AppendError> {
    let call = Digest::of(&serde_json::to_vec(&event).unwrap_or_default());
    let draft = Draft {
        stream: stream(),
        phase,
        call,
        event,
    };
    let receipt = log.append(draft).await?;
    Ok((receipt.index(), call))
}
