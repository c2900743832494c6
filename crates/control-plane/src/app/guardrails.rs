//! Guardrails one by one.

use std::sync::Arc;

use clawstaff_store::Snapshot;
use clawstaff_types::{Grant, Guardrail, GuardrailName, MemberId};

use super::{
    apply::compiles,
    change::Planned,
    context::App,
    event,
    plan::{Plan, Step},
    problem::Problem,
    validate,
};

impl App {
    /// The guardrails, by name.
    pub(crate) async fn guardrails(&self) -> Result<Vec<Guardrail>, Problem> {
        Ok(self.store.snapshot().await?.guardrails)
    }

    /// Adds one. A name that is taken is a conflict, so that nothing is widened by accident.
    pub(crate) async fn add_guardrail(
        self: &Arc<Self>,
        by: MemberId,
        guardrail: Guardrail,
    ) -> Result<Guardrail, Problem> {
        let app = Arc::clone(self);
        let done = self
            .change(move |now, _| app.plan_guardrail(now, by, guardrail))
            .await?;
        Ok(done.answer)
    }

    fn plan_guardrail(
        &self,
        now: &Snapshot,
        by: MemberId,
        guardrail: Guardrail,
    ) -> Result<Planned<Guardrail>, Problem> {
        validate::guardrail(&guardrail, &self.catalogue)?;
        if now.guardrails.iter().any(|one| one.name == guardrail.name) {
            let text = format!("there is a guardrail `{}` already", guardrail.name);
            return Err(Problem::conflict(text).hint("remove it first, or change it with `clawstaff apply`"));
        }
        let grants: Vec<Grant> = now.grants.iter().map(|row| row.grant.clone()).collect();
        let mut guardrails = now.guardrails.clone();
        guardrails.push(guardrail.clone());
        compiles(now.revision, &grants, &guardrails)?;
        let mut plan = Plan::nothing(by);
        let event = event::guardrail(&plan.by, None, Some(&guardrail));
        plan.step(Step::PutGuardrail(guardrail.clone()), event);
        Ok(Planned {
            plan,
            answer: guardrail,
        })
    }

    /// Removes one.
    pub(crate) async fn remove_guardrail(
        self: &Arc<Self>,
        by: MemberId,
        name: GuardrailName,
    ) -> Result<(), Problem> {
        self.change(move |now, _| plan_removal(now, by, &name)).await?;
        Ok(())
    }
}

fn plan_removal(now: &Snapshot, by: MemberId, name: &GuardrailName) -> Result<Planned<()>, Problem> {
    let old = now.guardrails.iter().find(|one| one.name == *name);
    let old = old.ok_or_else(|| Problem::not_found(format!("there is no guardrail `{name}`")))?;
    let mut plan = Plan::nothing(by);
    let event = event::guardrail(&plan.by, Some(old), None);
    plan.step(Step::RemoveGuardrail(name.clone()), event);
    Ok(Planned { plan, answer: () })
}
