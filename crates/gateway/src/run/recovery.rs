//! What a crash left unsaid, said: outcomes that nobody knows, and items that were given up.

use std::sync::Arc;

use clawstaff_audit::{AppendError, Draft, Log, Phase, Recovery, Stream};
use clawstaff_types::{Actor, Cause, Digest, Event, EventKind, Outcome};
use tokio_util::sync::CancellationToken;

use crate::{inbox::GivenUp, record, shared::Gateway};

/// Gives every unfinished intent the outcome `unknown`, and records that there is a gap in what is known.
pub(super) async fn settle(log: &Log, left: &Recovery) -> Result<(), AppendError> {
    for unfinished in &left.unfinished {
        let mut event = unfinished.event.clone();
        event.outcome = Some(Outcome::Unknown);
        event.reason =
            Some("the gateway ended before the outcome was known: it may have happened".to_owned());
        let (stream, call) = (unfinished.stream.clone(), unfinished.call);
        let phase = Phase::Outcome { of: unfinished.index };
        drop(
            log.append(Draft {
                stream,
                phase,
                call,
                event,
            })
            .await?,
        );
    }
    if left.unfinished.is_empty() && left.torn_bytes == 0 {
        return Ok(());
    }
    let (unknown, torn) = (left.unfinished.len(), left.torn_bytes);
    tracing::warn!(
        unknown,
        torn,
        "the last run did not end cleanly; outcomes are recorded as unknown"
    );
    let mut event = Event::new(EventKind::AuditGap, Actor::System("gateway".to_owned()));
    event.reason = Some("the gateway did not end cleanly".to_owned());
    let facts = [
        ("outcomes_unknown", unknown.to_string()),
        ("torn_bytes", torn.to_string()),
    ];
    event
        .facts
        .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
    let draft = Draft {
        stream: Stream::System("gateway".to_owned()),
        phase: Phase::Fact,
        call: Digest::of(b""),
        event,
    };
    drop(log.append(draft).await?);
    Ok(())
}

/// Records every inbox item that was given up, until `shutdown`.
pub(super) async fn report_given_up(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    loop {
        let found = tokio::select! {
            () = shutdown.cancelled() => return,
            found = gateway.inbox.given_up() => found,
        };
        let reported = match found {
            Ok(items) => report_all(&gateway, &items).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = reported {
            tracing::error!(error, "items that were given up cannot be recorded yet");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(super::RETRY_DOORS) => {}
            }
        }
    }
}

async fn report_all(gateway: &Gateway, items: &[GivenUp]) -> Result<(), String> {
    for item in items {
        let mut event = Event::new(EventKind::MessageRead, Actor::Claw(item.claw.clone()));
        event.claw = Some(item.claw.clone());
        event.cause = Some(Cause(item.id.clone()));
        event.policy_revision = Some(gateway.state.load().revision());
        event.outcome = Some(Outcome::Failed);
        event.reason = Some("given up: the Claw took it several times and never finished it".to_owned());
        event.facts.insert("event_id".to_owned(), item.id.to_string());
        event
            .facts
            .insert("attempts".to_owned(), item.attempts.to_string());
        let (stream, call) = (
            Stream::Claw(item.claw.clone()),
            Digest::of(item.id.as_str().as_bytes()),
        );
        record::fact(gateway, stream, call, event)
            .await
            .map_err(|e| e.to_string())?;
        gateway.inbox.reported(item).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}
