//! The gateway on this host: its receipts, its doors, and whether it is alive.

use std::time::Duration;

use bytes::Bytes;
use clawstaff_api::local::{ALIVE, DOOR, Door, RECORD, RecordReceipt, RecordRequest};
use clawstaff_types::{ClawName, Event};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    http::{CallError, Peer},
    plan::Mediator,
};

/// How long to wait before asking again whether the gateway is alive.
const AGAIN: Duration = Duration::from_millis(150);

/// The gateway says every 5 s that it is alive; after this long without a word it is taken for dead.
const SILENCE: Duration = Duration::from_secs(16);

/// The gateway's API for this host.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    peer: Peer,
}

impl Gateway {
    pub(crate) const fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// Records an intent (`outcome_of` absent) or an outcome; durable when it returns.
    pub(crate) async fn record(
        &self,
        claw: &ClawName,
        outcome_of: Option<u64>,
        event: Event,
    ) -> Result<u64, CallError> {
        let request = RecordRequest {
            claw: claw.clone(),
            outcome_of,
            event,
        };
        let body = serde_json::to_vec(&request).map_err(|error| CallError::Answer(error.to_string()))?;
        let (_, bytes) = self.peer.call(Method::POST, RECORD, body.into(), None).await?;
        let receipt: RecordReceipt =
            serde_json::from_slice(&bytes).map_err(|error| CallError::Answer(error.to_string()))?;
        Ok(receipt.index)
    }

    /// The Claw's door, if the gateway knows the Claw.
    pub(crate) async fn door(&self, claw: &ClawName) -> Result<Option<Door>, CallError> {
        let answer = self
            .peer
            .call(Method::GET, &format!("{DOOR}/{claw}"), Bytes::new(), None)
            .await;
        match answer {
            Ok((_, bytes)) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| CallError::Answer(error.to_string())),
            Err(CallError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows whether the gateway is alive, until shutdown.
    pub(crate) async fn watch(self, mediator: watch::Sender<Mediator>, shutdown: CancellationToken) {
        let watching = async {
            loop {
                let end = self.one_life(&mediator).await;
                if mediator.send_replace(Mediator::Lost) != Mediator::Lost {
                    tracing::warn!(why = %end, "the gateway is lost; cages are frozen");
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        shutdown.run_until_cancelled(watching).await;
    }

    /// Connects and reads until the stream ends; returns why it did.
    async fn one_life(&self, mediator: &watch::Sender<Mediator>) -> String {
        let opening = self.peer.open(Method::GET, ALIVE, Bytes::new());
        let response = match tokio::time::timeout(Duration::from_secs(5), opening).await {
            Err(_) => return "it does not answer".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Ok(Ok(response)) if !response.status().is_success() => return response.status().to_string(),
            Ok(Ok(response)) => response,
        };
        if mediator.send_replace(Mediator::Here) != Mediator::Here {
            tracing::info!("the gateway is here");
        }
        let mut body = response.into_body();
        loop {
            match tokio::time::timeout(SILENCE, body.frame()).await {
                Err(_) => return format!("it has been silent for {} s", SILENCE.as_secs()),
                Ok(None) => return "its stream ended".to_owned(),
                Ok(Some(Err(error))) => return error.to_string(),
                Ok(Some(Ok(_))) => {}
            }
        }
    }
}
