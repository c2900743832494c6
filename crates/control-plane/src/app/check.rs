//! `grant check`: could it, and why? The policy itself answers, exactly as the gateway would ask it.

use std::collections::BTreeMap;

use clawstaff_api::people::{CheckAnswer, CheckRequest};
use clawstaff_connectors::Catalogue;
use clawstaff_policy::{Call, Policy, Verdict};
use clawstaff_store::Snapshot;
use clawstaff_types::{
    Access, ActionId, ConnectionName, Decision, Digest, Grant, ResourcePattern, ResourceRef, spec::Connection,
};
use jiff::Timestamp;

use super::{claws::required, context::App, nearest::nearest, problem::Problem};

/// The id of the made-up resource that stands for "some resource below this pattern".
const SOME: &str = "some";

impl App {
    /// Asks for each connection and each resource that could be meant; the most permissive answer counts.
    pub(crate) async fn check(&self, request: &CheckRequest) -> Result<CheckAnswer, Problem> {
        let snapshot = self.store.snapshot().await?;
        required(&snapshot, &request.claw)?;
        let access = self.access_of(&request.action)?;
        let grants: Vec<Grant> = snapshot.grants.iter().map(|row| row.grant.clone()).collect();
        let policy = Policy::compile(snapshot.revision, &grants, &snapshot.guardrails)
            .map_err(|error| Problem::internal(&error))?;
        let asked = Asked {
            request,
            access,
            now: Timestamp::now(),
        };
        let mut best: Option<CheckAnswer> = None;
        for connection in connections_to(&snapshot, &self.catalogue, &request.action) {
            for resources in candidates(&snapshot, connection, request) {
                let answer = answer(policy.decide(&asked.call(connection, &resources)));
                if best
                    .as_ref()
                    .is_none_or(|best| rank(answer.decision) > rank(best.decision))
                {
                    best = Some(answer);
                }
            }
        }
        Ok(best.unwrap_or_else(|| no_connection(&request.action)))
    }

    fn access_of(&self, action: &ActionId) -> Result<Access, Problem> {
        let connector = self.connector(action.connector())?;
        if let Some(found) = connector.actions.iter().find(|one| one.id == *action) {
            return Ok(found.access);
        }
        if clawstaff_connectors::is_tool_action(action) {
            return Ok(Access::External);
        }
        // A tool may have another door, which is a connector with actions of the tool's own name.
        if let Some(found) = self
            .catalogue
            .iter()
            .find_map(|connector| connector.action(action))
        {
            return Ok(found.access);
        }
        let problem = Problem::not_found(format!(
            "connector `{}` has no action `{}`",
            connector.id,
            action.name()
        ));
        Err(
            match nearest(action.name(), connector.actions.iter().map(|one| one.id.name())) {
                Some(near) => problem.hint(format!("the nearest is `{}:{near}`", connector.id)),
                None => problem,
            },
        )
    }
}

struct Asked<'a> {
    request: &'a CheckRequest,
    access: Access,
    now: Timestamp,
}

static NO_ARGUMENTS: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Asked<'a> {
    fn call(&self, connection: &'a ConnectionName, resources: &'a [ResourceRef]) -> Call<'a> {
        Call {
            claw: &self.request.claw,
            connection,
            action: &self.request.action,
            access: self.access,
            resources,
            arguments: &NO_ARGUMENTS,
            on_behalf_of: None,
            now: self.now,
            digest: Digest::of(b""),
        }
    }
}

fn connections_to<'a>(
    snapshot: &'a Snapshot,
    catalogue: &'a Catalogue,
    action: &'a ActionId,
) -> impl Iterator<Item = &'a ConnectionName> {
    let defines = |one: &Connection| {
        let connector = catalogue.get(&one.connector);
        connector.is_some_and(|connector| connector.action(action).is_some())
    };
    let to = snapshot
        .connections
        .iter()
        .filter(move |one| one.connector == *action.connector() || defines(one));
    to.map(|one| &one.name)
}

/// The resource asked about; or, if any would do, one for each pattern of the Claw's grants that could allow it.
fn candidates(
    snapshot: &Snapshot,
    connection: &ConnectionName,
    request: &CheckRequest,
) -> Vec<Vec<ResourceRef>> {
    if let Some(resource) = &request.resource {
        return vec![vec![resource.clone()]];
    }
    let own = snapshot.grants_of(&request.claw).map(|row| &row.grant);
    let patterns = own
        .filter(|grant| grant.connection == *connection)
        .flat_map(|grant| &grant.resources);
    let mut candidates: Vec<Vec<ResourceRef>> = patterns
        .map(|pattern| example(pattern).into_iter().collect())
        .collect();
    candidates.push(Vec::new());
    candidates
}

fn example(pattern: &ResourcePattern) -> Option<ResourceRef> {
    match pattern {
        ResourcePattern::Any => None,
        ResourcePattern::Kind(kind) => ResourceRef::new(kind.clone(), SOME).ok(),
        ResourcePattern::Below(kind, prefix) => {
            ResourceRef::new(kind.clone(), &format!("{prefix}{SOME}")).ok()
        }
        ResourcePattern::Exactly(one) => Some(one.clone()),
    }
}

const fn rank(decision: Decision) -> u8 {
    match decision {
        Decision::Deny => 0,
        Decision::Ask => 1,
        Decision::Allow => 2,
    }
}

fn answer(verdict: Verdict) -> CheckAnswer {
    match verdict {
        Verdict::Allow(permit) => CheckAnswer {
            decision: Decision::Allow,
            grants: permit.grants().to_vec(),
            guardrails: Vec::new(),
            reason: "a grant allows it and no guardrail forbids it".to_owned(),
        },
        Verdict::Ask(held) => CheckAnswer {
            decision: Decision::Ask,
            grants: held.grants().to_vec(),
            guardrails: Vec::new(),
            reason: "a grant allows it once a human agrees; silence denies".to_owned(),
        },
        Verdict::Deny(denial) => CheckAnswer {
            decision: Decision::Deny,
            grants: denial.grants,
            guardrails: denial.guardrails,
            reason: denial.text,
        },
    }
}

fn no_connection(action: &ActionId) -> CheckAnswer {
    CheckAnswer {
        decision: Decision::Deny,
        grants: Vec::new(),
        guardrails: Vec::new(),
        reason: format!("there is no connection to `{}`", action.connector()),
    }
}
