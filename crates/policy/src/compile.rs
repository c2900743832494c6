//! From the grants and guardrails of an organization to an index of Cedar policies.
//!
//! Whatever could not be enforced exactly as it reads is refused here, so that the control plane finds out when
//! it is saved and the gateway keeps its last good policy. After this nothing about a policy can fail.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{PolicySet, Template, ValidationMode, Validator};
use clawstaff_types::{
    ClawName, Conditions, ConnectionName, Grant, GrantId, Guardrail, GuardrailName, Mode, Window,
};
use jiff::Timestamp;

use crate::{
    hours::Hours,
    slice::{Builder, Link, Slices, link_one},
    table::{Row, Table, is_plain},
    translate::Shape,
    words::Words,
};

/// Patterns, values or members that one grant or guardrail may list.
const MAX_LISTED: usize = 256;
/// Bytes of an argument's name, and of a value it may have.
const MAX_ARGUMENT: usize = 1024;

/// Why grants and guardrails are not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Two grants have the same id.
    #[error("two grants have the id `{0}`")]
    DuplicateGrant(GrantId),
    /// Two guardrails have the same name.
    #[error("two guardrails have the name `{0}`")]
    DuplicateGuardrail(GuardrailName),
    /// A grant says less or more than can be enforced.
    #[error("grant `{id}`: {why}")]
    Grant {
        /// The grant.
        id: GrantId,
        /// What is wrong with it, and the remedy.
        why: String,
    },
    /// A guardrail says less or more than can be enforced.
    #[error("guardrail `{name}`: {why}")]
    Guardrail {
        /// The guardrail.
        name: GuardrailName,
        /// What is wrong with it, and the remedy.
        why: String,
    },
    /// Cedar refused what we made of it: a defect of this program, never of the input.
    #[error("cedar refused the translation: {0}")]
    Cedar(String),
}

/// The grants of one Claw.
#[derive(Debug, Default)]
pub(crate) struct ClawPolicies {
    pub(crate) connections: HashMap<ConnectionName, ConnectionPolicies>,
    /// Places of its grants in the policy's list.
    pub(crate) grants: Box<[u32]>,
}

/// The grants of one Claw on one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionPolicies {
    pub(crate) allow: Permitting,
    pub(crate) ask: Permitting,
    pub(crate) spoken_of: SpokenOf,
}

/// What conditions of the grants of one connection speak of; no more is put to Cedar.
#[derive(Debug, Default)]
pub(crate) struct SpokenOf {
    pub(crate) arguments: BTreeSet<String>,
    pub(crate) hours: BTreeMap<Window, Hours>,
}

impl SpokenOf {
    fn add(&mut self, conditions: &Conditions) -> Result<(), String> {
        let names = conditions.arguments.iter().map(|argument| argument.name.clone());
        self.arguments.extend(names);
        for window in &conditions.hours {
            let hours = Hours::of(window).ok_or_else(|| {
                format!(
                    "there is no time zone `{}`: name one of the IANA database",
                    window.zone()
                )
            })?;
            self.hours.insert(window.clone(), hours);
        }
        Ok(())
    }

    /// The texts of the windows that are open at `now`.
    pub(crate) fn open(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let open = self.hours.values().filter(move |hours| hours.is_open(now));
        open.map(|hours| hours.text.as_str())
    }
}

/// Grants of one mode: those that the table speaks for, and those that Cedar does.
#[derive(Debug, Default)]
pub(crate) struct Permitting {
    pub(crate) table: Table,
    pub(crate) slices: Slices,
}

/// Who decides about grants without conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    /// The table.
    ByTable,
    /// Cedar, as about all others: what the table is held against.
    #[cfg(test)]
    ByCedar,
}

impl Plain {
    fn takes(self, grant: &Grant) -> bool {
        match self {
            Self::ByTable => is_plain(grant),
            #[cfg(test)]
            Self::ByCedar => false,
        }
    }
}

/// What [`compile`] makes.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) words: Words,
    pub(crate) claws: HashMap<ClawName, ClawPolicies>,
    pub(crate) guardrails: Slices,
    pub(crate) templates: Vec<Template>,
}

pub(crate) fn compile(
    grants: &[Grant],
    guardrails: &[Guardrail],
    plain: Plain,
) -> Result<Compiled, CompileError> {
    let words = Words::new().map_err(CompileError::Cedar)?;
    let mut shapes = Shapes::default();
    let guardrails = index_guardrails(guardrails, &mut shapes)?;
    let claws = index_grants(grants, &mut shapes, plain)?;
    let templates = shapes.validated(&words)?;
    Ok(Compiled {
        words,
        claws,
        guardrails,
        templates,
    })
}

/// The distinct shapes, each with one template.
#[derive(Debug, Default)]
struct Shapes {
    places: HashMap<Shape, u32>,
    templates: Vec<Template>,
}

impl Shapes {
    fn place(&mut self, shape: Shape) -> Result<u32, CompileError> {
        if let Some(place) = self.places.get(&shape) {
            return Ok(*place);
        }
        let place = place(self.templates.len())?;
        let template = shape
            .template(&format!("template-{place}"))
            .and_then(Template::from_pst)
            .map_err(|e| CompileError::Cedar(e.to_string()))?;
        self.templates.push(template);
        self.places.insert(shape, place);
        Ok(place)
    }

    /// Validates every template strictly against the schema, once linked as grants and guardrails link it.
    fn validated(self, words: &Words) -> Result<Vec<Template>, CompileError> {
        let mut set = PolicySet::new();
        let resource = words.resource("*");
        for (shape, place) in &self.places {
            let claw = matches!(shape, Shape::Grant { .. }).then(|| words.claw("any"));
            usize::try_from(*place)
                .ok()
                .and_then(|at| self.templates.get(at))
                .and_then(|template| link_one(&mut set, template, *place, claw.as_ref(), &resource))
                .ok_or_else(|| CompileError::Cedar(format!("template {place} cannot be linked")))?;
        }
        let result = Validator::new(words.schema.clone()).validate(&set, ValidationMode::Strict);
        match result.validation_errors().next() {
            Some(error) => Err(CompileError::Cedar(error.to_string())),
            None => Ok(self.templates),
        }
    }
}

/// A place in a list. Four thousand million grants are more than there can be.
fn place(at: usize) -> Result<u32, CompileError> {
    u32::try_from(at).map_err(|_| CompileError::Cedar("there are more grants than can be counted".to_owned()))
}

fn index_guardrails(guardrails: &[Guardrail], shapes: &mut Shapes) -> Result<Slices, CompileError> {
    let mut seen = HashSet::new();
    let mut index = Builder::default();
    for (at, guardrail) in guardrails.iter().enumerate() {
        let name = &guardrail.name;
        if !seen.insert(name) {
            return Err(CompileError::DuplicateGuardrail(name.clone()));
        }
        check_lists(guardrail.actions.len(), guardrail.resources.len()).map_err(|why| {
            CompileError::Guardrail {
                name: name.clone(),
                why,
            }
        })?;
        let template = shapes.place(Shape::Guardrail {
            actions: guardrail.actions.clone(),
        })?;
        let link = Link {
            template,
            place: place(at)?,
        };
        index.add(link, &guardrail.actions, &guardrail.resources);
    }
    Ok(index.build())
}

/// The grants of a Claw while they are collected.
#[derive(Debug, Default)]
struct Collected<'a> {
    grants: Vec<u32>,
    connections: HashMap<&'a ConnectionName, OnConnection>,
}

/// Its grants on one connection.
#[derive(Debug, Default)]
struct OnConnection {
    allow: OfMode,
    ask: OfMode,
    spoken_of: SpokenOf,
}

#[derive(Debug, Default)]
struct OfMode {
    rows: Vec<Row>,
    slices: Builder,
}

impl OfMode {
    fn build(self) -> Permitting {
        Permitting {
            table: Table::new(self.rows),
            slices: self.slices.build(),
        }
    }
}

fn index_grants(
    grants: &[Grant],
    shapes: &mut Shapes,
    plain: Plain,
) -> Result<HashMap<ClawName, ClawPolicies>, CompileError> {
    let mut seen = HashSet::with_capacity(grants.len());
    let mut claws: HashMap<&ClawName, Collected<'_>> = HashMap::new();
    for (at, grant) in grants.iter().enumerate() {
        if !seen.insert(&grant.id) {
            return Err(CompileError::DuplicateGrant(grant.id.clone()));
        }
        check_grant(grant)?;
        let place = place(at)?;
        let of_claw = claws.entry(&grant.claw).or_default();
        of_claw.grants.push(place);
        let of_connection = of_claw.connections.entry(&grant.connection).or_default();
        let of_mode = match grant.mode {
            Mode::Allow => &mut of_connection.allow,
            Mode::Ask => &mut of_connection.ask,
        };
        if plain.takes(grant) {
            // Cedar need not be asked about it, but must be able to say it: that is how a grant is validated.
            let _said = shapes.place(without_its_instant(Shape::of_grant(grant)))?;
            of_mode.rows.extend(Table::rows(grant, place));
        } else {
            let template = shapes.place(Shape::of_grant(grant))?;
            let link = Link { template, place };
            of_mode.slices.add(link, &grant.actions, &grant.resources);
        }
        let added = of_connection.spoken_of.add(&grant.conditions);
        added.map_err(|why| refused(grant, why))?;
    }
    Ok(claws.into_iter().map(of_claw).collect())
}

/// One shape for all grants that end, whenever they do.
fn without_its_instant(mut shape: Shape) -> Shape {
    match &mut shape {
        Shape::Grant { expires, .. } => *expires = expires.map(|_| Timestamp::UNIX_EPOCH),
        Shape::Guardrail { .. } => {}
    }
    shape
}

fn of_claw((claw, collected): (&ClawName, Collected<'_>)) -> (ClawName, ClawPolicies) {
    let connections = collected.connections.into_iter().map(|(connection, of)| {
        let policies = ConnectionPolicies {
            allow: of.allow.build(),
            ask: of.ask.build(),
            spoken_of: of.spoken_of,
        };
        (connection.clone(), policies)
    });
    let policies = ClawPolicies {
        connections: connections.collect(),
        grants: collected.grants.into(),
    };
    (claw.clone(), policies)
}

fn refused(grant: &Grant, why: String) -> CompileError {
    CompileError::Grant {
        id: grant.id.clone(),
        why,
    }
}

fn check_grant(grant: &Grant) -> Result<(), CompileError> {
    let refuse = |why: String| refused(grant, why);
    check_lists(grant.actions.len(), grant.resources.len()).map_err(refuse)?;
    let conditions = &grant.conditions;
    let lists = [
        conditions.on_behalf_of.len(),
        conditions.arguments.len(),
        conditions.hours.len(),
    ];
    if lists.iter().any(|length| *length > MAX_LISTED) {
        return Err(refuse(format!(
            "a condition lists more than {MAX_LISTED} members, arguments or windows"
        )));
    }
    for condition in &conditions.arguments {
        check_argument(&condition.name, &condition.one_of).map_err(refuse)?;
    }
    Ok(())
}

fn check_lists(actions: usize, resources: usize) -> Result<(), String> {
    match (actions, resources) {
        (0, _) => Err("it names no action: list at least one".to_owned()),
        (_, 0) => Err("it names no resource: list at least one, or `*` for any".to_owned()),
        (a, r) if a > MAX_LISTED || r > MAX_LISTED => Err(format!(
            "it lists more than {MAX_LISTED} actions or resources: split it"
        )),
        _ => Ok(()),
    }
}

fn check_argument(name: &str, values: &[String]) -> Result<(), String> {
    let short: String = name.chars().take(40).collect();
    if name.is_empty() || name.len() > MAX_ARGUMENT || name.contains('=') {
        return Err(format!(
            "`{short}` is not an argument's name: 1 to {MAX_ARGUMENT} bytes without `=`"
        ));
    }
    if values.is_empty() || values.len() > MAX_LISTED {
        return Err(format!(
            "the condition on `{short}` needs 1 to {MAX_LISTED} values in `one_of`"
        ));
    }
    if values.iter().any(|value| value.len() > MAX_ARGUMENT) {
        return Err(format!(
            "a value for `{short}` is longer than {MAX_ARGUMENT} bytes"
        ));
    }
    Ok(())
}
