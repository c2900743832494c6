//! Recording a change: every intent durable before it, every outcome after it.

use clawstaff_audit::{Draft, Log, Phase, Receipt, Stream};
use clawstaff_types::{Digest, Event, Outcome};
use futures_util::future::join_all;

use super::problem::Problem;

/// The stream of this process in its own log, and its name as an actor.
pub(crate) const SYSTEM: &str = "control-plane";

/// Entries handed to the log at once: one batch for it, and far below what it lets wait.
const AT_ONCE: usize = 512;

/// Intents that are durable and have no outcome yet.
#[derive(Debug)]
#[must_use = "an intent without an outcome is recorded as unknown after the next start"]
pub(crate) struct Intents(Vec<(Receipt, Event)>);

fn draft(phase: Phase, call: Digest, event: Event) -> Draft {
    Draft {
        stream: Stream::System(SYSTEM.into()),
        phase,
        call,
        event,
    }
}

fn call_of(event: &Event) -> Digest {
    Digest::of(&serde_json::to_vec(event).unwrap_or_default())
}

/// Records what is about to be done. Returns once all of it is durable; if that fails, what was recorded gets
/// the outcome `refused` and the change must not be made.
pub(crate) async fn intend(log: &Log, events: Vec<Event>) -> Result<Intents, Problem> {
    let (mut intents, mut failure) = (Vec::new(), None);
    for events in events.chunks(AT_ONCE) {
        let appends = events.iter().map(|event| async move {
            let receipt = log
                .append(draft(Phase::Intent, call_of(event), event.clone()))
                .await;
            receipt.map(|receipt| (receipt, event.clone()))
        });
        for result in join_all(appends).await {
            match result {
                Ok(intent) => intents.push(intent),
                Err(error) => failure = Some(error),
            }
        }
        if failure.is_some() {
            break;
        }
    }
    let intents = Intents(intents);
    match failure {
        None => Ok(intents),
        Some(error) => {
            if settle(log, intents, Outcome::Refused).await.is_err() {
                tracing::error!("the outcome of a refused change could not be recorded either");
            }
            Err(error.into())
        }
    }
}

/// Records what came of it.
pub(crate) async fn settle(log: &Log, intents: Intents, outcome: Outcome) -> Result<(), Problem> {
    for intents in intents.0.chunks(AT_ONCE) {
        let appends = intents.iter().map(|(receipt, event)| async move {
            let mut event = event.clone();
            event.outcome = Some(outcome);
            let phase = Phase::Outcome { of: receipt.index() };
            log.append(draft(phase, *receipt.call(), event)).await
        });
        for result in join_all(appends).await {
            let _durable = result?;
        }
    }
    Ok(())
}

/// Records something that has happened and cannot be refused any more.
pub(crate) async fn fact(log: &Log, event: Event) -> Result<(), Problem> {
    let _durable = log.append(draft(Phase::Fact, call_of(&event), event)).await?;
    Ok(())
}
