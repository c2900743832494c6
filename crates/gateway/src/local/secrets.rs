//! Secrets: set, replaced, removed, listed; never shown. Recorded before the change and after it.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use clawstaff_api::{ApiProblem, Code, local::SecretInfo};
use clawstaff_audit::{Draft, Phase, Stream};
use clawstaff_types::{Actor, Digest, Event, EventKind, Outcome, ResourceRef, Secret, SecretName};
use clawstaff_vault::StoreError;

use super::{Caller, Local, problem, respond};

pub(super) async fn list(State(local): State<Arc<Local>>) -> Response {
    match local.gateway.vault.list() {
        Ok(secrets) => {
            let wire = secrets.into_iter().map(|s| SecretInfo {
                name: s.name,
                updated: s.updated.to_string(),
            });
            Json(wire.collect::<Vec<_>>()).into_response()
        }
        Err(error) => respond(&refusal(&error)),
    }
}

pub(super) async fn set(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(body) = body else {
        return problem(Code::Invalid, "a secret is at most 64 KiB");
    };
    // Takes over the buffer when nobody else holds it, so that the one copy is wiped.
    let body = Secret::new(Vec::from(body));
    let Ok(text) = std::str::from_utf8(body.expose_secret()) else {
        return problem(Code::Invalid, "a secret is text in UTF-8");
    };
    let name = match name.parse::<SecretName>() {
        Ok(name) => name,
        Err(error) => return problem(Code::Invalid, error.to_string()),
    };
    let value = Secret::new(text.to_owned());
    let kind = if local.gateway.vault.contains(&name) {
        EventKind::SecretRotated
    } else {
        EventKind::SecretSet
    };
    let change = || local.gateway.vault.set(&name, value).map(drop);
    finish(recorded(&local, &caller, kind, &name, change).await)
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
    finish(recorded(&local, &caller, EventKind::SecretRemoved, &name, change).await)
}

fn finish(done: Result<(), ApiProblem>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => respond(&problem),
    }
}

/// Makes the intent durable, makes the change, makes its outcome durable.
async fn recorded(
    local: &Local,
    caller: &Caller,
    kind: EventKind,
    name: &SecretName,
    change: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), ApiProblem> {
    let mut event = Event::new(kind, Actor::Member(caller.0.clone()));
    event.policy_revision = Some(local.gateway.state.load().revision());
    event.resource = "secret"
        .parse()
        .and_then(|kind| ResourceRef::new(kind, name.as_str()))
        .ok();
    let call = Digest::of(format!("{kind}\n{name}").as_bytes());
    let draft = |phase, event| Draft {
        stream: Stream::System("gateway".into()),
        phase,
        call,
        event,
    };
    let log = &local.gateway.log;
    let receipt = log
        .append(draft(Phase::Intent, event.clone()))
        .await
        .map_err(|error| {
            tracing::error!(%name, %error, "a change of a secret cannot be recorded");
            ApiProblem::new(
                Code::Unavailable,
                "the log cannot be written, so the secret was not changed",
            )
        })?;
    let done = change();
    event.outcome = Some(if done.is_ok() {
        Outcome::Succeeded
    } else {
        Outcome::Failed
    });
    if let Err(error) = log
        .append(draft(Phase::Outcome { of: receipt.index() }, event))
        .await
    {
        tracing::error!(%name, %error, "the outcome of a change of a secret cannot be recorded");
    }
    done.map_err(|error| refusal(&error))
}

fn refusal(error: &StoreError) -> ApiProblem {
    let code = match error {
        StoreError::Missing(_) => Code::NotFound,
        StoreError::Empty(_) | StoreError::TooLong(_) => Code::Invalid,
        StoreError::Seal(_) | StoreError::Unopenable(_) | StoreError::File { .. } | StoreError::List(_) => {
            tracing::error!(%error, source = ?std::error::Error::source(error), "the vault cannot do its work");
            Code::Internal
        }
    };
    ApiProblem::new(code, error.to_string())
}
