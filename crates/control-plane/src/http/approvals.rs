//! Calls that wait for a human.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State};
use clawstaff_api::{
    ApiProblem,
    people::{ApprovalView, FromNowOn},
};
use clawstaff_types::ApprovalId;

use super::{
    auth::Caller,
    extract::{Body, Named},
    routes::Routes,
};
use crate::app::{approvals::Said, context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/approvals", list_approvals)
        .post("/v1/approvals/{id}/approve", approve_call)
        .post("/v1/approvals/{id}/grant", grant_call)
        .post("/v1/approvals/{id}/deny", deny_call)
}

/// The calls that wait.
#[utoipa::path(get, path = "/v1/approvals", tag = "approvals", responses(
    (status = 200, body = Vec<ApprovalView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_approvals(State(app): State<Arc<App>>) -> Result<Json<Vec<ApprovalView>>, Problem> {
    app.approvals().await.map(Json)
}

/// Let a waiting call through, this once.
#[utoipa::path(post, path = "/v1/approvals/{id}/approve", tag = "approvals", params(("id" = String, Path)), responses(
    (status = 200, body = ApprovalView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn approve_call(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<ApprovalId>,
) -> Result<Json<ApprovalView>, Problem> {
    app.decide(caller.member, id, Said::Once).await.map(Json)
}

/// Let a waiting call through, and calls like it from now on, by a grant of its action on its resource.
#[utoipa::path(post, path = "/v1/approvals/{id}/grant", tag = "approvals", params(("id" = String, Path)), request_body = FromNowOn, responses(
    (status = 200, body = ApprovalView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn grant_call(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<ApprovalId>,
    Body(terms): Body<FromNowOn>,
) -> Result<Json<ApprovalView>, Problem> {
    let lasts = terms.for_seconds.map(Duration::from_secs);
    app.decide(caller.member, id, Said::FromNowOn(lasts))
        .await
        .map(Json)
}

/// Refuse a waiting call.
#[utoipa::path(post, path = "/v1/approvals/{id}/deny", tag = "approvals", params(("id" = String, Path)), responses(
    (status = 200, body = ApprovalView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn deny_call(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<ApprovalId>,
) -> Result<Json<ApprovalView>, Problem> {
    app.decide(caller.member, id, Said::No).await.map(Json)
}
