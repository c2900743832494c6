//! The control plane: what it wants, and what it is told.
//!
//! Level-triggered both ways. Without it the runner keeps to the last state it heard, across its own restarts
//! as well.

use std::time::Duration;

use bytes::Bytes;
use clawstaff_api::nodes::{RUNNER_STATE, RUNNER_STATUS, RunnerState, RunnerStatus};
use http::{Method, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    files::Files,
    http::{CallError, Peer},
};

/// A long poll lasts at most 25 s; this much is waited for it.
const LONG_POLL: Duration = Duration::from_secs(40);
/// The first and the longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often the status is told even if nothing changed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// Watches the wanted state, until shutdown.
pub(crate) async fn watch(
    peer: Peer,
    files: Files,
    state: watch::Sender<Option<RunnerState>>,
    shutdown: CancellationToken,
) {
    let watching = async {
        let mut wait = BACK_OFF.0;
        // The first answer is taken whatever its revision: after the loss of its database a control plane counts anew.
        let mut since = None;
        loop {
            match next(&peer, since).await {
                Ok(Some(news)) => {
                    wait = BACK_OFF.0;
                    since = Some(news.revision);
                    if let Err(error) = files.save_state(&news) {
                        tracing::error!(%error, "the wanted state could not be kept for a restart");
                    }
                    tracing::info!(revision = news.revision, claws = news.claws.len(), "new state");
                    state.send_replace(Some(news));
                }
                Ok(None) => wait = BACK_OFF.0,
                Err(error) => {
                    tracing::debug!(%error, "the control plane cannot be reached; keeping to the last state");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACK_OFF.1);
                }
            }
        }
    };
    shutdown.run_until_cancelled(watching).await;
}

async fn next(peer: &Peer, since: Option<u64>) -> Result<Option<RunnerState>, CallError> {
    let path = since.map_or_else(
        || RUNNER_STATE.to_owned(),
        |since| format!("{RUNNER_STATE}?since={since}"),
    );
    let (status, bytes) = peer
        .call(Method::GET, &path, Bytes::new(), Some(LONG_POLL))
        .await?;
    if status == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| CallError::Answer(error.to_string()))
}

/// Tells the status at every change and at least every 10 s, until the sender is gone.
pub(crate) async fn tell(peer: Peer, mut status: watch::Receiver<Option<RunnerStatus>>) {
    let mut retry = false;
    loop {
        let pause = if retry { BACK_OFF.0 * 5 } else { AT_LEAST_EVERY };
        let last = matches!(tokio::time::timeout(pause, status.changed()).await, Ok(Err(_)));
        let now = status.borrow_and_update().clone();
        let Some(now) = now else {
            if last {
                return;
            }
            continue;
        };
        retry = match push(&peer, &now).await {
            Ok(()) => false,
            Err(error) => {
                tracing::debug!(%error, "the status could not be told");
                true
            }
        };
        if last {
            return;
        }
    }
}

/// Tells the status once.
pub(crate) async fn push(peer: &Peer, status: &RunnerStatus) -> Result<(), CallError> {
    let body = serde_json::to_vec(status).map_err(|error| CallError::Answer(error.to_string()))?;
    peer.call(Method::POST, RUNNER_STATUS, body.into(), None)
        .await
        .map(drop)
}
