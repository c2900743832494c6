//! Who am I, and how is the installation?

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use clawstaff_api::{
    ApiProblem,
    people::{ServerStatus, WhoAmI},
};

use super::{auth::Caller, routes::Routes};
use crate::app::{context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/v1/whoami", whoami).get("/v1/status", status)
}

/// The caller.
#[utoipa::path(get, path = "/v1/whoami", tag = "installation", responses(
    (status = 200, body = WhoAmI), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn whoami(Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    Json(WhoAmI {
        member: caller.member.to_string(),
        role: caller.role.name().to_owned(),
    })
}

/// The installation as a whole.
#[utoipa::path(get, path = "/v1/status", tag = "installation", responses(
    (status = 200, body = ServerStatus), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> Result<Json<ServerStatus>, Problem> {
    app.status().await.map(Json)
}
