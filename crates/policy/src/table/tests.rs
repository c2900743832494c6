//! The table says what Cedar says: the same decision, determined by the same grants, for any grants and any call.

use std::collections::BTreeMap;

use clawstaff_types::{
    Access, Conditions, Decision, Digest, Grant, GrantId, Guardrail, Mode, grant::ArgumentIs,
};
use jiff::Timestamp;
use proptest::{prelude::*, sample::select};

use super::*;
use crate::{Policy, compile::Plain};

const ACTIONS: [&str; 4] = [
    "slack:messages.read",
    "slack:messages.send",
    "github:messages.read",
    "github:a.b",
];
const PATTERNS: [&str; 8] = [
    "*",
    "messages.*",
    "*.read",
    "messages.read",
    "slack:*",
    "github:messages.read",
    "a.b",
    "m*d",
];
const RESOURCES: [&str; 8] = [
    "channel:C1",
    "channel:C2",
    "repo:acme/site",
    "repo:acme/site/x",
    "repo:acme/",
    "repo:acm",
    "org:acme",
    "repo:a/b/c/d",
];
const SCOPES: [&str; 10] = [
    "*",
    "channel:*",
    "channel:C1",
    "repo:*",
    "repo:acme/*",
    "repo:acme/site/*",
    "repo:acme/site",
    "org:acme",
    "repo:a/b/*",
    "repo:acme/",
];

fn parsed<T: std::str::FromStr>(words: Vec<&str>) -> Vec<T> {
    words.into_iter().map(|word| word.parse().ok().unwrap()).collect()
}

/// Seconds and microseconds around an end, on both sides.
fn instant(half_micros: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(half_micros) * 500).unwrap()
}

prop_compose! {
    fn grant()(
        claw in select(&["a", "b"]),
        connection in select(&["slack", "hub"]),
        actions in prop::collection::vec(select(&PATTERNS), 1..3),
        resources in prop::collection::vec(select(&SCOPES), 1..4),
        conditioned in prop::bool::weighted(0.25),
        ask in prop::bool::weighted(0.3),
        expires in prop::option::weighted(0.4, 0..6_i64),
    ) -> Grant {
        let only = ArgumentIs { name: "x".to_owned(), one_of: vec!["1".to_owned()] };
        Grant {
            id: "gr_x".parse().unwrap(),
            claw: claw.parse().unwrap(),
            connection: connection.parse().unwrap(),
            actions: parsed(actions),
            resources: parsed(resources),
            conditions: Conditions { arguments: conditioned.then_some(only).into_iter().collect(), ..Conditions::default() },
            mode: if ask { Mode::Ask } else { Mode::Allow },
            expires: expires.map(instant),
            granted_by: "uid-0".parse().unwrap(),
        }
    }
}

prop_compose! {
    fn guardrail()(
        actions in prop::collection::vec(select(&PATTERNS), 1..2),
        resources in prop::collection::vec(select(&SCOPES), 1..2),
    ) -> Guardrail {
        Guardrail { name: "rail".parse().unwrap(), actions: parsed(actions), resources: parsed(resources) }
    }
}

#[derive(Debug, Clone)]
struct Asked {
    claw: &'static str,
    connection: &'static str,
    action: &'static str,
    resources: Vec<ResourceRef>,
    argument: Option<&'static str>,
    now: i64,
}

prop_compose! {
    fn asked()(
        claw in select(&["a", "b", "c"]),
        connection in select(&["slack", "hub"]),
        action in select(&ACTIONS),
        resources in prop::collection::vec(select(&RESOURCES), 0..3),
        argument in prop::option::of(select(&["1", "2"])),
        now in 0..6_i64,
    ) -> Asked {
        Asked { claw, connection, action, resources: parsed(resources), argument, now }
    }
}

fn decide(policy: &Policy, asked: &Asked) -> (Decision, Vec<GrantId>, String) {
    let argument = asked.argument.map(|value| ("x".to_owned(), value.to_owned()));
    let verdict = policy.decide(&Call {
        claw: &asked.claw.parse().unwrap(),
        connection: &asked.connection.parse().unwrap(),
        action: &asked.action.parse().unwrap(),
        access: Access::Read,
        resources: &asked.resources,
        arguments: &argument.into_iter().collect::<BTreeMap<_, _>>(),
        on_behalf_of: None,
        now: instant(asked.now),
        digest: Digest::of(b"call"),
    });
    let why = match &verdict {
        crate::Verdict::Deny(denial) => denial.text.clone(),
        crate::Verdict::Allow(_) | crate::Verdict::Ask(_) => String::new(),
    };
    (verdict.decision(), verdict.grants().to_vec(), why)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn the_table_says_what_cedar_says(
        mut grants in prop::collection::vec(grant(), 0..12),
        guardrails in prop::collection::vec(guardrail(), 0..2),
        calls in prop::collection::vec(asked(), 1..16),
    ) {
        for (n, grant) in grants.iter_mut().enumerate() {
            grant.id = format!("gr_{n}").parse().unwrap();
        }
        let rails = guardrails.get(..1).unwrap_or_default();
        let by_table = Policy::with(1, grants.clone().into(), rails, Plain::ByTable).unwrap();
        let by_cedar = Policy::with(1, grants.into(), rails, Plain::ByCedar).unwrap();
        for asked in calls {
            prop_assert_eq!(decide(&by_table, &asked), decide(&by_cedar, &asked), "{:?}", &asked);
        }
    }

    /// Nothing that reaches a resource may have a scope that is not looked under.
    #[test]
    fn every_scope_that_reaches_a_resource_is_looked_under(resource in "(repo|org):[a-b/]{1,8}", cut in 0..9_usize) {
        let resource: ResourceRef = resource.parse().unwrap();
        let looked_under = ScopeHash::all(std::slice::from_ref(&resource));
        let below = format!("{}:{}*", resource.kind(), resource.id().get(..cut).unwrap_or_default());
        let patterns = ["*".to_owned(), format!("{}:*", resource.kind()), resource.to_string(), below];
        for pattern in patterns.iter().filter_map(|text| text.parse::<ResourcePattern>().ok()) {
            prop_assert_eq!(ScopeHash::of(&pattern), pattern.to_string().bytes().fold(ScopeHash::START, ScopeHash::and));
            prop_assert!(!pattern.matches(&resource) || looked_under.contains(&ScopeHash::of(&pattern)), "{}", pattern);
        }
    }
}
