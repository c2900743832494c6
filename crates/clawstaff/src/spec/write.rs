//! The spec file back: what `clawstaff get` prints can be applied again, unchanged.
//!
//! Instructions come back sealed, since nobody but the gateway can open them.

use clawstaff_api::people::{GrantInput, Spec};
use clawstaff_types::{
    Conditions, Guardrail, Mode,
    spec::{Agent, Budget, ClawSpec, Connection, Limit, Limits, Sealed, SlackEvent, Trigger},
};
use toml::{Table, Value};

/// The spec as TOML text.
pub(crate) fn to_toml(spec: &Spec) -> String {
    let connections = spec.connections.iter().map(connection).collect();
    let guardrails = spec.guardrails.iter().map(guardrail).collect();
    let claws = spec
        .claws
        .iter()
        .map(|claw| claw_table(&claw.spec, &claw.grants))
        .collect();
    let mut out = String::new();
    section(&mut out, "connection", connections);
    section(&mut out, "guardrail", guardrails);
    section(&mut out, "claw", claws);
    out
}

/// Each section apart, so that they come in the order in which people write them.
fn section(out: &mut String, name: &str, tables: Vec<Table>) {
    for table in tables {
        let mut whole = Table::new();
        whole.insert(name.to_owned(), Value::Array(vec![Value::Table(table)]));
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&toml::to_string(&whole).unwrap_or_default());
    }
}

fn text(value: impl std::fmt::Display) -> Value {
    Value::String(value.to_string())
}

fn texts<T: std::fmt::Display>(values: &[T]) -> Value {
    Value::Array(values.iter().map(text).collect())
}

fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn table<const N: usize>(fields: [(&str, Option<Value>); N]) -> Table {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

fn connection(connection: &Connection) -> Table {
    table([
        ("name", Some(text(&connection.name))),
        ("connector", Some(text(&connection.connector))),
        (
            "credential",
            Some(Value::String(connection.credential.clone().into())),
        ),
        (
            "signing_secret",
            connection
                .signing_secret
                .clone()
                .map(|reference| Value::String(reference.into())),
        ),
        ("base_url", connection.base_url.as_ref().map(text)),
    ])
}

fn guardrail(guardrail: &Guardrail) -> Table {
    let forbid = table([
        ("actions", Some(texts(&guardrail.actions))),
        ("resources", Some(texts(&guardrail.resources))),
    ]);
    table([
        ("name", Some(text(&guardrail.name))),
        ("forbid", Some(Value::Table(forbid))),
    ])
}

fn claw_table(spec: &ClawSpec, grants: &[GrantInput]) -> Table {
    let budget = budget(&spec.budget);
    let model = spec.model.as_ref().map(|model| {
        table([
            ("connection", Some(text(&model.connection))),
            ("name", Some(text(&model.name))),
            ("max_output_tokens", model.max_output_tokens.map(number)),
            (
                "retries",
                (model.retries > 0).then(|| number(model.retries.into())),
            ),
            ("fallback", model.fallback.as_ref().map(text)),
        ])
    });
    let array = |tables: Vec<Table>| {
        (!tables.is_empty()).then(|| Value::Array(tables.into_iter().map(Value::Table).collect()))
    };
    table([
        ("name", Some(text(&spec.name))),
        ("node", spec.node.as_ref().map(text)),
        (
            "description",
            (!spec.description.is_empty()).then(|| text(&spec.description)),
        ),
        ("agent", Some(agent(&spec.agent))),
        ("model", model.map(Value::Table)),
        ("instructions_sealed", spec.instructions.as_ref().map(sealed)),
        ("limits", Some(Value::Table(limits(&spec.limits)))),
        ("budget", (!budget.is_empty()).then_some(Value::Table(budget))),
        ("trigger", array(spec.triggers.iter().map(trigger).collect())),
        ("grant", array(grants.iter().map(grant).collect())),
    ])
}

fn budget(budget: &Budget) -> Table {
    table([
        (
            "requests_per_minute",
            budget.requests_per_minute.map(|n| number(n.into())),
        ),
        ("tokens_per_day", budget.tokens_per_day.map(number)),
        ("usd_per_day", budget.usd_micros_per_day.map(dollars)),
    ])
}

/// At most 10^12 millionths, which a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^52 millionths")]
fn dollars(micros: u64) -> Value {
    Value::Float(micros as f64 / 1e6)
}

fn agent(agent: &Agent) -> Value {
    match agent {
        Agent::Builtin => text("builtin"),
        Agent::Image { image, command, env } => {
            let env: Table = env
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect();
            Value::Table(table([
                ("image", Some(text(image))),
                ("command", (!command.is_empty()).then(|| texts(command))),
                ("env", (!env.is_empty()).then_some(Value::Table(env))),
            ]))
        }
    }
}

fn sealed(sealed: &Sealed) -> Value {
    Value::Table(table([
        ("recipient", Some(text(sealed.recipient))),
        ("enc", Some(text(&sealed.enc))),
        ("ciphertext", Some(text(&sealed.ciphertext))),
        ("digest", Some(text(sealed.digest))),
    ]))
}

fn limits(limits: &Limits) -> Table {
    let accepted: Vec<&str> = limits
        .accept_unenforced
        .iter()
        .map(|limit| limit_name(*limit))
        .collect();
    table([
        ("memory", Some(text(limits.memory))),
        ("cpus", Some(Value::Float(f64::from(limits.milli_cpus) / 1000.0))),
        ("pids", Some(number(limits.pids.into()))),
        ("storage", Some(text(limits.storage))),
        (
            "accept_unenforced",
            (!accepted.is_empty()).then(|| texts(&accepted)),
        ),
    ])
}

const fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory => "memory",
        Limit::Cpus => "cpus",
        Limit::Pids => "pids",
        Limit::Storage => "storage",
    }
}

fn trigger(trigger: &Trigger) -> Table {
    match trigger {
        Trigger::Slack {
            connection,
            channel,
            on,
        } => {
            let on = match on {
                SlackEvent::Message => "message",
                SlackEvent::Mention => "mention",
            };
            let slack = table([
                ("connection", Some(text(connection))),
                ("channel", Some(text(channel))),
                ("on", Some(text(on))),
            ]);
            table([("slack", Some(Value::Table(slack)))])
        }
    }
}

fn grant(grant: &GrantInput) -> Table {
    let conditions = conditions(&grant.conditions);
    table([
        ("connection", Some(text(&grant.connection))),
        ("actions", Some(texts(&grant.actions))),
        ("resources", Some(texts(&grant.resources))),
        (
            "conditions",
            (!conditions.is_empty()).then_some(Value::Table(conditions)),
        ),
        ("mode", (grant.mode == Mode::Ask).then(|| text("ask"))),
        ("expires", grant.expires.map(text)),
    ])
}

fn conditions(conditions: &Conditions) -> Table {
    let arguments: Vec<Value> = conditions
        .arguments
        .iter()
        .map(|argument| {
            Value::Table(table([
                ("name", Some(text(&argument.name))),
                ("one_of", Some(texts(&argument.one_of))),
            ]))
        })
        .collect();
    table([
        (
            "on_behalf_of",
            (!conditions.on_behalf_of.is_empty()).then(|| texts(&conditions.on_behalf_of)),
        ),
        (
            "arguments",
            (!arguments.is_empty()).then_some(Value::Array(arguments)),
        ),
        (
            "hours",
            (!conditions.hours.is_empty()).then(|| texts(&conditions.hours)),
        ),
        (
            "budget",
            (!conditions.budget.is_unlimited()).then(|| Value::Table(budget(&conditions.budget))),
        ),
    ])
}
