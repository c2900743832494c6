//! What came back, in ids, counts and codes: what a record may say of a response.
//!
//! Never content. An error text in words is not an error code and is left out; ids are short and printable or
//! left out. The response comes from outside, so nothing of it is trusted to be small or well-formed.

use serde_json::Value;

use crate::{
    action::{Connector, Protocol},
    load::Loader,
    manifest::{ManifestError, ResponseManifest, ResultManifest, UsageManifest},
    pointer::Pointer,
};

/// Ids in a summary, and characters in an id or code.
const MAX_IDS: usize = 20;
const MAX_TEXT: usize = 64;

/// What a record may say of a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Whether the tool did it, by its status and, where the tool says it in the body, by that.
    pub succeeded: bool,
    /// How many things were read or made, where the connector says what to count.
    pub items: Option<u64>,
    /// Their ids: at most 20, each of at most 64 printable characters.
    pub ids: Vec<String>,
    /// The tool's own error code: at most 64 printable characters. Only of a failure.
    pub error: Option<String>,
    /// A model's input and output tokens.
    pub tokens: Option<(u64, u64)>,
}

/// How the tool says success, errors and usage.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseRules {
    success: Option<Pointer>,
    error: Vec<Pointer>,
    usage: Vec<(Vec<Pointer>, Vec<Pointer>)>,
}

impl ResponseRules {
    pub(crate) fn load(
        loader: &Loader<'_>,
        response: &ResponseManifest,
        usage: &[UsageManifest],
    ) -> Result<Self, ManifestError> {
        let all = |texts: &[toml::Spanned<String>]| -> Result<Vec<Pointer>, ManifestError> {
            texts.iter().map(|text| loader.pointer(text)).collect()
        };
        let usage = usage
            .iter()
            .map(|entry| Ok((all(&entry.input)?, all(&entry.output)?)));
        Ok(Self {
            success: response
                .success
                .as_ref()
                .map(|text| loader.pointer(text))
                .transpose()?,
            error: all(&response.error)?,
            usage: usage.collect::<Result<_, ManifestError>>()?,
        })
    }
}

/// What to count of an action's response.
#[derive(Debug, Clone)]
pub(crate) struct ResultRules {
    items: Option<Pointer>,
    ids: Option<Pointer>,
}

impl ResultRules {
    pub(crate) fn load(loader: &Loader<'_>, manifest: &ResultManifest) -> Result<Self, ManifestError> {
        let pointer =
            |text: &Option<toml::Spanned<String>>| text.as_ref().map(|text| loader.pointer(text)).transpose();
        Ok(Self {
            items: pointer(&manifest.items)?,
            ids: pointer(&manifest.ids)?,
        })
    }
}

impl Connector {
    /// Sums up the response to a call of `action`. An action of another connector has no ids to count.
    pub fn summarise(&self, action: &clawstaff_types::ActionId, status: u16, body: &[u8]) -> Summary {
        match self.protocol {
            Protocol::Http => {}
            Protocol::Mcp => return crate::mcp::summarise(status, body),
            Protocol::Git => return crate::git::summarise(status),
        }
        let response = &self.rules.response;
        let document: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let said = response.success.as_ref().map(|at| at.read(&document));
        let succeeded = (200..300).contains(&status)
            && said.is_none_or(|found| matches!(found.as_slice(), [Value::Bool(true)]))
            && self.error_inside(&document).is_none();
        if !succeeded {
            return Summary {
                error: self.error_code(&document),
                tokens: self.usage(&document),
                ..Summary::default()
            };
        }
        let result = self.rules.results.get(action);
        let found = |pointer: Option<&Pointer>| pointer.map(|pointer| pointer.read(&document));
        let items = found(result.and_then(|result| result.items.as_ref()));
        let ids = found(result.and_then(|result| result.ids.as_ref())).unwrap_or_default();
        Summary {
            succeeded,
            items: items.map(|items| u64::try_from(items.len()).unwrap_or(u64::MAX)),
            ids: ids.into_iter().filter_map(short).take(MAX_IDS).collect(),
            error: None,
            tokens: self.usage(&document),
        }
    }

    /// The tool's own error code, wherever it may be in its answer.
    fn error_code(&self, document: &Value) -> Option<String> {
        let places = self.rules.response.error.iter();
        places
            .into_iter()
            .find_map(|at| at.read(document).into_iter().find_map(short))
    }

    /// A model provider's error code inside an answer, or an event of its stream, whose status said that all is well.
    pub fn error_inside(&self, document: &Value) -> Option<String> {
        if self.rules.response.usage.is_empty() {
            return None;
        }
        self.error_code(document)
    }

    /// Input and output tokens that a model's answer, or one event of its stream, reports. In a stream counts
    /// are cumulative and an event may report only one of them (the other is 0), so the largest of each counts.
    pub fn usage(&self, answer: &Value) -> Option<(u64, u64)> {
        let sum = |pointers: &[Pointer]| -> Option<u64> {
            let found = pointers.iter().flat_map(|pointer| pointer.read(answer));
            found.filter_map(Value::as_u64).reduce(u64::saturating_add)
        };
        self.rules
            .response
            .usage
            .iter()
            .find_map(|(input, output)| match (sum(input), sum(output)) {
                (None, None) => None,
                (input, output) => Some((input.unwrap_or(0), output.unwrap_or(0))),
            })
    }
}

/// An id or code as text, if it is one: printable, short, no words.
fn short(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let fits = (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(text)
}
