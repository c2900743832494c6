//! The words of `policies/schema.cedarschema` as values, and a call said in them.
//!
//! Only this file and `translate` know Cedar's types for our words. Ids are put in as values, never as text to
//! be parsed, so no name can change the meaning of a policy or of a request.

use std::collections::HashSet;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};
use clawstaff_types::ResourceRef;

use crate::{call::Call, compile::SpokenOf};

/// The schema, as committed in `policies/`.
const SCHEMA: &str = include_str!("../../../policies/schema.cedarschema");

/// Cedar's values for our words.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    pub(crate) schema: Schema,
    claw: EntityTypeName,
    resource: EntityTypeName,
    action: EntityUid,
}

impl Words {
    /// Reads the schema. The error is the text of what is wrong with it, which a test would have found.
    pub(crate) fn new() -> Result<Self, String> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| e.to_string())?;
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(|e| e.to_string());
        Ok(Self {
            schema,
            claw: name("ClawStaff::Claw")?,
            resource: name("ClawStaff::Resource")?,
            action: EntityUid::from_type_name_and_id(name("ClawStaff::Action")?, EntityId::new("use")),
        })
    }

    pub(crate) fn claw(&self, name: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.claw.clone(), EntityId::new(name))
    }

    pub(crate) fn resource(&self, text: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.resource.clone(), EntityId::new(text))
    }
}

/// Every text by which a grant or guardrail could speak of these resources: `*`; and for each resource itself, all
/// of its kind, and everything below each of its prefixes. The first is the most specific: the resource itself, or
/// the empty text where there is none.
///
/// A scope is the text of a `ResourcePattern`. A resource's id holds no `*`, so no resource has a scope's text.
pub(crate) fn scopes(resources: &[ResourceRef]) -> Vec<String> {
    let mut scopes = Vec::with_capacity(2 + 4 * resources.len());
    if resources.is_empty() {
        scopes.push(String::new());
    }
    for resource in resources {
        let (kind, id) = (resource.kind(), resource.id());
        scopes.push(resource.to_string());
        scopes.push(format!("{kind}:*"));
        let separators = id.bytes().enumerate().filter(|(_, b)| *b == b'/');
        scopes.extend(separators.map(|(at, _)| format!("{kind}:{}*", id.get(..=at).unwrap_or_default())));
    }
    scopes.push("*".to_owned());
    scopes
}

/// A call in Cedar's words.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

impl Asked {
    /// Of arguments and hours only those that conditions speak of are put to Cedar.
    pub(crate) fn new(
        words: &Words,
        call: &Call<'_>,
        scopes: &[String],
        spoken_of: Option<&SpokenOf>,
    ) -> Result<Self, String> {
        let (first, wider) = scopes.split_first().ok_or("a call without any scope")?;
        let resource = words.resource(first);
        let others = wider.iter().filter(|scope| *scope != first);
        let parents: HashSet<EntityUid> = others.map(|scope| words.resource(scope)).collect();
        let entity = Entity::new_no_attrs(resource.clone(), parents);
        let entities = Entities::from_entities([entity], None).map_err(|e| e.to_string())?;
        let context = Context::from_pairs(pairs(call, spoken_of)).map_err(|e| e.to_string())?;
        let claw = words.claw(call.claw.as_str());
        let request =
            Request::new(claw, words.action.clone(), resource, context, None).map_err(|e| e.to_string())?;
        Ok(Self { request, entities })
    }
}

fn pairs(call: &Call<'_>, spoken_of: Option<&SpokenOf>) -> Vec<(String, RestrictedExpression)> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let open = spoken_of
        .into_iter()
        .flat_map(|spoken_of| spoken_of.open(call.now));
    let arguments = spoken_of
        .into_iter()
        .flat_map(|spoken_of| &spoken_of.arguments)
        .filter_map(|name| call.arguments.get(name).map(|value| argument(name, value)))
        .map(RestrictedExpression::new_string);
    let mut pairs = vec![
        ("connection".to_owned(), text(call.connection.as_str())),
        ("connector".to_owned(), text(call.action.connector().as_str())),
        ("action".to_owned(), text(call.action.name())),
        (
            "now".to_owned(),
            RestrictedExpression::new_long(call.now.as_microsecond()),
        ),
        ("arguments".to_owned(), RestrictedExpression::new_set(arguments)),
        (
            "open_hours".to_owned(),
            RestrictedExpression::new_set(open.map(text)),
        ),
    ];
    if let Some(member) = call.on_behalf_of {
        pairs.push(("on_behalf_of".to_owned(), text(member.as_str())));
    }
    pairs
}

/// How an argument is said to Cedar. Names in conditions hold no `=` (checked by `compile`), so the first one
/// ends the name and two different arguments never read alike.
pub(crate) fn argument(name: &str, value: &str) -> String {
    format!("{name}={value}")
}
