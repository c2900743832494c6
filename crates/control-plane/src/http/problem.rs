//! Problems as responses: RFC 9457 bodies.

use axum::response::{IntoResponse, Response};
use clawstaff_api::problem::MEDIA_TYPE;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::app::problem::Problem;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    }
}
