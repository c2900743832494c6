//! Grants.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use clawstaff_api::{
    ApiProblem,
    people::{CheckAnswer, CheckRequest, GrantRequest},
    shapes::GrantShape,
};
use clawstaff_types::{ClawName, Grant, GrantId};
use http::StatusCode;
use serde::Deserialize;

use super::{
    auth::Caller,
    extract::{Asked, Body, Named},
    routes::Routes,
};
use crate::app::{context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/grants", list_grants)
        .post("/v1/grants", add_grant)
        .delete("/v1/grants/{id}", revoke_grant)
        .post("/v1/grants/check", check_grant)
}

/// Which grants are wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfClaw {
    /// Only those of this Claw.
    #[param(value_type = Option<String>)]
    claw: Option<ClawName>,
}

/// The unrevoked grants.
#[utoipa::path(get, path = "/v1/grants", tag = "grants", params(OfClaw), responses(
    (status = 200, body = Vec<GrantShape>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_grants(
    State(app): State<Arc<App>>,
    Asked(of): Asked<OfClaw>,
) -> Result<Json<Vec<Grant>>, Problem> {
    app.grants(of.claw.as_ref()).await.map(Json)
}

/// Give a Claw one more grant.
#[utoipa::path(post, path = "/v1/grants", tag = "grants", request_body = GrantRequest, responses(
    (status = 200, body = GrantShape), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn add_grant(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<GrantRequest>,
) -> Result<Json<Grant>, Problem> {
    app.add_grant(caller.member, request).await.map(Json)
}

/// Take a grant away.
#[utoipa::path(delete, path = "/v1/grants/{id}", tag = "grants", params(("id" = String, Path)), responses(
    (status = 204), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn revoke_grant(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<GrantId>,
) -> Result<StatusCode, Problem> {
    app.revoke_grant(caller.member, id)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}

/// Could it, and why?
#[utoipa::path(post, path = "/v1/grants/check", tag = "grants", request_body = CheckRequest, responses(
    (status = 200, body = CheckAnswer), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn check_grant(
    State(app): State<Arc<App>>,
    Body(request): Body<CheckRequest>,
) -> Result<Json<CheckAnswer>, Problem> {
    app.check(&request).await.map(Json)
}
