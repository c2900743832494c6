//! Tools of MCP servers: looked at and approved by people on the gateway's host. Nothing of a server is offered to a
//! Claw before, and what changes afterwards is held until it is approved again.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use clawstaff_api::{
    ApiProblem, Code,
    local::{ApproveTools, OfferedTool},
};
use clawstaff_audit::{Draft, Phase, Stream};
use clawstaff_connectors::Protocol;
use clawstaff_types::{Actor, ConnectionName, Digest, Event, EventKind, MemberId, Outcome};
use jiff::Timestamp;

use super::{Caller, Local, respond};
use crate::{
    mcp::{
        definition::{Definition, warnings},
        servers::Offer,
        survey,
    },
    settle::chain,
    shared::Gateway,
    state::Link,
};

pub(super) async fn tools(State(local): State<Arc<Local>>, Path(name): Path<String>) -> Response {
    match local.gateway.look_at_tools(&name).await {
        Ok(tools) => Json(tools).into_response(),
        Err(problem) => respond(&problem),
    }
}

pub(super) async fn approve(
    State(local): State<Arc<Local>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Result<Json<ApproveTools>, JsonRejection>,
) -> Response {
    let approved = match request {
        Ok(Json(request)) => local.gateway.approve_tools(&name, &request, &caller.0).await,
        Err(error) => Err(ApiProblem::new(Code::Invalid, error.body_text())),
    };
    match approved {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => respond(&problem),
    }
}

impl Gateway {
    /// What the MCP server of a connection offers now, and how it stands with the operator.
    ///
    /// # Errors
    /// When there is no such connection, or its server cannot be asked.
    pub async fn look_at_tools(&self, connection: &str) -> Result<Vec<OfferedTool>, ApiProblem> {
        let link = link(self, connection)?;
        let offer = asked(self, &link).await?;
        Ok(offer.tools.iter().map(|tool| shown(self, &link, tool)).collect())
    }

    /// Approves definitions of tools for `by`: durable, and recorded before and after.
    ///
    /// # Errors
    /// When the server says something else than what `request` says was seen, or the log cannot be written.
    pub async fn approve_tools(
        &self,
        connection: &str,
        request: &ApproveTools,
        by: &MemberId,
    ) -> Result<(), ApiProblem> {
        let link = link(self, connection)?;
        let offer = asked(self, &link).await?;
        let tools = meant(&offer, request)?;
        recorded(self, by, &link, &tools).await
    }
}

fn shown(gateway: &Gateway, link: &Link, tool: &Definition) -> OfferedTool {
    let pin = gateway.servers.pin(link, &tool.name);
    OfferedTool {
        name: tool.name.clone(),
        action: tool.action.clone(),
        standing: gateway.servers.standing(link, tool).as_str().to_owned(),
        digest: tool.digest,
        warnings: warnings(&tool.said),
        definition: tool.said.to_string(),
        approved_by: pin.as_ref().map(|pin| pin.by.clone()),
        approved_at: pin.as_ref().map(|pin| pin.at),
        approved_definition: pin
            .filter(|pin| pin.digest != tool.digest)
            .map(|pin| pin.said.to_string()),
    }
}

fn link(gateway: &Gateway, name: &str) -> Result<Arc<Link>, ApiProblem> {
    let unknown = || ApiProblem::new(Code::NotFound, "the gateway knows no MCP connection of this name");
    let name: ConnectionName = name.parse().map_err(|_| unknown())?;
    let state = gateway.state.load();
    let link = state
        .link(&name)
        .filter(|link| link.connector.protocol() == Protocol::Mcp);
    link.map(Arc::clone).ok_or_else(unknown)
}

async fn asked(gateway: &Gateway, link: &Link) -> Result<Arc<Offer>, ApiProblem> {
    survey::ask(gateway, link).await.map_err(|error| {
        let text = format!(
            "the MCP server of `{}` cannot be asked: {}",
            link.name(),
            chain(&error)
        );
        ApiProblem::new(Code::Unavailable, text)
    })
}

/// The definitions that are meant, if the server still says what the caller saw.
fn meant(offer: &Offer, request: &ApproveTools) -> Result<Vec<Definition>, ApiProblem> {
    let one = |(name, seen): (&String, &Digest)| {
        let tool = offer.tools.iter().find(|tool| tool.name == *name);
        let tool =
            tool.ok_or_else(|| ApiProblem::new(Code::NotFound, format!("the server has no tool `{name}`")))?;
        if tool.digest == *seen {
            Ok(tool.clone())
        } else {
            let text = format!("the definition of `{name}` is another than the one you looked at");
            Err(ApiProblem::new(Code::Conflict, text).with_hint("look at it again"))
        }
    };
    request.tools.iter().map(one).collect()
}

/// Makes the intent durable, keeps the definitions as approved, makes the outcome durable.
async fn recorded(
    gateway: &Gateway,
    by: &MemberId,
    link: &Link,
    tools: &[Definition],
) -> Result<(), ApiProblem> {
    let mut event = Event::new(EventKind::ConfigChanged, Actor::Member(by.clone()));
    event.connection = Some(link.name().clone());
    let what = "tools of an MCP server approved".to_owned();
    event.facts.insert("what".to_owned(), what);
    event.facts.insert("tools".to_owned(), tools.len().to_string());
    for tool in tools.iter().take(32) {
        event
            .digests
            .insert(format!("definition of {}", tool.name), tool.digest);
    }
    let draft = |phase, event| Draft {
        stream: Stream::System("gateway".into()),
        phase,
        call: link.connection.digest(),
        event,
    };
    let unrecorded = |_| {
        ApiProblem::new(
            Code::Unavailable,
            "the log cannot be written, so nothing was approved",
        )
    };
    let intent = gateway.log.append(draft(Phase::Intent, event.clone())).await;
    let receipt = intent.map_err(unrecorded)?;
    let done = gateway.servers.approve(link, tools, by, Timestamp::now());
    event.outcome = Some(if done.is_ok() {
        Outcome::Succeeded
    } else {
        Outcome::Failed
    });
    let outcome = draft(Phase::Outcome { of: receipt.index() }, event);
    if let Err(error) = gateway.log.append(outcome).await {
        tracing::error!(
            error = chain(&error),
            "the outcome of an approval of tools cannot be recorded"
        );
    }
    done.map_err(|error| ApiProblem::new(Code::Internal, format!("the approval cannot be kept: {error}")))
}
