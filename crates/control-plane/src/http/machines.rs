//! Nodes, as people see them: which there are, letting one join, turning one away.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use clawstaff_api::{
    ApiProblem,
    people::{NodeInvite, NodeToken, NodeView},
};
use clawstaff_types::NodeName;
use http::StatusCode;

use super::{
    auth::Caller,
    extract::{Body, Named},
    routes::Routes,
};
use crate::app::{context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/nodes", list_nodes)
        .post("/v1/nodes", invite_node)
        .delete("/v1/nodes/{name}", revoke_node)
}

/// The nodes.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", responses(
    (status = 200, body = Vec<NodeView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_nodes(State(app): State<Arc<App>>) -> Result<Json<Vec<NodeView>>, Problem> {
    app.nodes().await.map(Json)
}

/// Let a host join as a node: once, within the hour, with the token in the answer.
#[utoipa::path(post, path = "/v1/nodes", tag = "nodes", request_body = NodeInvite, responses(
    (status = 200, body = NodeToken), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn invite_node(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(invite): Body<NodeInvite>,
) -> Result<Json<NodeToken>, Problem> {
    app.invite(&caller.member, invite).await.map(Json)
}

/// Turn a node away. Its Claws stay where they are and work on under the last state that it got.
#[utoipa::path(delete, path = "/v1/nodes/{name}", tag = "nodes", params(("name" = String, Path)), responses(
    (status = 204), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn revoke_node(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<NodeName>,
) -> Result<StatusCode, Problem> {
    app.revoke(&caller.member, &name)
        .await
        .map(|()| StatusCode::NO_CONTENT)
}
