//! The model doors `/anthropic` and `/openai`: the Claw's own model connection, and no other.
//!
//! They are the provider's API under another address, so an SDK works with its base URL alone. Everything else
//! is the line's.

use bytes::Bytes;
use http::{Request, Response, Uri};

use crate::{
    accept::Cage,
    body::Body,
    line::{self, Ask},
    map::Route,
    parse::{MAX_MODEL_BODY, Via},
    problem::Refusal,
};

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
    let ask = Ask {
        claw: cage.claw.clone(),
        via: Via::Door,
        route: Route::Public(link.clone()),
        request,
        max_body: MAX_MODEL_BODY,
    };
    line::walk(&cage.gateway, ask).await
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
