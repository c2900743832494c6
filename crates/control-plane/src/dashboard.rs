//! The dashboard: where people look. Server-rendered, works without JavaScript and is live with it.
//!
//! It stands on the application layer, as the API does, and can do nothing that the API cannot. Every text is
//! escaped by the template language; nothing is loaded from elsewhere; the one script is `/static/live.js`.

mod approvals;
mod claw;
mod files;
mod fleet;
mod log;
mod page;
mod record;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::{
    app::problem::Problem,
    http::{LOGOUT, log_out, routes::Routes},
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/", fleet::page)
        .get("/claws/{name}", claw::page)
        .get("/records/{id}", record::page)
        .post(LOGOUT, log_out)
        .get("/static/style.css", files::style)
        .get("/static/live.js", files::script)
}

/// The last page that a browser sees after it put its cookie away.
pub(crate) fn logged_out() -> maud::Markup {
    page::logged_out()
}

/// A problem as a page, for somebody with a browser.
pub(crate) fn refused(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, page::problem(problem)).into_response()
}

/// A problem on the way to a browser.
#[derive(Debug)]
pub(crate) struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refused(&self.0)
    }
}
