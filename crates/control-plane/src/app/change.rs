//! The only road by which desired state changes, one change at a time:
//!
//! ```text
//! read ─► decide (pure) ─► record intents ─► one transaction ─► publish to the nodes ─► record outcomes ─► answer
//! ```
//!
//! It runs in a task of its own, so that a caller who hangs up leaves no half-made change.

use std::sync::Arc;

use clawstaff_store::{Change, NewClaw, Snapshot};
use clawstaff_types::{Event, MemberId, Outcome};
use jiff::Timestamp;

use super::{
    context::App,
    event::digest,
    mint::Mint,
    plan::{Plan, Step},
    problem::Problem,
};

/// A plan, and what the caller gets once it is done.
#[derive(Debug)]
pub(crate) struct Planned<T> {
    pub(crate) plan: Plan,
    pub(crate) answer: T,
}

/// A plan that was carried out.
#[derive(Debug)]
pub(crate) struct Done<T> {
    pub(crate) answer: T,
    /// The state revision now.
    pub(crate) revision: u64,
}

impl App {
    /// Lets `decide` look at the state and makes the change it plans.
    pub(crate) async fn change<T, F>(self: &Arc<Self>, decide: F) -> Result<Done<T>, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Snapshot, Mint) -> Result<Planned<T>, Problem> + Send + 'static,
    {
        let app = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _alone = app.changing.lock().await;
            let now = app.store.snapshot().await?;
            let mint = Mint {
                now: Timestamp::now(),
            };
            let planned = decide(&now, mint)?;
            let revision = app.carry_out(planned.plan, &now, mint.now).await?;
            Ok(Done {
                answer: planned.answer,
                revision,
            })
        });
        task.await.map_err(|error| Problem::internal(&error))?
    }

    async fn carry_out(&self, plan: Plan, now: &Snapshot, at: Timestamp) -> Result<u64, Problem> {
        if plan.steps.is_empty() {
            return Ok(now.revision);
        }
        let expected = now.revision.saturating_add(1);
        let events = plan.events.into_iter().map(|event| in_revision(event, expected));
        let intents = self.recorder.intend(events.collect()).await?;
        let revision = match self.commit(&plan.steps, &plan.by, at).await {
            Ok(revision) => revision,
            Err(problem) => {
                self.recorder.settle(intents, Outcome::Failed).await?;
                return Err(problem);
            }
        };
        let published = self.publish().await;
        self.recorder
            .settle(intents, Outcome::Succeeded)
            .await
            .map_err(|problem| done_but_unrecorded(&problem))?;
        published.map(|()| revision)
    }

    async fn commit(&self, steps: &[Step], by: &MemberId, at: Timestamp) -> Result<u64, Problem> {
        let mut change = self.store.begin().await?;
        let revision = change.raise_revision().await?;
        for step in steps {
            make(&mut change, step, by, at, revision).await?;
        }
        change.commit().await?;
        Ok(revision)
    }
}

fn in_revision(mut event: Event, revision: u64) -> Event {
    event.policy_revision = Some(revision);
    event
}

/// The change was made; only its outcome is missing from the log. The next start records it as unknown.
fn done_but_unrecorded(problem: &Problem) -> Problem {
    tracing::error!(problem = %problem.0.detail, "a change was made, but its outcome could not be recorded");
    Problem::unavailable("the change was recorded and made, but its outcome could not be recorded")
        .hint("make room on the disk of the control plane's data directory")
}

async fn make(
    change: &mut Change,
    step: &Step,
    by: &MemberId,
    at: Timestamp,
    state: u64,
) -> Result<(), Problem> {
    match step {
        Step::PutConnection(connection) => change.put_connection(connection).await?,
        Step::RemoveConnection(name) => change.remove_connection(name).await?,
        Step::PutGuardrail(guardrail) => change.put_guardrail(guardrail).await?,
        Step::RemoveGuardrail(name) => change.remove_guardrail(name).await?,
        Step::PutSink(sink) => change.put_sink(sink).await?,
        Step::RemoveSink(name) => change.remove_sink(name).await?,
        Step::AddClaw { cage, spec } => {
            let claw = NewClaw {
                cage,
                spec,
                digest: digest(spec),
                at,
                by,
                state,
            };
            change.add_claw(&claw).await?;
        }
        Step::ReviseClaw { cage, spec, revision } => {
            let claw = NewClaw {
                cage,
                spec,
                digest: digest(spec),
                at,
                by,
                state,
            };
            change.revise_claw(&claw, *revision).await?;
        }
        Step::Wish {
            cage,
            desired,
            generation,
        } => {
            change.wish(cage, *desired, *generation, by, state).await?;
        }
        Step::DestroyClaw { name, cage } => change.destroy_claw(name, cage, by, at, state).await?,
        Step::AddGrant { cage, grant, origin } => change.add_grant(cage, grant, *origin, at).await?,
        Step::AdoptGrant(id) => change.adopt_grant(id).await?,
        Step::RevokeGrant(id) => change.revoke_grant(id, by, at).await?,
        Step::AddMessage(message) => change.add_message(message, at).await?,
        Step::Decide(decision) => change.add_decision(decision).await?,
    }
    Ok(())
}
