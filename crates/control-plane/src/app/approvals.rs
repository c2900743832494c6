//! Calls that wait for a human: which they are, and a member's yes or no to one of them.
//!
//! The gateway says what waits and makes decisions so; here is only who may decide what. A yes may come with a
//! grant, and then allows such calls from now on: that takes the permission to change grants.

use std::{sync::Arc, time::Duration};

use clawstaff_api::{
    nodes::{Answer, MemberDecision, WaitingCall},
    people::ApprovalView,
};
use clawstaff_store::{GrantOrigin, GrantRow, Snapshot};
use clawstaff_types::{ApprovalId, Grant, MemberId, Mode, ResourcePattern};
use jiff::SignedDuration;

use super::{
    apply::compiles, change::Planned, claws::required, context::App, diff::give, event, mint::Mint,
    plan::Plan, plan::Step, problem::Problem,
};

/// A yes to one call is good for this long.
const YES_LASTS: SignedDuration = SignedDuration::from_hours(1);
/// The longest "for a while".
const LONGEST_WHILE: Duration = Duration::from_hours(24 * 366);

/// What a member says to a waiting call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    /// Yes, this once.
    Once,
    /// Yes, and from now on, for so long or for ever.
    FromNowOn(Option<Duration>),
    /// No.
    No,
}

impl App {
    /// The calls that wait, oldest first, with what was decided and is on its way to the gateway.
    pub(crate) async fn approvals(&self) -> Result<Vec<ApprovalView>, Problem> {
        let decisions = self.store.snapshot().await?.approvals;
        let waiting = self.waiting().await?;
        let view = |call: &WaitingCall| {
            let decision = decisions.iter().find(|decision| decision.id == call.id);
            shown(call, decision)
        };
        Ok(waiting.iter().map(view).collect())
    }

    /// Takes a member's decision down and sends it to the gateway.
    pub(crate) async fn decide(
        self: &Arc<Self>,
        by: MemberId,
        id: ApprovalId,
        said: Said,
    ) -> Result<ApprovalView, Problem> {
        let waiting = self.waiting().await?;
        let call = waiting.into_iter().find(|call| call.id == id);
        let call = call.ok_or_else(|| {
            Problem::not_found(format!(
                "no call waits as `{id}`: it was decided, its time ran out, or its grant was taken away"
            ))
            .hint("what became of it is in the log: `clawstaff audit query --kind approval.granted,approval.denied,approval.expired`")
        })?;
        let done = self
            .change(move |now, mint| plan(now, mint, by, &call, said))
            .await?;
        Ok(done.answer)
    }

    async fn waiting(&self) -> Result<Vec<WaitingCall>, Problem> {
        let gateways = self.store.gateways().await?;
        let mut waiting: Vec<WaitingCall> = gateways
            .into_values()
            .flat_map(|one| one.status.waiting)
            .collect();
        waiting.sort_by_key(|call| call.asked);
        Ok(waiting)
    }
}

fn plan(
    now: &Snapshot,
    mint: Mint,
    by: MemberId,
    call: &WaitingCall,
    said: Said,
) -> Result<Planned<ApprovalView>, Problem> {
    let claw = required(now, &call.claw)?;
    if let Some(before) = now.approvals.iter().find(|decision| decision.id == call.id) {
        let text = format!("`{}` was decided by `{}` at {}", call.id, before.by, before.at);
        return Err(Problem::conflict(text));
    }
    if mint.now >= call.until {
        return Err(Problem::conflict(format!(
            "`{}` waited until {}, and nobody decided",
            call.id, call.until
        )));
    }
    let mut plan = Plan::nothing(by.clone());
    let answer = match said {
        Said::No => Answer::Deny,
        Said::Once => {
            asking(now, call)?;
            Answer::Once {
                expires: mint.now.checked_add(YES_LASTS).unwrap_or(mint.now),
            }
        }
        Said::FromNowOn(lasts) => {
            let grant = from_now_on(asking(now, call)?, call, mint, lasts, &by)?;
            let mut grants: Vec<Grant> = now.grants.iter().map(|row| row.grant.clone()).collect();
            grants.push(grant.clone());
            compiles(now.revision, &grants, &now.guardrails)?;
            give(&claw.cage, grant.clone(), GrantOrigin::Hand, &mut plan);
            Answer::Grant { grant: grant.id }
        }
    };
    let decision = MemberDecision {
        id: call.id.clone(),
        claw: call.claw.clone(),
        digest: call.digest,
        by: by.clone(),
        at: mint.now,
        answer,
    };
    let view = shown(call, Some(&decision));
    let event = event::decision(&by, call, &decision.answer);
    plan.step(Step::Decide(decision), event);
    Ok(Planned { plan, answer: view })
}

/// The grant that asks, if it still is one.
fn asking<'a>(now: &'a Snapshot, call: &'a WaitingCall) -> Result<&'a Grant, Problem> {
    let asks = |row: &&GrantRow| row.grant.mode == Mode::Ask && call.grants.contains(&row.grant.id);
    let found = now.grants_of(&call.claw).find(asks);
    found.map(|row| &row.grant).ok_or_else(|| {
        Problem::conflict(format!(
            "`{}`: the grant that asks was taken away, so there is nothing to approve",
            call.id
        ))
    })
}

/// What the asking grant allows once a human agrees, narrowed to the action and resource of this call, and allowed.
fn from_now_on(
    asks: &Grant,
    call: &WaitingCall,
    mint: Mint,
    lasts: Option<Duration>,
    by: &MemberId,
) -> Result<Grant, Problem> {
    let ends = match lasts {
        None => asks.expires,
        Some(lasts) if lasts.is_zero() || lasts > LONGEST_WHILE => {
            return Err(Problem::invalid(
                "a while is between a second and a year: `--for 1h`",
            ));
        }
        Some(lasts) => {
            let end = mint
                .now
                .checked_add(lasts)
                .map_err(|error| Problem::invalid(error.to_string()))?;
            Some(asks.expires.map_or(end, |most| most.min(end)))
        }
    };
    Ok(Grant {
        id: mint.grant()?,
        claw: call.claw.clone(),
        connection: call.connection.clone(),
        actions: vec![call.action.to_string().parse()?],
        resources: match &call.resource {
            Some(resource) => vec![ResourcePattern::Exactly(resource.clone())],
            None => asks.resources.clone(),
        },
        conditions: asks.conditions.clone(),
        mode: Mode::Allow,
        expires: ends,
        granted_by: by.clone(),
    })
}

fn shown(call: &WaitingCall, decision: Option<&MemberDecision>) -> ApprovalView {
    ApprovalView {
        id: call.id.clone(),
        claw: call.claw.clone(),
        connection: call.connection.clone(),
        action: call.action.clone(),
        resource: call.resource.clone(),
        grants: call.grants.clone(),
        on_behalf_of: call.on_behalf_of.clone(),
        digest: call.digest,
        asked: call.asked,
        until: call.until,
        decided: decision.map(|decision| event::answer_text(&decision.answer).to_owned()),
        decided_by: decision.map(|decision| decision.by.clone()),
    }
}
