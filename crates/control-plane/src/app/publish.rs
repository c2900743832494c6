//! The state as nodes get it: a gateway's signed, a runner's plain, both made of one snapshot, each node its own part.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawstaff_api::nodes::{GatewayClaw, GatewayState, RunnerClaw, RunnerState, Signed};
use clawstaff_store::{ClawRow, Snapshot};
use clawstaff_types::{ClawName, NodeName, spec::Agent};

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

/// The state at one revision; what of it a node gets is cut out and signed when the node asks.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) revision: u64,
    snapshot: Snapshot,
}

impl Published {
    pub(crate) const fn of(snapshot: Snapshot) -> Self {
        Self {
            revision: snapshot.revision,
            snapshot,
        }
    }

    /// What the gateway of this node gets.
    pub(crate) fn for_gateway(&self, node: &NodeName, signer: &StateSigner) -> Result<Signed, Problem> {
        let payload = serde_json::to_string(&gateway_state(&self.snapshot, node))?;
        Ok(signer.sign(payload))
    }

    /// What the runner of this node gets.
    pub(crate) fn for_runner(&self, node: &NodeName) -> RunnerState {
        runner_state(&self.snapshot, node)
    }
}

impl App {
    /// Lets the nodes know the state as it is in the store now.
    pub(crate) async fn publish(&self) -> Result<(), Problem> {
        let snapshot = self.store.snapshot().await?;
        let published = Published::of(snapshot);
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

fn gateway_state(snapshot: &Snapshot, node: &NodeName) -> GatewayState {
    let claws: Vec<&ClawRow> = snapshot
        .claws
        .iter()
        .filter(|row| row.spec.place() == *node)
        .collect();
    let here = |claw: &ClawName| claws.iter().any(|row| row.spec.name == *claw);
    let grants = snapshot.grants.iter().filter(|row| here(&row.grant.claw));
    let messages = snapshot.messages.iter().filter(|message| here(&message.claw));
    let approvals = snapshot.approvals.iter().filter(|decision| here(&decision.claw));
    let claw = |row: &&ClawRow| GatewayClaw {
        cage: row.cage.clone(),
        revision: row.revision,
        spec: row.spec.clone(),
    };
    GatewayState {
        revision: snapshot.revision,
        node: node.clone(),
        connections: snapshot.connections.clone(),
        claws: claws.iter().map(claw).collect(),
        grants: grants.map(|row| row.grant.clone()).collect(),
        guardrails: snapshot.guardrails.clone(),
        messages: messages.cloned().collect(),
        approvals: approvals.cloned().collect(),
        sinks: snapshot.sinks.clone(),
    }
}

fn runner_state(snapshot: &Snapshot, node: &NodeName) -> RunnerState {
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
    let claws = snapshot.claws.iter().filter(|row| row.spec.place() == *node);
    RunnerState {
        revision: snapshot.revision,
        claws: claws.map(claw).collect(),
        destroyed: snapshot.destroyed.clone(),
    }
}

fn image(agent: &Agent) -> Option<String> {
    match agent {
        Agent::Builtin => None,
        Agent::Image { image, .. } => Some(image.clone()),
    }
}
