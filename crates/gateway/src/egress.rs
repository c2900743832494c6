//! Software in a cage that knows nothing of us: it dialled a name, or it uses the HTTP proxy.
//!
//! Every connection ends here, TLS included (with the cage's own authority), and its requests walk the line. A
//! host of no connection is refused at once, readably, and recorded.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    accept::{self, Cage},
    body::{Body, full},
    line::{self, Ask, stops},
    map::Route,
    parse::{MAX_BODY, MAX_MODEL_BODY, Via, host_and_port},
    problem::Refusal,
    record::Who,
    tls,
};

const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// A connection that software in the cage made to `host:port`.
pub(crate) async fn name<IO>(cage: Arc<Cage>, io: IO, host: String, port: u16)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match port {
        HTTPS => intercepted(cage, io, host, port).await,
        HTTP => {
            let via = Via::Name {
                host,
                port,
                sni: None,
            };
            let wait = cage.gateway.waits.head;
            accept::http(io, false, wait, move |request| {
                walk(Arc::clone(&cage), via.clone(), request)
            })
            .await;
        }
        _ => drop(refused(&cage, &host).await),
    }
}

/// Ends TLS with a certificate for the name asked for, then serves HTTP.
async fn intercepted<IO>(cage: Arc<Cage>, io: IO, host: String, port: u16)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let authority = match cage.gateway.authorities.of(&cage.claw) {
        Ok(authority) => authority,
        Err(error) => {
            tracing::error!(error = crate::settle::chain(&error), "no authority for a cage");
            return;
        }
    };
    match tls::accept(&authority, io, &host).await {
        Ok(accepted) => {
            let via = Via::Name {
                host,
                port,
                sni: accepted.sni,
            };
            let wait = cage.gateway.waits.head;
            let handler = move |request| walk(Arc::clone(&cage), via.clone(), request);
            accept::http(accepted.stream, accepted.h2, wait, handler).await;
        }
        Err(error) => {
            tracing::debug!(claw = %cage.claw, error = crate::settle::chain(&error), "TLS with a cage");
        }
    }
}

/// One request at the proxy: `CONNECT host:443`, or an absolute address.
pub(crate) async fn proxy(cage: Arc<Cage>, request: Request<Incoming>) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return connect(cage, request).await;
    }
    walk(cage, Via::Proxy, request).await
}

async fn connect(cage: Arc<Cage>, request: Request<Incoming>) -> Response<Body> {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let Some((host, port)) = authority.and_then(|text| host_and_port(text, HTTPS)) else {
        return Refusal::malformed("CONNECT wants `host:port`").into_response();
    };
    let known = cage.gateway.state.load().links_at(&host, port).next().is_some();
    if !known || port != HTTPS {
        return refused(&cage, &host).await.into_response();
    }
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => intercepted(cage, TokioIo::new(upgraded), host, port).await,
            Err(error) => tracing::debug!(%error, "a tunnel was not taken up"),
        }
    });
    Response::new(full(Bytes::new()))
}

/// Refuses a host and records it.
async fn refused(cage: &Cage, host: &str) -> Refusal {
    let state = cage.gateway.state.load_full();
    let who = Who::now(&cage.gateway, &state, &cage.claw);
    line::told(&cage.gateway, &who, stops::unknown_host(&who, host)).await
}

async fn walk(cage: Arc<Cage>, via: Via, request: Request<Incoming>) -> Response<Body> {
    let max_body = max_body(&cage, &via);
    let ask = Ask {
        claw: cage.claw.clone(),
        via,
        route: Route::ByHost,
        request,
        max_body,
    };
    let walked = line::walk(&cage.gateway, ask).await;
    walked.unwrap_or_else(Refusal::into_response)
}

/// A model's own host takes what the model doors take.
fn max_body(cage: &Cage, via: &Via) -> usize {
    let state = cage.gateway.state.load();
    let model = state.model_link(&cage.claw);
    match via {
        Via::Name { host, port, .. } if model.is_some_and(|link| link.prefix_at(host, *port).is_some()) => {
            MAX_MODEL_BODY
        }
        Via::Name { .. } | Via::Proxy | Via::Door => MAX_BODY,
    }
}
