//! From a grant or guardrail to Cedar.
//!
//! Grants that differ only in their Claw, their resource and their id are links of one Cedar template: the Claw
//! fills `?principal`, the scope fills `?resource`, and the grant's id is the link's id. The rest, the
//! [`Shape`], is the template's body:
//!
//! ```cedar
//! permit (principal == ?principal, action == ClawStaff::Action::"use", resource in ?resource)
//! when { context.connection == "slack" }
//! when { ["messages.read"].contains(context.action) }
//! when { context.now < 1798675200000000 };
//! ```
//!
//! Everything is built as a syntax tree from typed parts. No text is parsed, so nothing can be injected.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cedar_policy::pst::{
    ActionConstraint, BinaryOp, Clause, Effect, EntityOrSlot, EntityType, EntityUID, Expr, Literal, Name,
    NonEmpty, PatternElem, PrincipalConstraint, PstConstructionError, ResourceConstraint, SlotId, SmolStr,
    Template, Var,
};
use clawstaff_types::{
    ActionPattern, Conditions, ConnectionName, ConnectorId, Grant, MemberId, Window, spec::Budget,
};
use jiff::Timestamp;

use crate::words::argument;

/// What a template is made of: everything of a grant or guardrail but who, on what, and its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// A grant's: permits.
    Grant {
        connection: ConnectionName,
        actions: Vec<ActionPattern>,
        conditions: Conditions,
        expires: Option<Timestamp>,
    },
    /// A guardrail's: forbids, for every Claw and every connection.
    Guardrail { actions: Vec<ActionPattern> },
}

impl Shape {
    pub(crate) fn of_grant(grant: &Grant) -> Self {
        Self::Grant {
            connection: grant.connection.clone(),
            actions: grant.actions.clone(),
            // What may be spent is counted where it is spent; it is no question to Cedar.
            conditions: Conditions {
                budget: Budget::default(),
                ..grant.conditions.clone()
            },
            expires: grant.expires,
        }
    }

    /// The template, under the id `id`.
    pub(crate) fn template(&self, id: &str) -> Result<Template, PstConstructionError> {
        let (effect, principal) = match self {
            Self::Grant { .. } => {
                let slot = EntityOrSlot::Slot(SlotId::Principal);
                (Effect::Permit, PrincipalConstraint::Eq(slot))
            }
            Self::Guardrail { .. } => (Effect::Forbid, PrincipalConstraint::Any),
        };
        let action = ActionConstraint::Eq(uid("Action", "use")?);
        let resource = ResourceConstraint::In(EntityOrSlot::Slot(SlotId::Resource));
        let clauses = self.clauses().into_iter().map(|e| Clause::When(Arc::new(e)));
        Template::new(id, effect, principal, action, resource).try_with_clauses(clauses)
    }

    /// The cheapest and most selective first: Cedar stops at the first that is false.
    fn clauses(&self) -> Vec<Expr> {
        match self {
            Self::Grant {
                connection,
                actions,
                conditions,
                expires,
            } => {
                let mut clauses = vec![equals(context("connection"), string(connection.as_str()))];
                clauses.extend(action_clause(actions));
                clauses.extend(expires.map(before));
                clauses.extend(joined(BinaryOp::And, condition_clauses(conditions)));
                clauses
            }
            Self::Guardrail { actions } => action_clause(actions).into_iter().collect(),
        }
    }
}

/// A grant as Cedar text, one policy for each of its resources: for people who want to read it.
///
/// ```
/// # let grant = serde_json::from_str(r#"{"id":"gr_1","claw":"triage","connection":"slack","granted_by":"uid-0",
/// #   "actions":["messages.read"],"resources":["channel:C0SUPPORT"]}"#).unwrap();
/// let text = clawstaff_policy::cedar_text(&grant).unwrap();
/// assert!(text.contains(r#"@id("gr_1")"#));
/// assert!(text.contains(r#"resource in ClawStaff::Resource::"channel:C0SUPPORT""#));
/// ```
///
/// # Errors
/// The text of what Cedar found wrong with it.
pub fn cedar_text(grant: &Grant) -> Result<String, String> {
    let one = |scope: &str| -> Result<String, PstConstructionError> {
        let values = HashMap::from([
            (SlotId::Principal, uid("Claw", grant.claw.as_str())?),
            (SlotId::Resource, uid("Resource", scope)?),
        ]);
        let annotations = BTreeMap::from([("id".to_owned(), SmolStr::from(grant.id.as_str()))]);
        let template = Shape::of_grant(grant).template(grant.id.as_str())?;
        let linked = template.link(&values)?;
        Ok(linked.body().clone().with_annotations(annotations).to_string())
    };
    let policies: Result<Vec<_>, _> = grant.resources.iter().map(|r| one(&r.to_string())).collect();
    policies.map(|all| all.join("\n")).map_err(|e| e.to_string())
}

fn uid(kind: &str, id: &str) -> Result<EntityUID, PstConstructionError> {
    Ok(EntityUID {
        ty: EntityType::from_name(Name::qualified(["ClawStaff"], kind)?),
        eid: SmolStr::from(id),
    })
}

/// Any of the patterns, or no clause where one of them is `*`.
fn action_clause(patterns: &[ActionPattern]) -> Option<Expr> {
    if patterns
        .iter()
        .any(|p| p.connector().is_none() && p.name() == "*")
    {
        return None;
    }
    let (exact, globs): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| p.is_exact());
    let mut by_connector: BTreeMap<Option<&ConnectorId>, Vec<&str>> = BTreeMap::new();
    for pattern in exact {
        by_connector
            .entry(pattern.connector())
            .or_default()
            .push(pattern.name());
    }
    let exact = by_connector
        .into_iter()
        .map(|(connector, names)| of_connector(connector, one_of(context("action"), names)));
    let globs = globs
        .into_iter()
        .map(|pattern| of_connector(pattern.connector(), like(context("action"), pattern.name())));
    joined(BinaryOp::Or, exact.chain(globs).collect())
}

/// All of them joined by `op`, as a balanced tree: Cedar evaluates recursively, so depth is stack.
fn joined(op: BinaryOp, mut expressions: Vec<Expr>) -> Option<Expr> {
    while expressions.len() > 1 {
        let mut pairs = Vec::with_capacity(expressions.len().div_ceil(2));
        let mut rest = expressions.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary(op, left, right),
                None => left,
            });
        }
        expressions = pairs;
    }
    expressions.pop()
}

fn of_connector(connector: Option<&ConnectorId>, action: Expr) -> Expr {
    match connector {
        Some(id) => binary(
            BinaryOp::And,
            equals(context("connector"), string(id.as_str())),
            action,
        ),
        None => action,
    }
}

fn before(expires: Timestamp) -> Expr {
    let at = Expr::Literal(Literal::Long(expires.as_microsecond()));
    binary(BinaryOp::Less, context("now"), at)
}

fn condition_clauses(conditions: &Conditions) -> Vec<Expr> {
    let members = &conditions.on_behalf_of;
    let on_behalf_of = (!members.is_empty()).then(|| {
        let has = Expr::HasAttr {
            expr: Arc::new(Expr::Var(Var::Context)),
            attrs: NonEmpty::new(SmolStr::from("on_behalf_of")),
        };
        let members = members.iter().map(MemberId::as_str);
        binary(BinaryOp::And, has, one_of(context("on_behalf_of"), members))
    });
    let arguments = conditions.arguments.iter().map(|condition| {
        let values = condition
            .one_of
            .iter()
            .map(|value| argument(&condition.name, value));
        binary(BinaryOp::ContainsAny, context("arguments"), set(values))
    });
    let hours = (!conditions.hours.is_empty()).then(|| {
        let windows = set(conditions.hours.iter().map(Window::to_string));
        binary(BinaryOp::ContainsAny, context("open_hours"), windows)
    });
    on_behalf_of.into_iter().chain(hours).chain(arguments).collect()
}

fn context(attribute: &str) -> Expr {
    Expr::GetAttr {
        expr: Arc::new(Expr::Var(Var::Context)),
        attr: SmolStr::from(attribute),
    }
}

fn string(text: &str) -> Expr {
    Expr::Literal(Literal::String(SmolStr::from(text)))
}

fn set(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Expr {
    let elements = texts.into_iter().map(|text| Arc::new(string(text.as_ref())));
    Expr::Set(elements.collect())
}

fn one_of(value: Expr, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Expr {
    binary(BinaryOp::Contains, set(texts), value)
}

fn equals(left: Expr, right: Expr) -> Expr {
    binary(BinaryOp::Eq, left, right)
}

fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp {
        op,
        left: Arc::new(left),
        right: Arc::new(right),
    }
}

fn like(value: Expr, glob: &str) -> Expr {
    let element = |c| match c {
        '*' => PatternElem::Wildcard,
        other => PatternElem::Char(other),
    };
    Expr::Like {
        expr: Arc::new(value),
        pattern: glob.chars().map(element).collect(),
    }
}
