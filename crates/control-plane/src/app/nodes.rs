//! What gateway and runner say and ask: introduction, desired state, status.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use clawstaff_api::nodes::{GatewayHello, GatewayStatus, GatewayWelcome, RunnerStatus};
use clawstaff_audit::note::VerifyingKey;
use clawstaff_store::Snapshot;
use clawstaff_types::{ApprovalId, ClawName, NodeName, Outcome};
use jiff::Timestamp;

use super::{
    context::{App, log_of},
    event,
    problem::Problem,
    publish::Published,
};

/// How long a node waits for news before it asks again.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(25);
const MAX_REPORTED: usize = 10_000;

impl App {
    /// The gateway introduces itself. The key of its log is pinned by the first introduction.
    pub(crate) async fn gateway_hello(
        &self,
        node: &NodeName,
        hello: GatewayHello,
    ) -> Result<GatewayWelcome, Problem> {
        VerifyingKey::parse(&hello.log_vkey)
            .map_err(|error| Problem::invalid(format!("`log_vkey` is no verifier key: {error}")))?;
        // Two at once must not both be the first.
        let _alone = self.taking.lock().await;
        let pinned = self.store.pinned_log_key(node).await?;
        if let Some(pinned) = pinned.filter(|pinned| *pinned != hello.log_vkey) {
            return Err(other_key(&pinned, &hello.log_vkey));
        }
        let before = self.store.gateway(node).await?.map(|known| known.hello);
        if before.as_ref() == Some(&hello) {
            self.keep_hello(node, &hello).await?;
        } else {
            self.introduce(node, before.as_ref(), &hello).await?;
        }
        let known = self.store.log(&log_of(node)).await?;
        Ok(GatewayWelcome {
            state_key: self.signer.public(),
            log_vkey: self.log_key.vkey(),
            log_size: known.map_or(0, |log| log.indexed),
        })
    }

    /// The gateway says something new of itself. Its keys are what it is believed by, so that is on record.
    async fn introduce(
        &self,
        node: &NodeName,
        before: Option<&GatewayHello>,
        hello: &GatewayHello,
    ) -> Result<(), Problem> {
        let event = event::gateway(node, before, hello);
        let intents = self.recorder.intend(vec![event]).await?;
        let kept = self.keep_hello(node, hello).await;
        let outcome = match &kept {
            Ok(()) => Outcome::Succeeded,
            Err(_) => Outcome::Failed,
        };
        self.recorder.settle(intents, outcome).await?;
        kept
    }

    async fn keep_hello(&self, node: &NodeName, hello: &GatewayHello) -> Result<(), Problem> {
        let mut change = self.store.begin().await?;
        change.put_gateway_hello(node, hello, Timestamp::now()).await?;
        Ok(change.commit().await?)
    }

    /// A gateway reports. Messages that it has in its own inbox, and decisions it has made so, are dropped here. What
    /// it says of Claws that are elsewhere is not believed.
    pub(crate) async fn gateway_status(
        &self,
        node: &NodeName,
        mut status: GatewayStatus,
    ) -> Result<(), Problem> {
        let counts = [
            status.messages_taken.len(),
            status.ready.len(),
            status.waiting.len(),
            status.approvals_taken.len(),
        ];
        if counts.into_iter().any(|count| count > MAX_REPORTED) {
            return Err(Problem::invalid("the status names more things than there can be"));
        }
        if self.store.pinned_log_key(node).await?.is_none() {
            return Err(Problem::conflict("the gateway has to introduce itself first"));
        }
        let snapshot = self.store.snapshot().await?;
        only_its_own(&snapshot, node, &mut status);
        let mut change = self.store.begin().await?;
        change.put_gateway_status(node, &status, Timestamp::now()).await?;
        change.drop_messages(&status.messages_taken).await?;
        change.drop_decisions(&status.approvals_taken).await?;
        change.commit().await?;
        if !status.messages_taken.is_empty() || !status.approvals_taken.is_empty() {
            self.publish().await?;
        }
        Ok(())
    }

    /// A runner reports. What it says of cages that are elsewhere is not believed.
    pub(crate) async fn runner_status(
        self: &Arc<Self>,
        node: &NodeName,
        mut status: RunnerStatus,
    ) -> Result<(), Problem> {
        if status.cages.len() > MAX_REPORTED {
            return Err(Problem::invalid("the status names more cages than there can be"));
        }
        let snapshot = self.store.snapshot().await?;
        let elsewhere = |cage: &str| {
            let found = snapshot.claws.iter().find(|claw| claw.cage == cage);
            found.is_some_and(|claw| claw.spec.place() != *node)
        };
        status.cages.retain(|cage| !elsewhere(&cage.cage));
        let mut change = self.store.begin().await?;
        change.put_runner_status(node, &status, Timestamp::now()).await?;
        change.commit().await?;
        self.roll_back_what_failed(&status.cages).await;
        Ok(())
    }

    /// The newest state, once it is newer than `since`; `None` if that takes too long.
    pub(crate) async fn newer_state(&self, since: Option<u64>) -> Option<Arc<Published>> {
        let mut news = self.published.subscribe();
        let newer = async {
            let found = news
                .wait_for(|state| since.is_none_or(|since| state.revision > since))
                .await;
            found.map(|state| Arc::clone(&state)).ok()
        };
        tokio::select! {
            found = newer => found,
            () = tokio::time::sleep(LONG_POLL) => None,
            () = self.shutdown.cancelled() => None,
        }
    }
}

/// Leaves out of a gateway's status what is about Claws that are not on its node.
fn only_its_own(snapshot: &Snapshot, node: &NodeName, status: &mut GatewayStatus) {
    let here = |name: &ClawName| snapshot.claw(name).is_none_or(|claw| claw.spec.place() == *node);
    status.ready.retain(|claw, _| here(claw));
    status.waiting.retain(|call| here(&call.claw));
    let messages = snapshot.messages.iter().filter(|message| !here(&message.claw));
    let others: BTreeSet<&str> = messages.map(|message| message.id.as_str()).collect();
    status.messages_taken.retain(|id| !others.contains(id.as_str()));
    let decisions = snapshot.approvals.iter().filter(|decision| !here(&decision.claw));
    let others: BTreeSet<&ApprovalId> = decisions.map(|decision| &decision.id).collect();
    status.approvals_taken.retain(|id| !others.contains(id));
}

fn other_key(pinned: &str, offered: &str) -> Problem {
    Problem::conflict(format!(
        "this gateway signs its log as `{offered}`, but the control plane has pinned `{pinned}` from this node's first gateway"
    ))
    .hint("if the gateway's log was lost or replaced on purpose, start with a new control plane data directory; if not, somebody runs another gateway")
}
