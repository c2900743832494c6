//! Could it, and why (not)? The question that people ask of a policy, without a call at hand.
//!
//! Nothing is known of the call's arguments or of who it is for, so conditions are taken as met and named in the
//! answer. Every answer comes from [`Policy::decide`]; the permit it gives is dropped here, so a check can never
//! be turned into an act.

use std::collections::BTreeMap;

use clawstaff_types::{
    Access, ActionId, ClawName, ConnectionName, Decision, Digest, Grant, GrantId, GuardrailName, MemberId,
    ResourcePattern, ResourceRef,
};
use jiff::Timestamp;

use crate::{Call, Denial, DenialReason, Policy, Verdict};

/// Could this Claw do this?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The Claw.
    pub claw: &'a ClawName,
    /// The connections whose connector defines the action.
    pub connections: &'a [ConnectionName],
    /// The action.
    pub action: &'a ActionId,
    /// What it does to the world.
    pub access: Access,
    /// The resource and its parents, or `None` to ask whether any resource would do.
    pub resources: Option<&'a [ResourceRef]>,
    /// As of when.
    pub now: Timestamp,
}

/// Whether it could, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The best that any of the connections gives.
    pub decision: Decision,
    /// The connection that gives it, unless the answer is no.
    pub connection: Option<ConnectionName>,
    /// The grants that determined it.
    pub grants: Vec<GrantId>,
    /// The guardrails that determined it.
    pub guardrails: Vec<GuardrailName>,
    /// Why, in words.
    pub reason: String,
}

/// One call that the question could mean.
struct Trial {
    connection: ConnectionName,
    resources: Vec<ResourceRef>,
    arguments: BTreeMap<String, String>,
    on_behalf_of: Option<MemberId>,
    assumed: String,
}

impl Policy {
    /// Answers a question by the most favourable call that it could mean.
    pub fn check(&self, question: &Question<'_>) -> Answer {
        let answers = self
            .trials(question)
            .into_iter()
            .map(|trial| self.attempt(question, &trial));
        let best = answers.max_by_key(|(rank, _)| *rank);
        best.map_or_else(|| no_connection(question), |(_, answer)| answer)
    }

    fn trials(&self, question: &Question<'_>) -> Vec<Trial> {
        let plain = question.connections.iter().map(|connection| Trial {
            connection: connection.clone(),
            resources: question.resources.unwrap_or_default().to_vec(),
            arguments: BTreeMap::new(),
            on_behalf_of: None,
            assumed: String::new(),
        });
        let places = self.claws.get(question.claw).map(|claw| &*claw.grants);
        let held = places
            .unwrap_or_default()
            .iter()
            .filter_map(|place| self.grants.get(crate::at(*place)));
        let speaking = held.filter(|grant| {
            question.connections.contains(&grant.connection)
                && grant
                    .actions
                    .iter()
                    .any(|pattern| pattern.matches(question.action))
        });
        let by_grant = speaking.flat_map(|grant| match question.resources {
            Some(resources) => vec![trial(grant, resources.to_vec())],
            None => grant
                .resources
                .iter()
                .map(|scope| trial(grant, example(scope)))
                .collect(),
        });
        plain.chain(by_grant).collect()
    }

    fn attempt(&self, question: &Question<'_>, trial: &Trial) -> (u8, Answer) {
        let verdict = self.decide(&Call {
            claw: question.claw,
            connection: &trial.connection,
            action: question.action,
            access: question.access,
            resources: &trial.resources,
            arguments: &trial.arguments,
            on_behalf_of: trial.on_behalf_of.as_ref(),
            now: question.now,
            digest: Digest::of(b"a question, not a call"),
        });
        let connection = Some(trial.connection.clone());
        match verdict {
            Verdict::Allow(permit) => {
                let grants = permit.grants().to_vec();
                (7, said(Decision::Allow, connection, grants, &trial.assumed))
            }
            Verdict::Ask(held) => {
                let grants = held.grants().to_vec();
                (6, said(Decision::Ask, connection, grants, &trial.assumed))
            }
            Verdict::Deny(denial) => (rank(denial.reason), refused(denial)),
        }
    }
}

/// The more a reason says, the better an answer it is.
const fn rank(reason: DenialReason) -> u8 {
    match reason {
        DenialReason::Guardrail => 5,
        DenialReason::Expired => 4,
        DenialReason::Condition => 3,
        DenialReason::NoGrant => 2,
        DenialReason::UnknownClaw => 1,
    }
}

fn trial(grant: &Grant, resources: Vec<ResourceRef>) -> Trial {
    let conditions = &grant.conditions;
    let arguments: BTreeMap<_, _> = conditions
        .arguments
        .iter()
        .filter_map(|condition| Some((condition.name.clone(), condition.one_of.first()?.clone())))
        .collect();
    let mut assumed: Vec<String> = Vec::new();
    if !conditions.on_behalf_of.is_empty() {
        let members: Vec<_> = conditions.on_behalf_of.iter().map(ToString::to_string).collect();
        assumed.push(format!("it is on behalf of {}", members.join(" or ")));
    }
    for condition in &conditions.arguments {
        assumed.push(format!(
            "`{}` is {}",
            condition.name,
            condition.one_of.join(" or ")
        ));
    }
    Trial {
        connection: grant.connection.clone(),
        resources,
        arguments,
        on_behalf_of: conditions.on_behalf_of.first().cloned(),
        assumed: assumed.join(" and "),
    }
}

/// A resource that the scope covers; none for `*`.
fn example(scope: &ResourcePattern) -> Vec<ResourceRef> {
    let made = |kind: &clawstaff_types::ResourceKind, id: &str| ResourceRef::new(kind.clone(), id).ok();
    match scope {
        ResourcePattern::Any => Vec::new(),
        ResourcePattern::Exactly(one) => vec![one.clone()],
        ResourcePattern::Kind(kind) => made(kind, "any").into_iter().collect(),
        ResourcePattern::Below(kind, prefix) => {
            let inside = made(kind, &format!("{prefix}any")).or_else(|| made(kind, prefix));
            inside.into_iter().collect()
        }
    }
}

fn said(
    decision: Decision,
    connection: Option<ConnectionName>,
    grants: Vec<GrantId>,
    assumed: &str,
) -> Answer {
    let ids: Vec<_> = grants.iter().map(|id| format!("`{id}`")).collect();
    let verb = match decision {
        Decision::Allow => "allowed by",
        Decision::Ask => "held for a human by",
        Decision::Deny => "denied by",
    };
    let provided = if assumed.is_empty() {
        String::new()
    } else {
        format!(", provided that {assumed}")
    };
    Answer {
        decision,
        connection,
        reason: format!("{verb} {}{provided}", ids.join(", ")),
        grants,
        guardrails: Vec::new(),
    }
}

fn refused(denial: Denial) -> Answer {
    Answer {
        decision: Decision::Deny,
        connection: None,
        grants: denial.grants,
        guardrails: denial.guardrails,
        reason: denial.text,
    }
}

fn no_connection(question: &Question<'_>) -> Answer {
    Answer {
        decision: Decision::Deny,
        connection: None,
        grants: Vec::new(),
        guardrails: Vec::new(),
        reason: format!(
            "no connection uses the connector `{}`",
            question.action.connector()
        ),
    }
}
