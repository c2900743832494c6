//! Asking an MCP server what it offers. Nobody's call: the gateway asks for itself, on record, as for any other use
//! of a credential.
//!
//! A server is asked when a Claw wants to know or to call something and it was not asked within the last minute, so
//! a definition that changes is noticed before the next call that is made a minute later.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use clawstaff_audit::{AppendError, Draft, Phase, Receipt, Stream};
use clawstaff_connectors::HostPattern;
use clawstaff_types::{Actor, Decision, Digest, Event, EventKind, Outcome, Secret};
use clawstaff_vault::{Destination, ReleaseError};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{
    definition::{Definition, warnings},
    servers::{Offer, Session, Standing},
    wire::{self, Era, Line},
};
use crate::{
    body, forward::ForwardError, inject, mask::Mask, record, settle::chain, shared::Gateway, state::Link,
};

/// Pages of one list, and things in it.
const MAX_PAGES: usize = 50;
const MAX_THINGS: usize = 2_000;
const MAX_ANSWER: usize = 8 << 20;

/// A server could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    /// The log cannot be written.
    #[error("the audit log cannot be written")]
    Record(#[from] AppendError),
    /// Its credential is not there, or not for it.
    #[error("its credential: {0}")]
    Credential(#[from] ReleaseError),
    /// The credential cannot travel in a header.
    #[error("its credential has characters that cannot travel in a header")]
    NotAHeader,
    /// It did not answer.
    #[error("{0}")]
    Forward(#[from] ForwardError),
    /// It answered something else.
    #[error("it does not answer `{0}` as MCP says")]
    Answer(&'static str),
}

/// What the server of `link` offers, asked for now unless it was within the last minute.
///
/// # Errors
/// See [`SurveyError`].
pub(crate) async fn offer(gateway: &Gateway, link: &Link) -> Result<Arc<Offer>, SurveyError> {
    if let Some(offer) = gateway.servers.fresh(link) {
        return Ok(offer);
    }
    let turn = gateway.servers.asking(link);
    let _one_at_a_time = turn.lock().await;
    match gateway.servers.fresh(link) {
        Some(offer) => Ok(offer),
        None => ask(gateway, link).await,
    }
}

/// The same, asked for now in any case.
///
/// # Errors
/// See [`SurveyError`].
pub(crate) async fn ask(gateway: &Gateway, link: &Link) -> Result<Arc<Offer>, SurveyError> {
    let receipt = intent(gateway, link).await?;
    let asked = Box::pin(asked(gateway, link, &receipt)).await;
    outcome(gateway, link, &receipt, &asked).await?;
    let offer = Arc::new(asked?);
    for tool in &offer.tools {
        if gateway.servers.standing(link, tool) == Standing::Changed && gateway.servers.is_news(link, tool) {
            held(gateway, link, tool).await?;
        }
    }
    gateway.servers.saw(link, &offer);
    Ok(offer)
}

fn stream() -> Stream {
    Stream::System("gateway".to_owned())
}

fn event(link: &Link, kind: EventKind) -> Event {
    let mut event = Event::new(kind, Actor::System("gateway".to_owned()));
    event.connection = Some(link.name().clone());
    event
        .facts
        .insert("what".to_owned(), "what an MCP server offers".to_owned());
    event
        .facts
        .insert("host".to_owned(), link.base.authority().to_owned());
    event
}

async fn intent(gateway: &Gateway, link: &Link) -> Result<Receipt, AppendError> {
    let draft = Draft {
        stream: stream(),
        phase: Phase::Intent,
        call: link.connection.digest(),
        event: event(link, EventKind::ToolCall),
    };
    gateway.log.append(draft).await
}

async fn outcome(
    gateway: &Gateway,
    link: &Link,
    receipt: &Receipt,
    asked: &Result<Offer, SurveyError>,
) -> Result<(), AppendError> {
    let mut event = event(link, EventKind::ToolCall);
    let facts = match asked {
        Ok(offer) => {
            event.outcome = Some(Outcome::Succeeded);
            vec![
                ("tools", offer.tools.len().to_string()),
                ("unusable", offer.unusable.to_string()),
                ("resources", offer.resources.len().to_string()),
                ("prompts", offer.prompts.len().to_string()),
            ]
        }
        Err(error) => {
            tracing::warn!(connection = %link.name(), error = chain(error), "an MCP server could not be asked");
            event.outcome = Some(Outcome::Failed);
            vec![("error", "not answered".to_owned())]
        }
    };
    event
        .facts
        .extend(facts.into_iter().map(|(label, fact)| (label.to_owned(), fact)));
    let draft = Draft {
        stream: stream(),
        phase: Phase::Outcome { of: receipt.index() },
        call: link.connection.digest(),
        event,
    };
    gateway.log.append(draft).await.map(drop)
}

/// That a definition is another than the one that was approved, and therefore held.
async fn held(gateway: &Gateway, link: &Link, tool: &Definition) -> Result<(), AppendError> {
    let mut event = event(link, EventKind::ConfigChanged);
    event.action = Some(tool.action.clone());
    event.decision = Some(Decision::Deny);
    event.outcome = Some(Outcome::Refused);
    event.reason = Some("the definition of the tool changed after it was approved, so it is held".to_owned());
    event.digests.insert("definition".to_owned(), tool.digest);
    if let Some(pin) = gateway.servers.pin(link, &tool.name) {
        event.digests.insert("approved".to_owned(), pin.digest);
    }
    let count = warnings(&tool.said).len();
    event.facts.insert("warnings".to_owned(), count.to_string());
    record::fact(gateway, stream(), Digest::of(b""), event)
        .await
        .map(drop)
}

async fn asked(gateway: &Gateway, link: &Link, receipt: &Receipt) -> Result<Offer, SurveyError> {
    let public: Vec<&str> = link.connector.hosts().iter().map(HostPattern::as_str).collect();
    let to = Destination {
        host: link.base.host(),
        port: link.base.port(),
        public: &public,
    };
    let secret = gateway.vault.survey_secret(receipt, &link.connection, to).await?;
    let (name, value) = inject::credential(link.connector.auth(), &secret).ok_or(SurveyError::NotAHeader)?;
    let mut talk = Talk {
        line: Line {
            gateway,
            link,
            own_address: link.own_address(),
        },
        secret,
        credential: HeaderMap::from_iter([(name, value)]),
        era: Era::Stateless,
        session: None,
    };
    let capabilities = talk.greet().await?;
    let has = |name: &str| capabilities.get(name).is_some();
    let (mut tools, mut resources, mut templates, mut prompts) = Default::default();
    if has("tools") {
        tools = talk.list("tools/list", "tools").await?;
    }
    if has("resources") {
        resources = talk.list("resources/list", "resources").await?;
        templates = talk
            .list("resources/templates/list", "resourceTemplates")
            .await
            .unwrap_or_default();
    }
    if has("prompts") {
        prompts = talk.list("prompts/list", "prompts").await?;
    }
    talk.part().await;
    let all = tools.len();
    let tools: Vec<Definition> = tools.into_iter().filter_map(Definition::of).collect();
    Ok(Offer {
        era: talk.era,
        unusable: all - tools.len(),
        tools,
        resources,
        templates,
        prompts,
        seen: Instant::now(),
    })
}

/// A conversation with one server.
struct Talk<'a> {
    line: Line<'a>,
    secret: Secret<String>,
    credential: HeaderMap,
    era: Era,
    session: Option<Session>,
}

impl Talk<'_> {
    /// Finds out which revision the server speaks, and its capabilities.
    async fn greet(&mut self) -> Result<Value, SurveyError> {
        if let Some(found) = self.request("server/discover", json!({})).await? {
            let versions = found.get("supportedVersions").and_then(Value::as_array);
            if versions.is_some_and(|all| all.iter().any(|one| one == wire::STATELESS)) {
                return Ok(found.get("capabilities").cloned().unwrap_or_default());
            }
        }
        self.era = Era::Sessions;
        let headers = self.headers("initialize");
        let (session, capabilities) = self.line.handshake(&headers, &serde_json::Map::new()).await?;
        self.session = Some(session);
        Ok(capabilities)
    }

    fn headers(&self, method: &str) -> HeaderMap {
        let mut headers = wire::headers(self.era, method, None);
        headers.extend(self.credential.clone());
        headers
    }

    /// The result of one request; `None` if the server answers with an error.
    async fn request(&self, method: &'static str, mut params: Value) -> Result<Option<Value>, SurveyError> {
        if self.era == Era::Stateless {
            wire::set(&mut params, "_meta", wire::meta(json!({})));
        }
        let body = wire::numbered(wire::message(method, &params).as_bytes());
        let mut request = self.line.post(&HeaderMap::new(), body);
        *request.headers_mut() = self.headers(method);
        if let Some(session) = &self.session {
            wire::join(request.headers_mut(), session.clone());
        }
        let response = self.line.exchange(request).await?;
        let wait = self.line.gateway.waits.piece;
        let body = body::read(response.into_body(), MAX_ANSWER, wait).await;
        let body: Bytes = body.map_err(|_| SurveyError::Answer(method))?;
        let answer = wire::last_answer(&Mask::new(&self.secret).body(body));
        Ok(answer.and_then(|mut answer| answer.get_mut("result").map(Value::take)))
    }

    /// All pages of a list.
    async fn list(&self, method: &'static str, member: &str) -> Result<Vec<Value>, SurveyError> {
        let mut all = Vec::new();
        let mut params = json!({});
        for _ in 0..MAX_PAGES {
            let mut page = self
                .request(method, params.clone())
                .await?
                .ok_or(SurveyError::Answer(method))?;
            if let Some(Value::Array(things)) = page.get_mut(member).map(Value::take) {
                all.extend(things);
            }
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(cursor) if all.len() < MAX_THINGS => params = json!({ "cursor": cursor }),
                _ => break,
            }
        }
        all.truncate(MAX_THINGS);
        Ok(all)
    }

    /// Ends the session that was begun to ask; a server that does not end it forgets it by itself.
    async fn part(&self) {
        let Some(session) = self.session.clone().filter(|session| session.id.is_some()) else {
            return;
        };
        let mut request = self.line.post(&self.credential, Bytes::new());
        *request.method_mut() = http::Method::DELETE;
        wire::join(request.headers_mut(), session);
        let _best_effort = self.line.exchange(request).await;
    }
}
