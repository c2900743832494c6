//! `clawstaff grant explain`: the actions that each grant reaches, action by action, and what stands in the way.

use clawstaff_api::people::{ActionView, ConnectorView};
use clawstaff_types::{ActionId, ClawName, Decision, Grant, GrantId, GuardrailName, spec::Connection};
use serde::Serialize;

use super::{check, join};
use crate::{
    client::{Client, escape},
    context::Context,
    failure::Failure,
    output::{self, Cell},
};

/// One action of one connection, and what would come of it.
#[derive(Debug, Serialize)]
struct Line {
    connection: String,
    action: ActionId,
    access: String,
    decision: Decision,
    resources: Vec<String>,
    grants: Vec<GrantId>,
    guardrails: Vec<GuardrailName>,
    reason: String,
}

pub(super) async fn run(
    context: &Context,
    client: &Client,
    claw: ClawName,
    only: Option<ActionId>,
) -> Result<(), Failure> {
    let path = format!("/v1/grants?claw={}", escape(claw.as_str()));
    let grants: Vec<Grant> = client.get(&path).await?;
    let connections: Vec<Connection> = client.get("/v1/connections").await?;
    let mut lines = Vec::new();
    for connection in &connections {
        let path = format!("/v1/connectors/{}", escape(connection.connector.as_str()));
        let connector: ConnectorView = client.get(&path).await?;
        for action in &connector.actions {
            let wanted = only.as_ref().map_or_else(
                || grants.iter().any(|grant| reaches(grant, connection, &action.id)),
                |only| *only == action.id,
            );
            if wanted {
                lines.push(explain(client, &claw, connection, action, &grants).await?);
            }
        }
    }
    if let Some(action) = only.filter(|_| lines.is_empty()) {
        let answer = check(client, claw, action, None).await?;
        return context.output.one(&answer, super::check_fields);
    }
    let headers = ["CONNECTION", "ACTION", "ACCESS", "DECISION", "ON", "WHY"];
    context.output.list(&lines, &headers, |line| {
        vec![
            Cell::new(&line.connection),
            Cell::new(&line.action),
            Cell::new(&line.access),
            Cell::tinted(output::word(&line.decision)),
            Cell::or_dash((!line.resources.is_empty()).then(|| line.resources.join(" "))),
            Cell::new(&line.reason),
        ]
    })
}

/// Whether a grant speaks of this action of this connection.
fn reaches(grant: &Grant, connection: &Connection, action: &ActionId) -> bool {
    grant.connection == connection.name && grant.actions.iter().any(|pattern| pattern.matches(action))
}

async fn explain(
    client: &Client,
    claw: &ClawName,
    connection: &Connection,
    action: &ActionView,
    grants: &[Grant],
) -> Result<Line, Failure> {
    let answer = check(client, claw.clone(), action.id.clone(), None).await?;
    let resources = grants
        .iter()
        .filter(|grant| reaches(grant, connection, &action.id))
        .map(|grant| join(&grant.resources))
        .collect();
    Ok(Line {
        connection: connection.name.to_string(),
        action: action.id.clone(),
        access: output::word(&action.access),
        decision: answer.decision,
        resources,
        grants: answer.grants,
        guardrails: answer.guardrails,
        reason: answer.reason,
    })
}
