//! Guardrails.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use clawstaff_api::{ApiProblem, shapes::GuardrailShape};
use clawstaff_types::{Guardrail, GuardrailName};
use http::StatusCode;

use super::{
    auth::Caller,
    extract::{Body, Named},
    routes::Routes,
};
use crate::app::{context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/guardrails", list_guardrails)
        .post("/v1/guardrails", add_guardrail)
        .delete("/v1/guardrails/{name}", remove_guardrail)
}

/// The guardrails.
#[utoipa::path(get, path = "/v1/guardrails", tag = "guardrails", responses(
    (status = 200, body = Vec<GuardrailShape>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_guardrails(State(app): State<Arc<App>>) -> Result<Json<Vec<Guardrail>>, Problem> {
    app.guardrails().await.map(Json)
}

/// Forbid something to every Claw.
#[utoipa::path(post, path = "/v1/guardrails", tag = "guardrails", request_body = GuardrailShape, responses(
    (status = 200, body = GuardrailShape), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn add_guardrail(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(guardrail): Body<Guardrail>,
) -> Result<Json<Guardrail>, Problem> {
    app.add_guardrail(caller.member, guardrail).await.map(Json)
}

/// Take a guardrail away.
#[utoipa::path(delete, path = "/v1/guardrails/{name}", tag = "guardrails", params(("name" = String, Path)), responses(
    (status = 204), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn remove_guardrail(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<GuardrailName>,
) -> Result<StatusCode, Problem> {
    app.remove_guardrail(caller.member, name)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}
