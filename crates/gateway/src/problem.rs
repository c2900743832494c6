//! Readable refusals: what was refused, under which rule, and what an honest agent could ask for.
//!
//! A [`Refusal`] is written for the agent (and the person who reads its transcript). Nothing internal is in
//! it: no path of this host, no address behind a connection, no error text of a library.

use clawstaff_cage_contract::Problem;
use http::{HeaderValue, Response, StatusCode, header};

use crate::body::{Body, full};

/// The slug of problems with the service behind a connection.
pub(crate) const UPSTREAM: &str = "upstream";

/// An answer that is not the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// Last part of the problem's type.
    pub slug: &'static str,
    /// The problem in a few words.
    pub title: &'static str,
    /// What was refused, and what an honest agent could ask for.
    pub detail: String,
    /// When to try again, in seconds.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal without a time to try again.
    pub(crate) fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            slug,
            title,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// 403: policy said no, or there is nothing to say yes to.
    pub(crate) fn denied(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", "Not permitted", detail)
    }

    /// 400: not a request that can be judged.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    /// 404: no such door.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "No such door", detail)
    }

    /// 503: no record, no action.
    pub(crate) fn no_record() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "log-unavailable",
            "The audit log cannot be written",
            "the audit log cannot be written; nothing was done. Trying again later may help",
        )
    }

    /// 500: a fault of ours; the cause is in the gateway's own trace.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The gateway failed",
            "the gateway failed while handling the request; whether it took effect is in the audit log",
        )
    }

    /// Whether it says that the service did not answer, or not to its end.
    pub(crate) fn is_of_upstream(&self) -> bool {
        self.slug == UPSTREAM
    }

    /// The contract's JSON.
    pub(crate) fn to_problem(&self) -> Problem {
        Problem {
            r#type: format!("https://clawstaff.dev/problems/{}", self.slug),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
        }
    }

    /// The HTTP answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let text = serde_json::to_vec(&self.to_problem()).unwrap_or_default();
        let mut response = Response::new(full(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
