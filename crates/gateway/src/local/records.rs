//! The runner's acts: recorded before they are done, and their outcomes after.
//!
//! The runner waits for the receipt before it acts, so a lifecycle act without record does not happen either.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    response::{IntoResponse, Response},
};
use clawstaff_api::{
    Code,
    local::{RecordReceipt, RecordRequest},
};
use clawstaff_audit::{AppendError, Draft, Phase, Stream};
use clawstaff_types::{ClawName, Digest, EventKind};

use super::{Local, problem};

/// Why a record is refused.
#[derive(Debug, thiserror::Error)]
enum BadRecord {
    #[error("`{0}` is not a kind that may be recorded here: only `claw.*` and `cage.exec`")]
    Kind(EventKind),
    #[error("the event is about another Claw than the request")]
    OtherClaw,
    #[error("an outcome must say what came of it")]
    NoOutcome,
    #[error("entry {0} is not an intent in this Claw's stream")]
    NoSuchIntent(u64),
    #[error("the event cannot be written as JSON")]
    Json,
}

pub(super) async fn record(
    State(local): State<Arc<Local>>,
    request: Result<Json<RecordRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return problem(Code::Invalid, rejection.body_text()),
    };
    let draft = match draft(&local, &request) {
        Ok(draft) => draft,
        Err(bad) => return problem(Code::Invalid, bad.to_string()),
    };
    let starts = draft.event.kind == EventKind::ClawStarted && request.outcome_of.is_none();
    let index = match append(&local, draft).await {
        Ok(index) => index,
        Err(
            AppendError::TooLarge { .. } | AppendError::Malformed { .. } | AppendError::NoSuchIntent { .. },
        ) => {
            return problem(
                Code::Invalid,
                "the record is larger than one may be, or settles nothing",
            );
        }
        Err(
            error @ (AppendError::Busy
            | AppendError::NoSpace
            | AppendError::ClockJumped { .. }
            | AppendError::Slow { .. }
            | AppendError::Stopped { .. }),
        ) => {
            tracing::error!(claw = %request.claw, %error, "a record of the host cannot be written");
            return problem(
                Code::Unavailable,
                "the log cannot be written, so this must not be done now",
            );
        }
    };
    if starts {
        // What the last cage held and did not finish is for the new one.
        if let Err(error) = local.gateway.inbox.release(&request.claw).await {
            tracing::error!(claw = %request.claw, %error, "the inbox cannot be released");
        }
    }
    Json(RecordReceipt { index }).into_response()
}

/// Appends a record. What came of an intent that was settled as unknown when this process started is still worth
/// knowing: it stands by itself then and names the intent.
async fn append(local: &Local, draft: Draft) -> Result<u64, AppendError> {
    let log = &local.gateway.log;
    match (log.append(draft.clone()).await, draft.phase) {
        (Err(AppendError::NoSuchIntent { .. }), Phase::Outcome { of }) => {
            let mut late = Draft {
                phase: Phase::Fact,
                ..draft
            };
            late.event
                .facts
                .insert("late_outcome_of".to_owned(), of.to_string());
            log.append(late).await.map(|receipt| receipt.index())
        }
        (appended, _) => appended.map(|receipt| receipt.index()),
    }
}

fn draft(local: &Local, request: &RecordRequest) -> Result<Draft, BadRecord> {
    let mut event = request.event.clone();
    if !may_be_recorded(event.kind) {
        return Err(BadRecord::Kind(event.kind));
    }
    if event.claw.as_ref().is_some_and(|claw| *claw != request.claw) {
        return Err(BadRecord::OtherClaw);
    }
    event.claw = Some(request.claw.clone());
    event.policy_revision = event
        .policy_revision
        .or_else(|| Some(local.gateway.state.load().revision()));
    let (phase, call) = match request.outcome_of {
        Some(_) if event.outcome.is_none() => return Err(BadRecord::NoOutcome),
        Some(of) => (Phase::Outcome { of }, call_of_intent(local, of, &request.claw)?),
        // It is over already: nothing will follow that would settle an intent.
        None if event.outcome.is_some() => (Phase::Fact, digest(&event)?),
        None => (Phase::Intent, digest(&event)?),
    };
    Ok(Draft {
        stream: Stream::Claw(request.claw.clone()),
        phase,
        call,
        event,
    })
}

fn digest(event: &clawstaff_types::Event) -> Result<Digest, BadRecord> {
    serde_json::to_vec(event)
        .map(|json| Digest::of(&json))
        .map_err(|_| BadRecord::Json)
}

/// The digest that the intent carries and its outcome repeats.
fn call_of_intent(local: &Local, index: u64, claw: &ClawName) -> Result<Digest, BadRecord> {
    let missing = || BadRecord::NoSuchIntent(index);
    let found = local.gateway.log.read(index, 1).map_err(|_| missing())?;
    let stored = found.first().ok_or_else(missing)?;
    let entry = stored.entry().map_err(|_| missing())?;
    let ours = entry.stream == Stream::Claw(claw.clone()) && entry.phase == Phase::Intent;
    (ours && may_be_recorded(entry.event.kind))
        .then_some(entry.call)
        .ok_or_else(missing)
}

/// Kinds that the host may record; everything else is the gateway's own to say.
const fn may_be_recorded(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::ClawDeployed
            | EventKind::ClawUpdated
            | EventKind::ClawStarted
            | EventKind::ClawStopped
            | EventKind::ClawPaused
            | EventKind::ClawResumed
            | EventKind::ClawFailed
            | EventKind::ClawDestroyed
            | EventKind::CageExec
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_records_lifecycle_acts_and_nothing_else() {
        for kind in EventKind::ALL {
            let lifecycle = kind.as_str().starts_with("claw.") || *kind == EventKind::CageExec;
            assert_eq!(may_be_recorded(*kind), lifecycle, "{kind}");
        }
    }
}
