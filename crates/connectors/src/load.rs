//! From a manifest as written to a connector that can be relied on.
//!
//! Everything that a manifest promises is checked here, once: names refer to something, paths can be matched,
//! two actions cannot be confused, a tool's requests are its own action's. Afterwards nothing about a connector
//! can fail but the request at hand.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use clawstaff_types::{ActionId, ConnectorId, ResourceKind};
use http::{HeaderName, HeaderValue, Method};
use toml::Spanned;

use crate::{
    action::{Action, Auth, AuthScheme, Connector, HostPattern, Protocol, Tool},
    build::ToolRules,
    manifest::{
        ActionManifest, AuthManifest, BodyKind, Manifest, ManifestError, RequestManifest, ResourceManifest,
        SchemeName,
    },
    pointer::Pointer,
    queries::QueryRule,
    summary::{ResponseRules, ResultRules},
    template::{PathTemplate, TextTemplate},
    value::Rule,
};

/// The version of the format that this program reads.
const FORMAT: u32 = 1;
/// Bytes of a manifest.
const MAX_MANIFEST: usize = 256 << 10;

/// Where a value is in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `query:NAME`
    Query(String),
    /// `json:POINTER`, with its text
    Json(Pointer, String),
    /// `params:NAME`: query, form and top-level JSON taken together
    Params(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(name) | Self::Params(name) | Self::Json(_, name) => f.write_str(name),
        }
    }
}

/// The only values that may be at a place.
#[derive(Debug, Clone)]
pub(crate) struct Only {
    pub(crate) pointer: Pointer,
    pub(crate) text: String,
    pub(crate) accepted: Vec<String>,
}

impl Only {
    /// A final `*` stands for any ending.
    pub(crate) fn accepts(&self, value: &str) -> bool {
        self.accepted
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => value.starts_with(prefix),
                None => value == pattern,
            })
    }
}

/// One form of request that is an action.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// The action's place in the connector's list.
    pub(crate) action: usize,
    pub(crate) methods: Vec<Method>,
    pub(crate) path: PathTemplate,
    pub(crate) body: Vec<BodyKind>,
    pub(crate) values: Vec<(String, Source)>,
    pub(crate) arguments: Vec<String>,
    pub(crate) with: Vec<Source>,
    pub(crate) without: Vec<Source>,
    pub(crate) only: Vec<Only>,
    pub(crate) resource: Option<String>,
}

/// A kind of resource: how its id is put together and what is above it.
#[derive(Debug, Clone)]
pub(crate) struct ResourceRule {
    pub(crate) kind: ResourceKind,
    pub(crate) id: TextTemplate,
    pub(crate) parents: Vec<(ResourceKind, TextTemplate)>,
}

/// The part of a connector that only this crate reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) values: BTreeMap<String, Rule>,
    pub(crate) resources: BTreeMap<String, ResourceRule>,
    pub(crate) refuse: Vec<(String, String)>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) tools: BTreeMap<ActionId, ToolRules>,
    pub(crate) results: BTreeMap<ActionId, ResultRules>,
    pub(crate) response: ResponseRules,
    /// Where GraphQL is spoken, if it is.
    pub(crate) graphql: Option<String>,
    pub(crate) queries: Vec<QueryRule>,
}

/// Knows the text, so that an error can name its line.
pub(crate) struct Loader<'a> {
    text: &'a str,
    connector: Option<String>,
}

impl Loader<'_> {
    /// An error at the place of `spanned`.
    pub(crate) fn error<T>(&self, at: &Spanned<T>, what: impl Into<String>, remedy: &str) -> ManifestError {
        self.error_at(at.span().start, what, remedy)
    }

    fn error_at(&self, start: usize, what: impl Into<String>, remedy: &str) -> ManifestError {
        let before = self.text.as_bytes().iter().take(start);
        ManifestError {
            connector: self.connector.clone(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
            what: what.into(),
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
        }
    }

    pub(crate) fn pointer(&self, text: &Spanned<String>) -> Result<Pointer, ManifestError> {
        Pointer::parse(text.as_ref()).ok_or_else(|| {
            let what = format!("`{}` is not a place in a JSON document", text.as_ref());
            self.error(
                text,
                what,
                "write member names joined by `.`, with `[]` for every element",
            )
        })
    }

    pub(crate) fn method(&self, text: &Spanned<String>) -> Result<Method, ManifestError> {
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let found = known.contains(&text.as_ref().as_str());
        let method = Method::from_bytes(text.as_ref().as_bytes())
            .ok()
            .filter(|_| found);
        method.ok_or_else(|| {
            let what = format!("`{}` is not a method", text.as_ref());
            self.error(text, what, "write GET, HEAD, POST, PUT, PATCH or DELETE")
        })
    }

    pub(crate) fn path(&self, text: &Spanned<String>) -> Result<PathTemplate, ManifestError> {
        PathTemplate::parse(text.as_ref()).ok_or_else(|| {
            let what = format!("`{}` is not a path that can be matched", text.as_ref());
            let remedy =
                "write `/` and segments: letters, digits, `.`, `_`, `-`, or `{name}`; `{name*}` at the end";
            self.error(text, what, remedy)
        })
    }

    fn source(&self, text: &Spanned<String>) -> Result<Source, ManifestError> {
        let remedy = "write `query:NAME`, `json:PLACE` or `params:NAME`";
        let refuse = || {
            self.error(
                text,
                format!("`{}` is not a place in a request", text.as_ref()),
                remedy,
            )
        };
        let (kind, name) = text.as_ref().split_once(':').ok_or_else(refuse)?;
        let plain = |name: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            !name.is_empty() && name.bytes().all(byte)
        };
        match kind {
            "query" if plain(name) => Ok(Source::Query(name.to_owned())),
            "params" if plain(name) => Ok(Source::Params(name.to_owned())),
            "json" => {
                let pointer = Pointer::parse(name).ok_or_else(refuse)?;
                Ok(Source::Json(pointer, name.to_owned()))
            }
            _ => Err(refuse()),
        }
    }

    fn text_template(&self, text: &Spanned<String>) -> Result<TextTemplate, ManifestError> {
        TextTemplate::parse(text.as_ref()).ok_or_else(|| {
            let what = format!("`{}` is not a text with `{{names}}` in it", text.as_ref());
            self.error(
                text,
                what,
                "put something between two names, as in `{owner}/{repo}`",
            )
        })
    }

    fn kind(&self, text: &str, at: &Spanned<String>) -> Result<ResourceKind, ManifestError> {
        text.parse().map_err(|e| self.error(at, format!("{e}"), ""))
    }
}

/// Loads a manifest.
pub(crate) fn load(text: &str) -> Result<Connector, ManifestError> {
    let mut loader = Loader {
        text,
        connector: None,
    };
    if text.len() > MAX_MANIFEST {
        return Err(loader.error_at(0, "the manifest is larger than 256 KiB", ""));
    }
    let manifest: Manifest = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        loader.error_at(
            start,
            error.message(),
            "the format is described in docs/connectors.md",
        )
    })?;
    if *manifest.format.as_ref() != FORMAT {
        let what = format!(
            "format {} is not one that this program reads",
            manifest.format.as_ref()
        );
        return Err(loader.error(&manifest.format, what, "write `format = 1`"));
    }
    loader.connector = Some(manifest.id.as_ref().clone());
    connector(&loader, &manifest)
}

fn connector(loader: &Loader<'_>, manifest: &Manifest) -> Result<Connector, ManifestError> {
    let id: ConnectorId = manifest
        .id
        .as_ref()
        .parse()
        .map_err(|e| loader.error(&manifest.id, format!("{e}"), ""))?;
    let mut rules = Rules {
        values: manifest
            .value
            .iter()
            .map(|(name, value)| (name.clone(), rule(value)))
            .collect(),
        resources: resources(loader, &manifest.resource)?,
        refuse: manifest.refuse.clone().into_iter().collect(),
        shapes: Vec::new(),
        tools: BTreeMap::new(),
        results: BTreeMap::new(),
        response: ResponseRules::load(loader, &manifest.response, &manifest.usage)?,
        graphql: graphql(loader, manifest)?,
        queries: Vec::new(),
    };
    let mut actions = Vec::new();
    for entry in &manifest.action {
        let action = action(loader, &id, entry, actions.len(), &mut rules)?;
        if actions.iter().any(|other: &Action| other.id == action.id) {
            let what = format!("action `{}` is there twice", action.id);
            return Err(loader.error(&entry.id, what, "give one action several requests instead"));
        }
        actions.push(action);
    }
    check_confusion(loader, manifest)?;
    check_tool_names(loader, manifest)?;
    Ok(Connector {
        id,
        name: manifest.name.clone(),
        description: manifest.description.clone(),
        hosts: manifest
            .hosts
            .iter()
            .map(|host| host_pattern(loader, host))
            .collect::<Result<_, _>>()?,
        base_url: base_url(loader, &manifest.base_url)?,
        auth: auth(loader, &manifest.auth)?,
        actions,
        rules,
        protocol: Protocol::Http,
    })
}

/// The path at which GraphQL is spoken; no request of an action may have it.
fn graphql(loader: &Loader<'_>, manifest: &Manifest) -> Result<Option<String>, ManifestError> {
    let Some(graphql) = &manifest.graphql else {
        return Ok(None);
    };
    loader.path(&graphql.path)?;
    let requests = manifest.action.iter().flat_map(|action| &action.request);
    for request in requests {
        if request.path.as_ref() == graphql.path.as_ref() || graphql.path.as_ref().contains('{') {
            let what = "a request has the path of GraphQL, or that path has a name in it";
            return Err(loader.error(&graphql.path, what, "give it a path of its own"));
        }
    }
    Ok(Some(graphql.path.as_ref().clone()))
}

const fn rule(value: &crate::manifest::ValueManifest) -> Rule {
    Rule {
        format: value.format,
        ignore_case: value.ignore_case,
    }
}

fn resources(
    loader: &Loader<'_>,
    manifests: &BTreeMap<String, ResourceManifest>,
) -> Result<BTreeMap<String, ResourceRule>, ManifestError> {
    let mut rules = BTreeMap::new();
    for (kind, manifest) in manifests {
        if kind == "none" {
            return Err(loader.error(
                &manifest.id,
                "`none` is not a kind of resource",
                "choose another name",
            ));
        }
        let id = loader.text_template(&manifest.id)?;
        let mut parents = Vec::new();
        for text in &manifest.parents {
            let remedy = "write the kind, `:` and the id, as in `org:{owner}`";
            let (parent, template) = text
                .as_ref()
                .split_once(':')
                .and_then(|(kind, id)| Some((kind, TextTemplate::parse(id)?)))
                .ok_or_else(|| {
                    loader.error(text, format!("`{}` is not a resource", text.as_ref()), remedy)
                })?;
            if let Some(name) = template.names().find(|name| !id.names().any(|own| own == *name)) {
                let what = format!("`{name}` is not in the id of `{kind}`");
                return Err(loader.error(text, what, "a parent's id is made of parts of the id below it"));
            }
            parents.push((loader.kind(parent, text)?, template));
        }
        let rule = ResourceRule {
            kind: loader.kind(kind, &manifest.id)?,
            id,
            parents,
        };
        rules.insert(kind.clone(), rule);
    }
    Ok(rules)
}

fn action(
    loader: &Loader<'_>,
    connector: &ConnectorId,
    manifest: &ActionManifest,
    place: usize,
    rules: &mut Rules,
) -> Result<Action, ManifestError> {
    let id = ActionId::new(connector.clone(), manifest.id.as_ref())
        .map_err(|e| loader.error(&manifest.id, format!("{e}"), ""))?;
    if manifest
        .id
        .as_ref()
        .contains(|c: char| c.is_ascii_uppercase() || c == '-')
    {
        let what = format!("`{}` is not an action's name", manifest.id.as_ref());
        return Err(loader.error(
            &manifest.id,
            what,
            "write words of a-z, 0-9 and `_`, joined by `.`",
        ));
    }
    if manifest.request.is_empty() {
        return Err(loader.error(
            &manifest.id,
            "the action has no request",
            "add `[[action.request]]`",
        ));
    }
    let default = manifest.resource.as_ref();
    let mut kinds = Vec::new();
    for request in &manifest.request {
        let shape = shape(loader, request, place, default, rules)?;
        kinds.extend(shape.resource.clone());
        rules.shapes.push(shape);
    }
    for query in &manifest.query {
        if rules.graphql.is_none() {
            return Err(loader.error(
                &query.field,
                "the connector speaks no GraphQL",
                "add `[graphql]` with its path",
            ));
        }
        let rule = QueryRule::load(loader, query, place, kinds.first(), rules)?;
        rules.queries.push(rule);
    }
    let kind = kinds
        .first()
        .and_then(|kind| rules.resources.get(kind))
        .map(|rule| rule.kind.clone());
    rules
        .results
        .insert(id.clone(), ResultRules::load(loader, &manifest.result)?);
    let tool = match &manifest.tool {
        Some(tool) => {
            let own: Vec<_> = rules
                .shapes
                .iter()
                .filter(|shape| shape.action == place)
                .collect();
            let tool_rules = ToolRules::load(loader, tool, &own)?;
            let made = Tool {
                name: tool.name.as_ref().clone(),
                description: tool.description.clone(),
                input_schema: tool_rules.input_schema(),
            };
            rules.tools.insert(id.clone(), tool_rules);
            Some(made)
        }
        None => None,
    };
    Ok(Action {
        id,
        access: manifest.access,
        title: manifest.title.clone(),
        description: manifest.description.clone(),
        resource: kind,
        record: manifest.record,
        tool,
    })
}

fn shape(
    loader: &Loader<'_>,
    manifest: &RequestManifest,
    action: usize,
    default: Option<&Spanned<String>>,
    rules: &Rules,
) -> Result<Shape, ManifestError> {
    let path = loader.path(&manifest.path)?;
    let sources = |texts: &[Spanned<String>]| {
        texts
            .iter()
            .map(|t| loader.source(t))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut values = Vec::new();
    for (name, text) in &manifest.values {
        if path.names().any(|own| own == name) {
            let what = format!("`{name}` is in the path and in `values`");
            return Err(loader.error(text, what, "give one of them another name"));
        }
        values.push((name.clone(), loader.source(text)?));
    }
    let known = |name: &str| path.names().any(|own| own == name) || manifest.values.contains_key(name);
    if let Some(name) = manifest.arguments.iter().find(|name| !known(name.as_ref())) {
        let what = format!(
            "argument `{}` is neither in the path nor in `values`",
            name.as_ref()
        );
        return Err(loader.error(name, what, "say where it is in `values`"));
    }
    let resource = manifest.resource.as_ref().or(default);
    let resource = match resource {
        Some(kind) if kind.as_ref() == "none" => None,
        Some(kind) => {
            let rule = rules.resources.get(kind.as_ref()).ok_or_else(|| {
                let what = format!("there is no resource `{}`", kind.as_ref());
                loader.error(kind, what, "add `[resource.NAME]`, or write `none`")
            })?;
            if let Some(name) = rule.id.names().find(|name| !known(name)) {
                let what = format!(
                    "`{name}` of resource `{}` is neither in the path nor in `values`",
                    kind.as_ref()
                );
                return Err(loader.error(
                    &manifest.path,
                    what,
                    "say where it is, or that this request's resource is `none`",
                ));
            }
            Some(kind.as_ref().clone())
        }
        None => None,
    };
    let methods: Vec<Method> = manifest
        .methods
        .iter()
        .map(|m| loader.method(m))
        .collect::<Result<_, _>>()?;
    if methods.is_empty() {
        return Err(loader.error(
            &manifest.path,
            "the request has no method",
            "write `methods = [\"GET\"]`",
        ));
    }
    Ok(Shape {
        action,
        path,
        body: if manifest.body.is_empty() {
            vec![BodyKind::None]
        } else {
            manifest.body.clone()
        },
        values,
        arguments: manifest
            .arguments
            .iter()
            .map(|name| name.as_ref().clone())
            .collect(),
        with: sources(&manifest.with)?,
        without: sources(&manifest.without)?,
        only: only(loader, manifest)?,
        resource,
        methods,
    })
}

fn only(loader: &Loader<'_>, manifest: &RequestManifest) -> Result<Vec<Only>, ManifestError> {
    let one = |(text, accepted): (&String, &Vec<Spanned<String>>)| {
        let pointer = text
            .strip_prefix("json:")
            .and_then(Pointer::parse)
            .ok_or_else(|| {
                let what = format!("`{text}` is not a place in a JSON document");
                loader.error(
                    &manifest.path,
                    what,
                    "write `json:` and member names joined by `.`",
                )
            })?;
        Ok(Only {
            pointer,
            text: text.trim_start_matches("json:").to_owned(),
            accepted: accepted.iter().map(|pattern| pattern.as_ref().clone()).collect(),
        })
    };
    manifest.only.iter().map(one).collect()
}

/// Two requests with the same method and path must say by `with` and `without` how they are told apart.
fn check_confusion(loader: &Loader<'_>, manifest: &Manifest) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    for request in manifest.action.iter().flat_map(|action| &action.request) {
        let outline = loader.path(&request.path)?.outline();
        let texts = |list: &[Spanned<String>]| {
            let mut texts: Vec<String> = list.iter().map(|text| text.as_ref().clone()).collect();
            texts.sort();
            texts
        };
        for method in &request.methods {
            let form = (
                method.as_ref().clone(),
                outline.clone(),
                texts(&request.with),
                texts(&request.without),
            );
            if !seen.insert(form) {
                let what = format!("`{} {}` is there twice", method.as_ref(), request.path.as_ref());
                return Err(loader.error(&request.path, what, "tell them apart by `with` and `without`"));
            }
        }
    }
    Ok(())
}

fn check_tool_names(loader: &Loader<'_>, manifest: &Manifest) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    for tool in manifest.action.iter().filter_map(|action| action.tool.as_ref()) {
        let name = tool.name.as_ref();
        let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(byte) {
            let what = format!("`{name}` is not a tool's name");
            return Err(loader.error(&tool.name, what, "write 1 to 64 letters, digits and `_`"));
        }
        if !seen.insert(name) {
            return Err(loader.error(
                &tool.name,
                format!("tool `{name}` is there twice"),
                "choose another name",
            ));
        }
    }
    Ok(())
}

fn host_pattern(loader: &Loader<'_>, text: &Spanned<String>) -> Result<HostPattern, ManifestError> {
    let host = text.as_ref();
    let name = host.strip_prefix("*.").unwrap_or(host);
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(byte);
    let labels = name.split('.').count();
    if name.len() <= 253 && labels >= 2 && name.split('.').all(label) {
        Ok(HostPattern(host.clone()))
    } else {
        let what = format!("`{host}` is not a host");
        Err(loader.error(
            text,
            what,
            "write a name in lower case with at least one dot, or `*.` and such a name",
        ))
    }
}

fn base_url(loader: &Loader<'_>, text: &Spanned<String>) -> Result<String, ManifestError> {
    let url = text.as_ref();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b':');
    let rest = url.strip_prefix("https://").unwrap_or_default();
    if rest.is_empty() || rest.ends_with('/') || rest.contains("//") || !rest.bytes().all(plain) {
        let what = format!("`{url}` is not an address of an API");
        return Err(loader.error(
            text,
            what,
            "write `https://`, a host and a path without trailing `/`",
        ));
    }
    Ok(url.clone())
}

fn auth(loader: &Loader<'_>, manifest: &AuthManifest) -> Result<Auth, ManifestError> {
    let name = |text: &str, at: &Spanned<String>| {
        let name: Result<HeaderName, _> = text.parse();
        name.map_err(|_| loader.error(at, format!("`{text}` is not a header's name"), ""))
    };
    let prefix = &manifest.placeholder_prefix;
    let scheme = match (manifest.scheme, &manifest.header) {
        (SchemeName::Bearer, None) => AuthScheme::Bearer,
        (SchemeName::Header, Some(header)) => AuthScheme::Header {
            name: name(header.as_ref(), header)?,
        },
        (SchemeName::Bearer, Some(header)) => {
            return Err(loader.error(
                header,
                "`header` belongs to `scheme = \"header\"`",
                "remove one of them",
            ));
        }
        (SchemeName::Header, None) => {
            return Err(loader.error(
                prefix,
                "the header of the credential is missing",
                "add `header = \"x-api-key\"`",
            ));
        }
    };
    if prefix.as_ref().len() > 32 || !prefix.as_ref().bytes().all(|b| b.is_ascii_graphic()) {
        let what = "the prefix of placeholders is not at most 32 printable characters";
        return Err(loader.error(prefix, what, ""));
    }
    let header = |(key, value): (&String, &Spanned<String>)| {
        let parsed = HeaderValue::from_str(value.as_ref());
        let parsed = parsed.map_err(|_| loader.error(value, "this is not a header's value", ""))?;
        Ok((name(key, value)?, parsed))
    };
    Ok(Auth {
        scheme,
        placeholder_prefix: prefix.as_ref().clone(),
        extra_headers: manifest.headers.iter().map(header).collect::<Result<_, _>>()?,
    })
}
