//! Snapshots of a cage's `/data`, by operators of this host: `POST …/snapshots` takes one, `GET …/snapshots` lists them,
//! `POST …/snapshots/restore` and `…/snapshots/remove` name one in a [`SnapshotRequest`].
//!
//! What a snapshot holds is content: it stays beside the cage, and goes when the cage is destroyed. Taking, restoring and
//! removing are on record before they are done.

use std::sync::Arc;

use bytes::Bytes;
use clawstaff_api::{ApiProblem, Code};
use clawstaff_cage::{CageError, CageId, Snapshot, SnapshotName};
use clawstaff_types::{EventKind, Outcome};
use futures_util::future::BoxFuture;
use http::Response;
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use crate::{
    local::{Local, json, refused},
    record::{self, Subject},
};

/// Which snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Its name.
    pub snapshot: String,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotAnswer {
    /// Its name, which is when it was taken, in UTC.
    pub snapshot: String,
    /// Disk space that it takes.
    pub bytes: u64,
}

impl From<Snapshot> for SnapshotAnswer {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            snapshot: snapshot.name.to_string(),
            bytes: snapshot.bytes,
        }
    }
}

type Answer = Result<Response<Full<Bytes>>, ApiProblem>;

impl Local {
    pub(crate) async fn snapshots(&self, id: &CageId) -> Answer {
        let found = self.hands.backend.snapshots(id).await;
        let found = found.map_err(|error| refused(&error))?;
        json(&found.into_iter().map(SnapshotAnswer::from).collect::<Vec<_>>())
    }

    pub(crate) async fn take_snapshot(&self, id: &CageId, subject: &Subject) -> Answer {
        let (hands, id) = (Arc::clone(&self.hands), id.clone());
        // A task of its own: who asks may go away, and the cage must not stay frozen for that.
        let act = Box::pin(async move {
            let taking = tokio::spawn(async move {
                let _still = hands.stills.keep(&id);
                hands.backend.snapshot(&id).await
            });
            taking.await.map_or_else(died, |taken| taken.map(Some))
        });
        self.on_record(subject, "an operator took a snapshot of /data", None, act)
            .await
    }

    pub(crate) async fn restore_snapshot(&self, id: &CageId, subject: &Subject, body: &Bytes) -> Answer {
        let name = named(body)?;
        let act = Box::pin(async { self.hands.backend.restore(id, &name).await.map(|()| None) });
        self.on_record(
            subject,
            "an operator restored /data from a snapshot",
            Some(&name),
            act,
        )
        .await
    }

    pub(crate) async fn remove_snapshot(&self, id: &CageId, subject: &Subject, body: &Bytes) -> Answer {
        let name = named(body)?;
        let act = Box::pin(async { self.hands.backend.forget_snapshot(id, &name).await.map(|()| None) });
        self.on_record(
            subject,
            "an operator removed a snapshot of /data",
            Some(&name),
            act,
        )
        .await
    }

    /// Puts an intent before the act and its outcome behind it.
    async fn on_record(
        &self,
        subject: &Subject,
        what: &str,
        name: Option<&SnapshotName>,
        act: BoxFuture<'_, Result<Option<Snapshot>, CageError>>,
    ) -> Answer {
        let mut event = subject.event(EventKind::CageExec, Some(what));
        event
            .facts
            .extend(name.map(|name| ("snapshot".to_owned(), name.to_string())));
        let index = self.record(subject, event.clone()).await?;
        let done = act.await;
        let settled = match &done {
            Ok(taken) => {
                if let Some(taken) = taken {
                    event.facts.insert("snapshot".to_owned(), taken.name.to_string());
                    event.facts.insert("bytes".to_owned(), taken.bytes.to_string());
                }
                record::outcome(event, Outcome::Succeeded, None)
            }
            Err(error) => record::outcome(event, Outcome::Failed, Some(&error.to_string())),
        };
        self.settle(subject, index, settled).await;
        json(&done.map_err(|error| refused(&error))?.map(SnapshotAnswer::from))
    }
}

fn died(error: tokio::task::JoinError) -> Result<Option<Snapshot>, CageError> {
    Err(CageError::Unavailable {
        backend: "runner's",
        doing: "finish the snapshot",
        detail: error.to_string(),
    })
}

fn named(body: &Bytes) -> Result<SnapshotName, ApiProblem> {
    let invalid = |text: String| ApiProblem::new(Code::Invalid, text);
    let request: SnapshotRequest =
        serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
    let name = request.snapshot.parse();
    name.map_err(|error: clawstaff_cage::snapshot::BadSnapshotName| invalid(error.to_string()))
}
