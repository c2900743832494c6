//! Gateways, runners, and hosts that join.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, State},
    handler::Handler as _,
    response::{IntoResponse, Response},
};
use clawstaff_api::join::{Identity, JOIN, JoinRequest, RENEW, RenewRequest};
use clawstaff_api::nodes::{
    CONTROL_ENTRIES, ControlLog, Cosigned, GATEWAY_CONTROL_LOG, GATEWAY_COSIGNED, GATEWAY_HELLO, GATEWAY_LOG,
    GATEWAY_STATE, GATEWAY_STATUS, GatewayHello, GatewayStatus, GatewayWelcome, LogAck, LogPush,
    RUNNER_STATE, RUNNER_STATUS, RunnerStatus,
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    LOG_BODY, STATUS_BODY,
    auth::{Caller, JoinSecret},
    doorbook::Doorbook,
    extract::{Asked, Body},
    routes::Routes,
};
use crate::{
    app::{context::App, problem::Problem, publish::Published},
    serve::Peer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .post(GATEWAY_HELLO, hello)
        .get(GATEWAY_STATE, gateway_state)
        .post(
            GATEWAY_STATUS,
            gateway_status.layer(DefaultBodyLimit::max(STATUS_BODY)),
        )
        .get(GATEWAY_CONTROL_LOG, control_log)
        .post(GATEWAY_COSIGNED, cosigned)
        .get(CONTROL_ENTRIES, control_entries)
        .get(RUNNER_STATE, runner_state)
        .post(RUNNER_STATUS, runner_status)
        .post(JOIN, join)
        .post(RENEW, renew)
        .post(GATEWAY_LOG, log.layer(DefaultBodyLimit::max(LOG_BODY)))
}

/// The revision that the node has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    since: Option<u64>,
}

/// The size that the gateway has cosigned, or the first entry that it does not have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    from: u64,
}

async fn control_log(State(app): State<Arc<App>>, Asked(asked): Asked<From>) -> Result<Response, Problem> {
    let news: Option<ControlLog> = app.own_log_since(asked.from).await?;
    Ok(news.map_or_else(
        || StatusCode::NO_CONTENT.into_response(),
        |news| Json(news).into_response(),
    ))
}

async fn cosigned(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(cosigned): Body<Cosigned>,
) -> Result<StatusCode, Problem> {
    app.take_cosigned(&caller.node, cosigned)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}

async fn hello(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(hello): Body<GatewayHello>,
) -> Result<Json<GatewayWelcome>, Problem> {
    app.gateway_hello(&caller.node, hello).await.map(Json)
}

async fn gateway_state(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Since>,
) -> Result<Response, Problem> {
    Ok(match newer(&app, &caller, asked.since).await? {
        Some(state) => Json(state.for_gateway(&caller.node, &app.signer)?).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn runner_state(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Since>,
) -> Result<Response, Problem> {
    Ok(match newer(&app, &caller, asked.since).await? {
        Some(state) => Json(state.for_runner(&caller.node)).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// The newer state, for a node that was not turned away while it waited.
async fn newer(app: &App, caller: &Caller, since: Option<u64>) -> Result<Option<Arc<Published>>, Problem> {
    let state = app.newer_state(since).await;
    if app.is_in(&caller.node).await? {
        Ok(state)
    } else {
        Err(Problem::unauthenticated("this node was turned away"))
    }
}

async fn join(
    State(app): State<Arc<App>>,
    Extension(book): Extension<Arc<Doorbook>>,
    Extension(peer): Extension<Peer>,
    Extension(JoinSecret(secret)): Extension<JoinSecret>,
    Body(request): Body<JoinRequest>,
) -> Result<Json<Identity>, Problem> {
    match app.join(secret.expose_secret(), request).await {
        Ok(identity) => Ok(Json(identity)),
        Err(problem) => {
            book.refused(Some(peer), &problem).await;
            Err(problem)
        }
    }
}

async fn renew(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<RenewRequest>,
) -> Result<Json<Identity>, Problem> {
    app.renew(&caller.node, request).await.map(Json)
}

async fn control_entries(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<From>,
) -> Result<Response, Problem> {
    Ok(match app.control_entries(&caller.node, asked.from).await? {
        Some(log) => Json(log).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn gateway_status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(status): Body<GatewayStatus>,
) -> Result<StatusCode, Problem> {
    app.gateway_status(&caller.node, status)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}

async fn runner_status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(status): Body<RunnerStatus>,
) -> Result<StatusCode, Problem> {
    app.runner_status(&caller.node, status)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}

async fn log(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(push): Body<LogPush>,
) -> Result<Json<LogAck>, Problem> {
    app.take_gateway_log(&caller.node, push).await.map(Json)
}
