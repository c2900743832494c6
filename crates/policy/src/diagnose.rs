//! Why not: from a denial that Cedar gave to the words that help.
//!
//! Nothing in here decides anything; it runs after the decision and only explains it. The texts hold names and
//! ids that the Claw used or holds grants for, never the values of arguments.

use std::collections::BTreeSet;

use clawstaff_types::{Access, Conditions, Grant, GrantId, GuardrailName, Window};

use crate::{
    at,
    call::Call,
    compile::ClawPolicies,
    table::{covers, is_expired},
    verdict::{Denial, DenialReason},
};

/// Characters of a denial's text.
const MAX_TEXT: usize = 300;

/// A guardrail forbids it. `guardrails` is empty only if one could not be evaluated.
pub(crate) fn guardrail(call: &Call<'_>, guardrails: Vec<GuardrailName>) -> Denial {
    let names: Vec<_> = guardrails.iter().map(|name| format!("`{name}`")).collect();
    let text = match names.as_slice() {
        [] => "a guardrail could not be evaluated, so it is taken to forbid this".to_owned(),
        [name] => format!("guardrail {name} forbids {}", what(call)),
        _ => format!("guardrails {} forbid {}", names.join(", "), what(call)),
    };
    denial(DenialReason::Guardrail, Vec::new(), guardrails, text)
}

/// The call could not be put to Cedar at all.
pub(crate) fn not_evaluated(why: &str) -> Denial {
    let text = format!("the call could not be put to policy: {why}");
    denial(DenialReason::NoGrant, Vec::new(), Vec::new(), text)
}

/// No grant allows it: the most helpful reason.
pub(crate) fn why_not(call: &Call<'_>, claw: Option<&ClawPolicies>, all: &[Grant]) -> Denial {
    let Some(claw) = claw else {
        let text = format!("no grants are known for Claw `{}`", call.claw);
        return denial(DenialReason::UnknownClaw, Vec::new(), Vec::new(), text);
    };
    let held = claw.grants.iter().filter_map(|place| all.get(at(*place)));
    let grants: Vec<&Grant> = held.collect();
    let open: BTreeSet<&str> = claw
        .connections
        .get(call.connection)
        .into_iter()
        .flat_map(|connection| connection.spoken_of.open(call.now))
        .collect();
    let is_open = |conditions: &Conditions| {
        conditions.hours.is_empty()
            || conditions
                .hours
                .iter()
                .any(|one| open.contains(one.to_string().as_str()))
    };
    let met = |grant: &Grant| is_open(&grant.conditions) && holds(&grant.conditions, call);
    let near = |wanted: fn(bool, bool) -> bool| -> Vec<GrantId> {
        let covering = grants.iter().filter(|grant| covers(grant, call));
        let mut ids: Vec<GrantId> = covering
            .filter(|grant| wanted(is_expired(grant, call), met(grant)))
            .map(|grant| grant.id.clone())
            .collect();
        ids.sort();
        ids
    };
    let expired = near(|expired, holds| expired && holds);
    if !expired.is_empty() {
        let text = format!(
            "{} would have allowed {}, but expired",
            listed(&expired),
            what(call)
        );
        return denial(DenialReason::Expired, expired, Vec::new(), text);
    }
    let unmet = near(|expired, holds| !expired && !holds);
    if !unmet.is_empty() {
        let closed = grants
            .iter()
            .filter(|grant| unmet.contains(&grant.id) && !is_open(&grant.conditions));
        let why = match closed.map(|grant| &grant.conditions.hours).next() {
            Some(hours) => format!("but only {}", spoken(hours)),
            None => "but a condition of it does not hold".to_owned(),
        };
        let text = format!("{} would allow {}, {why}", listed(&unmet), what(call));
        return denial(DenialReason::Condition, unmet, Vec::new(), text);
    }
    let text = format!("no grant allows {}{}", what(call), hint(call, &grants));
    denial(DenialReason::NoGrant, Vec::new(), Vec::new(), text)
}

fn holds(conditions: &Conditions, call: &Call<'_>) -> bool {
    let members = &conditions.on_behalf_of;
    let member_holds = members.is_empty() || call.on_behalf_of.is_some_and(|asker| members.contains(asker));
    member_holds
        && conditions.arguments.iter().all(|condition| {
            let value = call.arguments.get(&condition.name);
            value.is_some_and(|value| condition.one_of.contains(value))
        })
}

/// `slack:messages.read on channel:C0 through connection slack`.
fn what(call: &Call<'_>) -> String {
    let access = match call.access {
        Access::Read => "",
        Access::Write => " (write)",
        Access::Destructive => " (destructive)",
        Access::External => " (external)",
    };
    let on = match call.resources.first() {
        Some(resource) => format!(" on {resource}"),
        None => String::new(),
    };
    format!(
        "{}{access}{on} through connection `{}`",
        call.action, call.connection
    )
}

/// `mon-fri 09:00-17:00 Europe/Berlin or …`.
fn spoken(hours: &[Window]) -> String {
    let shown: Vec<_> = hours.iter().take(3).map(Window::to_string).collect();
    shown.join(" or ")
}

fn listed(ids: &[GrantId]) -> String {
    let names: Vec<_> = ids.iter().take(3).map(|id| format!("`{id}`")).collect();
    let more = if ids.len() > 3 { " and more" } else { "" };
    let noun = if ids.len() == 1 { "grant" } else { "grants" };
    format!("{noun} {}{more}", names.join(", "))
}

/// What of this the Claw does have, if that helps.
fn hint(call: &Call<'_>, grants: &[&Grant]) -> String {
    let on_connection: Vec<_> = grants
        .iter()
        .filter(|g| g.connection == *call.connection)
        .collect();
    if on_connection.is_empty() {
        return format!("; Claw `{}` has no grant on that connection", call.claw);
    }
    let same_action = on_connection
        .iter()
        .filter(|grant| grant.actions.iter().any(|pattern| pattern.matches(call.action)));
    let mut elsewhere: Vec<String> = same_action
        .flat_map(|grant| grant.resources.iter().map(ToString::to_string))
        .collect();
    elsewhere.sort();
    elsewhere.dedup();
    match elsewhere.as_slice() {
        [] => "; no grant on that connection names this action".to_owned(),
        some => {
            let shown: Vec<_> = some.iter().take(3).cloned().collect();
            let more = if some.len() > 3 { ", …" } else { "" };
            format!("; granted there on {}{more}", shown.join(", "))
        }
    }
}

fn denial(
    reason: DenialReason,
    grants: Vec<GrantId>,
    guardrails: Vec<GuardrailName>,
    text: String,
) -> Denial {
    let text = if text.chars().count() > MAX_TEXT {
        text.chars().take(MAX_TEXT - 1).chain(['…']).collect()
    } else {
        text
    };
    Denial {
        reason,
        grants,
        guardrails,
        text,
    }
}
