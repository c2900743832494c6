//! One sink and one log: read, send, remember, for ever; what goes wrong is shown and tried again.

use std::{convert::Infallible, sync::Arc};

use clawstaff_audit::{Draft, Phase, Receipt, Stream};
use clawstaff_export::sink::Target;
use clawstaff_types::{Actor, Digest, Event, EventKind, Sink};

use super::{
    Places,
    backoff::Backoff,
    channel::{Channel, Opening},
    cursor::Cursor,
    source::{Batch, Source},
};
use crate::shared::Gateway;

/// Who acts and whose stream it is.
const GATEWAY: &str = "gateway";

/// What a job needs.
#[derive(Debug)]
pub(super) struct Job {
    gateway: Arc<Gateway>,
    sink: Sink,
    source: Source,
    places: Places,
    /// That the sink came into force is on record, once for each run.
    receipt: Option<Receipt>,
}

/// Why a delivery did not happen, for people.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(crate::settle::chain(&error))
    }
}

impl Job {
    pub(super) fn new(gateway: Arc<Gateway>, sink: Sink, source: Source, places: &Places) -> Self {
        Self {
            gateway,
            sink,
            source,
            places: places.clone(),
            receipt: None,
        }
    }

    /// Runs until dropped.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let Err(Failed(why)) = self.deliver(&mut backoff).await;
            tracing::warn!(sink = %self.sink.name, log = self.source.name(), why, "records wait for a sink");
            self.note(|line| line.error = Some(why));
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut super::board::Line)) {
        self.gateway
            .sinks
            .note(&self.sink.name, self.source.name(), change);
    }

    /// Delivers until something fails.
    async fn deliver(&mut self, backoff: &mut Backoff) -> Result<Infallible, Failed> {
        let mut cursor = Cursor::open(&self.places.cursors, &self.sink, self.source.name())?;
        let target = Target::parse(&self.sink)?;
        let mut channel = self.open(&target).await?;
        let mut next = cursor.next(self.source.origin());
        self.note(|line| line.next = next);
        loop {
            let batch = self.batch(&mut channel, next).await?;
            if !cursor.is_of(&batch.origin) {
                // Another log under the same name: from its beginning.
                cursor.advance(&batch.origin, 0)?;
                next = 0;
                continue;
            }
            if batch.first < next {
                return Err(Failed(format!(
                    "asked for entries from {next} on and got them from {}",
                    batch.first
                )));
            }
            if batch.first > next {
                self.record_gap(next, batch.first).await?;
            }
            self.note(|line| {
                line.size = batch.size.max(batch.end());
                line.oldest = batch.items.first().map(|item| item.time);
            });
            let confirmed = channel.send(&batch).await?;
            backoff.reset();
            cursor.advance(&batch.origin, confirmed)?;
            next = batch.end();
            self.note(|line| {
                (line.next, line.oldest, line.error) = (next, None, None);
            });
        }
    }

    /// The next records, once there are any; notices meanwhile when the receiver has gone.
    async fn batch(&self, channel: &mut Channel, next: u64) -> Result<Batch, Failed> {
        let most = channel.most();
        let batch = tokio::select! {
            batch = self.source.read(next, most) => batch?,
            gone = channel.gone() => return Err(gone),
        };
        let few = batch.items.len() < most;
        match channel.patience() {
            Some(patience) if few => {
                tokio::time::sleep(patience).await;
                Ok(self.source.read(next, most).await?)
            }
            _ => Ok(batch),
        }
    }

    /// Records that the sink comes into force, and opens its channel; only then is its secret let out.
    async fn open(&mut self, target: &Target) -> Result<Channel, Failed> {
        let secret = match target.secret() {
            None => None,
            Some(name) => {
                let receipt = match self.receipt.take() {
                    Some(receipt) => receipt,
                    None => self.record_use().await?,
                };
                let receipt = self.receipt.insert(receipt);
                Some(self.gateway.vault.sink_secret(receipt, &self.sink, name)?)
            }
        };
        let opening = Opening {
            sink: &self.sink,
            log: self.source.name(),
            secret,
            exports: &self.places.exports,
            extra_ca: self.gateway.instance.extra_ca.as_deref(),
        };
        Channel::open(target, opening).await
    }

    async fn record_use(&self) -> Result<Receipt, Failed> {
        let mut event = Event::new(EventKind::ConfigChanged, Actor::System(GATEWAY.to_owned()));
        event.policy_revision = Some(self.gateway.state.load().revision());
        event.digests.insert("after".to_owned(), self.sink.digest());
        for (label, fact) in [
            ("thing", "sink"),
            ("change", "in_force"),
            ("sink", self.sink.name.as_str()),
            ("log", self.source.name()),
        ] {
            event.facts.insert(label.to_owned(), fact.to_owned());
        }
        Ok(self.append(self.sink.digest(), event).await?)
    }

    /// Records that the sink never gets `from..to`: retention took them first.
    async fn record_gap(&self, from: u64, to: u64) -> Result<(), Failed> {
        let mut event = Event::new(EventKind::AuditGap, Actor::System(GATEWAY.to_owned()));
        event.reason = Some(format!(
            "the sink `{}` did not get entries {from} to {} of the {} log before they were pruned",
            self.sink.name,
            to.saturating_sub(1),
            self.source.name(),
        ));
        for (label, fact) in [
            ("sink", self.sink.name.to_string()),
            ("log", self.source.name().to_owned()),
            ("from", from.to_string()),
            ("to", to.to_string()),
        ] {
            event.facts.insert(label.to_owned(), fact);
        }
        let call = Digest::of(format!("gap {} {from} {to}", self.sink.name).as_bytes());
        let _durable = self.append(call, event).await?;
        Ok(())
    }

    async fn append(&self, call: Digest, event: Event) -> Result<Receipt, clawstaff_audit::AppendError> {
        let draft = Draft {
            stream: Stream::System(GATEWAY.to_owned()),
            phase: Phase::Fact,
            call,
            event,
        };
        self.gateway.log.append(draft).await
    }
}
