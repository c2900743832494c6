//! A call that a human must agree to: held while somebody may decide, and told how it stands when that takes long.
//!
//! Policy is asked again before every look, so that a grant that was taken away, or given, in the meantime counts.
//! A caller that is gone is not acted for: its approval stays for the same call made again.

use std::time::Duration;

use clawstaff_policy::{Held, Permit};
use http::StatusCode;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stops;
use crate::{
    approvals::{AskError, Ticket, Told, attend},
    decide::{self, NotAllowed, Question},
    map::Call,
    problem::Refusal,
    record::{Stop, Who},
    shared::Gateway,
};

/// When to make the same call again, in seconds.
const COME_BACK: u64 = 15;

/// The permit for a call: policy's at once, or policy's and a human's once both are there.
///
/// # Errors
/// When policy or the human says no, or nobody says anything for as long as a call is held.
pub(super) async fn permit(
    gateway: &Gateway,
    who: &Who,
    call: &Call,
    question: &Question,
    gone: &CancellationToken,
) -> Result<Permit, Stop> {
    let held = match ask_policy(gateway, who, call, question)? {
        Ok(permit) => return Ok(permit),
        Err(held) => held,
    };
    // Boxed: most calls wait for nobody and need not carry the room for it.
    Box::pin(wait(gateway, who, call, question, held, gone)).await
}

/// Policy's permit, or the call as held; a denial is a stop.
fn ask_policy(
    gateway: &Gateway,
    who: &Who,
    call: &Call,
    question: &Question,
) -> Result<Result<Permit, Box<Held>>, Stop> {
    match decide::decide(&gateway.state.load(), question, Timestamp::now()) {
        Ok(permit) => Ok(Ok(permit)),
        Err(NotAllowed::NeedsHuman(held)) => Ok(Err(held)),
        Err(NotAllowed::Denied { denial, resource }) => Err(stops::not_allowed(who, call, &denial, resource)),
    }
}

async fn wait(
    gateway: &Gateway,
    who: &Who,
    call: &Call,
    question: &Question,
    mut held: Box<Held>,
    gone: &CancellationToken,
) -> Result<Permit, Stop> {
    let let_go = Instant::now() + gateway.waits.human;
    let (mut news, mut revisions) = (gateway.approvals.watch(), gateway.revisions.subscribe());
    let mut ticket: Option<Ticket> = None;
    loop {
        news.mark_unchanged();
        revisions.mark_unchanged();
        if gone.is_cancelled() {
            return Err(waits(call, ticket.as_ref()));
        }
        let now = Timestamp::now();
        let asking = (who, call, held.as_ref());
        let told = gateway.approvals.ask(gateway, asking, ticket.as_ref(), now).await;
        let waiting = match told.map_err(|error| not_asked(who, call, &error))? {
            Told::Waiting(waiting) => waiting,
            Told::Approved(approval) => {
                return held.approve(approval, now).map_err(|error| {
                    tracing::warn!(%error, "an approval did not open its call");
                    waits(call, ticket.as_ref())
                });
            }
            Told::Denied(id) => return Err(stops::human_said_no(who, call, &id)),
            Told::Expired(id) => {
                attend(gateway).await;
                return Err(stops::nobody_decided(who, call, &id));
            }
            Told::Superseded => return Err(waits(call, ticket.as_ref())),
        };
        let left = Duration::try_from(now.duration_until(waiting.until)).unwrap_or_default();
        let due = let_go.min(Instant::now() + left);
        let over = let_go <= due;
        ticket = Some(waiting);
        tokio::select! {
            _ = news.changed() => {}
            _ = revisions.changed() => {}
            () = gone.cancelled() => {}
            () = tokio::time::sleep_until(due) => {
                if over {
                    return Err(waits(call, ticket.as_ref()));
                }
            }
        }
        held = match ask_policy(gateway, who, call, question)? {
            Ok(permit) => return Ok(permit),
            Err(held) => held,
        };
    }
}

/// Nobody has decided yet. That it waits is on record already.
fn waits(call: &Call, ticket: Option<&Ticket>) -> Stop {
    let which = ticket.map_or_else(String::new, |ticket| {
        format!(" (approval `{}`, until {})", ticket.id, ticket.until)
    });
    let detail = format!(
        "waiting for a human's approval of `{}`{which}; nothing was done yet. Make exactly the same call again \
         later: once it is approved, it is let through, one time",
        call.mapped.action
    );
    let mut refusal = Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "waiting-for-approval",
        "Waiting for approval",
        detail,
    );
    refusal.retry_after = Some(COME_BACK);
    Stop::Told(refusal)
}

fn not_asked(who: &Who, call: &Call, error: &AskError) -> Stop {
    match error {
        AskError::TooMany => stops::too_many_wait(who, call),
        AskError::Record(_) | AskError::Keep(_) => {
            tracing::error!(
                error = crate::settle::chain(error),
                "a call cannot be made to wait"
            );
            Stop::Told(Refusal::no_record())
        }
    }
}
