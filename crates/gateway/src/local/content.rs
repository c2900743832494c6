//! Reading content: by those who may, on this host, and only once it is on record that they do.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use clawstaff_api::{
    ApiProblem, Code,
    local::{Content, ContentPart},
};
use clawstaff_audit::{Entry, Stream};
use clawstaff_types::{Actor, Digest, Event, EventKind, Outcome};

use super::{Caller, Local, custody::not_custodian, respond};
use crate::{
    content::{Kept, Label, SubjectKey, Whose, unframed},
    record,
    settle::chain,
};

pub(super) async fn show(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(index): Path<u64>,
) -> Response {
    match read(&local, &caller, index).await {
        Ok(content) => Json(content).into_response(),
        Err(problem) => respond(&problem),
    }
}

async fn read(local: &Local, caller: &Caller, index: u64) -> Result<Content, ApiProblem> {
    if !caller.is_custodian(local) {
        return Err(not_custodian());
    }
    let whose = whose(local, index)?;
    let gateway = &local.gateway;
    let kept = gateway.content.of(index).map_err(|error| broken(&error))?;
    if kept.is_empty() {
        let text = format!("nothing is kept of record gateway:{index}");
        return Err(ApiProblem::new(Code::NotFound, text)
            .with_hint("the gateway keeps content only when it is started with `--keep-content`"));
    }
    let key = gateway
        .subjects
        .existing(&whose)
        .map_err(|error| broken(&error))?;
    let opened: Vec<ContentPart> = key.map_or_else(Vec::new, |key| {
        kept.iter().filter_map(|kept| part(kept, &whose, &key)).collect()
    });
    let content = Content {
        erased: kept.len().saturating_sub(opened.len()),
        parts: opened,
    };
    record_reading(local, caller, index, &content).await?;
    Ok(content)
}

/// Whose content a record's is, as its entry says.
fn whose(local: &Local, index: u64) -> Result<Whose, ApiProblem> {
    let unknown = || ApiProblem::new(Code::NotFound, "there is no such record in the gateway's log");
    let stored = local.gateway.log.read(index, 1).map_err(|error| broken(&error))?;
    let entry: Entry = stored
        .first()
        .ok_or_else(unknown)?
        .entry()
        .map_err(|error| broken(&error))?;
    let claw = entry.event.claw.ok_or_else(unknown)?;
    Ok(Whose::new(claw, entry.event.on_behalf_of))
}

fn part(kept: &Kept, whose: &Whose, key: &SubjectKey) -> Option<ContentPart> {
    let plaintext = kept.open(whose, key)?;
    let mut running = key.commit.begin(kept.label.name());
    running.update(&plaintext);
    let pieces = match kept.label {
        Label::Response => vec![plaintext.as_slice()],
        Label::Request | Label::Message => unframed(&plaintext)?,
    };
    Some(ContentPart {
        label: kept.label.name().to_owned(),
        pieces: pieces.into_iter().map(|piece| BASE64.encode(piece)).collect(),
        digest: running.end(),
    })
}

/// Durable before anybody sees anything.
async fn record_reading(
    local: &Local,
    caller: &Caller,
    index: u64,
    content: &Content,
) -> Result<(), ApiProblem> {
    let mut event = Event::new(EventKind::AuditExport, Actor::Member(caller.0.clone()));
    event.outcome = Some(Outcome::Succeeded);
    let facts = [
        ("what", "content".to_owned()),
        ("record", format!("gateway:{index}")),
        ("parts", content.parts.len().to_string()),
        ("erased", content.erased.to_string()),
    ];
    event
        .facts
        .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
    let call = Digest::of(format!("content\n{index}").as_bytes());
    let stream = Stream::System("gateway".to_owned());
    let recorded = record::fact(&local.gateway, stream, call, event).await;
    recorded.map(drop).map_err(|error| {
        tracing::error!(error = chain(&error), "a reading of content cannot be recorded");
        ApiProblem::new(
            Code::Unavailable,
            "the log cannot be written, so the content is not shown",
        )
    })
}

fn broken(error: &dyn std::error::Error) -> ApiProblem {
    tracing::error!(error = chain(error), "content cannot be read");
    ApiProblem::new(
        Code::Internal,
        "the content cannot be read; the gateway's own log says why",
    )
}
