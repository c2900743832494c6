//! The installation as a whole: versions, revisions, and whether the nodes are heard of.

use clawstaff_api::people::{GatewayView, RunnerView, ServerStatus};
use clawstaff_store::{GatewayRow, RunnerRow};
use jiff::{SignedDuration, Timestamp};

use super::{context::App, problem::Problem};

/// A node that was silent for longer is not connected.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

pub(crate) fn is_connected(seen: Timestamp) -> bool {
    Timestamp::now().duration_since(seen) <= SILENCE
}

impl App {
    /// The installation's status.
    pub(crate) async fn status(&self) -> Result<ServerStatus, Problem> {
        Ok(ServerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.store.revision().await?,
            gateway: self.store.gateway().await?.map(gateway_view),
            runner: self.store.runner().await?.map(runner_view),
        })
    }
}

fn gateway_view(row: GatewayRow) -> GatewayView {
    GatewayView {
        connected: is_connected(row.seen),
        revision: row.status.revision,
        refused: row.status.refused,
        seal_key: row.hello.seal_key,
        ingress: row.hello.ingress,
        log_vkey: row.hello.log_vkey,
    }
}

fn runner_view(row: RunnerRow) -> RunnerView {
    RunnerView {
        connected: is_connected(row.seen),
        revision: row.status.revision,
        backend: row.status.backend,
    }
}
