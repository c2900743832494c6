//! The dashboard's own files, part of the program.

use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

pub(crate) async fn style() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("style.css"),
    )
}

pub(crate) async fn script() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("live.js"),
    )
}
