//! `apply`: compare, check that the result compiles as policy, and make it so unless only the difference was wanted.

use std::sync::Arc;

use clawstaff_api::people::{ApplyAnswer, ApplyRequest};
use clawstaff_policy::Policy;
use clawstaff_store::Snapshot;
use clawstaff_types::{Grant, Guardrail, MemberId};

use super::{
    change::Planned,
    context::App,
    diff::{Against, difference},
    mint::Mint,
    plan::Plan,
    problem::{Problem, chain},
};

impl App {
    /// Applies a spec, or says what applying it would change.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        by: MemberId,
        request: ApplyRequest,
    ) -> Result<ApplyAnswer, Problem> {
        let app = Arc::clone(self);
        let dry_run = request.dry_run;
        let done = self
            .change(move |now, mint| app.plan_apply(now, mint, by, &request))
            .await?;
        Ok(ApplyAnswer {
            changes: done.answer,
            applied: !dry_run,
            revision: done.revision,
        })
    }

    fn plan_apply(
        &self,
        now: &Snapshot,
        mint: Mint,
        by: MemberId,
        request: &ApplyRequest,
    ) -> Result<Planned<Vec<clawstaff_api::people::Change>>, Problem> {
        let against = Against {
            now,
            catalogue: &self.catalogue,
            mint,
            by: &by,
            prune: request.prune,
        };
        let difference = difference(&request.spec, against)?;
        compiles(now.revision, &difference.grants, &difference.guardrails)?;
        let plan = if request.dry_run {
            Plan::nothing(by)
        } else {
            difference.plan
        };
        Ok(Planned {
            plan,
            answer: difference.changes,
        })
    }
}

/// What the gateway could not compile must never be saved.
pub(crate) fn compiles(revision: u64, grants: &[Grant], guardrails: &[Guardrail]) -> Result<(), Problem> {
    match Policy::compile(revision.saturating_add(1), grants, guardrails) {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::refused(format!(
            "the grants and guardrails do not compile: {}",
            chain(&error)
        ))),
    }
}
