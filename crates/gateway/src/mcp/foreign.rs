//! What MCP servers outside offer to one Claw: their tools, resources and prompts, as far as it is granted them.
//!
//! A call becomes one JSON-RPC request to the server and walks the line as that. Only tools whose definition is the
//! one that an operator approved are shown and called. What is not granted does not exist.

use std::sync::Arc;

use clawstaff_connectors::{MCP, Protocol};
use clawstaff_policy::Verdict;
use clawstaff_types::{Access, ActionId, ClawName, Decision, Digest, EventKind, ResourceRef};
use http::StatusCode;
use jiff::Timestamp;
use rmcp::{ErrorData, model::Tool};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    conversation::Conversation,
    definition::Definition,
    servers::{Offer, Standing},
    survey, wire,
};
use crate::{
    line,
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
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) claw: &'a ClawName,
    pub(super) conversation: &'a Conversation,
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
