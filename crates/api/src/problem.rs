//! Errors on the wire: RFC 9457 problem details with a closed set of codes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of every error body.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What kind of problem; each has one HTTP status and one exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 400, exit 2: the request is malformed.
    Invalid,
    /// 401, exit 3: nobody is logged in.
    Unauthenticated,
    /// 403, exit 3: the caller may not do this.
    Forbidden,
    /// 404, exit 4: there is no such thing, or the caller may not know of it.
    NotFound,
    /// 409, exit 5: the thing changed meanwhile or exists already.
    Conflict,
    /// 422, exit 1: well-formed, but it cannot be done; the detail says what to do.
    Refused,
    /// 503, exit 7: a part that is needed cannot be reached or the log cannot be written.
    Unavailable,
    /// 500, exit 1: our fault.
    Internal,
}

impl Code {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Refused => 422,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }

    /// The exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Refused | Self::Internal => 1,
            Self::Invalid => 2,
            Self::Unauthenticated | Self::Forbidden => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Unavailable => 7,
        }
    }
}

/// An error body. `detail` is written for the caller; internal causes are logged, never sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct ApiProblem {
    /// Stable code.
    pub code: Code,
    /// HTTP status, repeated from the response.
    pub status: u16,
    /// What was refused and why.
    pub detail: String,
    /// What would help, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiProblem {
    /// A problem of this code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            detail: detail.into(),
            hint: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
