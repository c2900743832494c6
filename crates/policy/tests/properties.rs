//! Laws that hold for any policy and any call, and an oracle that reads grants without Cedar.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;

use clawstaff_policy::{Call, DenialReason, Policy, Verdict};
use clawstaff_types::{
    Access, ActionId, Conditions, Decision, Digest, Grant, Guardrail, Mode, ResourcePattern, ResourceRef,
    grant::ArgumentIs,
};
use jiff::Timestamp;
use proptest::prelude::*;

/// Few words, so that grants and calls meet often.
const CLAWS: [&str; 2] = ["triage", "coder"];
const CONNECTIONS: [&str; 2] = ["slack", "hub"];
const ACTIONS: [&str; 5] = [
    "slack:messages.read",
    "slack:messages.send",
    "github:issues.read",
    "github:contents.write",
    "github:messages.read",
];
const ACTION_PATTERNS: [&str; 9] = [
    "*",
    "messages.*",
    "*.write",
    "messages.read",
    "issues.read",
    "slack:*",
    "slack:messages.send",
    "github:*.write",
    "m*s.re*d",
];
const RESOURCES: [&str; 6] = [
    "channel:C1",
    "channel:C2",
    "repo:acme/site",
    "repo:acme/site/x",
    "repo:acm",
    "org:acme",
];
const SCOPES: [&str; 8] = [
    "*",
    "channel:*",
    "channel:C1",
    "repo:*",
    "repo:acme/*",
    "repo:acme/site/*",
    "repo:acme/site",
    "org:acme",
];
const MEMBERS: [&str; 2] = ["uid-1", "uid-2"];

fn pick(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

fn some_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(pick(words), 1..3)
}

fn parsed<T: std::str::FromStr>(words: Vec<&str>) -> Vec<T> {
    words.into_iter().map(|word| word.parse().ok().unwrap()).collect()
}

fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

prop_compose! {
    fn conditions()(
        members in prop::collection::vec(pick(&MEMBERS), 0..2),
        arguments in prop::collection::vec((pick(&["a", "b"]), prop::collection::vec(pick(&["1", "2", "=1"]), 1..3)), 0..2),
        hours in prop::collection::vec(pick(&["thu 00:00-00:01", "thu 01:00-02:00 Europe/Berlin", "fri 09:00-17:00"]), 0..3),
    ) -> Conditions {
        let arguments = arguments.into_iter().map(|(name, one_of)| ArgumentIs {
            name: name.to_owned(),
            one_of: one_of.into_iter().map(str::to_owned).collect(),
        });
        Conditions {
            on_behalf_of: parsed(members),
            arguments: arguments.collect(),
            hours: parsed(hours),
            ..Conditions::default()
        }
    }
}

prop_compose! {
    fn grant()(
        claw in pick(&CLAWS),
        connection in pick(&CONNECTIONS),
        actions in some_of(&ACTION_PATTERNS),
        resources in some_of(&SCOPES),
        conditions in prop_oneof![3 => Just(Conditions::default()), 1 => conditions()],
        ask in prop::bool::weighted(0.3),
        expires in prop::option::weighted(0.3, 0..4_i64),
    ) -> Grant {
        Grant {
            id: "gr_x".parse().unwrap(),
            claw: claw.parse().unwrap(),
            connection: connection.parse().unwrap(),
            actions: parsed(actions),
            resources: parsed(resources),
            conditions,
            mode: if ask { Mode::Ask } else { Mode::Allow },
            expires: expires.map(instant),
            granted_by: "uid-0".parse().unwrap(),
        }
    }
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    prop::collection::vec(grant(), 0..7).prop_map(|mut grants| {
        for (n, grant) in grants.iter_mut().enumerate() {
            grant.id = format!("gr_{n}").parse().unwrap();
        }
        grants
    })
}

fn guardrails() -> impl Strategy<Value = Vec<Guardrail>> {
    let one = (some_of(&ACTION_PATTERNS), some_of(&SCOPES));
    prop::collection::vec(one, 0..3).prop_map(|all| {
        let made = |(n, (actions, resources)): (usize, (Vec<_>, Vec<_>))| Guardrail {
            name: format!("rail-{n}").parse().unwrap(),
            actions: parsed(actions),
            resources: parsed(resources),
        };
        all.into_iter().enumerate().map(made).collect()
    })
}

#[derive(Debug, Clone)]
struct Asked {
    claw: &'static str,
    connection: &'static str,
    action: &'static str,
    resources: Vec<ResourceRef>,
    arguments: BTreeMap<String, String>,
    on_behalf_of: Option<&'static str>,
    now: i64,
}

prop_compose! {
    fn asked()(
        claw in pick(&CLAWS),
        connection in pick(&CONNECTIONS),
        action in pick(&ACTIONS),
        resources in prop::collection::vec(pick(&RESOURCES), 0..3),
        arguments in prop::collection::btree_map(pick(&["a", "b", "a="]), pick(&["1", "2", "=1"]), 0..3),
        on_behalf_of in prop::option::of(pick(&MEMBERS)),
        now in 0..4_i64,
    ) -> Asked {
        let arguments = arguments.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Asked { claw, connection, action, resources: parsed(resources), arguments, on_behalf_of, now }
    }
}

/// Decision, grants and guardrails.
type Outcome = (Decision, Vec<String>, Vec<String>);

fn decide(policy: &Policy, asked: &Asked) -> (Outcome, Option<DenialReason>) {
    let on_behalf_of = asked.on_behalf_of.map(|member| member.parse().unwrap());
    let verdict = policy.decide(&Call {
        claw: &asked.claw.parse().unwrap(),
        connection: &asked.connection.parse().unwrap(),
        action: &asked.action.parse().unwrap(),
        access: Access::Read,
        resources: &asked.resources,
        arguments: &asked.arguments,
        on_behalf_of: on_behalf_of.as_ref(),
        now: instant(asked.now),
        digest: Digest::of(b"call"),
    });
    let grants = verdict.grants().iter().map(ToString::to_string).collect();
    let guardrails = verdict.guardrails().iter().map(ToString::to_string).collect();
    let outcome = (verdict.decision(), grants, guardrails);
    match verdict {
        Verdict::Allow(permit) => {
            assert_eq!(permit.digest(), &Digest::of(b"call"));
            assert_eq!(permit.resource(), asked.resources.first());
            assert_eq!(permit.policy_version(), policy.version());
            (outcome, None)
        }
        Verdict::Ask(_) => (outcome, None),
        Verdict::Deny(denial) => {
            assert!(denial.text.chars().count() <= 300);
            (outcome, Some(denial.reason))
        }
    }
}

fn reaches(scopes: &[ResourcePattern], resources: &[ResourceRef]) -> bool {
    scopes
        .iter()
        .any(|scope| *scope == ResourcePattern::Any || resources.iter().any(|r| scope.matches(r)))
}

/// The oracle: what grants and guardrails mean, read off their types.
fn oracle(grants: &[Grant], guardrails: &[Guardrail], asked: &Asked) -> Outcome {
    let action: ActionId = asked.action.parse().unwrap();
    let forbidding = guardrails.iter().filter(|rail| {
        rail.actions.iter().any(|p| p.matches(&action)) && reaches(&rail.resources, &asked.resources)
    });
    let forbidding: Vec<String> = forbidding.map(|rail| rail.name.to_string()).collect();
    if !forbidding.is_empty() {
        return (Decision::Deny, vec![], forbidding);
    }
    let permitting = |mode: Mode| -> Vec<String> {
        let holds = |grant: &&Grant| {
            let conditions = &grant.conditions;
            grant.mode == mode
                && grant.claw.as_str() == asked.claw
                && grant.connection.as_str() == asked.connection
                && grant.actions.iter().any(|p| p.matches(&action))
                && reaches(&grant.resources, &asked.resources)
                && grant.expires.is_none_or(|at| instant(asked.now) < at)
                && (conditions.on_behalf_of.is_empty()
                    || conditions
                        .on_behalf_of
                        .iter()
                        .any(|m| Some(m.as_str()) == asked.on_behalf_of))
                && conditions.arguments.iter().all(|condition| {
                    asked
                        .arguments
                        .get(&condition.name)
                        .is_some_and(|value| condition.one_of.contains(value))
                })
                // Calls are made in the first seconds of 1970, a Thursday; in Berlin it was one o'clock.
                && (conditions.hours.is_empty()
                    || conditions.hours.iter().any(|window| window.to_string().starts_with("thu")))
        };
        grants
            .iter()
            .filter(holds)
            .map(|grant| grant.id.to_string())
            .collect()
    };
    let (allowing, asking) = (permitting(Mode::Allow), permitting(Mode::Ask));
    match (allowing.is_empty(), asking.is_empty()) {
        (false, _) => (Decision::Allow, allowing, vec![]),
        (true, false) => (Decision::Ask, asking, vec![]),
        (true, true) => (Decision::Deny, vec![], vec![]),
    }
}

const fn width(decision: Decision) -> u8 {
    match decision {
        Decision::Deny => 0,
        Decision::Ask => 1,
        Decision::Allow => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_decision_is_what_the_grants_and_guardrails_mean(
        grants in grants(),
        guardrails in guardrails(),
        calls in prop::collection::vec(asked(), 1..12),
    ) {
        let policy = Policy::compile(7, &grants, &guardrails).unwrap();
        for asked in calls {
            let (outcome, reason) = decide(&policy, &asked);
            let expected = oracle(&grants, &guardrails, &asked);
            prop_assert_eq!(outcome.0, expected.0, "{:?}", &asked);
            // The grants of a denial are those that came near, which the oracle does not know.
            if let Some(reason) = reason {
                prop_assert_eq!(&outcome.2, &expected.2);
                prop_assert_eq!(reason == DenialReason::Guardrail, !expected.2.is_empty());
            } else {
                prop_assert_eq!(outcome, expected);
            }
        }
    }

    #[test]
    fn without_grants_everything_is_denied(guardrails in guardrails(), asked in asked()) {
        let policy = Policy::compile(1, &[], &guardrails).unwrap();
        prop_assert_eq!(decide(&policy, &asked).0.0, Decision::Deny);
    }

    #[test]
    fn a_guardrail_more_or_a_grant_less_never_widens(
        grants in grants(),
        guardrails in guardrails(),
        at in any::<prop::sample::Index>(),
        calls in prop::collection::vec(asked(), 1..6),
    ) {
        let wide = Policy::compile(1, &grants, &[]).unwrap();
        let railed = Policy::compile(1, &grants, &guardrails).unwrap();
        let mut fewer = grants.clone();
        if !fewer.is_empty() {
            fewer.remove(at.index(grants.len()));
        }
        let narrowed = Policy::compile(1, &fewer, &[]).unwrap();
        for asked in calls {
            let before = width(decide(&wide, &asked).0.0);
            prop_assert!(width(decide(&railed, &asked).0.0) <= before);
            prop_assert!(width(decide(&narrowed, &asked).0.0) <= before);
        }
    }

    #[test]
    fn the_order_of_grants_and_guardrails_does_not_matter(
        (grants, shuffled) in grants().prop_flat_map(|grants| (Just(grants.clone()), Just(grants).prop_shuffle())),
        guardrails in guardrails(),
        asked in asked(),
    ) {
        let mut reversed = guardrails.clone();
        reversed.reverse();
        let one = Policy::compile(1, &grants, &guardrails).unwrap();
        let other = Policy::compile(1, &shuffled, &reversed).unwrap();
        prop_assert_eq!(decide(&one, &asked), decide(&other, &asked));
    }
}
