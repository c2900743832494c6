//! The state as nodes get it: the gateway's signed, the runner's plain, both made of one snapshot.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawstaff_api::nodes::{GatewayClaw, GatewayState, RunnerClaw, RunnerState, Signed};
use clawstaff_store::{ClawRow, Snapshot};
use clawstaff_types::spec::Agent;

use super::{context::App, problem::Problem};

/// What comes before the payload under a state signature, so that it can be taken for nothing else.
const CONTEXT: &[u8] = b"clawstaff/state/v1\n";

/// Signs gateway states.
#[derive(Debug)]
pub(crate) struct StateSigner(Ed25519KeyPair);

impl StateSigner {
    pub(crate) const fn new(pair: Ed25519KeyPair) -> Self {
        Self(pair)
    }

    /// The public key that nodes pin, base64.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    fn sign(&self, payload: String) -> Signed {
        let signature = self.0.sign(&[CONTEXT, payload.as_bytes()].concat());
        Signed {
            payload,
            signature: STANDARD.encode(signature.as_ref()),
        }
    }
}

/// The state at one revision, ready to send.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) revision: u64,
    pub(crate) gateway: Signed,
    pub(crate) runner: RunnerState,
}

impl Published {
    pub(crate) fn of(snapshot: &Snapshot, signer: &StateSigner) -> Result<Self, Problem> {
        let payload = serde_json::to_string(&gateway_state(snapshot))?;
        Ok(Self {
            revision: snapshot.revision,
            gateway: signer.sign(payload),
            runner: runner_state(snapshot),
        })
    }
}

impl App {
    /// Lets the nodes know the state as it is in the store now.
    pub(crate) async fn publish(&self) -> Result<(), Problem> {
        let snapshot = self.store.snapshot().await?;
        let published = Published::of(&snapshot, &self.signer)?;
        // Two may get here at once; the older one must not win.
        self.published.send_if_modified(|current| {
            let newer = published.revision >= current.revision;
            if newer {
                *current = Arc::new(published);
            }
            newer
        });
        Ok(())
    }
}

fn gateway_state(snapshot: &Snapshot) -> GatewayState {
    let claw = |row: &ClawRow| GatewayClaw {
        cage: row.cage.clone(),
        revision: row.revision,
        spec: row.spec.clone(),
    };
    GatewayState {
        revision: snapshot.revision,
        connections: snapshot.connections.clone(),
        claws: snapshot.claws.iter().map(claw).collect(),
        grants: snapshot.grants.iter().map(|row| row.grant.clone()).collect(),
        guardrails: snapshot.guardrails.clone(),
        messages: snapshot.messages.clone(),
        approvals: snapshot.approvals.clone(),
        sinks: snapshot.sinks.clone(),
    }
}

fn runner_state(snapshot: &Snapshot) -> RunnerState {
    let claw = |row: &ClawRow| RunnerClaw {
        claw: row.spec.name.clone(),
        cage: row.cage.clone(),
        revision: row.revision,
        generation: row.generation,
        desired: row.desired,
        image: image(&row.spec.agent),
        limits: row.spec.limits.clone(),
        needs_gateway_revision: row.revised_in,
        by: row.asked_by.to_string(),
    };
    RunnerState {
        revision: snapshot.revision,
        claws: snapshot.claws.iter().map(claw).collect(),
        destroyed: snapshot.destroyed.clone(),
    }
}

fn image(agent: &Agent) -> Option<String> {
    match agent {
        Agent::Builtin => None,
        Agent::Image { image, .. } => Some(image.clone()),
    }
}
