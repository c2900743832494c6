//! Claws: see them, and wish.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use clawstaff_api::{
    ApiProblem,
    people::{ClawView, MessageAccepted, MessageRequest, RevisionView, RollbackRequest},
};
use clawstaff_types::ClawName;

use super::{
    auth::Caller,
    extract::{Body, Named},
    routes::Routes,
};
use crate::app::{claws::Wish, context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/claws", list_claws)
        .get("/v1/claws/{name}", show_claw)
        .get("/v1/claws/{name}/history", claw_history)
        .post("/v1/claws/{name}/start", start_claw)
        .post("/v1/claws/{name}/stop", stop_claw)
        .post("/v1/claws/{name}/restart", restart_claw)
        .post("/v1/claws/{name}/pause", pause_claw)
        .post("/v1/claws/{name}/resume", resume_claw)
        .post("/v1/claws/{name}/rollback", rollback_claw)
        .post("/v1/claws/{name}/messages", message_claw)
        .delete("/v1/claws/{name}", destroy_claw)
}

/// Every Claw.
#[utoipa::path(get, path = "/v1/claws", tag = "claws", responses(
    (status = 200, body = Vec<ClawView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_claws(State(app): State<Arc<App>>) -> Result<Json<Vec<ClawView>>, Problem> {
    app.claws().await.map(Json)
}

/// One Claw.
#[utoipa::path(get, path = "/v1/claws/{name}", tag = "claws", params(("name" = String, Path)), responses(
    (status = 200, body = ClawView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn show_claw(
    State(app): State<Arc<App>>,
    Named(name): Named<ClawName>,
) -> Result<Json<ClawView>, Problem> {
    app.claw(&name).await.map(Json)
}

/// Its revisions, oldest first.
#[utoipa::path(get, path = "/v1/claws/{name}/history", tag = "claws", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<RevisionView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn claw_history(
    State(app): State<Arc<App>>,
    Named(name): Named<ClawName>,
) -> Result<Json<Vec<RevisionView>>, Problem> {
    app.history(&name).await.map(Json)
}

/// Declares a handler that notes one wish.
macro_rules! wish {
    ($(#[doc = $doc:literal] $name:ident $path:literal $wish:ident;)+) => {
        $(
            #[doc = $doc]
            #[utoipa::path(post, path = $path, tag = "claws", params(("name" = String, Path)), responses(
                (status = 200, body = ClawView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
            pub(crate) async fn $name(
                State(app): State<Arc<App>>,
                Extension(caller): Extension<Caller>,
                Named(name): Named<ClawName>,
            ) -> Result<Json<ClawView>, Problem> {
                app.wish(caller.member, name, Wish::$wish).await.map(Json)
            }
        )+
    };
}

wish! {
    /// Let it run.
    start_claw "/v1/claws/{name}/start" Start;
    /// Let it stop; its storage stays.
    stop_claw "/v1/claws/{name}/stop" Stop;
    /// Stop it and start it anew.
    restart_claw "/v1/claws/{name}/restart" Restart;
    /// Freeze it in place.
    pause_claw "/v1/claws/{name}/pause" Pause;
    /// Let a paused one go on.
    resume_claw "/v1/claws/{name}/resume" Resume;
}

/// Make an earlier revision's spec the newest revision.
#[utoipa::path(post, path = "/v1/claws/{name}/rollback", tag = "claws", params(("name" = String, Path)),
    request_body = RollbackRequest, responses(
    (status = 200, body = ClawView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn rollback_claw(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<ClawName>,
    Body(request): Body<RollbackRequest>,
) -> Result<Json<ClawView>, Problem> {
    app.rollback(caller.member, name, request.revision)
        .await
        .map(Json)
}

/// Say something to it; the text is sealed to the gateway.
#[utoipa::path(post, path = "/v1/claws/{name}/messages", tag = "claws", params(("name" = String, Path)),
    request_body = MessageRequest, responses(
    (status = 200, body = MessageAccepted), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn message_claw(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<ClawName>,
    Body(request): Body<MessageRequest>,
) -> Result<Json<MessageAccepted>, Problem> {
    app.message(caller.member, name, request).await.map(Json)
}

/// Remove it, its cage and its storage; its grants are revoked.
#[utoipa::path(delete, path = "/v1/claws/{name}", tag = "claws", params(("name" = String, Path)), responses(
    (status = 200, body = ClawView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn destroy_claw(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<ClawName>,
) -> Result<Json<ClawView>, Problem> {
    app.destroy(caller.member, name).await.map(Json)
}
