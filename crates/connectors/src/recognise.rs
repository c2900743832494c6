//! From a request to the action it is, the resources it touches and the arguments that conditions may speak of.
//!
//! ```text
//!   path ──► shapes with that method and path ──► those that accept the body and have the values asked for
//!        ──► exactly one, or a refusal ──► values ──► resource and its parents, arguments
//! ```
//!
//! There is no default and no best guess. Every refusal names what was wrong in words of the manifest, never
//! with a part of the request's content.

use std::collections::BTreeMap;

use clawstaff_types::{Access, ActionId, ResourceRef};
use serde_json::Value;

use crate::{
    action::{Connector, Protocol, RecordKind},
    load::{Only, Rules, Shape, Source},
    pointer::Pointer,
    request::{self, Body, RequestView},
    template::Values,
};

/// What a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The action.
    pub action: ActionId,
    /// What it does to the world.
    pub access: Access,
    /// As which kind of event it is recorded.
    pub record: RecordKind,
    /// The resource it touches and what is above it, most specific first; empty if it touches none.
    pub resources: Vec<ResourceRef>,
    /// The arguments that conditions may speak of. Content: never to be recorded.
    pub arguments: BTreeMap<String, String>,
}

/// Why a request is none of the connector's actions. Every one of these is a denial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// No action has this method and path.
    #[error("no action of the connector has this method and path")]
    Unknown,
    /// The path can be read in more than one way.
    #[error("the path is not canonical: {0}")]
    Path(&'static str),
    /// The query cannot be read.
    #[error("the query cannot be judged: {0}")]
    Query(&'static str),
    /// The body cannot be read, or the action takes no such body.
    #[error("the body cannot be judged: {0}")]
    Body(&'static str),
    /// Something that matters is said twice.
    #[error("the request is ambiguous: {0}")]
    Ambiguous(String),
    /// Something that matters is not said.
    #[error("`{0}` is missing, so the resource cannot be known")]
    Missing(String),
    /// Something that matters is not in its one canonical form.
    #[error("`{name}` {rule}")]
    Value {
        /// What, by the manifest's name.
        name: String,
        /// The rule.
        rule: String,
    },
    /// The manifest refuses it.
    #[error("`{name}` is not let through: {why}")]
    Refused {
        /// What, by the manifest's name.
        name: String,
        /// Why, in the manifest's words.
        why: String,
    },
}

/// A request in parts.
struct Parsed {
    query: Vec<(String, String)>,
    body: Body,
}

impl Connector {
    /// Finds the action that a request is.
    ///
    /// # Errors
    /// [`Unmapped`], whenever the request is not exactly one action on resources that can be named.
    pub fn recognise(&self, request: &RequestView<'_>) -> Result<Mapped, Unmapped> {
        match self.protocol {
            Protocol::Http if self.rules.graphql.as_deref() == Some(request.path) => {
                if request.method == http::Method::POST {
                    self.recognise_query(request)
                } else {
                    Err(Unmapped::Unknown)
                }
            }
            Protocol::Http => self.recognise_http(request),
            Protocol::Mcp => crate::mcp::recognise(request),
            Protocol::Git => crate::git::recognise(request),
        }
    }

    /// The actions that a request of this method to `path` could be, whatever else it says: what the connector knows
    /// of an endpoint. A segment of the path in braces stands for any value. None for a connector without paths.
    pub fn actions_at(&self, method: &http::Method, path: &str) -> Vec<&ActionId> {
        let segments = request::segments(path).unwrap_or_default();
        let at = self.rules.shapes.iter().filter(|shape| {
            let values = shape
                .methods
                .contains(method)
                .then(|| shape.path.matches(&segments));
            let any = |value: &str| value.starts_with('{') && value.ends_with('}');
            values.flatten().is_some_and(|values| {
                let mut values = values.iter();
                values.all(|(name, value)| any(value) || self.rules.canonical(name, value).is_ok())
            })
        });
        let actions = at.filter_map(|shape| self.actions.get(shape.action));
        let mut found: Vec<&ActionId> = actions.map(|action| &action.id).collect();
        found.dedup();
        found
    }

    fn recognise_http(&self, request: &RequestView<'_>) -> Result<Mapped, Unmapped> {
        let path = request::segments(request.path)?;
        let shapes = self.rules.at(request, &path)?;
        let query = request::pairs(request.query.unwrap_or_default()).map_err(Unmapped::Query)?;
        let body = request::body(request)?;
        let parsed = Parsed { query, body };
        self.rules.check_refused(&parsed)?;
        let mut fitting = Vec::new();
        let mut refusals = Vec::new();
        for (shape, values) in shapes {
            match shape.fits(&parsed) {
                Ok(()) => fitting.push((shape, values)),
                Err(Unmapped::Ambiguous(what)) => return Err(Unmapped::Ambiguous(what)),
                Err(other) => refusals.push(other),
            }
        }
        let mut fitting = fitting.into_iter();
        match (fitting.next(), fitting.next()) {
            (Some((shape, values)), None) => self.map(shape, values, &parsed),
            (None, _) => Err(refusals.into_iter().next().unwrap_or(Unmapped::Unknown)),
            (Some(_), Some(_)) => Err(Unmapped::Ambiguous(
                "it has the form of more than one action".to_owned(),
            )),
        }
    }

    fn map(&self, shape: &Shape, mut values: Values, parsed: &Parsed) -> Result<Mapped, Unmapped> {
        let action = self.actions.get(shape.action).ok_or(Unmapped::Unknown)?;
        for (name, source) in &shape.values {
            if let Some(value) = parsed.value(name, source)? {
                values.insert(name.clone(), self.rules.canonical(name, &value)?);
            }
        }
        for only in &shape.only {
            parsed.check_only(only)?;
        }
        let resources = match &shape.resource {
            Some(kind) => self.rules.resources(kind, &values)?,
            None => Vec::new(),
        };
        let argument = |name: &String| values.get(name).map(|value| (name.clone(), value.clone()));
        Ok(Mapped {
            action: action.id.clone(),
            access: action.access,
            record: action.record,
            resources,
            arguments: shape.arguments.iter().filter_map(argument).collect(),
        })
    }
}

impl Rules {
    /// The shapes with this method and path, each with the path's values; at least one.
    fn at(&self, request: &RequestView<'_>, path: &[String]) -> Result<Vec<(&Shape, Values)>, Unmapped> {
        let mut refusal = Unmapped::Unknown;
        let mut found = Vec::new();
        for shape in self
            .shapes
            .iter()
            .filter(|shape| shape.methods.contains(request.method))
        {
            let Some(raw) = shape.path.matches(path) else {
                continue;
            };
            let canonical: Result<Values, Unmapped> = raw
                .iter()
                .map(|(name, value)| Ok((name.clone(), self.canonical(name, value)?)))
                .collect();
            match canonical {
                Ok(values) => found.push((shape, values)),
                Err(why) => refusal = why,
            }
        }
        if found.is_empty() { Err(refusal) } else { Ok(found) }
    }

    pub(crate) fn canonical(&self, name: &str, value: &str) -> Result<String, Unmapped> {
        let rule = self.values.get(name).copied().unwrap_or_default();
        rule.canonical(value).ok_or_else(|| Unmapped::Value {
            name: name.to_owned(),
            rule: rule.format.rule().to_owned(),
        })
    }

    fn check_refused(&self, parsed: &Parsed) -> Result<(), Unmapped> {
        for (name, why) in &self.refuse {
            let named = |key: &str| fold(key).eq(fold(name));
            let in_pairs = |pairs: &[(String, String)]| pairs.iter().any(|(key, _)| named(key));
            let in_body = match &parsed.body {
                Body::None => false,
                Body::Form(pairs) => in_pairs(pairs),
                Body::Json(value) => value
                    .as_object()
                    .is_some_and(|members| members.keys().any(|k| named(k))),
            };
            if in_body || in_pairs(&parsed.query) {
                return Err(Unmapped::Refused {
                    name: name.clone(),
                    why: why.clone(),
                });
            }
        }
        Ok(())
    }

    /// The resource of this kind and what is above it.
    pub(crate) fn resources(&self, kind: &str, values: &Values) -> Result<Vec<ResourceRef>, Unmapped> {
        let rule = self.resources.get(kind).ok_or(Unmapped::Unknown)?;
        let id = rule
            .id
            .fill(values)
            .map_err(|name| Unmapped::Missing(name.to_owned()))?;
        let resource = ResourceRef::new(rule.kind.clone(), &id).map_err(|error| Unmapped::Value {
            name: kind.to_owned(),
            rule: format!("must be {}", error.rule),
        })?;
        let parents = self.parents(&resource);
        Ok(std::iter::once(resource).chain(parents).collect())
    }

    pub(crate) fn parents(&self, resource: &ResourceRef) -> Vec<ResourceRef> {
        let Some(rule) = self.resources.get(resource.kind().as_str()) else {
            return Vec::new();
        };
        let Some(values) = rule.id.take_apart(resource.id()) else {
            return Vec::new();
        };
        let parent = |(kind, id): &(clawstaff_types::ResourceKind, crate::template::TextTemplate)| {
            ResourceRef::new(kind.clone(), &id.fill(&values).ok()?).ok()
        };
        rule.parents.iter().filter_map(parent).collect()
    }
}

impl Shape {
    /// Whether the request has this form: a body it takes, all of `with`, none of `without`.
    fn fits(&self, parsed: &Parsed) -> Result<(), Unmapped> {
        if !self.body.contains(&parsed.body.kind()) {
            return Err(Unmapped::Body("the action takes no body of this kind"));
        }
        for source in &self.with {
            if !parsed.has(source)? {
                return Err(Unmapped::Missing(source.to_string()));
            }
        }
        for source in &self.without {
            if parsed.has(source)? {
                return Err(Unmapped::Refused {
                    name: source.to_string(),
                    why: "no action of the connector takes it together with the rest".to_owned(),
                });
            }
        }
        Ok(())
    }
}

impl Parsed {
    fn has(&self, source: &Source) -> Result<bool, Unmapped> {
        Ok(match source {
            Source::Query(key) => !of_pairs(&self.query, key)?.is_empty(),
            Source::Json(pointer, text) => !self.of_json(pointer, text)?.is_empty(),
            Source::Params(key) => !self.of_params(key)?.is_empty(),
        })
    }

    /// The one value at `source`, as text.
    fn value(&self, name: &str, source: &Source) -> Result<Option<String>, Unmapped> {
        let found: Vec<String> = match source {
            Source::Query(key) => of_pairs(&self.query, key)?
                .into_iter()
                .map(ToOwned::to_owned)
                .collect(),
            Source::Json(pointer, text) => scalars(name, self.of_json(pointer, text)?)?,
            Source::Params(key) => self.of_params(key)?,
        };
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(twice(name)),
        }
    }

    fn of_json(&self, pointer: &Pointer, text: &str) -> Result<Vec<&Value>, Unmapped> {
        match &self.body {
            Body::Json(value) => pointer
                .find(value)
                .map_err(|_| Unmapped::Ambiguous(format!("`{text}` is spelt in other letter case"))),
            Body::None | Body::Form(_) => Ok(Vec::new()),
        }
    }

    /// Query, form and top-level JSON taken together, for tools that do so.
    fn of_params(&self, key: &str) -> Result<Vec<String>, Unmapped> {
        let owned = |found: Vec<&str>| found.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>();
        let mut found = owned(of_pairs(&self.query, key)?);
        match &self.body {
            Body::None => {}
            Body::Form(pairs) => found.extend(owned(of_pairs(pairs, key)?)),
            Body::Json(value) => {
                let members = value.as_object().into_iter().flatten();
                let named: Vec<_> = members.filter(|(name, _)| fold(name).eq(fold(key))).collect();
                if named.iter().any(|(name, _)| *name != key) {
                    return Err(other_spelling(key));
                }
                found.extend(scalars(key, named.into_iter().map(|(_, value)| value).collect())?);
            }
        }
        Ok(found)
    }

    fn check_only(&self, only: &Only) -> Result<(), Unmapped> {
        for value in self.of_json(&only.pointer, &only.text)? {
            let accepted = value.as_str().is_some_and(|text| only.accepts(text));
            if !accepted {
                return Err(Unmapped::Refused {
                    name: only.text.clone(),
                    why: "it is none of the values that the connector accepts there".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The values of `key`. Another spelling of it that a server might take for it is ambiguous.
fn of_pairs<'a>(pairs: &'a [(String, String)], key: &str) -> Result<Vec<&'a str>, Unmapped> {
    let mut found = Vec::new();
    for (name, value) in pairs.iter().filter(|(name, _)| fold(name).eq(fold(key))) {
        if name != key {
            return Err(other_spelling(key));
        }
        found.push(value.as_str());
    }
    Ok(found)
}

/// What lenient servers make of a parameter's name: no leading space, nothing from `[` on, `_` for other signs.
fn fold(name: &str) -> impl Iterator<Item = char> {
    let stem = name.trim_start().split('[').next().unwrap_or_default();
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    stem.chars().map(fold)
}

fn scalars(name: &str, values: Vec<&Value>) -> Result<Vec<String>, Unmapped> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let texts: Option<Vec<String>> = values.into_iter().map(text).collect();
    texts.ok_or_else(|| Unmapped::Value {
        name: name.to_owned(),
        rule: "must be a string, a number or a truth value".to_owned(),
    })
}

fn twice(name: &str) -> Unmapped {
    Unmapped::Ambiguous(format!("`{name}` is given more than once"))
}

fn other_spelling(name: &str) -> Unmapped {
    Unmapped::Ambiguous(format!(
        "`{name}` is given in a spelling that servers read differently"
    ))
}
