//! What a tool is to the conversation: a name with a schema, a call, an outcome.

use serde_json::{Map, Value};

use crate::text::cut;

/// The longest tool result that the model is shown, in bytes.
pub(crate) const MAX_RESULT: usize = 32 * 1024;

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolSpec {
    /// Its name.
    pub(crate) name: String,
    /// What it does, in words.
    pub(crate) description: String,
    /// The JSON schema of its arguments.
    pub(crate) input_schema: Value,
}

/// A call that the model asked for, with arguments that are a JSON object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolCall {
    /// Which of the answer's calls it is, from 0.
    pub(crate) place: usize,
    /// The tool's name.
    pub(crate) name: String,
    /// Its arguments.
    pub(crate) arguments: Map<String, Value>,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It happened.
    Happened,
    /// It was refused or failed: the model made a sensible call, and it did not work.
    Refused,
    /// The call made no sense: there is no such tool, or its arguments are not what it takes.
    Nonsense,
}

/// The result of a call, as text for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolOutcome {
    /// What the model is told, at most [`MAX_RESULT`] bytes.
    pub(crate) text: String,
    /// How it is meant.
    pub(crate) verdict: Verdict,
}

impl ToolOutcome {
    /// It happened, and this came of it.
    pub(crate) fn happened(text: &str) -> Self {
        Self::new(text, Verdict::Happened)
    }

    /// It was refused or failed, for this reason.
    pub(crate) fn refused(text: &str) -> Self {
        Self::new(text, Verdict::Refused)
    }

    /// The call made no sense, for this reason.
    pub(crate) fn nonsense(text: &str) -> Self {
        Self::new(text, Verdict::Nonsense)
    }

    fn new(text: &str, verdict: Verdict) -> Self {
        Self {
            text: cut(text, MAX_RESULT),
            verdict,
        }
    }

    /// Whether the model is told that it is an error.
    pub(crate) fn is_error(&self) -> bool {
        match self.verdict {
            Verdict::Happened => false,
            Verdict::Refused | Verdict::Nonsense => true,
        }
    }
}
