//! Gateway and runner.

use std::sync::Arc;

use axum::{
    Json,
    extract::{DefaultBodyLimit, State},
    handler::Handler as _,
    response::{IntoResponse, Response},
};
use clawstaff_api::nodes::{
    CONTROL_ENTRIES, ControlLog, Cosigned, GATEWAY_CONTROL_LOG, GATEWAY_COSIGNED, GATEWAY_HELLO, GATEWAY_LOG,
    GATEWAY_STATE, GATEWAY_STATUS, GatewayHello, GatewayStatus, GatewayWelcome, LogAck, LogPush,
    RUNNER_STATE, RUNNER_STATUS, RunnerStatus,
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    LOG_BODY, STATUS_BODY,
    extract::{Asked, Body},
    routes::Routes,
};
use crate::app::{context::App, problem::Problem};

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
    Body(cosigned): Body<Cosigned>,
) -> Result<StatusCode, Problem> {
    app.take_cosigned(cosigned).await.map(|()| StatusCode::NO_CONTENT)
}

async fn hello(
    State(app): State<Arc<App>>,
    Body(hello): Body<GatewayHello>,
) -> Result<Json<GatewayWelcome>, Problem> {
    app.gateway_hello(hello).await.map(Json)
}

async fn gateway_state(State(app): State<Arc<App>>, Asked(asked): Asked<Since>) -> Response {
    match app.newer_state(asked.since).await {
        Some(state) => Json(&state.gateway).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn runner_state(State(app): State<Arc<App>>, Asked(asked): Asked<Since>) -> Response {
    match app.newer_state(asked.since).await {
        Some(state) => Json(&state.runner).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn control_entries(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<From>,
) -> Result<Response, Problem> {
    Ok(match app.control_entries(asked.from).await? {
        Some(log) => Json(log).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn gateway_status(
    State(app): State<Arc<App>>,
    Body(status): Body<GatewayStatus>,
) -> Result<StatusCode, Problem> {
    app.gateway_status(status).await.map(|()| StatusCode::NO_CONTENT)
}

async fn runner_status(
    State(app): State<Arc<App>>,
    Body(status): Body<RunnerStatus>,
) -> Result<StatusCode, Problem> {
    app.runner_status(status).await.map(|()| StatusCode::NO_CONTENT)
}

async fn log(State(app): State<Arc<App>>, Body(push): Body<LogPush>) -> Result<Json<LogAck>, Problem> {
    app.take_gateway_log(push).await.map(Json)
}
