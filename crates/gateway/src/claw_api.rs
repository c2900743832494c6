//! `/claw/v1`: the cage contract's own door: inbox, acts, health.
//!
//! What a cage reports of itself is recorded as its report and decides nothing.

use std::time::Duration;

use bytes::Bytes;
use clawstaff_cage_contract::{Ack, ActReport, CageAct, Health};
use clawstaff_types::{
    ActionId, Decision, Digest, Event, EventId, EventKind, Outcome, ResourceKind, ResourceRef,
};
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    accept::Cage,
    body::{self, Body, full},
    inbox::InboxError,
    problem::Refusal,
    record::{self, Who},
    settle::chain,
};

/// The largest body taken here, in bytes.
const MAX_BODY: usize = 64 << 10;
/// The longest wait for an inbox item.
const MAX_WAIT: u64 = 30;
/// The longest closing words of an item, in bytes.
const MAX_NOTE: usize = 16 << 10;

/// Answers one request below `/claw`.
pub(crate) async fn answer(
    cage: &Cage,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["v1", "inbox", "next"]) => next(cage, &query).await,
        (&Method::POST, ["v1", "inbox", id, "ack"]) => {
            let id = id
                .parse()
                .map_err(|_| Refusal::malformed("that is not the id of an item"))?;
            ack(cage, &id, json(cage, request).await?).await
        }
        (&Method::POST, ["v1", "acts"]) => act(cage, json(cage, request).await?).await,
        (&Method::POST, ["v1", "health"]) => {
            let health: Health = json(cage, request).await?;
            cage.gateway.ready.set(&cage.claw, health.ready);
            Ok(empty())
        }
        _ => Err(Refusal::not_found(
            "below /claw/v1 there are inbox/next, inbox/{id}/ack, acts and health",
        )),
    }
}

async fn next(cage: &Cage, query: &str) -> Result<Response<Body>, Refusal> {
    let wait = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("wait="))
        .map_or(Ok(0), str::parse)
        .map_err(|_| Refusal::malformed("`wait` is a number of seconds"))?;
    let wait = Duration::from_secs(wait.min(MAX_WAIT));
    let inbox = &cage.gateway.inbox;
    // A Claw that asks for work has let go of what it had: the answer was lost, or the door amid the work.
    inbox
        .release(&cage.claw)
        .await
        .map_err(|error| unavailable(&error))?;
    let item = inbox
        .next(&cage.claw, wait)
        .await
        .map_err(|error| unavailable(&error))?;
    match item {
        None => Ok(empty()),
        Some(item) => answer_json(&item),
    }
}

async fn ack(cage: &Cage, id: &EventId, ack: Ack) -> Result<Response<Body>, Refusal> {
    if ack.note.len() > MAX_NOTE {
        return Err(Refusal::malformed("`note` is longer than 16 KiB"));
    }
    match cage.gateway.inbox.ack(&cage.claw, id, &ack).await {
        Ok(()) => Ok(empty()),
        Err(InboxError::NoSuchItem { .. }) => Err(Refusal::not_found(
            "no such item waits for this Claw; it may be acknowledged already",
        )),
        Err(error) => Err(unavailable(&error)),
    }
}

async fn act(cage: &Cage, report: ActReport) -> Result<Response<Body>, Refusal> {
    if report.target.chars().count() > 256 || report.error.chars().count() > 64 {
        return Err(Refusal::malformed(
            "`target` has at most 256 characters, `error` at most 64",
        ));
    }
    let state = cage.gateway.state.load_full();
    let who = Who::now(&cage.gateway, &state, &cage.claw);
    let event = reported(&who, &report);
    cage.gateway.limits.pace(&cage.claw).await;
    let recorded = record::fact(&cage.gateway, who.stream(), Digest::of(b""), event).await;
    recorded.map(|_| empty()).map_err(|error| {
        tracing::error!(error = chain(&error), "an act could not be recorded");
        Refusal::no_record()
    })
}

/// The record of what the cage says it did.
fn reported(who: &Who, report: &ActReport) -> Event {
    let mut event = if report.happened {
        let mut event = who.event(EventKind::ToolCall);
        event.outcome = Some(Outcome::Succeeded);
        event.reason = Some("reported by the cage".to_owned());
        event
    } else {
        let error: String = report.error.chars().filter(char::is_ascii_alphanumeric).collect();
        let reason = format!("stopped by the cage's boundary ({error}), reported by the cage");
        who.refused(EventKind::ToolDenied, Decision::Deny, &reason)
    };
    let (action, kind) = match report.act {
        CageAct::ReadFile => ("cage:files.read", "path"),
        CageAct::WriteFile => ("cage:files.write", "path"),
        CageAct::Connect => ("cage:network.connect", "address"),
        CageAct::Signal => ("cage:process.signal", "pid"),
        CageAct::ReadEnvironment => ("cage:environment.read", "variable"),
    };
    event.action = action.parse::<ActionId>().ok();
    event.resource = resource(kind, &report.target);
    event
}

/// The target as a resource: what cannot be in one becomes `_`.
fn resource(kind: &str, target: &str) -> Option<ResourceRef> {
    let kind: ResourceKind = kind.parse().ok()?;
    let id: String = target
        .chars()
        .map(|c| if c.is_ascii_graphic() && c != '*' { c } else { '_' })
        .collect();
    ResourceRef::new(kind, &id).ok()
}

async fn json<T: DeserializeOwned>(cage: &Cage, request: Request<Incoming>) -> Result<T, Refusal> {
    let bytes: Bytes = body::read(request.into_body(), MAX_BODY, cage.gateway.waits.body)
        .await
        .map_err(|error| Refusal::malformed(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let detail = format!(
            "the body is not what the cage contract says, at column {}",
            error.column()
        );
        Refusal::malformed(detail)
    })
}

fn answer_json(value: &impl Serialize) -> Result<Response<Body>, Refusal> {
    let text = serde_json::to_vec(value).map_err(|_| Refusal::internal())?;
    let mut response = Response::new(full(text));
    let media_type = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

fn empty() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn unavailable(error: &InboxError) -> Refusal {
    tracing::warn!(error = chain(error), "the inbox");
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "inbox",
        "The inbox is not available",
        "the inbox is not available now; try again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_becomes_a_resource_whatever_is_in_it() {
        assert_eq!(
            resource("path", "/etc/a b*\n").unwrap().to_string(),
            "path:/etc/a_b__"
        );
        assert_eq!(resource("path", ""), None);
        assert_eq!(resource("path", &"é".repeat(256)).unwrap().id().len(), 256);
    }
}
