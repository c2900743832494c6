//! A manifest as it is written: the TOML of `docs/connectors.md`, field by field, nothing else accepted.
//!
//! These types are the file format and nothing more; `load` turns them into a connector and refuses what
//! TOML alone cannot. A manifest is trusted to the extent that whoever adds it decides what requests mean, so
//! everything in it is explicit and bounded.

use std::collections::BTreeMap;

use clawstaff_types::Access;
use serde::Deserialize;
use toml::Spanned;

use crate::action::RecordKind;

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}line {line}: {what}{}", named(.connector.as_ref()), remedied(.remedy.as_ref()))]
pub struct ManifestError {
    /// The id of the connector, once it is known.
    pub connector: Option<String>,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
    /// What to write instead, if we know.
    pub remedy: Option<String>,
}

fn named(connector: Option<&String>) -> String {
    connector.map_or_else(String::new, |id| format!("connector `{id}`, "))
}

fn remedied(remedy: Option<&String>) -> String {
    remedy.map_or_else(String::new, |text| format!("; {text}"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: Spanned<u32>,
    pub(crate) id: Spanned<String>,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) base_url: Spanned<String>,
    pub(crate) hosts: Vec<Spanned<String>>,
    pub(crate) auth: AuthManifest,
    /// Parameters that are never let through, wherever they are, with the reason.
    #[serde(default)]
    pub(crate) refuse: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) value: BTreeMap<String, ValueManifest>,
    #[serde(default)]
    pub(crate) resource: BTreeMap<String, ResourceManifest>,
    #[serde(default)]
    pub(crate) response: ResponseManifest,
    #[serde(default)]
    pub(crate) usage: Vec<UsageManifest>,
    pub(crate) graphql: Option<GraphqlManifest>,
    pub(crate) action: Vec<ActionManifest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthManifest {
    /// `bearer`, or the name of a header that carries the bare credential.
    pub(crate) scheme: SchemeName,
    pub(crate) header: Option<Spanned<String>>,
    pub(crate) placeholder_prefix: Spanned<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Spanned<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SchemeName {
    Bearer,
    Header,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValueManifest {
    pub(crate) format: crate::value::Format,
    /// Whether letter case carries no meaning; the value is then compared in lower case.
    #[serde(default)]
    pub(crate) ignore_case: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceManifest {
    pub(crate) id: Spanned<String>,
    #[serde(default)]
    pub(crate) parents: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseManifest {
    /// Must be `true` in the body for the call to have succeeded, whatever the status says.
    pub(crate) success: Option<Spanned<String>>,
    /// Where the tool's own error code is; the first that is there.
    #[serde(default)]
    pub(crate) error: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageManifest {
    #[serde(default)]
    pub(crate) input: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) output: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionManifest {
    pub(crate) id: Spanned<String>,
    pub(crate) access: Access,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) resource: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) record: RecordKind,
    pub(crate) request: Vec<RequestManifest>,
    #[serde(default)]
    pub(crate) query: Vec<QueryManifest>,
    #[serde(default)]
    pub(crate) result: ResultManifest,
    pub(crate) tool: Option<ToolManifest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestManifest {
    pub(crate) methods: Vec<Spanned<String>>,
    pub(crate) path: Spanned<String>,
    #[serde(default)]
    pub(crate) body: Vec<BodyKind>,
    #[serde(default)]
    pub(crate) values: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(crate) arguments: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) with: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) without: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) only: BTreeMap<String, Vec<Spanned<String>>>,
    pub(crate) resource: Option<Spanned<String>>,
}

/// Where GraphQL is spoken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphqlManifest {
    pub(crate) path: Spanned<String>,
}

/// One way in which an action is a GraphQL query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryManifest {
    /// The root field.
    pub(crate) field: Spanned<String>,
    /// Values, each with the argument of that field that it is.
    #[serde(default)]
    pub(crate) values: BTreeMap<String, String>,
    /// What may be asked for below it, by its names joined with `.`.
    pub(crate) selects: Vec<Spanned<String>>,
}

/// What a request may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BodyKind {
    /// Nothing.
    None,
    /// `application/json` (RFC 8259).
    Json,
    /// `application/x-www-form-urlencoded` (WHATWG URL).
    Form,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultManifest {
    /// What to count as read or made.
    pub(crate) items: Option<Spanned<String>>,
    /// Their ids.
    pub(crate) ids: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolManifest {
    pub(crate) name: Spanned<String>,
    pub(crate) description: String,
    pub(crate) arguments: BTreeMap<String, ArgumentManifest>,
    pub(crate) send: Vec<SendManifest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArgumentManifest {
    #[serde(rename = "type")]
    pub(crate) kind: ArgumentKind,
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) required: bool,
    #[serde(default)]
    pub(crate) one_of: Vec<String>,
    pub(crate) min: Option<i64>,
    pub(crate) max: Option<i64>,
}

/// The type of a tool's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ArgumentKind {
    String,
    Integer,
    Boolean,
    Object,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendManifest {
    /// Only where this argument is given.
    pub(crate) when: Option<Spanned<String>>,
    pub(crate) method: Spanned<String>,
    pub(crate) path: Spanned<String>,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Spanned<String>>,
    pub(crate) json: Option<Spanned<toml::Value>>,
}
