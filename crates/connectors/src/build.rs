//! From the arguments of an MCP tool to the HTTP request that does it.
//!
//! The request is put together from the manifest's template and then recognised like any other: what comes out
//! is the tool's own action, or an error. A tool can therefore never do more than its action says.

use std::collections::BTreeMap;

use bytes::Bytes;
use clawstaff_types::ActionId;
use http::Method;
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::{
    action::Connector,
    load::{Loader, Shape},
    manifest::{ArgumentKind, ArgumentManifest, ManifestError, SendManifest, ToolManifest},
    recognise::Unmapped,
    request::RequestView,
    template::{PathTemplate, Values, encode},
};

/// Paragraphs that one argument is split into, and UTF-16 units in each: Notion's limits, the strictest known.
const MAX_PARAGRAPHS: usize = 100;
const MAX_PARAGRAPH: usize = 2_000;

/// A request made from a tool's arguments, without credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded, relative to the connector's base address.
    pub path_and_query: String,
    /// The media type of the body, if there is one.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why no request can be made from a tool's arguments. The texts say what to change and hold no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The action is not a tool.
    #[error("`{0}` is not a tool")]
    NoTool(ActionId),
    /// An argument that the tool does not have.
    #[error("there is no argument `{name}`; the arguments are {known}")]
    Unknown {
        /// Its name, shortened.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A required argument is not given.
    #[error("the argument `{0}` is required")]
    Missing(String),
    /// An argument is not what it must be.
    #[error("the argument `{name}` {rule}")]
    Invalid {
        /// Its name.
        name: String,
        /// What it must be.
        rule: String,
    },
    /// With these arguments it would be another request than the tool's.
    #[error("the arguments do not make a request of this tool: {0}")]
    NotOwn(#[source] Unmapped),
}

/// A tool's arguments and the requests they make.
#[derive(Debug, Clone)]
pub(crate) struct ToolRules {
    arguments: BTreeMap<String, Argument>,
    sends: Vec<Send>,
}

#[derive(Debug, Clone)]
struct Argument {
    kind: ArgumentKind,
    description: String,
    required: bool,
    one_of: Vec<String>,
    min: Option<i64>,
    max: Option<i64>,
}

#[derive(Debug, Clone)]
struct Send {
    when: Option<String>,
    method: Method,
    path: PathTemplate,
    query: Vec<(String, Node)>,
    json: Option<Node>,
}

/// A template of a JSON value.
#[derive(Debug, Clone)]
enum Node {
    Constant(Value),
    /// `"{name}"`: the argument itself, in its own type; nothing if it is not given.
    Argument(String),
    Array(Vec<Node>),
    Object(Object),
}

#[derive(Debug, Clone, Default)]
struct Object {
    /// `"$merge"`: the members of this argument, unless the template has one of that name.
    merge: Option<String>,
    /// `"$each_paragraph"`: once for every paragraph of this argument, which is then `"{paragraph}"`.
    each_paragraph: Option<String>,
    members: Vec<(String, Node)>,
}

impl Connector {
    /// Makes the request of `action`'s tool. Feeding it to [`Connector::recognise`] gives `action` again.
    ///
    /// # Errors
    /// [`ArgumentError`], when the arguments are not those of the tool or would make another request.
    pub fn build(&self, action: &ActionId, arguments: &Map<String, Value>) -> Result<Built, ArgumentError> {
        let tool = self
            .rules
            .tools
            .get(action)
            .ok_or_else(|| ArgumentError::NoTool(action.clone()))?;
        let given = tool.checked(arguments)?;
        let built = tool.request(&given)?;
        let (path, query) = match built.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (built.path_and_query.as_str(), None),
        };
        let mapped = self
            .recognise(&RequestView {
                method: &built.method,
                path,
                query,
                content_type: built.content_type.as_deref(),
                body: &built.body,
            })
            .map_err(ArgumentError::NotOwn)?;
        if mapped.action == *action {
            Ok(built)
        } else {
            Err(ArgumentError::NotOwn(Unmapped::Unknown))
        }
    }
}

impl ToolRules {
    pub(crate) fn load(
        loader: &Loader<'_>,
        manifest: &ToolManifest,
        own: &[&Shape],
    ) -> Result<Self, ManifestError> {
        if manifest.send.is_empty() {
            return Err(loader.error(
                &manifest.name,
                "the tool sends nothing",
                "add `[[action.tool.send]]`",
            ));
        }
        let known = |name: &str| manifest.arguments.contains_key(name);
        let load = |send| load_send(loader, send, own, &known);
        Ok(Self {
            arguments: manifest
                .arguments
                .iter()
                .map(|(name, a)| (name.clone(), argument(a)))
                .collect(),
            sends: manifest.send.iter().map(load).collect::<Result<_, _>>()?,
        })
    }

    /// JSON Schema of the arguments.
    pub(crate) fn input_schema(&self) -> Value {
        let properties: Map<String, Value> = self
            .arguments
            .iter()
            .map(|(name, argument)| (name.clone(), argument.schema()))
            .collect();
        let required: Vec<&String> = self
            .arguments
            .iter()
            .filter(|(_, argument)| argument.required)
            .map(|(name, _)| name)
            .collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }

    /// The arguments that are given, each checked. Null, and the empty text where an argument may be left out,
    /// count as not given: models write both.
    fn checked(&self, arguments: &Map<String, Value>) -> Result<Map<String, Value>, ArgumentError> {
        let mut given = Map::new();
        for (name, value) in arguments {
            let argument = self.arguments.get(name).ok_or_else(|| self.unknown(name))?;
            let absent = value.is_null() || (!argument.required && value.as_str() == Some(""));
            if !absent {
                let checked = argument.checked(value);
                let invalid = |rule| ArgumentError::Invalid {
                    name: name.clone(),
                    rule,
                };
                given.insert(name.clone(), checked.map_err(invalid)?);
            }
        }
        let missing =
            |(name, argument): &(&String, &Argument)| argument.required && !given.contains_key(*name);
        match self.arguments.iter().find(missing) {
            Some((name, _)) => Err(ArgumentError::Missing(name.clone())),
            None => Ok(given),
        }
    }

    fn unknown(&self, name: &str) -> ArgumentError {
        let known: Vec<String> = self.arguments.keys().map(|name| format!("`{name}`")).collect();
        ArgumentError::Unknown {
            name: name.chars().filter(|c| !c.is_control()).take(40).collect(),
            known: known.join(", "),
        }
    }

    fn request(&self, given: &Map<String, Value>) -> Result<Built, ArgumentError> {
        let meant = |send: &&Send| send.when.as_ref().is_none_or(|name| given.contains_key(name));
        let last = self
            .sends
            .iter()
            .find_map(|send| send.when.clone())
            .unwrap_or_default();
        let send = self
            .sends
            .iter()
            .find(meant)
            .ok_or(ArgumentError::Missing(last))?;
        let texts: Values = given
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
            .collect();
        let mut target = send
            .path
            .fill(&texts)
            .map_err(|name| ArgumentError::Missing(name.to_owned()))?;
        let mut separator = '?';
        for (name, node) in &send.query {
            let value = node.expand(given, None)?.and_then(|value| text(&value));
            if let Some(value) = value {
                target.push(separator);
                target.extend([encode(name).as_str(), "=", encode(&value).as_str()]);
                separator = '&';
            }
        }
        let body = match &send.json {
            Some(node) => Some(node.expand(given, None)?.unwrap_or_else(|| json!({}))),
            None => None,
        };
        Ok(Built {
            method: send.method.clone(),
            path_and_query: target,
            content_type: body.as_ref().map(|_| "application/json".to_owned()),
            body: body.map_or_else(Bytes::new, |value| Bytes::from(value.to_string())),
        })
    }
}

impl Argument {
    fn schema(&self) -> Value {
        let kind = match self.kind {
            ArgumentKind::String => "string",
            ArgumentKind::Integer => "integer",
            ArgumentKind::Boolean => "boolean",
            ArgumentKind::Object => "object",
        };
        let mut schema = json!({"type": kind, "description": self.description});
        let mut add = |name: &str, value: Option<Value>| {
            if let (Some(members), Some(value)) = (schema.as_object_mut(), value) {
                members.insert(name.to_owned(), value);
            }
        };
        add("enum", (!self.one_of.is_empty()).then(|| json!(self.one_of)));
        add("minimum", self.min.map(Value::from));
        add("maximum", self.max.map(Value::from));
        schema
    }

    fn checked(&self, value: &Value) -> Result<Value, String> {
        match (self.kind, value) {
            (ArgumentKind::String, Value::String(text)) => {
                let listed = self.one_of.is_empty() || self.one_of.contains(text);
                let rule = || format!("must be one of {}", self.one_of.join(", "));
                listed.then(|| value.clone()).ok_or_else(rule)
            }
            (ArgumentKind::Integer, Value::Number(number)) => {
                let number = number.as_i64().ok_or("must be a whole number")?;
                let inside =
                    self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max);
                inside
                    .then(|| value.clone())
                    .ok_or_else(|| "is out of its bounds".to_owned())
            }
            (ArgumentKind::Boolean, Value::Bool(_)) | (ArgumentKind::Object, Value::Object(_)) => {
                Ok(value.clone())
            }
            (ArgumentKind::String, _) => Err("must be a string".to_owned()),
            (ArgumentKind::Integer, _) => Err("must be a whole number".to_owned()),
            (ArgumentKind::Boolean, _) => Err("must be true or false".to_owned()),
            (ArgumentKind::Object, _) => Err("must be an object".to_owned()),
        }
    }
}

impl Node {
    /// The value; `None` if it holds places for arguments and none of them is given, so that it leaves no trace.
    fn expand(
        &self,
        given: &Map<String, Value>,
        paragraph: Option<&str>,
    ) -> Result<Option<Value>, ArgumentError> {
        match self {
            Self::Constant(value) => Ok(Some(value.clone())),
            Self::Argument(name) if name == "paragraph" && paragraph.is_some() => {
                Ok(paragraph.map(Value::from))
            }
            Self::Argument(name) => Ok(given.get(name).cloned()),
            Self::Array(nodes) => {
                let mut elements = Vec::new();
                for node in nodes {
                    elements.extend(node.elements(given, paragraph)?);
                }
                Ok((nodes.is_empty() || !elements.is_empty()).then_some(Value::Array(elements)))
            }
            Self::Object(object) => object.expand(given, paragraph),
        }
    }

    fn elements(&self, given: &Map<String, Value>, outer: Option<&str>) -> Result<Vec<Value>, ArgumentError> {
        let Self::Object(Object {
            each_paragraph: Some(name),
            ..
        }) = self
        else {
            return Ok(self.expand(given, outer)?.into_iter().collect());
        };
        let content = given.get(name).and_then(Value::as_str).unwrap_or_default();
        let pieces = paragraphs(content);
        if pieces.len() > MAX_PARAGRAPHS {
            return Err(ArgumentError::Invalid {
                name: name.clone(),
                rule: format!("has more than {MAX_PARAGRAPHS} paragraphs of {MAX_PARAGRAPH} characters"),
            });
        }
        let made: Result<Vec<_>, _> = pieces
            .iter()
            .map(|piece| self.expand(given, Some(piece)))
            .collect();
        Ok(made?.into_iter().flatten().collect())
    }
}

impl Object {
    fn expand(
        &self,
        given: &Map<String, Value>,
        paragraph: Option<&str>,
    ) -> Result<Option<Value>, ArgumentError> {
        let merged = self
            .merge
            .as_ref()
            .and_then(|name| given.get(name))
            .and_then(Value::as_object);
        let mut members = merged.cloned().unwrap_or_default();
        for (name, node) in &self.members {
            if let Some(value) = node.expand(given, paragraph)? {
                members.insert(name.clone(), value);
            }
        }
        let empty_by_itself = self.members.is_empty() && self.merge.is_none();
        Ok((empty_by_itself || !members.is_empty()).then_some(Value::Object(members)))
    }
}

/// Blank lines end a paragraph; a longer one than a tool takes is cut.
fn paragraphs(content: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for paragraph in content
        .replace("\r\n", "\n")
        .split("\n\n")
        .map(str::trim)
        .filter(|p| !p.is_empty())
    {
        let mut piece = String::new();
        let mut units = 0;
        for c in paragraph.chars() {
            if units + c.len_utf16() > MAX_PARAGRAPH {
                pieces.push(std::mem::take(&mut piece));
                units = 0;
            }
            units += c.len_utf16();
            piece.push(c);
        }
        pieces.push(piece);
    }
    pieces
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn argument(manifest: &ArgumentManifest) -> Argument {
    Argument {
        kind: manifest.kind,
        description: manifest.description.clone(),
        required: manifest.required,
        one_of: manifest.one_of.clone(),
        min: manifest.min,
        max: manifest.max,
    }
}

fn load_send(
    loader: &Loader<'_>,
    manifest: &SendManifest,
    own: &[&Shape],
    known: &dyn Fn(&str) -> bool,
) -> Result<Send, ManifestError> {
    let method = loader.method(&manifest.method)?;
    let path = loader.path(&manifest.path)?;
    let matches = |shape: &&&Shape| shape.methods.contains(&method) && shape.path.outline() == path.outline();
    if !own.iter().any(|shape| matches(&shape)) {
        let what = format!(
            "`{method} {}` is none of the action's requests",
            manifest.path.as_ref()
        );
        return Err(loader.error(&manifest.path, what, "send what `[[action.request]]` recognises"));
    }
    let unknown = |name: &str, at: &Spanned<String>| {
        let what = format!("`{name}` is not an argument of the tool");
        loader.error(at, what, "add it to `[action.tool.arguments]`")
    };
    if let Some(name) = path.names().find(|name| !known(name)) {
        return Err(unknown(name, &manifest.path));
    }
    if let Some(when) = manifest.when.as_ref().filter(|when| !known(when.as_ref())) {
        return Err(unknown(when.as_ref(), when));
    }
    let mut query = Vec::new();
    for (name, text) in &manifest.query {
        let node = text_node(text.as_ref(), known, false).map_err(|what| loader.error(text, what, ""))?;
        query.push((name.clone(), node));
    }
    let json = match &manifest.json {
        Some(value) => {
            let node = node(value.as_ref(), known, false).map_err(|what| loader.error(value, what, ""))?;
            Some(node)
        }
        None => None,
    };
    Ok(Send {
        when: manifest.when.as_ref().map(|when| when.as_ref().clone()),
        method,
        path,
        query,
        json,
    })
}

fn node(value: &toml::Value, known: &dyn Fn(&str) -> bool, in_paragraph: bool) -> Result<Node, String> {
    match value {
        toml::Value::String(text) => text_node(text, known, in_paragraph),
        toml::Value::Integer(number) => Ok(Node::Constant(json!(number))),
        toml::Value::Float(number) => Ok(Node::Constant(json!(number))),
        toml::Value::Boolean(flag) => Ok(Node::Constant(json!(flag))),
        toml::Value::Datetime(_) => Err("a date is not JSON: write it as a string".to_owned()),
        toml::Value::Array(elements) => {
            let nodes: Result<_, _> = elements
                .iter()
                .map(|element| node(element, known, in_paragraph))
                .collect();
            nodes.map(Node::Array)
        }
        toml::Value::Table(members) => object(members, known, in_paragraph).map(Node::Object),
    }
}

fn object(members: &toml::Table, known: &dyn Fn(&str) -> bool, in_paragraph: bool) -> Result<Object, String> {
    let named = |value: &toml::Value| match value.as_str() {
        Some(name) if known(name) => Ok(Some(name.to_owned())),
        _ => Err("`$merge` and `$each_paragraph` need the name of an argument".to_owned()),
    };
    let in_paragraph = in_paragraph || members.contains_key("$each_paragraph");
    let mut object = Object::default();
    for (name, value) in members {
        match name.as_str() {
            "$merge" => object.merge = named(value)?,
            "$each_paragraph" => object.each_paragraph = named(value)?,
            _ if name.starts_with('$') => {
                return Err(format!("`{name}` is not `$merge` or `$each_paragraph`"));
            }
            _ => object
                .members
                .push((name.clone(), node(value, known, in_paragraph)?)),
        }
    }
    Ok(object)
}

fn text_node(text: &str, known: &dyn Fn(&str) -> bool, in_paragraph: bool) -> Result<Node, String> {
    let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return if text.contains(['{', '}']) {
            Err(format!(
                "`{text}` mixes text and `{{names}}`: a text is either one name or has none"
            ))
        } else {
            Ok(Node::Constant(Value::from(text)))
        };
    };
    if known(name) || (in_paragraph && name == "paragraph") {
        Ok(Node::Argument(name.to_owned()))
    } else {
        Err(format!("`{name}` is not an argument of the tool"))
    }
}

#[cfg(test)]
mod tests {
    use super::paragraphs;

    #[test]
    fn content_is_cut_into_paragraphs_that_a_tool_takes() {
        assert_eq!(paragraphs("a\nb\n\n\n\nc\r\n\r\nd\n"), ["a\nb", "c", "d"]);
        let long = "é".repeat(2_001);
        assert_eq!(
            paragraphs(&long)
                .iter()
                .map(|p| p.chars().count())
                .collect::<Vec<_>>(),
            [2_000, 1]
        );
        assert!(paragraphs(" \n\n ").is_empty());
    }
}
