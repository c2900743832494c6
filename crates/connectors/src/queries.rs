//! GraphQL queries as actions: one root field, and under it only fields that one action lists.
//!
//! ```text
//!   { repository(owner: "acme", name: "site") { issue(number: 7) { title } } }
//!     └ field, its arguments are values ┘        └ issue, issue.title: both listed, or no action ┘
//! ```
//!
//! A field that no action lists is denied, and so is a query that would be two actions at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    action::Connector,
    graphql::{self, Field},
    load::{Loader, Rules},
    manifest::{ManifestError, QueryManifest},
    recognise::{Mapped, Unmapped},
    request::{self, Body, RequestView},
    template::Values,
};

/// One way in which an action is a query.
#[derive(Debug, Clone)]
pub(crate) struct QueryRule {
    /// The action's place in the connector's list.
    action: usize,
    /// The root field.
    field: String,
    /// Values by name, each with the root field's argument that it is.
    values: BTreeMap<String, String>,
    /// What may be asked for below, by its names joined with `.`.
    selects: BTreeSet<String>,
    resource: Option<String>,
}

impl QueryRule {
    pub(crate) fn load(
        loader: &Loader<'_>,
        manifest: &QueryManifest,
        action: usize,
        resource: Option<&String>,
        rules: &Rules,
    ) -> Result<Self, ManifestError> {
        let name = |text: &str| {
            let mut bytes = text.bytes();
            bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        for text in std::iter::once(&manifest.field).chain(&manifest.selects) {
            if !text.as_ref().split('.').all(name) {
                let what = format!("`{}` is not a field", text.as_ref());
                return Err(loader.error(text, what, "write names of fields, joined by `.`"));
            }
        }
        let kind = resource.and_then(|kind| rules.resources.get(kind));
        let missing = kind.and_then(|rule| rule.id.names().find(|name| !manifest.values.contains_key(*name)));
        if let Some(missing) = missing {
            let what = format!("`{missing}` of the resource is not in `values`");
            return Err(loader.error(&manifest.field, what, "say which argument of the field it is"));
        }
        Ok(Self {
            action,
            field: manifest.field.as_ref().clone(),
            values: manifest.values.clone(),
            selects: manifest
                .selects
                .iter()
                .map(|text| text.as_ref().clone())
                .collect(),
            resource: resource.cloned(),
        })
    }

    /// Whether everything that is asked for below the root field is listed.
    fn covers(&self, asked: &BTreeSet<String>) -> bool {
        let listed = |path: &String| {
            let below = format!("{path}.");
            self.selects.contains(path) || self.selects.iter().any(|one| one.starts_with(&below))
        };
        asked.iter().all(listed)
    }
}

impl Connector {
    /// The action that a GraphQL request is.
    ///
    /// # Errors
    /// [`Unmapped`], whenever it is not exactly one query of one action.
    pub(crate) fn recognise_query(&self, view: &RequestView<'_>) -> Result<Mapped, Unmapped> {
        if view.query.is_some() {
            return Err(Unmapped::Query("GraphQL takes none here"));
        }
        let Body::Json(Value::Object(body)) = request::body(view)? else {
            return Err(Unmapped::Body("it is not one GraphQL request"));
        };
        let root = root(&body)?;
        let mut asked = BTreeSet::new();
        paths(&root.fields, "", &mut asked);
        let rules = self.rules.queries.iter();
        let mut fitting = rules.filter(|rule| rule.field == root.name && rule.covers(&asked));
        let rule = fitting.next().ok_or(Unmapped::Body(
            "it asks for a field that no action lists, or for fields of several actions: ask for less at a time",
        ))?;
        let mut values = Values::new();
        for (name, argument) in &rule.values {
            let given = root.arguments.get(argument).cloned().flatten();
            let given = given.ok_or_else(|| Unmapped::Missing(argument.clone()))?;
            values.insert(name.clone(), self.rules.canonical(name, &given)?);
        }
        let action = self.actions.get(rule.action).ok_or(Unmapped::Unknown)?;
        Ok(Mapped {
            action: action.id.clone(),
            access: action.access,
            record: action.record,
            resources: match &rule.resource {
                Some(kind) => self.rules.resources(kind, &values)?,
                None => Vec::new(),
            },
            arguments: BTreeMap::new(),
        })
    }
}

/// The one root field of the one query.
fn root(body: &Map<String, Value>) -> Result<Field, Unmapped> {
    let known = |name: &String| matches!(name.as_str(), "query" | "variables" | "operationName");
    if !body.keys().all(known) {
        return Err(Unmapped::Body("it holds more than a query and its variables"));
    }
    let text = body.get("query").and_then(Value::as_str);
    let text = text.ok_or_else(|| Unmapped::Missing("query".to_owned()))?;
    let nothing = Map::new();
    let variables = match body.get("variables") {
        None | Some(Value::Null) => &nothing,
        Some(Value::Object(variables)) => variables,
        Some(_) => return Err(Unmapped::Body("its variables are no object")),
    };
    let mut fields = graphql::query(text, variables)
        .map_err(Unmapped::Body)?
        .into_iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => Ok(field),
        _ => Err(Unmapped::Body(
            "it asks for several things at once: ask for one at a time",
        )),
    }
}

/// Every field below, by its names joined with `.`. What type a thing has may always be asked.
fn paths(fields: &[Field], above: &str, into: &mut BTreeSet<String>) {
    for field in fields.iter().filter(|field| field.name != "__typename") {
        let path = if above.is_empty() {
            field.name.clone()
        } else {
            format!("{above}.{}", field.name)
        };
        paths(&field.fields, &path, into);
        into.insert(path);
    }
}
