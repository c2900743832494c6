//! Errors as the caller sees them. The cause of a fault of ours is logged here and sent nowhere.

use clawstaff_api::{ApiProblem, Code};
use clawstaff_audit::AppendError;
use clawstaff_store::StoreError;
use clawstaff_types::NameError;

/// A problem on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(pub(crate) ApiProblem);

impl Problem {
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self(ApiProblem::new(Code::Invalid, detail))
    }

    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self(ApiProblem::new(Code::Refused, detail))
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self(ApiProblem::new(Code::NotFound, detail))
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self(ApiProblem::new(Code::Conflict, detail))
    }

    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self(ApiProblem::new(Code::Unauthenticated, detail))
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self(ApiProblem::new(Code::Forbidden, detail))
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self(ApiProblem::new(Code::Unavailable, detail))
    }

    /// Our fault: `cause` goes to the operator's log, the caller learns only that it was.
    pub(crate) fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(cause), "internal error");
        Self(ApiProblem::new(
            Code::Internal,
            "something went wrong in the control plane; its own log says what",
        ))
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.with_hint(hint))
    }
}

/// An error and all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// No record, no change: what is to be done about it depends on why.
impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        tracing::error!(error = %chain(&error), "the audit log cannot be written");
        let (why, hint) = match error {
            AppendError::Busy => ("is busy", "try again in a moment"),
            AppendError::NoSpace => (
                "has no space left",
                "make room on the disk of the control plane's data directory; it goes on by itself",
            ),
            AppendError::Slow { .. } => (
                "is not written in time",
                "look at the disk of the control plane's data directory; it goes on by itself",
            ),
            AppendError::ClockJumped { .. } => (
                "waits whether the clock stays where it jumped to",
                "it goes on by itself within seconds",
            ),
            AppendError::Stopped { .. } => (
                "cannot be written",
                "look at the disk of the control plane's data directory; once it can be written, the control plane starts anew by itself",
            ),
            AppendError::TooLarge { .. }
            | AppendError::Malformed { .. }
            | AppendError::NoSuchIntent { .. } => (
                "cannot hold this record",
                "this is a fault of the control plane; its own messages say more",
            ),
        };
        Self::unavailable(format!("the audit log {why}, so nothing was changed")).hint(hint)
    }
}
