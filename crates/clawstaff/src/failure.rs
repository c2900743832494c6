//! How a command ends when it does not succeed: an exit code, what was refused and why, and what would help.

use std::fmt;

use clawstaff_api::{ApiProblem, Code};

use crate::spec::{LoadError, SealFailure};

/// The exit codes that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nobody reads what we print any more.
    Quiet,
    /// It was tried and failed.
    Failed,
    /// The command or its input is malformed.
    Usage,
    /// The caller may not.
    Denied,
    /// There is no such thing.
    NotFound,
    /// Something did not verify.
    Verification,
    /// A part that is needed cannot be reached.
    Unavailable,
    /// As the API's code says.
    Api(Code),
}

impl Exit {
    /// The number for the shell.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Quiet => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NotFound => 4,
            Self::Verification => 6,
            Self::Unavailable => 7,
            Self::Api(code) => code.exit_code(),
        }
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure with this text, lower case, without a full stop.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            hint: None,
        }
    }

    /// It was tried and failed.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command or its input is malformed.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A part that is needed cannot be reached.
    pub(crate) fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    /// The same with advice.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// What happened, without advice.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// How it ends.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<ApiProblem> for Failure {
    fn from(problem: ApiProblem) -> Self {
        Self {
            exit: Exit::Api(problem.code),
            message: problem.detail,
            hint: problem.hint,
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let hint = match &error {
            LoadError::Spec(spec) => spec.hint.clone(),
            LoadError::Read { .. } | LoadError::Nothing(_) | LoadError::Twice { .. } => None,
        };
        Self {
            exit: Exit::Usage,
            message: error.to_string(),
            hint,
        }
    }
}

impl From<SealFailure> for Failure {
    fn from(error: SealFailure) -> Self {
        match error {
            SealFailure::NoKey => {
                Self::unavailable(error).hint("the gateway must have connected once; see `clawstaff status`")
            }
            SealFailure::Seal { .. } => Self::usage(error),
        }
    }
}
