//! Telling the gateway how the agent is: `POST /claw/v1/health`.
//!
//! Level-triggered: said again every minute, so that a gateway that was restarted knows as well.

use std::{net::SocketAddr, time::Duration};

use clawstaff_cage_contract::Health;
use tokio::time::{sleep, timeout};

use crate::client;

/// Between two reports when all is well.
const EVERY: Duration = Duration::from_mins(1);
/// Between two attempts while the door does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// For one report.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the last report: the cage is about to end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Reports for ever that the agent runs.
pub(super) async fn keep_reporting(doors: SocketAddr) {
    loop {
        let heard = report(doors, true, PATIENCE).await;
        sleep(if heard { EVERY } else { RETRY }).await;
    }
}

/// Reports once that the agent has ended.
pub(super) async fn report_end(doors: SocketAddr) {
    if !report(doors, false, LAST_PATIENCE).await {
        eprintln!("claw: the gateway did not hear that the agent has ended");
    }
}

async fn report(doors: SocketAddr, ready: bool, patience: Duration) -> bool {
    let answered = async {
        let request = client::post_json(doors, "/claw/v1/health", &Health { ready }).ok()?;
        let exchange = client::send(doors, request).await.ok()?;
        Some(exchange.status().is_success())
    };
    matches!(timeout(patience, answered).await, Ok(Some(true)))
}
