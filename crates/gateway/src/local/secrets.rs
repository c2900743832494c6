//! Secrets: set, replaced, removed, listed; never shown. Recorded before the change and after it.

use std::{str::FromStr, sync::Arc};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use clawstaff_api::{
    ApiProblem, Code,
    local::{BindingQuery, ExpiryQuery, SecretInfo},
};
use clawstaff_audit::{Draft, Phase, Receipt, Stream};
use clawstaff_types::{
    Actor, Digest, Event, EventKind, Outcome, ResourceRef, Secret, SecretName, spec::CredentialRef,
};
use clawstaff_vault::{Binding, StoreError, Terms, Vault};
use jiff::Timestamp;

use super::{Caller, Local, problem, respond};
use crate::settle::chain;

pub(super) async fn list(State(local): State<Arc<Local>>) -> Response {
    match local.gateway.vault.list() {
        Ok(secrets) => Json(secrets.into_iter().map(shown).collect::<Vec<_>>()).into_response(),
        Err(error) => respond(&refusal(&error)),
    }
}

fn shown(secret: clawstaff_vault::SecretInfo) -> SecretInfo {
    let version = secret.sealed.as_ref().map(|sealed| sealed.version);
    let (binding, reference, expires) = secret
        .sealed
        .map(|sealed| (sealed.binding, sealed.reference, sealed.expires))
        .unwrap_or_default();
    SecretInfo {
        name: secret.name,
        updated: secret.updated.to_string(),
        version,
        connections: binding.connections,
        hosts: binding.hosts.into_iter().map(String::from).collect(),
        reference: reference.map(String::from),
        expires,
    }
}

pub(super) async fn set(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<BindingQuery>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    finish(
        async {
            let (name, value) = (named(&name)?, text(body)?);
            let vault = &local.gateway.vault;
            let terms = terms(vault, &name, &query)?;
            let act = Act::under(kind_of(vault, &name), &name, &terms);
            let change = || vault.set_under(&name, value, terms).map(drop);
            recorded(&local, &caller, act, change).await
        }
        .await,
    )
}

pub(super) async fn rotate(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<ExpiryQuery>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    finish(
        async {
            let (name, value) = (existing(&local.gateway.vault, &name)?, text(body)?);
            let terms = Terms {
                binding: None,
                expires: to_come(query.expires)?,
            };
            let act = Act::under(EventKind::SecretRotated, &name, &terms);
            let change = || {
                local
                    .gateway
                    .vault
                    .rotate_until(&name, value, terms.expires)
                    .map(drop)
            };
            recorded(&local, &caller, act, change).await
        }
        .await,
    )
}

pub(super) async fn refer(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<BindingQuery>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    finish(
        async {
            let (name, reference) = (named(&name)?, text(body)?);
            let reference = CredentialRef::try_from(reference.expose_secret().trim().to_owned())
                .map_err(|error| ApiProblem::new(Code::Invalid, error.to_string()))?;
            let vault = &local.gateway.vault;
            let terms = terms(vault, &name, &query)?;
            if !matches!(reference, CredentialRef::Vault(_)) {
                let looked_up = vault.check_reference(&reference).await;
                looked_up.map_err(|error| ApiProblem::new(Code::Invalid, chain(&error)))?;
            }
            let act = Act::under(kind_of(vault, &name), &name, &terms);
            let change = || vault.refer(&name, reference, terms).map(drop);
            recorded(&local, &caller, act, change).await
        }
        .await,
    )
}

pub(super) async fn bind(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<BindingQuery>,
) -> Response {
    finish(
        async {
            let vault = &local.gateway.vault;
            let name = existing(vault, &name)?;
            let binding = binding(vault, &name, &query)?
                .ok_or_else(|| ApiProblem::new(Code::Invalid, "name a connection or a host"))?;
            if query.expires.is_some() {
                return Err(ApiProblem::new(
                    Code::Invalid,
                    "when a value ends is said with the value",
                ));
            }
            let act = Act::of(EventKind::ConfigChanged, &name, Some(&binding));
            recorded(&local, &caller, act, || vault.bind(&name, binding)).await
        }
        .await,
    )
}

fn named(name: &str) -> Result<SecretName, ApiProblem> {
    name.parse()
        .map_err(|error: clawstaff_types::NameError| ApiProblem::new(Code::Invalid, error.to_string()))
}

fn existing(vault: &Vault, name: &str) -> Result<SecretName, ApiProblem> {
    let name = named(name)?;
    if vault.contains(&name) {
        Ok(name)
    } else {
        Err(refusal(&StoreError::Missing(name)))
    }
}

/// The body as text. Takes over the buffer when nobody else holds it, so that the one copy is wiped.
fn text(body: Result<Bytes, BytesRejection>) -> Result<Secret<String>, ApiProblem> {
    let body = body.map_err(|_| ApiProblem::new(Code::Invalid, "a secret is at most 64 KiB"))?;
    let body = Secret::new(Vec::from(body));
    match std::str::from_utf8(body.expose_secret()) {
        Ok(text) => Ok(Secret::new(text.to_owned())),
        Err(_) => Err(ApiProblem::new(Code::Invalid, "a secret is text in UTF-8")),
    }
}

pub(super) fn kind_of(vault: &Vault, name: &SecretName) -> EventKind {
    if vault.contains(name) {
        EventKind::SecretRotated
    } else {
        EventKind::SecretSet
    }
}

/// What the query says of a value that is to be stored.
fn terms(vault: &Vault, name: &SecretName, query: &BindingQuery) -> Result<Terms, ApiProblem> {
    Ok(Terms {
        binding: binding(vault, name, query)?,
        expires: to_come(query.expires)?,
    })
}

/// Refuses a value that is said to have ended already.
fn to_come(expires: Option<Timestamp>) -> Result<Option<Timestamp>, ApiProblem> {
    match expires {
        Some(then) if then <= Timestamp::now() => Err(ApiProblem::new(
            Code::Invalid,
            format!("a value that ended at {then} is of no use"),
        )),
        Some(_) | None => Ok(expires),
    }
}

/// Where the secret may be used from now on; nothing when the query does not say.
fn binding(vault: &Vault, name: &SecretName, query: &BindingQuery) -> Result<Option<Binding>, ApiProblem> {
    if query.connections.is_none() && query.hosts.is_none() {
        return Ok(None);
    }
    let mut binding = vault.binding(name);
    if let Some(connections) = &query.connections {
        named_in(connections, query.add, &mut binding.connections)?;
    }
    if let Some(hosts) = &query.hosts {
        named_in(hosts, query.add, &mut binding.hosts)?;
    }
    Ok(Some(binding))
}

fn named_in<T: FromStr + PartialEq>(list: &str, add: bool, into: &mut Vec<T>) -> Result<(), ApiProblem>
where
    T::Err: std::fmt::Display,
{
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let parsed = words.map(str::parse).collect::<Result<Vec<T>, _>>();
    let parsed = parsed.map_err(|error| ApiProblem::new(Code::Invalid, error.to_string()))?;
    if !add {
        into.clear();
    }
    for one in parsed {
        if !into.contains(&one) {
            into.push(one);
        }
    }
    Ok(())
}

pub(super) async fn remove(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    let Ok(name) = name.parse::<SecretName>() else {
        return problem(Code::NotFound, "there is no such secret");
    };
    if !local.gateway.vault.contains(&name) {
        return respond(&refusal(&StoreError::Missing(name)));
    }
    let change = || local.gateway.vault.remove(&name);
    let act = Act::of(EventKind::SecretRemoved, &name, None);
    finish(recorded(&local, &caller, act, change).await)
}

fn finish(done: Result<(), ApiProblem>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => respond(&problem),
    }
}

/// What is about to happen to a secret, or to the vault as a whole, as it is recorded.
pub(super) struct Act {
    pub(super) kind: EventKind,
    pub(super) name: Option<SecretName>,
    pub(super) facts: Vec<(&'static str, String)>,
}

impl Act {
    fn under(kind: EventKind, name: &SecretName, terms: &Terms) -> Self {
        let mut act = Self::of(kind, name, terms.binding.as_ref());
        act.facts
            .extend(terms.expires.map(|expires| ("expires", expires.to_string())));
        act
    }

    pub(super) fn of(kind: EventKind, name: &SecretName, binding: Option<&Binding>) -> Self {
        let facts = binding.map(|binding| {
            let connections: Vec<_> = binding.connections.iter().map(ToString::to_string).collect();
            let hosts: Vec<_> = binding.hosts.iter().map(ToString::to_string).collect();
            vec![("connections", connections.join(" ")), ("hosts", hosts.join(" "))]
        });
        Self {
            kind,
            name: Some(name.clone()),
            facts: facts.unwrap_or_default(),
        }
    }
}

/// An act whose intent is durable.
pub(super) struct Begun {
    event: Event,
    call: Digest,
    receipt: Receipt,
}

/// Makes the intent durable, makes the change, makes its outcome durable.
async fn recorded(
    local: &Local,
    caller: &Caller,
    act: Act,
    change: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), ApiProblem> {
    let begun = begun(local, caller, &act).await?;
    let done = change();
    // What was made of the old value goes with it.
    local.gateway.masks.retain(|_| false);
    ended(local, begun, done.is_ok()).await;
    done.map_err(|error| refusal(&error))
}

/// Makes the intent durable.
pub(super) async fn begun(local: &Local, caller: &Caller, act: &Act) -> Result<Begun, ApiProblem> {
    let subject = act.name.as_ref().map_or("*", SecretName::as_str);
    let mut event = Event::new(act.kind, Actor::Member(caller.0.clone()));
    event.policy_revision = Some(local.gateway.state.load().revision());
    event.resource = "secret"
        .parse()
        .and_then(|kind| ResourceRef::new(kind, subject))
        .ok();
    let facts = act.facts.iter();
    event
        .facts
        .extend(facts.map(|(label, fact)| ((*label).to_owned(), fact.clone())));
    let call = Digest::of(format!("{}\n{subject}", act.kind).as_bytes());
    let draft = draft(Phase::Intent, call, event.clone());
    let receipt = local.gateway.log.append(draft).await.map_err(|error| {
        tracing::error!(%subject, %error, "a change of a secret cannot be recorded");
        ApiProblem::new(
            Code::Unavailable,
            "the log cannot be written, so the secret was not changed",
        )
    })?;
    Ok(Begun { event, call, receipt })
}

/// Makes the outcome durable.
pub(super) async fn ended(local: &Local, begun: Begun, succeeded: bool) {
    let mut event = begun.event;
    event.outcome = Some(if succeeded {
        Outcome::Succeeded
    } else {
        Outcome::Failed
    });
    let of = begun.receipt.index();
    let draft = draft(Phase::Outcome { of }, begun.call, event);
    if let Err(error) = local.gateway.log.append(draft).await {
        tracing::error!(of, %error, "the outcome of a change of a secret cannot be recorded");
    }
}

fn draft(phase: Phase, call: Digest, event: Event) -> Draft {
    Draft {
        stream: Stream::System("gateway".into()),
        phase,
        call,
        event,
    }
}

pub(super) fn refusal(error: &StoreError) -> ApiProblem {
    let code = match error {
        StoreError::Missing(_) => Code::NotFound,
        StoreError::Empty(_) | StoreError::TooLong(_) | StoreError::NoReference(_) => Code::Invalid,
        StoreError::KeyLost(_)
        | StoreError::Seal(_)
        | StoreError::Unopenable(_)
        | StoreError::File { .. }
        | StoreError::List(_) => {
            tracing::error!(%error, source = ?std::error::Error::source(error), "the vault cannot do its work");
            Code::Internal
        }
    };
    ApiProblem::new(code, error.to_string())
}
