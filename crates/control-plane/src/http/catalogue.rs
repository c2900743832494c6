//! Connectors and connections.

use std::sync::Arc;

use axum::{Json, extract::State};
use clawstaff_api::{ApiProblem, people::ConnectorView};
use clawstaff_types::{ConnectorId, spec::Connection};

use super::{extract::Named, routes::Routes};
use crate::app::{context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/connectors", list_connectors)
        .get("/v1/connectors/{id}", show_connector)
        .get("/v1/connections", list_connections)
}

/// Every connector and its actions.
#[utoipa::path(get, path = "/v1/connectors", tag = "connectors", responses(
    (status = 200, body = Vec<ConnectorView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_connectors(State(app): State<Arc<App>>) -> Json<Vec<ConnectorView>> {
    Json(app.connectors())
}

/// One connector.
#[utoipa::path(get, path = "/v1/connectors/{id}", tag = "connectors", params(("id" = String, Path)), responses(
    (status = 200, body = ConnectorView), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn show_connector(
    State(app): State<Arc<App>>,
    Named(id): Named<ConnectorId>,
) -> Result<Json<ConnectorView>, Problem> {
    app.connector(&id).map(Json)
}

/// The organization's connections. Credentials are references, never values.
#[utoipa::path(get, path = "/v1/connections", tag = "connectors", responses(
    (status = 200, body = Vec<clawstaff_api::shapes::ConnectionShape>),
    (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_connections(State(app): State<Arc<App>>) -> Result<Json<Vec<Connection>>, Problem> {
    app.connections().await.map(Json)
}
