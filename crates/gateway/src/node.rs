//! The gateway's conversation with the control plane, which it dials; nothing dials in.
//!
//! ```text
//!   hello ─► state (long poll) ─► verify ─► compile ─► in force, kept in state.json, doors reconciled
//!         ├► log push ─► cosigned checkpoint kept
//!         ├► the control plane's own log ─► verify that it only grew ─► cosigned, kept
//!         └► status: at every change and every 10 s
//! ```
//!
//! Level-triggered throughout: whatever breaks, the gateway says hello again and goes on from what both sides
//! have. The control plane is not on the path of any call, and is believed only what its pinned key signed; a
//! guardrail file on this host wins over all of it.

mod client;
mod cosign;
mod guardrails;
mod messages;
mod push;
mod session;
mod states;
mod trust;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clawstaff_audit::SigningKey;
use clawstaff_types::NodeName;
pub(crate) use client::Client;
pub use client::ClientError;
pub use guardrails::GuardrailsError;
use states::States;
pub(crate) use states::places_of_credentials;
use tokio_util::sync::CancellationToken;

use crate::{confine::Confinement, shared::Gateway};

/// First and longest pause between attempts to reach the control plane.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Where it is, and where things are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The node that the gateway is on: a state for another one is refused.
    pub node: NodeName,
    /// `$DATA`; nothing in it is a credential.
    pub data: PathBuf,
    /// `$DATA/run/nodes.sock`
    pub socket: PathBuf,
    /// `$DATA/gateway/node.token`
    pub token: PathBuf,
    /// `$DATA/gateway/state_key`: the control plane's key, pinned when it was first seen.
    pub state_key: PathBuf,
    /// `$DATA/gateway/state.json`: the last good state, as it was signed.
    pub state: PathBuf,
    /// `$DATA/gateway/cosigned.checkpoint`
    pub cosigned: PathBuf,
    /// `$DATA/gateway/control.checkpoint`: what the gateway cosigned last of the control plane's log.
    pub control_checkpoint: PathBuf,
    /// `$DATA/gateway/control.vkey`: that log's key, pinned when it was first seen.
    pub control_vkey: PathBuf,
    /// `$DATA/gateway/guardrails.toml`, optional.
    pub guardrails: PathBuf,
}

/// Why the conversation ended although nobody asked it to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeEnd {
    /// A credential is to be read from a place that this process has given up.
    #[error("the gateway must start again to be allowed to read `{}`", .0.display())]
    MustRestart(PathBuf),
}

/// The client of the control plane.
#[derive(Debug)]
pub struct Node {
    gateway: Arc<Gateway>,
    paths: Paths,
    client: Client,
    states: States,
    log_key: SigningKey,
    confinement: Confinement,
}

impl Node {
    /// Reads the guardrails of this host and puts the last good state in force, so that the gateway works
    /// without a control plane.
    ///
    /// # Errors
    /// When the guardrail file is there and cannot be read: starting without it would allow more than it does.
    pub async fn prepare(
        gateway: Arc<Gateway>,
        paths: Paths,
        log_key: SigningKey,
        confinement: Confinement,
    ) -> Result<Self, GuardrailsError> {
        let guardrails = guardrails::load(&paths.guardrails)?;
        let client = Client::new(paths.socket.clone(), paths.token.clone());
        let states = States::new(guardrails);
        let node = Self {
            gateway,
            paths,
            client,
            states,
            log_key,
            confinement,
        };
        node.restore().await;
        Ok(node)
    }

    /// Talks to the control plane until `shutdown`.
    ///
    /// # Errors
    /// When the process must start again; see [`NodeEnd`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), NodeEnd> {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                ended = self.session() => ended,
            };
            match ended {
                session::End::Restart(end) => return Err(end),
                session::End::Broken { error, was_up } => {
                    if was_up {
                        pause = FIRST_PAUSE;
                    }
                    tracing::warn!(%error, "no control plane; working on under the last good state");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
