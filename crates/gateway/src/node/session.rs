//! One conversation with the control plane: from hello to the first thing that breaks.

use std::{convert::Infallible, time::Duration};

use clawstaff_api::nodes::{
    GATEWAY_HELLO, GATEWAY_STATE, GATEWAY_STATUS, GatewayHello, GatewayStatus, GatewayWelcome, LogCost,
    Signed,
};
use clawstaff_audit::Cosigner;
use std::sync::PoisonError;

use crate::approvals;

use super::{ClientError, Node, NodeEnd, trust::StateKey};

/// The control plane holds a long poll for 25 s.
const POLL_TIME: Duration = Duration::from_secs(40);
const ANSWER_TIME: Duration = Duration::from_secs(15);
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at a state that was refused, whatever the control plane answers.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Protocol(String),
    #[error("{0}")]
    Own(String),
}

impl Broken {
    pub(super) fn own(error: impl std::fmt::Display) -> Self {
        Self::Own(error.to_string())
    }
}

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// Try again.
    Broken { error: Broken, was_up: bool },
    /// This process cannot go on.
    Restart(NodeEnd),
}

impl Node {
    /// Says hello, then keeps state, both logs and status going until one of them breaks.
    pub(super) async fn session(&self) -> End {
        let greeted = self.hello().await.and_then(|(welcome, key)| {
            let log_key = self.pin_control_log(&welcome.log_vkey)?;
            Ok((welcome, key, log_key))
        });
        let (welcome, key, log_key) = match greeted {
            Ok(greeted) => greeted,
            Err(error) => return End::Broken { error, was_up: false },
        };
        tracing::info!(log_size = welcome.log_size, "the control plane answers");
        let witness = Cosigner::of(&log_key);
        tokio::select! {
            end = self.follow_state(&key) => end,
            Err(error) = self.push_log(welcome.log_size, &witness) => End::Broken { error, was_up: true },
            Err(error) = self.cosign_control(&log_key) => End::Broken { error, was_up: true },
            Err(error) = self.report() => End::Broken { error, was_up: true },
        }
    }

    async fn hello(&self) -> Result<(GatewayWelcome, StateKey), Broken> {
        let hello = GatewayHello {
            log_vkey: self.log_key.vkey(),
            seal_key: self.gateway.seal_key.public().to_string(),
            ingress: self.gateway.instance.ingress.clone(),
        };
        let welcome: Option<GatewayWelcome> = self.client.post(GATEWAY_HELLO, &hello, ANSWER_TIME).await?;
        let welcome =
            welcome.ok_or_else(|| Broken::Protocol("hello was answered with nothing".to_owned()))?;
        let key = StateKey::parse(&welcome.state_key).and_then(|key| key.pin(&self.paths.state_key));
        match key {
            Ok(key) => Ok((welcome, key)),
            Err(error) => {
                tracing::error!(%error, "REFUSING this control plane");
                Err(Broken::Protocol(error.to_string()))
            }
        }
    }

    async fn follow_state(&self, key: &StateKey) -> End {
        // The newest revision that was looked at, so that a refused one is not asked for again and again.
        let mut seen = self.revision();
        loop {
            let path = format!("{GATEWAY_STATE}?since={seen}");
            let signed = match self.client.get::<Signed>(&path, POLL_TIME).await {
                Ok(Some(signed)) => signed,
                Ok(None) => continue,
                Err(error) => {
                    return End::Broken {
                        error: error.into(),
                        was_up: true,
                    };
                }
            };
            if let Err(end) = self.take(&signed, key).await {
                self.final_report().await;
                return End::Restart(end);
            }
            if self.states.refused().is_some() {
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            let offered = key.open(&signed).map_or(seen, |state| state.revision);
            seen = self.revision().max(offered).max(seen);
        }
    }

    /// Takes messages and reports, at every change and every [`STATUS_EVERY`].
    async fn report(&self) -> Result<Infallible, Broken> {
        let mut changed = self.states.watch();
        let mut ready = self.gateway.ready.watch();
        let mut approvals = self.gateway.approvals.watch();
        loop {
            changed.mark_unchanged();
            ready.mark_unchanged();
            approvals.mark_unchanged();
            self.take_messages().await;
            self.send_status().await?;
            tokio::select! {
                _ = changed.changed() => {}
                _ = ready.changed() => {}
                _ = approvals.changed() => {}
                () = tokio::time::sleep(STATUS_EVERY) => {}
            }
        }
    }

    async fn final_report(&self) {
        if let Err(error) = self.send_status().await {
            tracing::warn!(%error, "the last status before the restart did not get through");
        }
    }

    fn log_cost(&self) -> LogCost {
        let (log, cost) = (&self.gateway.log, self.gateway.log.cost());
        LogCost {
            entries: log.size(),
            counted: cost.entries,
            bytes: cost.bytes,
            micros: u64::try_from(cost.time.as_micros()).unwrap_or(u64::MAX),
        }
    }

    async fn send_status(&self) -> Result<(), Broken> {
        let taken = self
            .states
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect();
        let waiting = self.gateway.approvals.waiting().await;
        let status = GatewayStatus {
            revision: self.revision(),
            refused: self.states.refused(),
            messages_taken: taken,
            ready: self.gateway.ready.all(),
            approvals_taken: approvals::taken(&self.gateway.state.load(), &waiting),
            waiting,
            sinks: self.gateway.sinks.all(),
            log: self.log_cost(),
        };
        self.client
            .post::<_, serde_json::Value>(GATEWAY_STATUS, &status, ANSWER_TIME)
            .await?;
        Ok(())
    }
}
