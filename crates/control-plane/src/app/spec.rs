//! The spec file back: what is, in the shape in which it is asked for.

use clawstaff_api::people::{ClawInput, GrantInput, Spec};
use clawstaff_store::{ClawRow, GrantOrigin, GrantRow, Snapshot};

use super::{context::App, problem::Problem};

impl App {
    /// Everything that is asked for at the moment.
    pub(crate) async fn spec(&self) -> Result<Spec, Problem> {
        Ok(spec_of(&self.store.snapshot().await?))
    }
}

/// Grants that follow from a model are left out: they follow again.
pub(crate) fn spec_of(snapshot: &Snapshot) -> Spec {
    let input = |claw: &ClawRow| {
        let own = snapshot.grants_of(&claw.spec.name);
        ClawInput {
            spec: claw.spec.clone(),
            grants: own
                .filter(|row| row.origin != GrantOrigin::Model)
                .map(grant_input)
                .collect(),
        }
    };
    Spec {
        connections: snapshot.connections.clone(),
        guardrails: snapshot.guardrails.clone(),
        claws: snapshot.claws.iter().map(input).collect(),
    }
}

fn grant_input(row: &GrantRow) -> GrantInput {
    let grant = &row.grant;
    GrantInput {
        connection: grant.connection.clone(),
        actions: grant.actions.clone(),
        resources: grant.resources.clone(),
        conditions: grant.conditions.clone(),
        mode: grant.mode,
        expires: grant.expires,
    }
}
