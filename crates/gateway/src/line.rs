//! line: the life of an action, straight, once, for every door.
//!
//! Each step needs what the one before it made, and the two that matter most (a permit, a receipt) can be made
//! in their own crates only. A step's no becomes a [`Stop`] (in [`stops`]), which is recorded here too.

mod human;
pub(crate) mod stops;
pub(crate) mod subject;

use std::sync::Arc;

use bytes::Bytes;
use clawstaff_connectors::Protocol;
use clawstaff_types::{ClawName, spec::Budget};
use http::{Response, StatusCode};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    body::Body,
    honeytoken, inject,
    limits::Place,
    map,
    map::Route,
    mcp, model,
    parse::{self, Via},
    problem::Refusal,
    record::{self, Stop, Who},
    settle::Settling,
    shared::Gateway,
};

/// What a door hands to the line.
#[derive(Debug)]
pub(crate) struct Ask<B> {
    /// Whose door it is.
    pub(crate) claw: ClawName,
    /// What the connection already said about the destination.
    pub(crate) via: Via,
    /// How the connection is found.
    pub(crate) route: Route,
    /// The request.
    pub(crate) request: http::Request<B>,
    /// The largest body taken, in bytes.
    pub(crate) max_body: usize,
}

/// Walks the line. The walk goes on to its end, outcome included, even if nobody waits for it any more; only what
/// waits for a human is not done for a caller that is gone.
///
/// # Errors
/// A refusal, recorded already.
pub(crate) async fn walk<B>(gateway: &Arc<Gateway>, ask: Ask<B>) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    let Some(place) = gateway.limits.place(&ask.claw).await else {
        return Err(crowded());
    };
    let gateway = Arc::clone(gateway);
    // Cancelled when this future ends or is dropped: nobody waits for the answer any more.
    let gone = CancellationToken::new();
    let _waits = gone.clone().drop_guard();
    // Boxed, so that starting a task moves a pointer and not the state of the whole walk.
    let walk = Box::pin(async move {
        let who = Who::now(&gateway, &gateway.state.load(), &ask.claw);
        match straight(&gateway, &who, Arc::clone(&place), ask, &gone).await {
            Ok(response) => Ok(response),
            Err(stop) => Err(told(&gateway, &who, stop).await),
        }
    });
    tokio::spawn(walk).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a walk ended abruptly");
        Err(Refusal::internal())
    })
}

async fn straight<B>(
    gateway: &Arc<Gateway>,
    who: &Who,
    place: Place,
    ask: Ask<B>,
    gone: &CancellationToken,
) -> Result<Response<Body>, Stop>
where
    B: http_body::Body<Data = Bytes>,
{
    let request = parse::canonical(&ask.via, ask.request, ask.max_body, gateway.waits.body)
        .await
        .map_err(|error| stops::unparsed(who, &ask.via, &ask.route, &error))?;
    // The body may have taken its time: what counts is the state in force now.
    let (state, now) = (&*gateway.state.load_full(), Timestamp::now());
    let who = &Who::now(gateway, state, &who.claw);
    let keys = subject::keys(gateway, who).map_err(|error| stops::no_key(&error))?;
    let seen = honeytoken::sightings(gateway, state, &request);
    let mapped = map::call(state, &who.claw, keys.for_mapping(), &ask.route, request, now);
    let mapped = honeytoken::checked(gateway, who, seen, mapped).await?;
    let call = mapped.map_err(|error| stops::unmapped(who, &error))?;
    let mut question = call.question(who);
    let permit = human::permit(gateway, who, &call, &question, gone).await?;
    question.approved = permit.approved().is_some();
    let budget = state
        .claw(&who.claw)
        .map_or_else(Budget::default, |claw| claw.spec.budget.clone());
    let need = model::need(gateway, state, who, &call)
        .map_err(|over| stops::over_limit(who, &call, &permit, over))?;
    let under = |id| state.budget_of(id).map(|budget| (id, budget));
    let grants: Vec<_> = permit.grants().iter().map(under).collect();
    let spend = gateway
        .budgets
        .reserve((&who.claw, &budget), &grants, need, now)
        .map_err(|over| stops::over_budget(who, &call, &permit, &over))?;
    let intent = record::intent(gateway, who, &call, &permit, &spend)
        .await
        .map_err(|error| stops::unrecorded(&error))?;
    let kept = subject::keep_request(gateway, &intent, &keys, &call).await;
    let link = Arc::clone(&call.link);
    let injected = inject::inject(&gateway.vault, permit, &intent.receipt, call).await;
    let settling = Settling::new(Arc::clone(gateway), intent, spend, place, keys, question);
    if let Err(error) = kept {
        return Err(settling.not_kept(&error).await);
    }
    let credentialed = match injected {
        Ok(credentialed) => credentialed,
        Err(error) => return Err(settling.not_injected(error).await),
    };
    let sent = match link.connector.protocol() {
        Protocol::Http | Protocol::Git => gateway.upstream.send(credentialed, &gateway.waits).await,
        Protocol::Mcp => mcp::send(gateway, &link, (&who.claw, &ask.route.talk()), credentialed).await,
    };
    match sent {
        Ok(answered) => Box::pin(settling.answered(answered)).await,
        Err(error) => Err(settling.not_forwarded(error).await),
    }
}

/// The cage has too many calls under way, so this one was not even read.
fn crowded() -> Refusal {
    let mut refusal = Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "crowded",
        "Too many calls at once",
        "this Claw has 32 calls under way already and none ended in time; this one was not begun",
    );
    refusal.retry_after = Some(5);
    refusal
}

/// Records a refusal and gives what the cage reads. Without a record even a no is not given as a no.
pub(crate) async fn told(gateway: &Gateway, who: &Who, stop: Stop) -> Refusal {
    match stop {
        Stop::Told(refusal) => refusal,
        Stop::Denied { refusal, event, call } => {
            gateway.limits.pace(&who.claw).await;
            match record::fact(gateway, who.stream(), call, *event).await {
                Ok(_) => refusal,
                Err(error) => {
                    tracing::error!(
                        error = crate::settle::chain(&error),
                        "a refusal could not be recorded"
                    );
                    Refusal::no_record()
                }
            }
        }
    }
}
