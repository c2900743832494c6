//! Whether what is asked for makes sense, before anything is changed. Pure.

use std::collections::BTreeMap;

use clawstaff_connectors::{Catalogue, Connector, RecordKind};
use clawstaff_types::{
    ActionId, ActionPattern, ConnectionName, ConnectorId, GrantId, Guardrail, MemberId, NodeName,
    ResourcePattern, ResourceRef,
    grant::{Conditions, Grant, Mode},
    spec::{ClawSpec, Connection, Trigger},
};

use super::{nearest::nearest, problem::Problem};

/// The longest Claw name: with `gr_model_` before it, it is still an id of at most 64 characters.
const CLAW_NAME_BYTES: usize = 54;
const DESCRIPTION_CHARS: usize = 300;
const MAX_PATTERNS: usize = 100;
const MAX_TRIGGERS: usize = 50;
const MAX_RETRIES: u8 = 5;

/// Connections by name.
pub(crate) type Connections<'a> = BTreeMap<&'a ConnectionName, &'a Connection>;

/// A connection's connector exists and its address may be used.
pub(crate) fn connection(connection: &Connection, catalogue: &Catalogue) -> Result<(), Problem> {
    connector(&connection.connector, catalogue)
        .map_err(|problem| within(problem, &format!("connection `{}`", connection.name)))?;
    match &connection.base_url {
        Some(url) => base_url(&connection.name, url),
        None if connection.connector.as_str() == clawstaff_connectors::MCP => Err(Problem::refused(format!(
            "connection `{}` says no `base_url`: where is the MCP server?",
            connection.name
        ))
        .hint("write its address, as in `base_url = \"https://mcp.example.com/mcp\"`")),
        None => Ok(()),
    }
}

fn connector<'a>(id: &ConnectorId, catalogue: &'a Catalogue) -> Result<&'a Connector, Problem> {
    catalogue.get(id).ok_or_else(|| {
        let problem = Problem::refused(format!("there is no connector `{id}`"));
        match nearest(id.as_str(), catalogue.iter().map(|one| one.id().as_str())) {
            Some(near) => problem.hint(format!(
                "the nearest is `{near}`; `clawstaff connector list` shows all"
            )),
            None => problem.hint("`clawstaff connector list` shows all"),
        }
    })
}

/// `https`, or `http` to this host only: a credential must not cross a network in the open.
fn base_url(name: &ConnectionName, url: &str) -> Result<(), Problem> {
    let refuse = |why: &str| {
        Problem::refused(format!(
            "connection `{name}`: base_url `{}` {why}",
            url.chars().take(200).collect::<String>()
        ))
    };
    let uri: http::Uri = url.parse().map_err(|_| refuse("is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| refuse("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(refuse("holds a user name: a credential belongs in `credential`"));
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(refuse("has a query or a fragment"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(authority.host()) => Ok(()),
        Some("http") => Err(refuse(
            "is plain http to another host: only loopback addresses may be",
        )),
        _ => Err(refuse("is neither https nor http")),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A guardrail forbids something that exists.
pub(crate) fn guardrail(guardrail: &Guardrail, catalogue: &Catalogue) -> Result<(), Problem> {
    let place = format!("guardrail `{}`", guardrail.name);
    patterns(&guardrail.actions, &guardrail.resources).map_err(|problem| within(problem, &place))?;
    let all: Vec<&ActionId> = catalogue
        .iter()
        .flat_map(Connector::actions)
        .map(|action| &action.id)
        .collect();
    for pattern in &guardrail.actions {
        if !catalogue.iter().any(|connector| connector.may_mean(pattern)) {
            let names = all.iter().map(ToString::to_string).collect();
            return Err(within(unknown_action(pattern, "any connector", names), &place));
        }
    }
    Ok(())
}

fn patterns(actions: &[ActionPattern], resources: &[ResourcePattern]) -> Result<(), Problem> {
    for (what, count) in [("actions", actions.len()), ("resources", resources.len())] {
        if count == 0 {
            return Err(Problem::refused(format!(
                "`{what}` is empty: name at least one, or `*`"
            )));
        }
        if count > MAX_PATTERNS {
            return Err(Problem::refused(format!(
                "`{what}` holds {count} patterns, at most {MAX_PATTERNS} are allowed"
            )));
        }
    }
    Ok(())
}

/// What a grant says, without its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GrantTerms<'a> {
    pub(crate) connection: &'a ConnectionName,
    pub(crate) actions: &'a [ActionPattern],
    pub(crate) resources: &'a [ResourcePattern],
    pub(crate) conditions: &'a Conditions,
}

/// A grant's connection exists, and each of its patterns means at least one action of the connector.
pub(crate) fn grant(
    terms: GrantTerms<'_>,
    connections: &Connections<'_>,
    catalogue: &Catalogue,
) -> Result<(), Problem> {
    let connector = connector_of(terms.connection, connections, catalogue)?;
    patterns(terms.actions, terms.resources)?;
    conditions(terms.conditions)?;
    for pattern in terms.actions {
        if !connector.may_mean(pattern) {
            let names = connector
                .actions()
                .iter()
                .map(|action| action.id.name().to_owned())
                .collect();
            return Err(unknown_action(
                pattern,
                &format!("connector `{}`", connector.id()),
                names,
            ));
        }
    }
    Ok(())
}

fn conditions(conditions: &Conditions) -> Result<(), Problem> {
    let count = conditions.arguments.len().max(conditions.on_behalf_of.len());
    if count > MAX_PATTERNS
        || conditions
            .arguments
            .iter()
            .any(|one| one.one_of.len() > MAX_PATTERNS)
    {
        return Err(Problem::refused(format!(
            "`conditions` holds more than {MAX_PATTERNS} entries"
        )));
    }
    if conditions.arguments.iter().any(|one| one.one_of.is_empty()) {
        return Err(Problem::refused(
            "a condition on an argument lists no value, so the grant would allow nothing",
        ));
    }
    Ok(())
}

fn connector_of<'a>(
    name: &ConnectionName,
    connections: &Connections<'_>,
    catalogue: &'a Catalogue,
) -> Result<&'a Connector, Problem> {
    let connection = connections.get(name).ok_or_else(|| {
        let problem = Problem::refused(format!("there is no connection `{name}`"));
        match nearest(name.as_str(), connections.keys().map(|one| one.as_str())) {
            Some(near) => problem.hint(format!("the nearest is `{near}`")),
            None => problem.hint("add it to the file as a [[connection]]"),
        }
    })?;
    connector(&connection.connector, catalogue)
}

fn unknown_action(pattern: &ActionPattern, place: &str, names: Vec<String>) -> Problem {
    let problem = Problem::refused(format!("no action of {place} matches `{pattern}`"));
    let texts = [pattern.to_string(), pattern.name().to_owned()];
    let near = texts
        .iter()
        .find_map(|text| nearest(text, names.iter().map(String::as_str)));
    match near {
        Some(near) => problem.hint(format!("the nearest is `{near}`")),
        None => problem.hint("`clawstaff connector show` lists the actions"),
    }
}

/// A Claw's name, limits, triggers and model make sense with these connections.
pub(crate) fn claw(
    spec: &ClawSpec,
    connections: &Connections<'_>,
    catalogue: &Catalogue,
) -> Result<(), Problem> {
    let place = format!("claw `{}`", spec.name);
    shape(spec).map_err(|problem| within(problem, &place))?;
    for trigger in &spec.triggers {
        triggered(trigger, connections, catalogue).map_err(|problem| within(problem, &place))?;
    }
    Ok(())
}

/// A new Claw is placed on a node that is in; one that exists stays where it is, with its data.
pub(crate) fn place(old: Option<&ClawSpec>, new: &ClawSpec, nodes: &[NodeName]) -> Result<(), Problem> {
    let (name, place) = (&new.name, new.place());
    match old.map(ClawSpec::place) {
        Some(before) if before == place => Ok(()),
        Some(before) => {
            let text = format!(
                "claw `{name}` is on node `{before}` and cannot move to `{place}`: its data is there"
            );
            Err(Problem::refused(text).hint("destroy it first, or give the new one another name"))
        }
        None if place.is_local() || nodes.contains(&place) => Ok(()),
        None => {
            let problem = Problem::refused(format!("claw `{name}`: there is no node `{place}`"));
            match nearest(place.as_str(), nodes.iter().map(NodeName::as_str)) {
                Some(near) => Err(problem.hint(format!("the nearest is `{near}`"))),
                None => Err(problem.hint("`clawstaff node list` shows all")),
            }
        }
    }
}

fn shape(spec: &ClawSpec) -> Result<(), Problem> {
    if spec.name.as_str().len() > CLAW_NAME_BYTES {
        return Err(Problem::refused(format!(
            "a Claw's name has at most {CLAW_NAME_BYTES} characters"
        )));
    }
    if spec.description.chars().count() > DESCRIPTION_CHARS {
        return Err(Problem::refused(format!(
            "`description` has more than {DESCRIPTION_CHARS} characters"
        )));
    }
    if spec.triggers.len() > MAX_TRIGGERS {
        return Err(Problem::refused(format!(
            "there are more than {MAX_TRIGGERS} triggers"
        )));
    }
    let limits = &spec.limits;
    let none = [
        ("memory", limits.memory.0 == 0),
        ("cpus", limits.milli_cpus == 0),
        ("pids", limits.pids == 0),
        ("storage", limits.storage.0 == 0),
    ];
    match none.iter().find(|(_, zero)| *zero) {
        Some((limit, _)) => Err(Problem::refused(format!(
            "limit `{limit}` is 0, so nothing could run"
        ))),
        None => Ok(()),
    }
}

fn triggered(trigger: &Trigger, connections: &Connections<'_>, catalogue: &Catalogue) -> Result<(), Problem> {
    match trigger {
        Trigger::Slack {
            connection, channel, ..
        } => {
            let connector = connector_of(connection, connections, catalogue)?;
            if connector.id().as_str() != "slack" {
                return Err(Problem::refused(format!(
                    "a slack trigger needs a connection to slack; `{connection}` is one to `{}`",
                    connector.id()
                )));
            }
            format!("channel:{channel}").parse::<ResourceRef>()?;
            Ok(())
        }
    }
}

/// The grant that follows from a Claw's model: the model actions of its connector, on that model and its fallback.
pub(crate) fn model_grant(
    spec: &ClawSpec,
    connections: &Connections<'_>,
    catalogue: &Catalogue,
    by: &MemberId,
) -> Result<Option<Grant>, Problem> {
    let Some(model) = &spec.model else { return Ok(None) };
    let place = format!("claw `{}`, model", spec.name);
    let connector =
        connector_of(&model.connection, connections, catalogue).map_err(|problem| within(problem, &place))?;
    if !["anthropic", "openai"].contains(&connector.id().as_str()) {
        let text = format!(
            "connection `{}` is one to `{}`, which is no model provider",
            model.connection,
            connector.id()
        );
        return Err(within(Problem::refused(text), &place).hint("use a connection to anthropic or openai"));
    }
    let named = |name: &str| -> Result<ResourceRef, Problem> {
        let parsed = format!("model:{name}").parse();
        parsed.map_err(|error| within(Problem::from(error), &place))
    };
    let resource = named(&model.name)?;
    let fallback = model.fallback.as_deref().map(named).transpose()?;
    if model.retries > MAX_RETRIES {
        return Err(within(
            Problem::refused(format!("`retries` is at most {MAX_RETRIES}")),
            &place,
        ));
    }
    let actions: Result<Vec<ActionPattern>, _> = connector
        .actions()
        .iter()
        .filter(|action| action.record == RecordKind::Model)
        .map(|action| action.id.name().parse())
        .collect();
    Ok(Some(Grant {
        id: model_grant_id(spec)?,
        claw: spec.name.clone(),
        connection: model.connection.clone(),
        actions: actions?,
        resources: std::iter::once(resource)
            .chain(fallback)
            .map(ResourcePattern::Exactly)
            .collect(),
        conditions: Conditions::default(),
        mode: Mode::Allow,
        expires: None,
        granted_by: by.clone(),
    }))
}

fn model_grant_id(spec: &ClawSpec) -> Result<GrantId, Problem> {
    Ok(format!("gr_model_{}", spec.name).parse()?)
}

/// The same problem, saying where in the file.
pub(crate) fn within(problem: Problem, place: &str) -> Problem {
    let mut inner = problem.0;
    inner.detail = format!("{place}: {}", inner.detail);
    Problem(inner)
}
