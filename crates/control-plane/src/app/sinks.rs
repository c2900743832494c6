//! Sinks: asked for here, run by the gateway. What is here of a credential is the name of a secret.

use std::{sync::Arc, time::Duration};

use clawstaff_api::{
    nodes::{ControlEntries, SinkStatus},
    people::SinkView,
};
use clawstaff_export::sink::Target;
use clawstaff_store::Snapshot;
use clawstaff_types::{MemberId, NodeName, Sink, SinkName};

use super::{
    change::Planned,
    context::App,
    event,
    nodes::LONG_POLL,
    plan::{Plan, Step},
    problem::Problem,
};

/// So many at most: each costs the gateway a reader of the log.
const MAX_SINKS: usize = 32;
/// Leaves of the own log in one answer.
const MAX_LEAVES: usize = 500;

impl App {
    /// The sinks by name, each with how far it has come as the gateway last said.
    pub(crate) async fn sinks(&self) -> Result<Vec<SinkView>, Problem> {
        let sinks = self.store.snapshot().await?.sinks;
        let gateways = self.store.gateways().await?;
        let reported: Vec<SinkStatus> = gateways.into_values().flat_map(|row| row.status.sinks).collect();
        let view = |sink: Sink| SinkView {
            status: reported.iter().find(|status| status.name == sink.name).cloned(),
            sink,
        };
        Ok(sinks.into_iter().map(view).collect())
    }

    /// Adds one. A name that is taken is a conflict.
    pub(crate) async fn add_sink(self: &Arc<Self>, by: MemberId, sink: Sink) -> Result<Sink, Problem> {
        let done = self.change(move |now, _| plan_sink(now, by, sink)).await?;
        Ok(done.answer)
    }

    /// Removes one. What it has not sent by then it never sends.
    pub(crate) async fn remove_sink(self: &Arc<Self>, by: MemberId, name: SinkName) -> Result<(), Problem> {
        self.change(move |now, _| plan_removal(now, by, &name)).await?;
        Ok(())
    }

    /// The own log's entries from `from` on, once there are any; the gateway exports them with its own.
    pub(crate) async fn control_entries(
        &self,
        node: &NodeName,
        from: u64,
    ) -> Result<Option<ControlEntries>, Problem> {
        let mut growth = self.log.watch();
        let grown = async { growth.wait_for(|size| *size > from).await.is_ok() };
        let wait: Duration = LONG_POLL;
        let there = tokio::select! {
            grown = tokio::time::timeout(wait, grown) => grown.unwrap_or(false),
            () = self.shutdown.cancelled() => false,
        };
        // One gateway is enough to send them on: several would send each of them several times.
        let gateways = self.store.gateways().await?;
        let local = NodeName::local();
        let first = if gateways.contains_key(&local) {
            Some(&local)
        } else {
            gateways.keys().next()
        };
        if !there || first != Some(node) {
            return Ok(None);
        }
        let checkpoint = self.log.checkpoint();
        let from = from.max(self.log.first());
        let stored = self
            .log
            .read(from, MAX_LEAVES)
            .map_err(|error| Problem::internal(&error))?;
        let first = stored.first().map_or(from, |first| first.index);
        let leaves: Result<Vec<String>, _> = stored
            .into_iter()
            .map(|stored| String::from_utf8(stored.leaf))
            .collect();
        Ok(Some(ControlEntries {
            origin: self.log.origin().to_owned(),
            from: first,
            leaves: leaves.map_err(|error| Problem::internal(&error))?,
            checkpoint,
        }))
    }
}

fn plan_sink(now: &Snapshot, by: MemberId, sink: Sink) -> Result<Planned<Sink>, Problem> {
    Target::parse(&sink).map_err(|error| Problem::invalid(error.to_string()))?;
    if now.sinks.iter().any(|one| one.name == sink.name) {
        let text = format!("there is a sink `{}` already", sink.name);
        return Err(Problem::conflict(text).hint("remove it first, or choose another name"));
    }
    if now.sinks.len() >= MAX_SINKS {
        return Err(Problem::refused(format!(
            "there are {MAX_SINKS} sinks already, which is as many as there may be"
        )));
    }
    let mut plan = Plan::nothing(by);
    let event = event::sink(&plan.by, None, Some(&sink));
    plan.step(Step::PutSink(sink.clone()), event);
    Ok(Planned { plan, answer: sink })
}

fn plan_removal(now: &Snapshot, by: MemberId, name: &SinkName) -> Result<Planned<()>, Problem> {
    let old = now.sinks.iter().find(|one| one.name == *name);
    let old = old.ok_or_else(|| Problem::not_found(format!("there is no sink `{name}`")))?;
    let mut plan = Plan::nothing(by);
    let event = event::sink(&plan.by, Some(old), None);
    plan.step(Step::RemoveSink(name.clone()), event);
    Ok(Planned { plan, answer: () })
}
