//! The log's way to the control plane: entries in order, each batch under a signed checkpoint of its end, and
//! the cosigned checkpoint back, kept where a later auditor finds it.

use clawstaff_api::nodes::{GATEWAY_LOG, LogAck, LogPush};
use clawstaff_audit::{Checkpoint, Cosigner, Stored, note::Note};
use std::time::Duration;

use super::{Node, session::Broken};

/// Entries in one push.
const MAX_LEAVES: usize = 1_000;
/// Bytes of leaves in one push, about.
const MAX_BYTES: usize = 4 << 20;
/// Entries are offered at least this often, so that a lost acknowledgement is noticed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(30);

impl Node {
    /// Pushes everything from `from` on, and whatever is appended from then on. Ends when the conversation breaks.
    pub(super) async fn push_log(
        &self,
        mut from: u64,
        witness: &Cosigner,
    ) -> Result<std::convert::Infallible, Broken> {
        let log = &self.gateway.log;
        if from > log.size() {
            let text = format!(
                "the control plane has {from} entries of this gateway's log, but there are only {}: the log was rolled back or replaced",
                log.size()
            );
            return Err(Broken::Protocol(text));
        }
        // What was pruned was taken in before; only its index may be asked for again.
        from = from.max(log.first());
        let mut size = log.watch();
        loop {
            size.mark_unchanged();
            while from < log.size() {
                from = self.push_batch(from, witness).await?;
            }
            let _ = tokio::time::timeout(AT_LEAST_EVERY, size.changed()).await;
        }
    }

    async fn push_batch(&self, from: u64, witness: &Cosigner) -> Result<u64, Broken> {
        let note = self.gateway.log.checkpoint();
        let end = Checkpoint::parse(&note).map_err(Broken::own)?.size;
        let leaves = self.batch(from, end)?;
        let to = from + leaves.len() as u64;
        let checkpoint = if to == end {
            note
        } else {
            self.gateway.log.checkpoint_at(to).map_err(Broken::own)?
        };
        let leaves = leaves
            .into_iter()
            .map(|stored| String::from_utf8(stored.leaf))
            .collect::<Result<_, _>>();
        let push = LogPush {
            from,
            first: self.gateway.log.first(),
            leaves: leaves.map_err(Broken::own)?,
            checkpoint,
        };
        let ack: Option<LogAck> = self.client.post(GATEWAY_LOG, &push, ANSWER_TIME).await?;
        let ack =
            ack.ok_or_else(|| Broken::Protocol("a push was answered without acknowledgement".to_owned()))?;
        if ack.size != to {
            let text = format!(
                "after a push up to {to} the control plane has {} entries",
                ack.size
            );
            return Err(Broken::Protocol(text));
        }
        self.keep_cosigned(&push.checkpoint, &ack.cosigned, witness)?;
        Ok(to)
    }

    /// Entries from `from`, at most to `end`, within the bounds of a push; at least one.
    fn batch(&self, from: u64, end: u64) -> Result<Vec<Stored>, Broken> {
        let most = usize::try_from(end.saturating_sub(from))
            .unwrap_or(MAX_LEAVES)
            .min(MAX_LEAVES);
        let mut leaves = self.gateway.log.read(from, most).map_err(Broken::own)?;
        let mut bytes = 0;
        let fits = leaves.iter().take_while(|stored| {
            bytes += stored.leaf.len();
            bytes <= MAX_BYTES
        });
        let fits = fits.count().max(1);
        leaves.truncate(fits);
        if leaves.is_empty() {
            return Err(Broken::Protocol(
                "the log has fewer entries than its checkpoint says".to_owned(),
            ));
        }
        Ok(leaves)
    }

    /// Keeps the cosigned checkpoint if it is the one we sent with the control plane's cosignature.
    fn keep_cosigned(&self, sent: &str, cosigned: &str, witness: &Cosigner) -> Result<(), Broken> {
        let (ours, theirs) = (
            Note::parse(sent).map_err(Broken::own)?,
            Note::parse(cosigned).map_err(Broken::own)?,
        );
        ours.verify(&self.log_key.verifying_key()).map_err(Broken::own)?;
        if theirs.text() != ours.text() || theirs.verify(&self.log_key.verifying_key()).is_err() {
            return Err(Broken::Protocol(
                "the cosigned checkpoint is not the one that was sent".to_owned(),
            ));
        }
        witness.verify(&theirs).map_err(Broken::own)?;
        crate::inbox::replace(&self.paths.cosigned, cosigned.as_bytes()).map_err(Broken::own)
    }
}
