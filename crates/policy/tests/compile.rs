//! What is refused when a policy is compiled, what a grant looks like in Cedar, and answers to `check`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fmt::Write;

use clawstaff_policy::{Answer, CompileError, Policy, Question, cedar_text};
use clawstaff_types::{Access, Decision, Grant, Guardrail};
use serde_json::json;

fn grant(change: serde_json::Value) -> Grant {
    let mut grant = json!({
        "id": "gr_1", "claw": "triage", "connection": "slack", "granted_by": "uid-0",
        "actions": ["messages.read"], "resources": ["channel:C0SUPPORT"],
    });
    let members = grant.as_object_mut().unwrap();
    members.extend(change.as_object().unwrap().clone());
    serde_json::from_value(grant).unwrap()
}

#[test]
fn a_grant_that_could_not_be_enforced_as_it_reads_is_refused() {
    let many: Vec<String> = (0..257).map(|n| format!("channel:C{n}")).collect();
    for (change, expected) in [
        (
            json!({"actions": []}),
            "grant `gr_1`: it names no action: list at least one",
        ),
        (
            json!({"resources": []}),
            "grant `gr_1`: it names no resource: list at least one, or `*` for any",
        ),
        (
            json!({"resources": many}),
            "grant `gr_1`: it lists more than 256 actions or resources: split it",
        ),
        (
            json!({"conditions": {"arguments": [{"name": "a=b", "one_of": ["1"]}]}}),
            "grant `gr_1`: `a=b` is not an argument's name: 1 to 1024 bytes without `=`",
        ),
        (
            json!({"conditions": {"arguments": [{"name": "a", "one_of": []}]}}),
            "grant `gr_1`: the condition on `a` needs 1 to 256 values in `one_of`",
        ),
    ] {
        let error = Policy::compile(1, &[grant(change)], &[]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let twice = [grant(json!({})), grant(json!({"claw": "other"}))];
    assert!(matches!(
        Policy::compile(1, &twice, &[]),
        Err(CompileError::DuplicateGrant(_))
    ));
    let rail = Guardrail {
        name: "none".parse().unwrap(),
        actions: vec![],
        resources: vec!["*".parse().unwrap()],
    };
    assert!(matches!(
        Policy::compile(1, &[], &[rail]),
        Err(CompileError::Guardrail { .. })
    ));
}

#[test]
fn the_largest_grant_and_guardrail_that_are_accepted_can_be_decided() {
    let patterns: Vec<String> = (0..256).map(|n| format!("a{n}.*")).collect();
    let scopes: Vec<String> = (0..256).map(|n| format!("channel:C{n}")).collect();
    let values: Vec<String> = (0..256).map(|n| format!("{n}")).collect();
    let arguments = json!([{"name": "n", "one_of": values}]);
    let grant =
        grant(json!({"actions": patterns, "resources": scopes, "conditions": {"arguments": arguments}}));
    let rail = Guardrail {
        name: "wide".parse().unwrap(),
        actions: grant.actions.clone(),
        resources: vec!["channel:C7".parse().unwrap()],
    };
    let policy = Policy::compile(1, &[grant], &[rail]).unwrap();
    let answer = |resource: &str| {
        policy.check(&Question {
            claw: &"triage".parse().unwrap(),
            connections: &["slack".parse().unwrap()],
            action: &"slack:a255.b".parse().unwrap(),
            access: Access::Read,
            resources: Some(&[resource.parse().unwrap()]),
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
        })
    };
    assert_eq!(answer("channel:C255").decision, Decision::Allow);
    assert_eq!(answer("channel:C7").guardrails, ["wide".parse().unwrap()]);
}

#[test]
fn a_grant_reads_as_cedar() {
    let plain = cedar_text(&grant(json!({}))).unwrap();
    let full = cedar_text(&grant(json!({
        "actions": ["slack:messages.*", "issues.read", "github:pulls.read"],
        "resources": ["channel:*", "repo:acme/*"],
        "expires": "2027-01-31T00:00:00Z",
        "conditions": {
            "on_behalf_of": ["uid-1"],
            "arguments": [{"name": "state", "one_of": ["closed", "\"); permit(principal, action, resource); //"]}],
        },
    })))
    .unwrap();
    insta::assert_snapshot!("grants in Cedar", format!("{plain}\n\n{full}"));
}

#[test]
fn check_answers_whether_any_resource_would_do() {
    let grants = [
        grant(json!({"id": "gr_read"})),
        grant(
            json!({"id": "gr_send", "actions": ["messages.send"], "resources": ["channel:*"], "mode": "ask",
            "conditions": {"on_behalf_of": ["uid-1"], "arguments": [{"name": "thread_ts", "one_of": ["1.2"]}]}}),
        ),
        grant(json!({"id": "gr_list", "actions": ["channels.read"], "resources": ["*"]})),
        grant(
            json!({"id": "gr_old", "actions": ["users.read"], "resources": ["user:*"], "expires": "2020-01-01T00:00:00Z"}),
        ),
        grant(json!({"id": "gr_del", "actions": ["messages.delete"], "resources": ["channel:C0"]})),
    ];
    let rail = Guardrail {
        name: "no-deletes".parse().unwrap(),
        actions: vec!["*.delete".parse().unwrap()],
        resources: vec!["channel:*".parse().unwrap()],
    };
    let policy = Policy::compile(1, &grants, &[rail]).unwrap();
    let mut shown = String::new();
    for action in [
        "messages.read",
        "messages.send",
        "channels.read",
        "users.read",
        "messages.delete",
        "reactions.add",
    ] {
        let answer = policy.check(&Question {
            claw: &"triage".parse().unwrap(),
            connections: &["slack".parse().unwrap()],
            action: &format!("slack:{action}").parse().unwrap(),
            access: Access::Read,
            resources: None,
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
        });
        let Answer {
            decision,
            grants,
            guardrails,
            reason,
            ..
        } = answer;
        writeln!(
            shown,
            "{action}: {decision:?} {grants:?} {guardrails:?}\n    {reason}"
        )
        .unwrap();
    }
    insta::assert_snapshot!(shown);
}
