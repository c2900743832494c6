//! A new revision that does not run is taken back: the last revision that ran well becomes the newest one.
//!
//! The runner says when it has given a revision up and which one ran well before; it says so until something
//! changes, so that nothing has to be remembered here. A revision with the very spec of the good one is never taken
//! back again: what fails now is something else.

use std::sync::Arc;

use clawstaff_api::nodes::{CageStatus, Desired, Phase};
use clawstaff_store::{ClawRow, Snapshot};
use clawstaff_types::{Actor, spec::ClawSpec};

use super::{change::Planned, context::App, mint::Mint, problem::Problem, record::SYSTEM};

/// The longest reason of a record, in characters.
const MAX_REASON: usize = 300;

impl App {
    /// Takes back every revision that the runner has given up and that has a good predecessor.
    pub(crate) async fn roll_back_what_failed(self: &Arc<Self>, cages: &[CageStatus]) {
        for cage in cages.iter().filter(|cage| cage.phase == Phase::Failed) {
            let Some(good) = cage.good.filter(|good| *good < cage.revision) else {
                continue;
            };
            if let Err(problem) = self.roll_back_failed(cage, good).await {
                tracing::error!(claw = %cage.claw, problem = %problem.0.detail, "a failed revision was not taken back");
            }
        }
    }

    async fn roll_back_failed(self: &Arc<Self>, failed: &CageStatus, good: u32) -> Result<(), Problem> {
        let snapshot = self.store.snapshot().await?;
        let Some(earlier) = self.store.claw_revision(&failed.cage, good).await? else {
            return Ok(());
        };
        if to_take_back(&snapshot, failed, &earlier.spec).is_none() {
            return Ok(());
        }
        let (app, failed) = (Arc::clone(self), failed.clone());
        self.change(move |now, mint| app.plan_recovery(now, mint, &failed, good, earlier.spec))
            .await
            .map(drop)
    }

    fn plan_recovery(
        &self,
        now: &Snapshot,
        mint: Mint,
        failed: &CageStatus,
        good: u32,
        spec: ClawSpec,
    ) -> Result<Planned<()>, Problem> {
        let claw = to_take_back(now, failed, &spec)
            .ok_or_else(|| Problem::conflict(format!("claw `{}` was changed meanwhile", failed.claw)))?;
        let mut planned = self.plan_rollback(now, mint, claw.asked_by.clone(), spec)?;
        let why = failed.reason.as_deref().unwrap_or("it does not run");
        let reason = format!("revision {} is taken back to {good}: {why}", failed.revision);
        for event in &mut planned.plan.events {
            event.actor = Actor::System(SYSTEM.to_owned());
            event.reason = Some(reason.chars().take(MAX_REASON).collect());
        }
        Ok(planned)
    }
}

/// The Claw, if what failed is still what is wanted of it, and is not the good spec itself.
fn to_take_back<'a>(now: &'a Snapshot, failed: &CageStatus, good: &ClawSpec) -> Option<&'a ClawRow> {
    now.claws.iter().find(|claw| {
        claw.cage == failed.cage
            && claw.revision == failed.revision
            && claw.desired == Desired::Running
            && claw.spec != *good
    })
}
