//! Where inbound events arrive: one HTTP listener in the customer's environment, strangers on its other side.
//!
//! `POST /ingress/slack/{connection}` takes Slack's Events API. Nothing is believed before its signature is
//! checked, everything is bounded in size, time and number, and 200 is said only when what the event sets off
//! is durable; otherwise the sender is told to try again. What an event means to which Claw is `deliver`'s.

mod alarm;
mod deliver;
mod recent;
mod slack;

use std::{sync::Arc, time::Duration};

use alarm::Alarm;
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use clawstaff_api::{ApiProblem, Code};
use clawstaff_types::{ConnectionName, Secret, spec::CredentialRef};
pub use deliver::DeliverError;
use deliver::Desk;
use slack::Envelope;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    honeytoken,
    inbox::Clock,
    run::http::{Patience, serve_connection},
    shared::Gateway,
};

/// The longest body that is accepted, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Connections served at a time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// How long a request may take whole.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// A connection does not live for ever, so that idle ones do not hold a place.
const PATIENCE: Patience = Patience {
    header: Duration::from_secs(10),
    connection: Some(Duration::from_mins(2)),
};

/// What the routes share.
#[derive(Debug)]
struct Ingress {
    gateway: Arc<Gateway>,
    clock: Clock,
    alarm: Alarm,
    desk: Desk,
}

/// The routes of the ingress. `clock` says what is a stale signature.
pub fn router(gateway: Arc<Gateway>, clock: Clock) -> Router {
    let ingress = Ingress {
        gateway,
        clock,
        alarm: Alarm::default(),
        desk: Desk::default(),
    };
    Router::new()
        .route("/ingress/slack/{connection}", post(slack_events))
        .fallback(|| async { Problem(Code::NotFound, "there is nothing here") })
        .with_state(Arc::new(ingress))
}

/// Serves `router` until `shutdown`, then lets what is under way end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = tokio_util::task::TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tasks.spawn(async move {
                    serve_connection(stream, router, PATIENCE, shutdown).await;
                    drop(place);
                });
            }
            // Out of file descriptors or the like: the next accept may succeed, but not at once.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the ingress");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// A refusal: problem+json with a text that tells a stranger nothing.
#[derive(Debug, Clone, Copy)]
struct Problem(Code, &'static str);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ApiProblem::new(self.0, self.1);
        let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        with_status(status, &body)
    }
}

fn with_status(status: StatusCode, body: &ApiProblem) -> Response {
    let kind = [(header::CONTENT_TYPE, clawstaff_api::problem::MEDIA_TYPE)];
    (status, kind, serde_json::to_string(body).unwrap_or_default()).into_response()
}

async fn slack_events(
    State(ingress): State<Arc<Ingress>>,
    Path(connection): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let work = ingress.slack_events(&connection, &headers, body);
    match tokio::time::timeout(REQUEST_TIME, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem,
        Err(_) => Problem(Code::Unavailable, "this took too long; try again").into_response(),
    }
}

impl Ingress {
    async fn slack_events(
        &self,
        connection: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Response> {
        let (name, signing_secret) = self.slack_connection(connection).ok_or_else(|| {
            Problem(Code::NotFound, "no such connection receives events here").into_response()
        })?;
        let body = axum::body::to_bytes(body, MAX_BODY)
            .await
            .map_err(|_| too_large())?;
        let secret = self
            .signing_secret(&name, &signing_secret)
            .await
            .map_err(IntoResponse::into_response)?;
        let now = self.clock.now();
        if let Err(why) = slack::check(headers, &body, &secret, now) {
            self.alarm.raise(&self.gateway, &name, why, now).await;
            return Err(
                Problem(Code::Unauthenticated, "the request is not signed as it must be").into_response(),
            );
        }
        honeytoken::inbound(&self.gateway, &name, &body).await;
        let envelope = slack::parse(&body).map_err(|_| {
            Problem(Code::Invalid, "the body is not an event of Slack's Events API").into_response()
        })?;
        match envelope {
            Envelope::Challenge(challenge) => {
                Ok(Json(serde_json::json!({ "challenge": challenge })).into_response())
            }
            Envelope::Ignored => Ok(StatusCode::OK.into_response()),
            Envelope::Message(message) => {
                match self.desk.deliver(&self.gateway, &name, &message, now).await {
                    Ok(()) => Ok(StatusCode::OK.into_response()),
                    Err(error) => {
                        tracing::warn!(connection = %name, event = %message.event_id, %error, "an inbound event must be sent again");
                        Err(
                            Problem(Code::Unavailable, "the event cannot be taken in now; try again")
                                .into_response(),
                        )
                    }
                }
            }
        }
    }

    /// The connection, if it is one that receives Slack events.
    fn slack_connection(&self, name: &str) -> Option<(ConnectionName, CredentialRef)> {
        let name: ConnectionName = name.parse().ok()?;
        let state = self.gateway.state.load();
        let connection = &state.link(&name)?.connection;
        let secret = connection.signing_secret.clone()?;
        (connection.connector.as_str() == "slack").then_some((name, secret))
    }

    async fn signing_secret(
        &self,
        name: &ConnectionName,
        reference: &CredentialRef,
    ) -> Result<Secret<String>, Problem> {
        self.gateway
            .vault
            .signing_secret(reference)
            .await
            .map_err(|error| {
                tracing::warn!(connection = %name, %error, "the signing secret cannot be read");
                Problem(
                    Code::Unavailable,
                    "the signature cannot be checked now; try again",
                )
            })
    }
}

fn too_large() -> Response {
    let mut problem = ApiProblem::new(Code::Invalid, "the body broke off or is larger than 1 MiB");
    problem.status = StatusCode::PAYLOAD_TOO_LARGE.as_u16();
    with_status(StatusCode::PAYLOAD_TOO_LARGE, &problem)
}
