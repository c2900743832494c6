//! The sections of a spec file: connections, guardrails, and Claws (see `claw.rs`).

use std::{collections::BTreeSet, path::Path};

use clawstaff_api::people::GrantInput;
use clawstaff_types::{
    Guardrail, PoolName,
    spec::{ClawSpec, Connection, Sealed},
};
use toml::de::DeTable;

use super::{
    claw,
    reader::{Fields, Source, SpecError, Value},
};

/// What a spec file says, instructions still in plain text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Document {
    /// The connections.
    pub(crate) connections: Vec<Connection>,
    /// The guardrails.
    pub(crate) guardrails: Vec<Guardrail>,
    /// The Claws.
    pub(crate) claws: Vec<ClawDraft>,
}

/// A Claw whose instructions are not sealed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClawDraft {
    /// The Claw without its instructions.
    pub(crate) spec: ClawSpec,
    /// The pool that it may be placed in, where no node is named.
    pub(crate) pool: Option<PoolName>,
    /// Its instructions.
    pub(crate) instructions: Option<Instructions>,
    /// Its grants.
    pub(crate) grants: Vec<GrantInput>,
}

/// Instructions as a spec file gives them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// In plain text, to be sealed before they leave this process.
    Plain(String),
    /// Sealed already, as `get` writes them.
    Sealed(Sealed),
}

impl std::fmt::Debug for Instructions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(…)"),
            Self::Sealed(sealed) => f.debug_tuple("Sealed").field(&sealed.digest).finish(),
        }
    }
}

/// Reads one file's text; `folder` is where `instructions_file` starts from.
pub(super) fn parse(source: Source<'_>, folder: &Path) -> Result<Document, SpecError> {
    let root = DeTable::parse(source.text).map_err(|error| {
        let end = source.text.len();
        source.error(&error.span().unwrap_or(end..end), error.message().trim())
    })?;
    let known = ["connection", "guardrail", "claw"];
    let fields = Fields::open(source, "the file", root.span(), root.get_ref(), &known, &[])?;
    let mut document = Document::default();
    for value in list_of(&fields, "connection")? {
        document.connections.push(connection(value)?);
    }
    for value in list_of(&fields, "guardrail")? {
        document.guardrails.push(guardrail(value)?);
    }
    for value in list_of(&fields, "claw")? {
        document.claws.push(claw::claw(value, folder)?);
    }
    unique(
        &fields,
        "connection",
        document.connections.iter().map(|c| c.name.as_str()),
    )?;
    unique(
        &fields,
        "guardrail",
        document.guardrails.iter().map(|g| g.name.as_str()),
    )?;
    unique(
        &fields,
        "claw",
        document.claws.iter().map(|c| c.spec.name.as_str()),
    )?;
    Ok(document)
}

/// The elements of an optional list.
pub(super) fn list_of<'a>(fields: &Fields<'a>, name: &'static str) -> Result<Vec<Value<'a>>, SpecError> {
    fields
        .get(name)
        .map_or_else(|| Ok(Vec::new()), |value| value.list())
}

fn unique<'n>(
    fields: &Fields<'_>,
    section: &'static str,
    names: impl Iterator<Item = &'n str>,
) -> Result<(), SpecError> {
    let values = list_of(fields, section)?;
    let mut seen = BTreeSet::new();
    for (name, value) in names.zip(values) {
        if !seen.insert(name) {
            return Err(value.error(format!("{section} `{name}` is there twice")));
        }
    }
    Ok(())
}

fn connection(value: Value<'_>) -> Result<Connection, SpecError> {
    let known = ["name", "connector", "credential", "signing_secret", "base_url"];
    let fields = value.fields("[[connection]]", &known, &[])?;
    Ok(Connection {
        name: fields.need("name")?.parse()?,
        connector: fields.need("connector")?.parse()?,
        credential: fields.need("credential")?.convert()?,
        signing_secret: fields
            .get("signing_secret")
            .map(|value| value.convert())
            .transpose()?,
        base_url: fields.get("base_url").map(base_url).transpose()?,
    })
}

fn base_url(value: Value<'_>) -> Result<String, SpecError> {
    let text = value.text_up_to(512)?;
    let refuse = |why: &str| value.error(format!("`base_url` {why}"));
    let url: http::Uri = text.parse().map_err(|_| refuse("is not an address"))?;
    if url.host().is_none() || url.query().is_some() {
        return Err(refuse(
            "needs a host and no query: `https://github.example.com/api/v3`",
        ));
    }
    match url.scheme_str() {
        Some("https") => Ok(text),
        Some("http") if url.host().is_some_and(is_loopback) => Ok(text),
        Some("http") => Err(refuse(
            "may be http:// only for a loopback address; write https://",
        )),
        _ => Err(refuse("must start with https://")),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn guardrail(value: Value<'_>) -> Result<Guardrail, SpecError> {
    let fields = value.fields("[[guardrail]]", &["name", "forbid"], &[])?;
    let name = fields.need("name")?.parse()?;
    let forbid = fields
        .need("forbid")?
        .fields("`forbid`", &["actions", "resources"], &[])?;
    Ok(Guardrail {
        name,
        actions: forbid.need("actions")?.some()?,
        resources: forbid.need("resources")?.some()?,
    })
}
