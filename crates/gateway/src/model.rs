//! The model doors `/anthropic` and `/openai`: the Claw's own model connection, and no other.
//!
//! They are the provider's API under another address, so an SDK works with its base URL alone. Everything else
//! is the line's. A Claw whose spec says so has calls that the provider could not take made again, and another model
//! asked in the end; each attempt walks the line by itself, with a decision, a record and a budget of its own.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use clawstaff_connectors::RecordKind;
use clawstaff_types::{Access, ResourceRef, spec::Model};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, value::RawValue};

use crate::{
    accept::Cage,
    body::{self, Body},
    budget::{Asked, Need, OverLimit},
    line::{self, Ask},
    map::{Call, Route},
    parse::{MAX_MODEL_BODY, Via},
    problem::Refusal,
    record::Who,
    shared::Gateway,
    state::State,
};

/// The wait before the first retry; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Answers one request at a model door; `rest` is the path at the provider.
pub(crate) async fn answer<B>(
    cage: &Cage,
    door: &str,
    rest: &str,
    mut request: Request<B>,
) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    let state = cage.gateway.state.load_full();
    let link = state
        .model_link(&cage.claw)
        .filter(|link| link.connector.id().as_str() == door)
        .ok_or_else(|| {
            Refusal::denied(format!(
                "this Claw's model is not at `/{door}`: its spec names the connection of its model"
            ))
        })?;
    *request.uri_mut() = at_provider(rest, request.uri())?;
    let route = Route::Public(link.clone());
    let model = state.claw(&cage.claw).and_then(|claw| claw.spec.model.as_ref());
    match model.filter(|model| model.retries > 0 || model.fallback.is_some()) {
        Some(model) => again_and_again(cage, &route, model, request).await,
        None => once(cage, &route, request).await,
    }
}

async fn once<B>(cage: &Cage, route: &Route, request: Request<B>) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    let ask = Ask {
        claw: cage.claw.clone(),
        via: Via::Door,
        route: route.clone(),
        request,
        max_body: MAX_MODEL_BODY,
    };
    line::walk(&cage.gateway, ask).await
}

/// Makes the call as often as the spec says, then asks the fallback model once.
async fn again_and_again<B>(
    cage: &Cage,
    route: &Route,
    model: &Model,
    request: Request<B>,
) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    let (head, body) = request.into_parts();
    let body = body::read(body, MAX_MODEL_BODY, cage.gateway.waits.body).await;
    let body = body.map_err(|error| Refusal::malformed(error.to_string()))?;
    let attempt = |body: Bytes| once(cage, route, Request::from_parts(head.clone(), Full::new(body)));
    let mut wait = FIRST_WAIT;
    for _ in 0..model.retries {
        let answered = attempt(body.clone()).await;
        if !could_not(&answered) {
            return answered;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    let answered = attempt(body.clone()).await;
    match model
        .fallback
        .as_deref()
        .and_then(|other| with_model(&body, other))
    {
        Some(other) if could_not(&answered) => attempt(other).await,
        Some(_) | None => answered,
    }
}

/// Whether the provider could not take the call, so that another attempt may help.
fn could_not(answered: &Result<Response<Body>, Refusal>) -> bool {
    match answered {
        Ok(response) => {
            response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
        }
        Err(refusal) => refusal.is_of_upstream(),
    }
}

/// The same request to another model; `None` if it is no JSON object with one. The other fields stay as they are.
fn with_model(body: &[u8], name: &str) -> Option<Bytes> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    let asked = fields.get_mut("model")?;
    *asked = serde_json::value::to_raw_value(&Value::from(name)).ok()?;
    serde_json::to_vec(&fields).ok().map(Bytes::from)
}

/// What a call needs of its Claw's budget; `None` if it is not one that a model answers.
///
/// # Errors
/// When it asks for more than the Claw's spec lets it.
pub(crate) fn need(
    gateway: &Gateway,
    state: &State,
    who: &Who,
    call: &Call,
) -> Result<Option<Need>, OverLimit> {
    match (call.mapped.record, call.mapped.access) {
        (RecordKind::Model, Access::Write) => {}
        (RecordKind::Model, Access::Read | Access::Destructive | Access::External)
        | (RecordKind::Tool | RecordKind::MessageRead | RecordKind::MessageSent, _) => return Ok(None),
    }
    let asked = Asked::by(&call.body);
    let model = state.claw(&who.claw).and_then(|claw| claw.spec.model.as_ref());
    if let Some(model) = model.filter(|model| model.connection == *call.link.name()) {
        asked.within(model)?;
    }
    let name = call.mapped.resources.first().map(ResourceRef::id);
    let price = name.and_then(|name| gateway.prices.of(call.link.connector.id(), name));
    Ok(Some(asked.need(price)))
}

fn at_provider(rest: &str, uri: &Uri) -> Result<Uri, Refusal> {
    let path = if rest.is_empty() { "/" } else { rest };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse()
        .map_err(|_| Refusal::malformed("the path is not one"))
}
