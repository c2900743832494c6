//! Grants one by one: seeing them, giving one more, taking one away.

use std::{collections::BTreeMap, sync::Arc};

use clawstaff_api::people::GrantRequest;
use clawstaff_store::{GrantOrigin, Snapshot};
use clawstaff_types::{ClawName, Grant, GrantId, MemberId};

use super::{
    apply::compiles,
    change::Planned,
    claws::required,
    context::App,
    diff::{give, grant_of, take, terms},
    mint::Mint,
    plan::Plan,
    problem::Problem,
    validate,
};

impl App {
    /// The unrevoked grants, of one Claw or of all.
    pub(crate) async fn grants(&self, claw: Option<&ClawName>) -> Result<Vec<Grant>, Problem> {
        let snapshot = self.store.snapshot().await?;
        if let Some(name) = claw {
            required(&snapshot, name)?;
        }
        let wanted = |grant: &Grant| claw.is_none_or(|name| grant.claw == *name);
        let grants = snapshot.grants.into_iter().map(|row| row.grant);
        Ok(grants.filter(wanted).collect())
    }

    /// Gives a Claw one more grant, which stays until it is revoked.
    pub(crate) async fn add_grant(
        self: &Arc<Self>,
        by: MemberId,
        request: GrantRequest,
    ) -> Result<Grant, Problem> {
        let app = Arc::clone(self);
        let done = self
            .change(move |now, mint| app.plan_grant(now, mint, by, &request))
            .await?;
        Ok(done.answer)
    }

    fn plan_grant(
        &self,
        now: &Snapshot,
        mint: Mint,
        by: MemberId,
        request: &GrantRequest,
    ) -> Result<Planned<Grant>, Problem> {
        let claw = required(now, &request.claw)?;
        let connections: BTreeMap<_, _> = now.connections.iter().map(|one| (&one.name, one)).collect();
        validate::grant(terms(&request.grant), &connections, &self.catalogue)?;
        let grant = grant_of(&request.grant, &request.claw, mint, &by)?;
        let mut grants: Vec<Grant> = now.grants.iter().map(|row| row.grant.clone()).collect();
        grants.push(grant.clone());
        compiles(now.revision, &grants, &now.guardrails)?;
        let mut plan = Plan::nothing(by);
        give(&claw.cage, grant.clone(), GrantOrigin::Hand, &mut plan);
        Ok(Planned { plan, answer: grant })
    }

    /// Takes a grant away, whoever gave it.
    pub(crate) async fn revoke_grant(self: &Arc<Self>, by: MemberId, id: GrantId) -> Result<(), Problem> {
        self.change(move |now, _| plan_revocation(now, by, &id)).await?;
        Ok(())
    }
}

fn plan_revocation(now: &Snapshot, by: MemberId, id: &GrantId) -> Result<Planned<()>, Problem> {
    let row = now.grants.iter().find(|row| row.grant.id == *id);
    let row =
        row.ok_or_else(|| Problem::not_found(format!("there is no grant `{id}`, or it is revoked already")))?;
    let mut plan = Plan::nothing(by);
    take(row, &mut plan);
    Ok(Planned { plan, answer: () })
}
