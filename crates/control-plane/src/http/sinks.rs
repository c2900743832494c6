//! Sinks.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use clawstaff_api::{ApiProblem, people::SinkView, shapes::SinkShape};
use clawstaff_types::{Sink, SinkName};
use http::StatusCode;

use super::{
    auth::Caller,
    extract::{Body, Named},
    routes::Routes,
};
use crate::app::{context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/audit/sinks", list_sinks)
        .post("/v1/audit/sinks", add_sink)
        .delete("/v1/audit/sinks/{name}", remove_sink)
}

/// The sinks, each with how far it has come.
#[utoipa::path(get, path = "/v1/audit/sinks", tag = "audit", responses(
    (status = 200, body = Vec<SinkView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_sinks(State(app): State<Arc<App>>) -> Result<Json<Vec<SinkView>>, Problem> {
    app.sinks().await.map(Json)
}

/// Send every record of both logs somewhere, from the first one on.
#[utoipa::path(post, path = "/v1/audit/sinks", tag = "audit", request_body = SinkShape, responses(
    (status = 200, body = SinkShape), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn add_sink(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(sink): Body<Sink>,
) -> Result<Json<Sink>, Problem> {
    app.add_sink(caller.member, sink).await.map(Json)
}

/// Stop sending there.
#[utoipa::path(delete, path = "/v1/audit/sinks/{name}", tag = "audit", params(("name" = String, Path)), responses(
    (status = 204), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn remove_sink(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<SinkName>,
) -> Result<StatusCode, Problem> {
    app.remove_sink(caller.member, name)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}
