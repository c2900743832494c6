//! Where a sink's records come from: this gateway's log, or the control plane's.

use std::{sync::Arc, time::Duration};

use clawstaff_api::nodes::{CONTROL_ENTRIES, ControlEntries};
use clawstaff_audit::{Checkpoint, Stored, note::Note};
use clawstaff_export::{Covering, Item};

use crate::{node::Client, shared::Gateway};

/// The control plane holds a poll for 25 s.
const POLL_TIME: Duration = Duration::from_secs(40);

/// A log.
#[derive(Debug)]
pub(super) enum Source {
    Own(Arc<Gateway>),
    Control(Client),
}

/// Records in order, at least one.
#[derive(Debug)]
pub(super) struct Batch {
    /// The log's origin.
    pub(super) origin: String,
    /// How many entries the log has, as far as known.
    pub(super) size: u64,
    /// The index of the first record; above the one asked for if what was before is gone.
    pub(super) first: u64,
    /// The records.
    pub(super) items: Vec<Item>,
}

impl Batch {
    /// The index after the last record.
    pub(super) fn end(&self) -> u64 {
        self.items
            .last()
            .map_or(self.first, |last| last.index.saturating_add(1))
    }
}

/// The log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log: {0}")]
pub(super) struct SourceError(String);

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError(error.to_string())
}

impl Source {
    pub(super) const fn own(gateway: Arc<Gateway>) -> Self {
        Self::Own(gateway)
    }

    pub(super) const fn control(client: Client) -> Self {
        Self::Control(client)
    }

    /// The log's short name.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Own(_) => "gateway",
            Self::Control(_) => "control",
        }
    }

    /// The origin, where it is known without asking.
    pub(super) fn origin(&self) -> Option<&str> {
        match self {
            Self::Own(gateway) => Some(gateway.log.origin()),
            Self::Control(_) => None,
        }
    }

    /// At most `most` records from index `from` on, once there are any.
    pub(super) async fn read(&self, from: u64, most: usize) -> Result<Batch, SourceError> {
        match self {
            Self::Own(gateway) => own(gateway, from, most).await,
            Self::Control(client) => loop {
                let path = format!("{CONTROL_ENTRIES}?from={from}");
                if let Some(log) = client
                    .get::<ControlEntries>(&path, POLL_TIME)
                    .await
                    .map_err(failed)?
                {
                    return control(log, most);
                }
            },
        }
    }
}

async fn own(gateway: &Gateway, from: u64, most: usize) -> Result<Batch, SourceError> {
    let log = &gateway.log;
    let mut growth = log.watch();
    growth.wait_for(|size| *size > from).await.map_err(failed)?;
    // What was pruned is not there to be asked for; the caller sees that the batch begins later.
    let from = from.max(log.first());
    let stored = log.read(from, most).map_err(failed)?;
    // `gateway`, or `gateway-NODE` on a node that joined.
    let last = log.origin().rsplit('/').next();
    let name = last
        .filter(|name| name.starts_with("gateway-"))
        .unwrap_or("gateway");
    batch(
        name,
        log.origin().to_owned(),
        stored,
        &log.checkpoint(),
        from,
        log.size(),
    )
}

fn control(log: ControlEntries, most: usize) -> Result<Batch, SourceError> {
    let leaves = (log.from..).zip(log.leaves).take(most);
    let stored = leaves.map(|(index, leaf)| Stored {
        index,
        leaf: leaf.into_bytes(),
    });
    batch(
        "control",
        log.origin,
        stored.collect(),
        &log.checkpoint,
        log.from,
        0,
    )
}

fn batch(
    name: &str,
    origin: String,
    stored: Vec<Stored>,
    checkpoint: &str,
    from: u64,
    size: u64,
) -> Result<Batch, SourceError> {
    let covering = covering(checkpoint)?;
    let first = stored.first().map_or(from, |stored| stored.index);
    let size = size.max(covering.size);
    let items = stored
        .into_iter()
        .map(|stored| Item::of(name, &origin, stored, Some(covering.clone())))
        .collect();
    Ok(Batch {
        origin,
        size,
        first,
        items,
    })
}

/// What the checkpoint says, and who signed it. It was checked when it was made or pushed; a receiver checks it
/// against the keys that it knows.
fn covering(note: &str) -> Result<Covering, SourceError> {
    let checkpoint = Checkpoint::parse(note).map_err(failed)?;
    let signer = Note::parse(note).map_err(failed)?;
    let key = signer.signers().next().unwrap_or_default().to_owned();
    Ok(Covering {
        key,
        size: checkpoint.size,
        root: checkpoint.root,
    })
}
