//! The installation as a whole: versions, revisions, and whether the nodes are heard of.

use clawstaff_api::{
    nodes::LogCost,
    people::{GatewayView, LogStatus, RunnerView, ServerStatus},
};
use clawstaff_store::{GatewayRow, RunnerRow};
use clawstaff_types::NodeName;
use jiff::{SignedDuration, Timestamp};

use super::{
    context::{App, CONTROL_LOG, log_of},
    problem::Problem,
};

/// A node that was silent for longer is not connected.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

pub(crate) fn is_connected(seen: Timestamp) -> bool {
    Timestamp::now().duration_since(seen) <= SILENCE
}

impl App {
    /// The installation's status.
    pub(crate) async fn status(&self) -> Result<ServerStatus, Problem> {
        let local = NodeName::local();
        let gateway = self.store.gateway(&local).await?;
        let told = gateway.as_ref().map(|row| row.status.log).unwrap_or_default();
        Ok(ServerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.store.revision().await?,
            gateway: gateway.map(gateway_view),
            runner: self.store.runners().await?.remove(&local).map(runner_view),
            logs: vec![
                self.log_status(&log_of(&local), told).await?,
                self.log_status(CONTROL_LOG, self.own_cost()).await?,
            ],
        })
    }

    fn own_cost(&self) -> LogCost {
        let cost = self.log.cost();
        LogCost {
            entries: self.log.size(),
            counted: cost.entries,
            bytes: cost.bytes,
            micros: u64::try_from(cost.time.as_micros()).unwrap_or(u64::MAX),
        }
    }

    async fn log_status(&self, name: &str, told: LogCost) -> Result<LogStatus, Problem> {
        let indexed = self.store.log(name).await?.map_or(0, |log| log.indexed);
        // The writer speaks every few seconds, and may have been indexed further meanwhile.
        let entries = told.entries.max(indexed);
        Ok(LogStatus {
            name: name.to_owned(),
            entries,
            indexed,
            behind: entries - indexed,
            bytes_per_entry: told.bytes.checked_div(told.counted),
            micros_per_entry: told.micros.checked_div(told.counted),
        })
    }
}

pub(crate) fn gateway_view(row: GatewayRow) -> GatewayView {
    GatewayView {
        connected: is_connected(row.seen),
        revision: row.status.revision,
        refused: row.status.refused,
        seal_key: row.hello.seal_key,
        ingress: row.hello.ingress,
        log_vkey: row.hello.log_vkey,
    }
}

pub(crate) fn runner_view(row: RunnerRow) -> RunnerView {
    RunnerView {
        connected: is_connected(row.seen),
        revision: row.status.revision,
        backend: row.status.backend,
    }
}
