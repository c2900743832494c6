//! The control plane's own log: closing what a crash left open, and indexing it as it grows.

use std::sync::Arc;

use clawstaff_audit::{Checkpoint, Draft, Log, Phase, Recovery, Stream, tree::leaf_hash};
use clawstaff_types::{Actor, Digest, Event, EventKind, Outcome};

use super::{
    context::{App, CONTROL_LOG},
    problem::{Problem, chain},
    record::SYSTEM,
};
use crate::{RunError, frontier::Frontier};

/// Entries read at once.
const BATCH: usize = 1000;

/// Records "unknown" for every intent that has no outcome, since the process died in between, and that there is a gap
/// in what is known.
pub(crate) async fn close_unfinished(log: &Log, recovery: &Recovery) -> Result<(), RunError> {
    for unfinished in &recovery.unfinished {
        let mut event = unfinished.event.clone();
        event.outcome = Some(Outcome::Unknown);
        event.reason = Some("the control plane stopped before it knew what came of it".to_owned());
        let draft = Draft {
            stream: unfinished.stream.clone(),
            phase: Phase::Outcome { of: unfinished.index },
            call: unfinished.call,
            event,
        };
        log.append(draft)
            .await
            .map_err(|error| RunError::OwnLog(chain(&error)))?;
    }
    if recovery.unfinished.is_empty() && recovery.torn_bytes == 0 {
        return Ok(());
    }
    let mut event = Event::new(EventKind::AuditGap, Actor::System(SYSTEM.to_owned()));
    event.reason = Some("the control plane did not end cleanly".to_owned());
    let facts = [
        ("outcomes_unknown", recovery.unfinished.len().to_string()),
        ("torn_bytes", recovery.torn_bytes.to_string()),
    ];
    event
        .facts
        .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
    let draft = Draft {
        stream: Stream::System(SYSTEM.to_owned()),
        phase: Phase::Fact,
        call: Digest::of(b""),
        event,
    };
    let recorded = log.append(draft).await;
    recorded
        .map(drop)
        .map_err(|error| RunError::OwnLog(chain(&error)))
}

impl App {
    /// Refuses a log that has fewer entries than were indexed: somebody cut or replaced it.
    pub(crate) async fn check_own_log(&self) -> Result<(), RunError> {
        let known = self.store.log(CONTROL_LOG).await.map_err(RunError::Store)?;
        match known.map_or(0, |log| log.size) {
            indexed if indexed > self.log.size() => Err(RunError::OwnLog(format!(
                "it has {} entries, but {indexed} were indexed before: it was cut or replaced",
                self.log.size()
            ))),
            _ => Ok(()),
        }
    }

    /// Indexes the own log until shutdown.
    pub(crate) async fn index_own_log(self: Arc<Self>) {
        let mut growth = self.log.watch();
        loop {
            if let Err(problem) = self.catch_up().await {
                tracing::error!(problem = %problem.0.detail, "indexing the own log failed; it is tried again with the next entry");
            }
            tokio::select! {
                changed = growth.changed() => if changed.is_err() { return },
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    async fn catch_up(&self) -> Result<(), Problem> {
        let _alone = self.indexing.lock().await;
        loop {
            let known = self.store.log(CONTROL_LOG).await?;
            let mut frontier = Frontier::restore(known.as_ref());
            let start = frontier.size();
            self.own_indexed.send_replace(start);
            let stored = self
                .log
                .read(start, BATCH)
                .map_err(|error| Problem::internal(&error))?;
            if stored.is_empty() {
                return Ok(());
            }
            let leaves: Vec<&[u8]> = stored.iter().map(|stored| stored.leaf.as_slice()).collect();
            for leaf in &leaves {
                frontier.push(leaf_hash(leaf));
            }
            let checkpoint = self.log.checkpoint();
            self.compare(&frontier, &checkpoint).await?;
            let notes = [checkpoint.clone(), checkpoint];
            let row = frontier.row(known, CONTROL_LOG, self.log.origin(), notes);
            self.keep(&row, start, &leaves, &[]).await?;
        }
    }

    /// The log says what it is; what was read must be that, wherever both speak of the same size.
    async fn compare(&self, frontier: &Frontier, checkpoint: &str) -> Result<(), Problem> {
        let said = Checkpoint::parse(checkpoint).map_err(|error| Problem::internal(&error))?;
        if said.size == frontier.size() && said.root != frontier.root() {
            let text = format!(
                "the own log's {} entries do not have the root that it signs",
                said.size
            );
            self.record_gap(&text).await?;
        }
        Ok(())
    }
}
