//! Legal holds and erasures: placed, released and asked for by custodians, on record before anything changes.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use clawstaff_api::{
    ApiProblem, Code,
    local::{EraseAnswer, EraseRequest, Hold, HoldRequest, Retention, Subject},
};
use clawstaff_audit::{AppendError, Draft, Phase, Receipt, Stream};
use clawstaff_types::{Actor, Digest, Event, EventKind, MemberId, Outcome};
use jiff::Timestamp;

use super::{Caller, Local, respond};
use crate::{
    content::{Custody, CustodyError, Erasure, KeyringError, Ruling, Whose},
    retention::{self, RetentionError},
    settle::chain,
};

pub(super) fn not_custodian() -> ApiProblem {
    ApiProblem::new(
        Code::Forbidden,
        "only custodians may read content, hold and erase: root, the gateway's own user, and whom the gateway was \
         started with (`--custodian UID`)",
    )
}

pub(super) async fn holds(State(local): State<Arc<Local>>) -> Json<Vec<Hold>> {
    let custody = local.gateway.custody.lock().await;
    Json(custody.holds.values().cloned().collect())
}

pub(super) async fn hold(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Result<Json<HoldRequest>, JsonRejection>,
) -> Response {
    answer(place(&local, &caller, name, request).await.map(Json))
}

pub(super) async fn release(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    answer(
        lift(&local, &caller, &name)
            .await
            .map(|()| StatusCode::NO_CONTENT),
    )
}

pub(super) async fn erase(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    request: Result<Json<EraseRequest>, JsonRejection>,
) -> Response {
    let Ok(Json(request)) = request else {
        return respond(&invalid("a subject is `claw:NAME` or `member:ID`"));
    };
    // Whoever asked may hang up; what is begun is ended and recorded.
    let erasing = tokio::spawn(async move { erase_subject(&local, &caller, request.subject).await });
    let erased = erasing.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an erasure ended abruptly");
        Err(ApiProblem::new(
            Code::Internal,
            "the erasure ended abruptly; ask for it again",
        ))
    });
    answer(erased.map(Json))
}

pub(super) async fn retention(State(local): State<Arc<Local>>) -> Json<Retention> {
    Json(retention::info(&local.gateway).await)
}

pub(super) async fn retain(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    if !caller.is_custodian(&local) {
        return respond(&not_custodian());
    }
    // Whoever asked may hang up; what is begun is ended and recorded.
    let retaining =
        tokio::spawn(async move { retention::apply(&local.gateway, Actor::Member(caller.0)).await });
    let ended = retaining.await.unwrap_or(Err(RetentionError::Ending));
    answer(ended.map(Json).map_err(|error| not_retained(&error)))
}

fn not_retained(error: &RetentionError) -> ApiProblem {
    let code = match error {
        RetentionError::NoPolicy | RetentionError::Held(_) => Code::Conflict,
        RetentionError::Unrecorded(_) | RetentionError::Ending => Code::Unavailable,
        RetentionError::Unknown(_) | RetentionError::Prune(_) => Code::Internal,
    };
    let problem = ApiProblem::new(code, chain(error));
    match error {
        RetentionError::NoPolicy => problem.with_hint("start it with `--keep-days DAYS`"),
        RetentionError::Held(_) => problem.with_hint("release it first, if the law lets you"),
        _ => problem,
    }
}

fn answer(done: Result<impl IntoResponse, ApiProblem>) -> Response {
    done.map_or_else(|problem| respond(&problem), IntoResponse::into_response)
}

fn invalid(text: impl Into<String>) -> ApiProblem {
    ApiProblem::new(Code::Invalid, text)
}

async fn place(
    local: &Local,
    caller: &Caller,
    name: String,
    request: Result<Json<HoldRequest>, JsonRejection>,
) -> Result<Hold, ApiProblem> {
    let Json(request) = request.map_err(|rejection| invalid(rejection.body_text()))?;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(invalid("the name of a hold is 1 to 64 of a-z, 0-9 and `-`"));
    }
    if !caller.is_custodian(local) {
        return Err(not_custodian());
    }
    let hold = Hold {
        name: name.clone(),
        subject: request.subject,
        by: caller.0.clone(),
        at: Timestamp::now(),
    };
    let mut custody = local.gateway.custody.lock().await;
    if custody.holds.contains_key(&name) {
        return Err(ApiProblem::new(
            Code::Conflict,
            format!("there is a hold `{name}` already"),
        ));
    }
    let mut next = custody.clone();
    next.holds.insert(name, hold.clone());
    change(local, &mut custody, next, hold_event(caller, &hold, "add")).await?;
    Ok(hold)
}

async fn lift(local: &Local, caller: &Caller, name: &str) -> Result<(), ApiProblem> {
    if !caller.is_custodian(local) {
        return Err(not_custodian());
    }
    let mut custody = local.gateway.custody.lock().await;
    let mut next = custody.clone();
    let missing = || ApiProblem::new(Code::NotFound, format!("there is no hold `{name}`"));
    let hold = next.holds.remove(name).ok_or_else(missing)?;
    let two = local.gateway.instance.custody.two_persons;
    if two && hold.by == caller.0 {
        let text = format!("hold `{name}` was placed by you: another custodian has to release it");
        return Err(ApiProblem::new(Code::Forbidden, text));
    }
    change(local, &mut custody, next, hold_event(caller, &hold, "release")).await
}

fn hold_event(caller: &Caller, hold: &Hold, what: &str) -> Event {
    let mut event = Event::new(EventKind::AuditHold, Actor::Member(caller.0.clone()));
    let subject = hold
        .subject
        .as_ref()
        .map_or_else(|| "everything".to_owned(), ToString::to_string);
    let facts = [
        ("change", what.to_owned()),
        ("hold", hold.name.clone()),
        ("subject", subject),
    ];
    event
        .facts
        .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
    if let Some(Subject::Claw(claw)) = &hold.subject {
        event.claw = Some(claw.clone());
    }
    event
}

/// Makes the intent durable, keeps the change, makes its outcome durable.
async fn change(local: &Local, now: &mut Custody, next: Custody, event: Event) -> Result<(), ApiProblem> {
    let receipt = intend(local, &event).await?;
    let kept = next.store(&local.gateway.custody_file);
    if kept.is_ok() {
        *now = next;
    }
    settle(local, &receipt, event, kept.is_ok(), None).await;
    kept.map_err(|error| not_kept(&error))
}

async fn erase_subject(local: &Local, caller: &Caller, subject: Subject) -> Result<EraseAnswer, ApiProblem> {
    if !caller.is_custodian(local) {
        return Err(not_custodian());
    }
    let gateway = &local.gateway;
    let mut custody = gateway.custody.lock().await;
    let whom = gateway
        .subjects
        .concerned(&subject)
        .map_err(|error| unusable(&error))?;
    if whom.is_empty() {
        let text = format!("there is nothing of `{subject}` to erase");
        return Err(ApiProblem::new(Code::NotFound, text));
    }
    let mut next = custody.clone();
    let mut event = erase_event(caller, &subject);
    match custody.rule(&subject, &caller.0, &whom, gateway.instance.custody.two_persons) {
        Ruling::Held(name) => {
            event.outcome = Some(Outcome::Refused);
            event.facts.insert("hold".to_owned(), name.clone());
            fact(local, event).await?;
            let text = format!("hold `{name}` forbids that `{subject}` is erased");
            Err(ApiProblem::new(Code::Conflict, text).with_hint("release it first, if the law lets you"))
        }
        Ruling::Waits => {
            let erasure = Erasure {
                subject: subject.clone(),
                by: caller.0.clone(),
            };
            next.waiting.insert(subject.to_string(), erasure);
            event
                .facts
                .insert("waits_for".to_owned(), "a second custodian".to_owned());
            change(local, &mut custody, next, event).await?;
            Ok(EraseAnswer::Waits)
        }
        Ruling::Go(first) => {
            next.waiting.remove(&subject.to_string());
            let done = destroy(local, event, first, &whom).await?;
            next.store(&gateway.custody_file)
                .map_err(|error| not_kept(&error))?;
            *custody = next;
            Ok(done)
        }
    }
}

fn erase_event(caller: &Caller, subject: &Subject) -> Event {
    let mut event = Event::new(EventKind::AuditErase, Actor::Member(caller.0.clone()));
    event.facts.insert("subject".to_owned(), subject.to_string());
    if let Subject::Claw(claw) = subject {
        event.claw = Some(claw.clone());
    }
    event
}

/// Destroys the keys and salts of all of them. What could not be destroyed stays, and asking again goes on with it.
async fn destroy(
    local: &Local,
    mut event: Event,
    first: Option<MemberId>,
    whom: &[Whose],
) -> Result<EraseAnswer, ApiProblem> {
    if let Some(first) = first {
        event.facts.insert("first_asked_by".to_owned(), first.to_string());
    }
    let receipt = intend(local, &event).await?;
    let mut destroyed = 0;
    let mut failed = None;
    for whose in whom {
        match local.gateway.subjects.destroy(whose) {
            Ok(()) => destroyed += 1,
            Err(error) => failed = Some(error),
        }
    }
    settle(local, &receipt, event, failed.is_none(), Some(destroyed)).await;
    match failed {
        None => Ok(EraseAnswer::Erased {
            keys: destroyed,
            record: receipt.index(),
        }),
        Some(error) => Err(unusable(&error)),
    }
}

const STREAM: &str = "gateway";

fn draft(phase: Phase, call: Digest, event: Event) -> Draft {
    Draft {
        stream: Stream::System(STREAM.to_owned()),
        phase,
        call,
        event,
    }
}

fn call_of(event: &Event) -> Digest {
    Digest::of(&serde_json::to_vec(event).unwrap_or_default())
}

async fn intend(local: &Local, event: &Event) -> Result<Receipt, ApiProblem> {
    let draft = draft(Phase::Intent, call_of(event), event.clone());
    local
        .gateway
        .log
        .append(draft)
        .await
        .map_err(|error| unrecorded(&error))
}

async fn fact(local: &Local, event: Event) -> Result<(), ApiProblem> {
    let draft = draft(Phase::Fact, call_of(&event), event);
    let recorded = local.gateway.log.append(draft).await;
    recorded.map(drop).map_err(|error| unrecorded(&error))
}

async fn settle(local: &Local, receipt: &Receipt, mut event: Event, succeeded: bool, keys: Option<usize>) {
    event.outcome = Some(if succeeded {
        Outcome::Succeeded
    } else {
        Outcome::Failed
    });
    if let Some(keys) = keys {
        event.facts.insert("keys".to_owned(), keys.to_string());
    }
    let draft = draft(Phase::Outcome { of: receipt.index() }, *receipt.call(), event);
    if let Err(error) = local.gateway.log.append(draft).await {
        tracing::error!(
            error = chain(&error),
            "the outcome of an act of a custodian cannot be recorded"
        );
    }
}

fn unrecorded(error: &AppendError) -> ApiProblem {
    tracing::error!(error = chain(error), "an act of a custodian cannot be recorded");
    ApiProblem::new(
        Code::Unavailable,
        "the log cannot be written, so nothing was changed",
    )
}

fn unusable(error: &KeyringError) -> ApiProblem {
    tracing::error!(error = chain(error), "the subjects' keys cannot be used");
    ApiProblem::new(
        Code::Internal,
        format!("the subjects' keys cannot be used: {error}"),
    )
}

fn not_kept(error: &CustodyError) -> ApiProblem {
    tracing::error!(error = chain(error), "holds cannot be kept");
    ApiProblem::new(Code::Internal, error.to_string())
}
