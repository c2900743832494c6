//! The spec file: make it so, and give it back.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use clawstaff_api::{
    ApiProblem,
    people::{ApplyAnswer, ApplyRequest, Spec},
};

use super::{auth::Caller, extract::Body, routes::Routes};
use crate::app::{context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.post("/v1/apply", apply).get("/v1/spec", spec)
}

/// Make the spec so, or only say what would change.
#[utoipa::path(post, path = "/v1/apply", tag = "spec", request_body = ApplyRequest, responses(
    (status = 200, body = ApplyAnswer), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn apply(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyAnswer>, Problem> {
    app.apply(caller.member, request).await.map(Json)
}

/// Everything that is asked for at the moment, as a spec.
#[utoipa::path(get, path = "/v1/spec", tag = "spec", responses(
    (status = 200, body = Spec), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn spec(State(app): State<Arc<App>>) -> Result<Json<Spec>, Problem> {
    app.spec().await.map(Json)
}
