//! Taking in entries of a log: check that they extend what is known, index them, keep how far it is known.
//!
//! For the gateway's log this is the second party's check: the control plane recomputes the RFC 6962 tree over
//! the leaves themselves, compares its root with the signed checkpoint, and only then cosigns. A log that was
//! rewritten cannot pass, because the frontier of what was taken in before is kept here and not there.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::PoisonError,
};

use clawstaff_api::nodes::{LogAck, LogPush};
use clawstaff_api::people::AuditRecord;
use clawstaff_audit::{
    Checkpoint, Entry, Phase, cosignature,
    note::VerifyingKey,
    tree::{Hash, leaf_hash},
};
use clawstaff_store::{Change, LogRow};
use clawstaff_types::{Actor, Event, EventKind, NodeName};
use jiff::Timestamp;

use super::{
    context::{App, log_of},
    merge::{Source, settle},
    problem::Problem,
    record::SYSTEM,
};
use crate::frontier::Frontier;

/// Leaves in one push.
const MAX_LEAVES: usize = 1000;
/// Hashes of leaves read at once, and records forgotten at once.
const LEAVES_AT_ONCE: u64 = 10_000;
const RECORDS_AT_ONCE: u64 = 1_000;
/// A leaf as the log's own format bounds it.
const MAX_LEAF_BYTES: usize = 65_535;

impl App {
    /// Takes in what the gateway pushes. A push that does not extend what is known is refused and recorded.
    pub(crate) async fn take_gateway_log(&self, node: &NodeName, push: LogPush) -> Result<LogAck, Problem> {
        let _alone = self.taking.lock().await;
        match self.take(node, &push).await {
            Ok(ack) => Ok(ack),
            Err(Refusal::Problem(problem)) => Err(problem),
            Err(Refusal::Conflict(text)) => {
                self.keep_evidence(node, &push.checkpoint).await?;
                self.record_gap(&text).await?;
                Err(Problem::conflict(text).hint(
                    "the gateway's log is not an extension of what it showed before: keep both, and compare them with `clawstaff audit verify`",
                ))
            }
        }
    }

    async fn take(&self, node: &NodeName, push: &LogPush) -> Result<LogAck, Refusal> {
        let checkpoint = self.checked_checkpoint(node, push).await?;
        let name = log_of(node);
        let mut known = self.store.log(&name).await?;
        let size = known.as_ref().map_or(0, |log| log.size);
        if let Some(known) = known.as_ref().filter(|known| known.origin != checkpoint.origin) {
            return Err(conflict(format!(
                "the gateway's log is called `{}` now, it was `{}`",
                checkpoint.origin, known.origin
            )));
        }
        if push.from > size {
            return Err(conflict(format!(
                "entries {size} to {} of the gateway's log are missing: push from {size}",
                push.from - 1
            )));
        }
        if let Some(known) = known.as_mut().filter(|known| push.from > known.indexed) {
            if push.from != push.first {
                let text = format!("the index is being rebuilt: push from {}", known.indexed);
                return Err(Problem::conflict(text).into());
            }
            self.pass_over_pruned(known, push.from).await?;
        }
        let hashes: Vec<Hash> = push
            .leaves
            .iter()
            .map(|leaf| leaf_hash(leaf.as_bytes()))
            .collect();
        let fresh = self.same_as_before(&name, push.from, &hashes, size).await?;
        let ack = self
            .extend((&name, push), &checkpoint, known, &hashes, fresh)
            .await?;
        self.forget_pruned(&name, push.first).await?;
        Ok(ack)
    }

    /// The index is being rebuilt, and the entries before `first` were pruned meanwhile: it goes on there. They were
    /// taken in once, so their hashes are known, and what follows must still extend them.
    async fn pass_over_pruned(&self, known: &mut LogRow, first: u64) -> Result<(), Problem> {
        let mut frontier = Frontier::restore(Some(known));
        while frontier.size() < first {
            let count = (first - frontier.size()).min(LEAVES_AT_ONCE);
            let leaves = self.store.leaves(&known.name, frontier.size(), count).await?;
            if leaves.is_empty() {
                return Err(Problem::conflict(
                    "entries that the gateway has pruned were never taken in",
                ));
            }
            for leaf in leaves {
                frontier.push(leaf);
            }
        }
        (known.indexed, known.index_frontier) = frontier.into_index();
        Ok(())
    }

    /// Records of entries that the gateway's log no longer has leave the index as well.
    async fn forget_pruned(&self, log: &str, first: u64) -> Result<(), Problem> {
        let forgotten = |map: &BTreeMap<String, u64>| map.get(log).copied().unwrap_or(0);
        if forgotten(&self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)) >= first {
            return Ok(());
        }
        loop {
            let mut change = self.store.begin().await?;
            let forgotten = change.forget_records_before(log, first, RECORDS_AT_ONCE).await?;
            change.commit().await?;
            if forgotten < RECORDS_AT_ONCE {
                break;
            }
        }
        self.forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(log.to_owned(), first);
        Ok(())
    }

    /// The push is well-formed, and its checkpoint is signed with the pinned key and covers exactly it.
    async fn checked_checkpoint(&self, node: &NodeName, push: &LogPush) -> Result<Checkpoint, Refusal> {
        if push.leaves.len() > MAX_LEAVES || push.leaves.iter().any(|leaf| leaf.len() > MAX_LEAF_BYTES) {
            return Err(Problem::invalid("a push has at most 1,000 leaves of at most 65,535 bytes").into());
        }
        let pinned = self.store.pinned_log_key(node).await?;
        let pinned = pinned.ok_or_else(|| Problem::conflict("the gateway has to introduce itself first"))?;
        let key = VerifyingKey::parse(&pinned).map_err(|error| Problem::internal(&error))?;
        let checkpoint = Checkpoint::verify(&push.checkpoint, &key).map_err(|error| {
            conflict(format!(
                "the checkpoint does not verify with the pinned key: {error}"
            ))
        })?;
        let end = u64::try_from(push.leaves.len())
            .ok()
            .and_then(|count| push.from.checked_add(count));
        if end == Some(checkpoint.size) {
            Ok(checkpoint)
        } else {
            let text = format!(
                "the checkpoint covers {} entries, the push ends elsewhere",
                checkpoint.size
            );
            Err(Problem::invalid(text).into())
        }
    }

    /// Leaves that were taken in before must be the same again. Returns how many of the push are known.
    async fn same_as_before(
        &self,
        log: &str,
        from: u64,
        hashes: &[Hash],
        size: u64,
    ) -> Result<usize, Refusal> {
        let count = u64::try_from(hashes.len()).unwrap_or(u64::MAX).min(size - from);
        let before = self.store.leaves(log, from, count).await?;
        let differs = before.iter().zip(hashes).position(|(was, is)| was != is);
        match differs.and_then(|at| u64::try_from(at).ok()) {
            Some(at) => Err(conflict(format!(
                "entry {} of the gateway's log is not the one that was taken in before",
                from + at
            ))),
            None => Ok(before.len()),
        }
    }

    async fn extend(
        &self,
        (name, push): (&str, &LogPush),
        checkpoint: &Checkpoint,
        known: Option<LogRow>,
        hashes: &[Hash],
        fresh: usize,
    ) -> Result<LogAck, Refusal> {
        let mut frontier = Frontier::restore(known.as_ref());
        if checkpoint.size < frontier.size() {
            // Sent again, and the same as before: nothing is new, and what was cosigned since stands.
            return acknowledged(known);
        }
        let start = frontier.size();
        let indexed = usize::try_from(start - push.from).unwrap_or(usize::MAX);
        for hash in hashes.iter().skip(indexed) {
            frontier.push(*hash);
        }
        if frontier.root() != checkpoint.root {
            return Err(conflict(format!(
                "the entries up to {} do not have the root that the checkpoint is signed over",
                checkpoint.size
            )));
        }
        if frontier.size() == start && known.is_some() {
            return acknowledged(known);
        }
        let cosigned = cosignature::cosign(&push.checkpoint, &self.log_key, Timestamp::now())
            .map_err(|error| Problem::internal(&error))?;
        let notes = [push.checkpoint.clone(), cosigned.clone()];
        let row = frontier.row(known, name, &checkpoint.origin, notes);
        let leaves: Vec<&[u8]> = push.leaves.iter().skip(indexed).map(String::as_bytes).collect();
        let fresh_hashes = hashes.get(fresh..).unwrap_or_default();
        self.keep(&row, start, &leaves, fresh_hashes).await?;
        keep_file(&self.home.join(format!("{name}.checkpoint")), &row.cosigned)
            .map_err(|error| Problem::internal(&error))?;
        Ok(LogAck {
            size: row.indexed,
            cosigned,
        })
    }

    /// Indexes leaves from `start` on and keeps how far the log is known, in one transaction. `hashes` are of the last
    /// of them: those that were not known before.
    pub(crate) async fn keep(
        &self,
        row: &LogRow,
        start: u64,
        leaves: &[&[u8]],
        hashes: &[Hash],
    ) -> Result<(), Problem> {
        let source = Source {
            name: &row.name,
            origin: &row.origin,
        };
        let mut change = self.store.begin().await?;
        let records = records(&mut change, source, start, leaves).await?;
        let records: Vec<&AuditRecord> = records.values().collect();
        change.put_records(&row.name, &records).await?;
        let known = leaves.len().saturating_sub(hashes.len());
        let first = start.saturating_add(u64::try_from(known).unwrap_or(u64::MAX));
        change.put_leaves(&row.name, first, hashes).await?;
        change.put_log(row).await?;
        change.commit().await?;
        self.indexed.send_replace(self.store.newest_change().await?);
        Ok(())
    }

    /// Keeps a checkpoint that the gateway's log signed although it contradicts what it signed before: the two
    /// together convict it, and `audit verify` holds the log against both.
    async fn keep_evidence(&self, node: &NodeName, note: &str) -> Result<(), Problem> {
        let pinned = self.store.pinned_log_key(node).await?;
        let key = pinned.and_then(|pinned| VerifyingKey::parse(&pinned).ok());
        if key.is_some_and(|key| Checkpoint::verify(note, &key).is_ok()) {
            let path = self.home.join(format!("{}.conflict", log_of(node)));
            keep_file(&path, note).map_err(|error| Problem::internal(&error))?;
        }
        Ok(())
    }

    /// Records that a log did not continue as it should, and opens an incident, once for each text.
    pub(crate) async fn record_gap(&self, text: &str) -> Result<(), Problem> {
        tracing::error!(
            reason = text,
            "an audit log does not continue what it showed before"
        );
        if self.last_gap.lock().await.replace(text.to_owned()).as_deref() == Some(text) {
            return Ok(());
        }
        for kind in [EventKind::AuditGap, EventKind::IncidentOpened] {
            let mut event = Event::new(kind, Actor::System(SYSTEM.to_owned()));
            event.reason = Some(text.chars().take(300).collect());
            self.recorder.fact(event).await?;
        }
        Ok(())
    }
}

/// Why a push was refused: it contradicts what is known, or something else is wrong with it.
enum Refusal {
    Conflict(String),
    Problem(Problem),
}

const fn conflict(text: String) -> Refusal {
    Refusal::Conflict(text)
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(problem: E) -> Self {
        Self::Problem(problem.into())
    }
}

fn acknowledged(known: Option<LogRow>) -> Result<LogAck, Refusal> {
    let known = known.ok_or_else(|| Problem::invalid("an empty log needs no push"))?;
    Ok(LogAck {
        size: known.indexed,
        cosigned: known.cosigned,
    })
}

/// The records that these leaves make or change, by index. Outcomes go to their intents, here or indexed before.
async fn records(
    change: &mut Change,
    source: Source<'_>,
    start: u64,
    leaves: &[&[u8]],
) -> Result<BTreeMap<u64, AuditRecord>, Problem> {
    let mut records: BTreeMap<u64, AuditRecord> = BTreeMap::new();
    for (index, leaf) in (start..).zip(leaves) {
        let entry = match Entry::parse(leaf) {
            Ok(entry) => entry,
            Err(error) => {
                let now = Timestamp::now();
                records.insert(index, source.unreadable(index, now, &error.to_string()));
                continue;
            }
        };
        let intent = match entry.phase {
            Phase::Intent | Phase::Fact => None,
            Phase::Outcome { of } => match records.remove(&of) {
                Some(record) => Some(record),
                None => change.record(source.name, of).await?,
            },
        };
        let record = match intent {
            Some(mut record) => {
                settle(&mut record, index, entry.event);
                record
            }
            None => source.record(index, entry),
        };
        records.insert(record.index, record);
    }
    Ok(records)
}

/// Replaces the file by way of a new one, so that whoever reads it sees the old or the new and nothing between.
pub(crate) fn keep_file(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
