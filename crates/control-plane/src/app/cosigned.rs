//! The gateway as witness of the control plane's own log: it is shown how the log grew, and its cosignature kept.
//!
//! The other half of cosigning: `intake.rs` does the same for the gateway's log. The gateway asks, since nothing
//! dials it; it checks for itself, so what it is given here need not be trusted by it.

use std::{path::Path, time::Duration};

use clawstaff_api::nodes::{ControlLog, Cosigned};
use clawstaff_audit::{
    Checkpoint, Cosigner,
    note::{MAX_NOTE_BYTES, Note, VerifyingKey},
    published::{Published, TileHashes},
    tree,
};
use clawstaff_types::NodeName;

use super::{context::App, intake::keep_file, nodes::LONG_POLL, problem::Problem};

/// How long publishing is given before it is looked at again.
const PUBLISHING: Duration = Duration::from_millis(50);

impl App {
    /// The own log, once it is not of size `from`; `None` if that takes too long.
    pub(crate) async fn own_log_since(&self, from: u64) -> Result<Option<ControlLog>, Problem> {
        let mut growth = self.log.watch();
        let differs = async {
            loop {
                growth.mark_unchanged();
                if self.log.published() != from && self.log.published() > 0 {
                    return;
                }
                if self.log.size() == from {
                    // The log's sender lives as long as the log does.
                    let _changed = growth.changed().await;
                } else {
                    tokio::time::sleep(PUBLISHING).await;
                }
            }
        };
        tokio::select! {
            () = differs => self.own_log_from(from).map(Some),
            () = tokio::time::sleep(LONG_POLL) => Ok(None),
            () = self.shutdown.cancelled() => Ok(None),
        }
    }

    fn own_log_from(&self, from: u64) -> Result<ControlLog, Problem> {
        let path = self.own_log.join("checkpoint");
        let checkpoint = std::fs::read_to_string(path).map_err(|error| Problem::internal(&error))?;
        let stated = Checkpoint::parse(&checkpoint).map_err(|error| Problem::internal(&error))?;
        let published = Published::new(&self.own_log);
        let hashes = TileHashes::new(&published, stated.size);
        let proof = tree::consistency_proof(&hashes, from, stated.size);
        let proof = proof.map_err(|error| Problem::internal(&error))?;
        Ok(ControlLog {
            checkpoint,
            // A log that is shorter than what the gateway cosigned has none; the gateway draws its conclusion.
            consistency: proof.unwrap_or_default(),
        })
    }

    /// Takes the gateway's cosignature of the own log.
    pub(crate) async fn take_cosigned(&self, node: &NodeName, cosigned: Cosigned) -> Result<(), Problem> {
        let bad = |why: String| Problem::invalid(format!("not a cosigned checkpoint of this log: {why}"));
        let note = cosigned.checkpoint;
        let own = Checkpoint::verify(&note, &self.log_key.verifying_key()).map_err(|e| bad(e.to_string()))?;
        let pinned = self.store.pinned_log_key(node).await?;
        let pinned = pinned.ok_or_else(|| Problem::conflict("the gateway has to introduce itself first"))?;
        let gateway = VerifyingKey::parse(&pinned).map_err(|error| Problem::internal(&error))?;
        let parsed = Note::parse(&note).map_err(|error| bad(error.to_string()))?;
        Cosigner::of(&gateway)
            .verify(&parsed)
            .map_err(|error| bad(error.to_string()))?;
        let mut newest = self.own_cosigned.lock().await;
        let before = newest.as_deref().and_then(|note| Checkpoint::parse(note).ok());
        if before.is_none_or(|before| before.size <= own.size) {
            keep_file(&self.own_log.with_file_name("control.cosigned"), &note)
                .map_err(|error| Problem::internal(&error))?;
            *newest = Some(note);
        }
        Ok(())
    }
}

/// The cosigned checkpoint that an earlier run kept. One that cannot be read is as good as none: a new one comes.
pub(crate) fn kept(path: &Path) -> Option<String> {
    let note = std::fs::read_to_string(path).ok()?;
    (note.len() <= MAX_NOTE_BYTES && Checkpoint::parse(&note).is_ok()).then_some(note)
}
