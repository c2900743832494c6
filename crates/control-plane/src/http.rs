//! HTTP, thin: who is it, may they, parse, call the application, answer. No rule lives here.
//!
//! One file per noun; `table.rs` says what permission each route needs, and a route that is not in it stops the
//! server from starting.

mod apply;
mod approvals;
mod audit;
mod auth;
mod catalogue;
mod claws;
pub(crate) mod doorbook;
mod export;
pub(crate) mod extract;
mod grants;
mod guardrails;
mod headers;
mod machines;
mod nodes;
mod problem;
pub(crate) mod routes;
mod sinks;
mod status;
pub(crate) mod table;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware};

use crate::{RunError, app::context::App, app::problem::Problem, dashboard};
use routes::{Routes, Server};

pub(crate) use auth::{Doors, LOGOUT, Logins, log_out};

/// What a person's request may weigh.
const PEOPLE_BODY: usize = 1 << 20;
/// What a gateway's status may weigh: 1,000 waiting calls among it.
const STATUS_BODY: usize = 8 << 20;
/// What a push of log entries may weigh: 1,000 leaves of at most 64 KiB, escaped.
const LOG_BODY: usize = 64 << 20;

/// Everything that OpenAPI describes.
pub(crate) mod described {
    pub(crate) use super::{
        apply::*, approvals::*, audit::*, catalogue::*, claws::*, export::*, grants::*, guardrails::*,
        machines::*, sinks::*, status::*,
    };
}

/// What is served to people: API and dashboard.
pub(crate) fn people(app: Arc<App>, doors: Doors) -> Result<Router, RunError> {
    let routes = Routes::new(Server::People);
    let routes = status::routes(routes);
    let routes = apply::routes(routes);
    let routes = claws::routes(routes);
    let routes = catalogue::routes(routes);
    let routes = grants::routes(routes);
    let routes = guardrails::routes(routes);
    let routes = approvals::routes(routes);
    let routes = audit::routes(routes);
    let routes = export::routes(routes);
    let routes = sinks::routes(routes);
    let routes = machines::routes(routes);
    let routes = dashboard::routes(routes);
    let router = routes.finish()?;
    Ok(router
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(middleware::from_fn_with_state(doors, auth::person))
        .layer(middleware::from_fn(headers::secure))
        .layer(DefaultBodyLimit::max(PEOPLE_BODY))
        .with_state(app))
}

/// What is served to gateways, runners and hosts that join.
pub(crate) fn nodes(app: Arc<App>, doors: Doors) -> Result<Router, RunError> {
    let router = nodes::routes(Routes::new(Server::Nodes)).finish()?;
    Ok(router
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(middleware::from_fn_with_state(
            (Arc::clone(&app), doors),
            auth::node,
        ))
        .layer(DefaultBodyLimit::max(PEOPLE_BODY))
        .with_state(app))
}

async fn unknown() -> Problem {
    Problem::not_found("there is no such route, or it does not take this method")
}
