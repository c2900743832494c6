//! What MCP servers outside offer to one Claw: their tools, resources and prompts, as far as it is granted them.
//!
//! A call becomes one JSON-RPC request to the server and walks the line as that. Only tools whose definition is the
//! one that an operator approved are shown and called. What is not granted does not exist.

use std::sync::Arc;

use bytes::Bytes;
use clawstaff_connectors::{MCP, Protocol};
use clawstaff_policy::Verdict;
use clawstaff_types::{Access, ActionId, ClawName, Decision, Digest, EventKind, ResourceRef};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use rmcp::{
    ErrorData, RoleServer,
    model::{ProgressNotificationParam, ProgressToken, Tool},
    service::RequestContext,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    definition::Definition,
    servers::{Offer, Standing},
    survey,
    wire::{self, Era, Events},
};
use crate::{
    body::Body,
    line::{self, Ask},
    map::Route,
    parse::{MAX_BODY, Via},
    problem::Refusal,
    record::{Stop, Who},
    shared::Gateway,
    state::{Link, State},
};

/// One server that a Claw holds a grant on, and what it offers.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) link: Arc<Link>,
    pub(super) offer: Arc<Offer>,
    /// Stands before the names of its tools and prompts, where they would not be its own alone.
    prefix: Option<String>,
}

/// What kept a request to a server from having a result.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was refused on our side.
    Refused(Refusal),
    /// The server, or the protocol, says no.
    Error(ErrorData),
}

impl Server {
    /// What the Claw knows a tool or prompt by.
    pub(super) fn name_of(&self, name: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}__{name}"),
            None => name.to_owned(),
        }
    }

    /// What the server knows it by.
    pub(super) fn own_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        match &self.prefix {
            Some(prefix) => name.strip_prefix(prefix.as_str())?.strip_prefix("__"),
            None => Some(name),
        }
    }

    /// Its tool of this name.
    pub(super) fn tool(&self, name: &str) -> Option<&Definition> {
        let own = self.own_name(name)?;
        self.offer.tools.iter().find(|tool| tool.name == own)
    }

    /// A tool as the Claw sees it.
    pub(super) fn shown(&self, tool: &Definition) -> Option<Tool> {
        let mut said = tool.said.clone();
        wire::set(&mut said, "name", self.name_of(&tool.name));
        serde_json::from_value(said).ok()
    }
}

/// The servers that a Claw holds a grant on. One that cannot be asked is left out.
pub(super) async fn servers(gateway: &Gateway, claw: &ClawName, taken: impl Fn(&str) -> bool) -> Vec<Server> {
    let state = gateway.state.load_full();
    let mut all = Vec::new();
    for link in links(&state, claw) {
        if let Ok(offer) = survey::offer(gateway, &link).await {
            all.push(server(&state, link, offer, &taken));
        }
    }
    all
}

/// The same, as they were last seen.
pub(super) fn last_seen(gateway: &Gateway, claw: &ClawName, taken: impl Fn(&str) -> bool) -> Vec<Server> {
    let state = gateway.state.load_full();
    links(&state, claw)
        .into_iter()
        .filter_map(|link| {
            let offer = gateway.servers.last_seen(&link)?;
            Some(server(&state, link, offer, &taken))
        })
        .collect()
}

/// Whether a Claw holds a grant on any MCP server.
pub(super) fn any(state: &State, claw: &ClawName) -> bool {
    !links(state, claw).is_empty()
}

fn links(state: &State, claw: &ClawName) -> Vec<Arc<Link>> {
    let granted = state.granted_links(claw, Timestamp::now());
    granted
        .filter(|link| link.connector.protocol() == Protocol::Mcp)
        .map(Arc::clone)
        .collect()
}

/// A server that is the only one, and has no tool of a name that is `taken`, needs no prefix.
fn server(state: &State, link: Arc<Link>, offer: Arc<Offer>, taken: &impl Fn(&str) -> bool) -> Server {
    let of_its_kind = state
        .links()
        .filter(|link| link.connector.id().as_str() == MCP)
        .count();
    let alone = of_its_kind == 1 && !offer.tools.iter().any(|tool| taken(&tool.name));
    Server {
        prefix: (!alone).then(|| link.name().as_str().replace('-', "_")),
        link,
        offer,
    }
}

/// One Claw's view of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) claw: &'a ClawName,
}

impl View<'_> {
    /// Whether a tool is to be shown: granted, on whatever arguments, and as it was approved.
    pub(super) fn offers(&self, server: &Server, tool: &Definition) -> bool {
        self.gateway.servers.standing(&server.link, tool) == Standing::Approved
            && self.speaks_of(server, &tool.action)
    }

    /// Whether a grant speaks of calling a tool.
    pub(super) fn speaks_of(&self, server: &Server, action: &ActionId) -> bool {
        let state = self.gateway.state.load();
        state.speaks_of(self.claw, &server.link, action, Timestamp::now())
    }

    /// Whether the Claw may read `id`, a `kind` of the server.
    pub(super) fn may_read(&self, server: &Server, kind: &str, id: &str) -> bool {
        let action = match kind {
            "prompt" => "mcp:prompts.get",
            _ => "mcp:resources.read",
        };
        let (Ok(kind), Ok(action)) = (kind.parse(), action.parse()) else {
            return false;
        };
        let Ok(resource) = ResourceRef::new(kind, id) else {
            return false;
        };
        let state = self.gateway.state.load();
        let who = Who::now(self.gateway, &state, self.claw);
        let verdict = state.policy().decide(&clawstaff_policy::Call {
            claw: self.claw,
            connection: server.link.name(),
            action: &action,
            access: Access::Read,
            resources: &[resource],
            arguments: &std::collections::BTreeMap::new(),
            on_behalf_of: who.on_behalf_of.as_ref(),
            now: Timestamp::now(),
            digest: Digest::of(b""),
        });
        !matches!(verdict, Verdict::Deny(_))
    }

    /// That a tool was called whose definition is not the approved one: recorded, and told to whoever was granted it.
    pub(super) async fn held(&self, server: &Server, tool: &Definition) -> Refusal {
        let standing = self.gateway.servers.standing(&server.link, tool);
        let why = match standing {
            Standing::Changed => "its definition changed after it was approved",
            Standing::New | Standing::Approved => "no operator has approved its definition yet",
        };
        let state = self.gateway.state.load_full();
        let who = Who::now(self.gateway, &state, self.claw);
        let mut event = who.refused(EventKind::ToolDenied, Decision::Deny, &format!("held: {why}"));
        event.connection = Some(server.link.name().clone());
        event.action = Some(tool.action.clone());
        event.digests.insert("definition".to_owned(), tool.digest);
        event
            .facts
            .insert("denial".to_owned(), "definition_held".to_owned());
        let detail = format!(
            "tool `{}` is held: {why}. An operator can look at it with `clawstaff connection tools {}`",
            tool.name,
            server.link.name()
        );
        let stop = Stop::Denied {
            refusal: Refusal::new(
                StatusCode::FORBIDDEN,
                "definition-held",
                "The tool is held",
                detail,
            ),
            event: Box::new(event),
            call: Digest::of(b""),
        };
        line::told(self.gateway, &who, stop).await
    }

    /// Sends `method` with `params` to the server, for what is named `name`, and waits for its result.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) async fn ask(
        &self,
        server: &Server,
        method: &'static str,
        mut params: Value,
        name: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, Fault> {
        let progress = context.meta.get_progress_token();
        wire::set(
            &mut params,
            "_meta",
            meta(server.offer.era, progress.is_some(), context),
        );
        let request =
            request(server.offer.era, method, &params, name).map_err(|_| Fault::Error(unsayable()))?;
        let ask = Ask {
            claw: self.claw.clone(),
            via: Via::Door,
            route: Route::Relative(Arc::clone(&server.link)),
            request,
            max_body: MAX_BODY,
        };
        let response = line::walk(self.gateway, ask).await.map_err(Fault::Refused)?;
        let answer = read(response, progress, context).await.ok_or_else(|| {
            Fault::Error(ErrorData::internal_error(
                "the server's answer broke off or is none; the call may have taken effect",
                None,
            ))
        })?;
        match answer {
            Value::Object(mut members) => match (members.remove("result"), members.remove("error")) {
                (Some(result), None) => Ok(result),
                (_, Some(error)) => Err(Fault::Error(typed(error).unwrap_or_else(no_answer))),
                (None, None) => Err(Fault::Error(no_answer())),
            },
            _ => Err(Fault::Error(no_answer())),
        }
    }
}

fn unsayable() -> ErrorData {
    ErrorData::invalid_params("the request cannot be sent to its server", None)
}

pub(super) fn no_answer() -> ErrorData {
    ErrorData::internal_error("the server's answer is not one of MCP", None)
}

/// Whether a server wants more input before it has a result (2026-07-28).
pub(super) fn is_incomplete(result: &Value) -> bool {
    result.get("resultType").and_then(Value::as_str) == Some("input_required")
}

/// A value as one of the protocol's types.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

/// What a server is told beside the call. Of what the client can do only what it may be asked for in an answer.
fn meta(era: Era, progress: bool, context: &RequestContext<RoleServer>) -> Value {
    let mut meta = match era {
        Era::Sessions => json!({}),
        Era::Stateless => {
            let mut can = context
                .client_capabilities()
                .and_then(|can| serde_json::to_value(can).ok())
                .unwrap_or_else(|| json!({}));
            if let Value::Object(can) = &mut can {
                can.retain(|name, _| matches!(name.as_str(), "elicitation" | "sampling" | "roots"));
            }
            wire::meta(can)
        }
    };
    if progress {
        wire::set(&mut meta, "progressToken", "call");
    }
    meta
}

fn request(
    era: Era,
    method: &str,
    params: &Value,
    name: &str,
) -> Result<http::Request<Full<Bytes>>, http::Error> {
    let body = wire::message(method, params);
    let mut request = http::Request::builder()
        .method(http::Method::POST)
        .uri("/")
        .body(Full::from(body))?;
    *request.headers_mut() = wire::headers(era, method, Some(name));
    Ok(request)
}

/// The answer to a request, its progress passed on as it comes.
async fn read(
    response: Response<Body>,
    progress: Option<ProgressToken>,
    context: &RequestContext<RoleServer>,
) -> Option<Value> {
    let streamed = response
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/event-stream"));
    let mut body = response.into_body();
    if !streamed {
        return wire::last_answer(&body.collect().await.ok()?.to_bytes());
    }
    let mut events = Events::default();
    let mut found = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        for message in events.piece(&data) {
            if wire::is_answer(&message) {
                found = Some(message);
            } else {
                pass_on(&message, progress.as_ref(), context).await;
            }
        }
    }
    found
}

async fn pass_on(message: &Value, progress: Option<&ProgressToken>, context: &RequestContext<RoleServer>) {
    let is_progress = message.get("method").and_then(Value::as_str) == Some("notifications/progress");
    let (true, Some(token), Some(params)) = (is_progress, progress, message.get("params")) else {
        return;
    };
    if let Some(mut params) = typed::<ProgressNotificationParam>(params.clone()) {
        params.progress_token = token.clone();
        let _nobody_listens = context.peer.notify_progress(params).await;
    }
}
