//! `apply`: what it makes so, what it refuses, and what it records.

use clawstaff_api::{
    Code,
    nodes::{Desired, GatewayWelcome},
    people::{ApplyAnswer, ApplyRequest, ChangeVerb, Effect, Spec},
};
use clawstaff_types::{EventKind, Grant, Outcome};
use http::Method;
use serde_json::json;

use super::bench::{Bench, GATEWAY_TOKEN, Gateway, sealed, triage};

fn lines(answer: &ApplyAnswer) -> Vec<String> {
    let line = |change: &clawstaff_api::people::Change| {
        format!("{:?} {} {:?}", change.verb, change.what, change.effect)
    };
    answer.changes.iter().map(line).collect()
}

#[tokio::test]
async fn a_first_apply_makes_everything_and_a_second_changes_nothing() {
    let bench = Bench::start().await;
    let first = bench.apply(triage()).await;
    assert!(first.applied);
    assert_eq!(first.revision, 2);
    let model = first.changes.last().unwrap();
    assert!(
        model.what.starts_with("grant triage anthropic "),
        "{}",
        model.what
    );
    assert_eq!(
        lines(&first)[..5],
        [
            "Add connection anthropic Neutral",
            "Add connection slack Neutral",
            "Add guardrail no-production-writes Narrows",
            "Add claw triage Neutral",
            "Add grant triage slack messages.read channel:C0SUPPORT Widens",
        ]
    );
    let grants: Vec<Grant> = bench.get("/v1/grants?claw=triage").await;
    let second = bench.apply(triage()).await;
    assert!(second.changes.is_empty(), "{:?}", second.changes);
    assert_eq!(second.revision, 2);
    assert_eq!(bench.get::<Vec<Grant>>("/v1/grants").await, grants);
    assert!(grants.iter().any(|grant| grant.id.as_str() == "gr_model_triage"));
}

#[tokio::test]
async fn the_file_that_comes_back_applies_without_a_change() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let extra = json!({ "claw": "triage", "grant": {
        "connection": "slack", "actions": ["messages.*"], "resources": ["channel:C1"] } });
    let added: Grant = bench.post("/v1/grants", &extra).await;
    let spec: Spec = bench.get("/v1/spec").await;
    let answer = bench.apply(serde_json::to_value(spec).unwrap()).await;
    assert!(answer.changes.is_empty(), "{:?}", answer.changes);
    let grants: Vec<Grant> = bench.get("/v1/grants").await;
    assert!(grants.iter().any(|grant| grant.id == added.id));
    let without = bench.apply(triage()).await;
    assert_eq!(
        lines(&without),
        ["Remove grant triage slack messages.* channel:C1 Narrows"]
    );
}

#[tokio::test]
async fn a_grant_given_by_hand_stays_when_the_file_is_applied() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let extra = json!({ "claw": "triage", "grant": {
        "connection": "slack", "actions": ["messages.*"], "resources": ["channel:C1"] } });
    let added: Grant = bench.post("/v1/grants", &extra).await;
    assert!(bench.apply(triage()).await.changes.is_empty());
    let grants: Vec<Grant> = bench.get("/v1/grants").await;
    assert!(grants.iter().any(|grant| grant.id == added.id));
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let bench = Bench::start().await;
    let request = ApplyRequest {
        spec: serde_json::from_value(triage()).unwrap(),
        dry_run: true,
        prune: false,
    };
    let answer: ApplyAnswer = bench.post("/v1/apply", &request).await;
    assert!(!answer.applied);
    assert_eq!(answer.changes.len(), 6);
    assert_eq!(answer.revision, 1);
    let changes = bench.audit("kind=config.changed,claw.deployed,grant.added").await;
    assert!(changes.records.is_empty());
    assert_eq!(bench.gateway_state(0).await.claws.len(), 0);
}

#[tokio::test]
async fn the_nodes_get_the_state_signed_and_whole() {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    let welcome: GatewayWelcome = gateway.hello(&bench).await;
    bench.apply(triage()).await;
    let answer = bench
        .node(GATEWAY_TOKEN, Method::GET, "/nodes/v1/gateway/state?since=0", &())
        .await;
    let signed: clawstaff_api::nodes::Signed = answer.json();
    verify(&welcome.state_key, &signed);
    let state = bench.gateway_state(0).await;
    assert_eq!(state.revision, 2);
    assert_eq!(state.grants.len(), 2);
    assert_eq!(state.claws[0].spec.name.as_str(), "triage");
    let runner = bench.runner_state(0).await;
    let claw = &runner.claws[0];
    assert_eq!(
        (claw.revision, claw.desired, claw.needs_gateway_revision),
        (1, Desired::Running, 2)
    );
    assert_eq!(claw.cage, state.claws[0].cage);
    assert!(claw.cage.starts_with("triage-") && claw.cage.len() == "triage-".len() + 8);
    assert_eq!(claw.by, format!("uid-{}", rustix::process::getuid().as_raw()));
}

fn verify(key: &str, signed: &clawstaff_api::nodes::Signed) {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = [b"clawstaff/state/v1\n", signed.payload.as_bytes()].concat();
    let key = UnparsedPublicKey::new(&ED25519, STANDARD.decode(key).unwrap());
    let signature = STANDARD.decode(&signed.signature).unwrap();
    key.verify(&text, &signature).unwrap();
    let mut other = text.clone();
    other.push(b' ');
    assert!(key.verify(&other, &signature).is_err());
}

#[tokio::test]
async fn a_changed_claw_gets_a_revision_and_only_its_own_grants_move() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let before: Vec<Grant> = bench.get("/v1/grants").await;
    let mut spec = triage();
    spec["claws"][0]["spec"]["instructions"] = sealed("second");
    spec["claws"][0]["spec"]["model"]["name"] = json!("claude-opus-5");
    let answer = bench.apply(spec).await;
    assert_eq!(answer.changes[0].verb, ChangeVerb::Change);
    assert!(
        answer.changes[0].detail.contains("model, instructions"),
        "{}",
        answer.changes[0].detail
    );
    let claw = bench.claw("triage").await;
    assert_eq!(claw.revision, 2);
    assert_eq!(
        bench.runner_state(0).await.claws[0].needs_gateway_revision,
        answer.revision
    );
    let after: Vec<Grant> = bench.get("/v1/grants").await;
    let slack = |grants: &[Grant]| {
        grants
            .iter()
            .find(|grant| grant.connection.as_str() == "slack")
            .unwrap()
            .id
            .clone()
    };
    assert_eq!(slack(&before), slack(&after));
    assert_eq!(after.len(), 2);
}

#[tokio::test]
async fn instructions_that_were_only_sealed_once_more_are_no_change() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let mut spec = triage();
    spec["claws"][0]["spec"]["instructions"]["ciphertext"] = json!("BBBB");
    spec["claws"][0]["spec"]["instructions"]["enc"] = json!("BBBB");
    assert!(bench.apply(spec).await.changes.is_empty());
}

#[tokio::test]
async fn pruning_removes_what_the_file_does_not_have() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let kept = bench.apply(json!({})).await;
    assert!(kept.changes.is_empty());
    let pruned: ApplyAnswer = bench.try_apply(json!({}), true).await.json();
    assert_eq!(
        lines(&pruned),
        [
            "Remove connection anthropic Narrows",
            "Remove connection slack Narrows",
            "Remove guardrail no-production-writes Widens",
            "Remove claw triage Narrows",
        ]
    );
    let state = bench.gateway_state(0).await;
    assert!(state.claws.is_empty() && state.grants.is_empty() && state.connections.is_empty());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name_and_changes_nothing() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let cases: [(&str, serde_json::Value, &str); 10] = [
        (
            "/claws/0/grants/0/actions/0",
            json!("messages.raed"),
            "messages.raed",
        ),
        (
            "/claws/0/grants/0/connection",
            json!("slakc"),
            "there is no connection `slakc`",
        ),
        ("/claws/0/grants/0/actions", json!([]), "`actions` is empty"),
        (
            "/claws/0/spec/model/connection",
            json!("slack"),
            "which is no model provider",
        ),
        (
            "/claws/0/spec/triggers/0/slack/connection",
            json!("anthropic"),
            "needs a connection to slack",
        ),
        (
            "/connections/0/connector",
            json!("slakc"),
            "there is no connector `slakc`",
        ),
        (
            "/guardrails/0/actions/0",
            json!("github:nonsense.write"),
            "no action of any connector matches",
        ),
        (
            "/claws/0/spec/description",
            json!("x".repeat(301)),
            "more than 300 characters",
        ),
        (
            "/claws/0/spec/name",
            json!("x".repeat(60)),
            "at most 54 characters",
        ),
        ("/connections/1/name", json!("slack"), "is given twice"),
    ];
    for (at, value, expected) in cases {
        let mut spec = triage();
        *spec.pointer_mut(at).unwrap() = value;
        let problem = bench.try_apply(spec, false).await.problem();
        let told = format!("{} {}", problem.detail, problem.hint.clone().unwrap_or_default());
        assert!(told.contains(expected), "{at}: {told}");
        assert!(
            [Code::Refused, Code::Invalid].contains(&problem.code),
            "{problem:?}"
        );
    }
    let mut spec = triage();
    spec["claws"][0]["grants"][0]["actions"][0] = json!("messages.raed");
    let problem = bench.try_apply(spec, false).await.problem();
    assert!(problem.hint.unwrap().contains("`messages.read`"));
    assert_eq!(bench.gateway_state(0).await.revision, 2);
}

#[tokio::test]
async fn plain_http_is_for_this_host_only() {
    let bench = Bench::start().await;
    for (url, fine) in [
        ("http://127.0.0.1:9001/api", true),
        ("http://[::1]:9001/", true),
        ("https://slack.example.org/api", true),
        ("http://slack.example.org/api", false),
        ("http://10.0.0.1/", false),
        ("http://127.0.0.1.example.org/", false),
        ("ftp://127.0.0.1/", false),
        ("https://user:secret@example.org/", false),
        ("https://example.org/?q=1", false),
        ("/api", false),
    ] {
        let mut spec = triage();
        spec["connections"][0]["base_url"] = json!(url);
        let answer = bench.try_apply(spec, false).await;
        assert_eq!(answer.status.is_success(), fine, "{url}: {}", answer.text());
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_with_the_reason() {
    let bench = Bench::start().await;
    for body in [
        json!(null),
        json!({ "spec": { "claws": [{ "spec": { "name": "a", "colour": "red" } }] } }),
        json!({ "spec": {}, "force": true }),
    ] {
        let problem = bench.person(Method::POST, "/v1/apply", &body).await.problem();
        assert_eq!(problem.code, Code::Invalid);
    }
    let large = bench
        .person(Method::POST, "/v1/apply", &"x".repeat((1 << 20) + 8))
        .await
        .problem();
    assert_eq!(large.code, Code::Invalid);
}

#[tokio::test]
async fn every_change_is_recorded_with_its_outcome() {
    let bench = Bench::start().await;
    let before = bench.audit("").await.records;
    assert_eq!(before.len(), 1, "the login, and nothing else: {before:?}");
    bench.apply(triage()).await;
    let mut records = bench.audit("").await.records;
    records.remove(0);
    let kinds: Vec<EventKind> = records.iter().map(|record| record.event.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::ConfigChanged,
            EventKind::ConfigChanged,
            EventKind::ConfigChanged,
            EventKind::ClawDeployed,
            EventKind::GrantAdded,
            EventKind::GrantAdded,
        ]
    );
    for record in &records {
        assert_eq!(record.event.outcome, Some(Outcome::Succeeded), "{record:?}");
        assert_eq!(record.event.policy_revision, Some(2));
        assert!(record.outcome_index.is_some());
        assert!(record.id.starts_with("control:"));
    }
    assert!(records[3].event.digests.contains_key("instructions"));
    assert_eq!(
        records[4].event.resource.as_ref().unwrap().to_string(),
        "channel:C0SUPPORT"
    );
    let found = bench.audit("resource=channel:*&kind=grant.added").await.records;
    assert_eq!(found, vec![records[4].clone()]);
}

#[tokio::test]
async fn widening_and_narrowing_are_told_apart() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let mut spec = triage();
    spec["guardrails"][0]["resources"] = json!(["repo:acme/production", "repo:acme/other"]);
    spec["claws"][0]["spec"]["budget"] = json!({ "requests_per_minute": 10 });
    spec["connections"][0]["base_url"] = json!("https://slack.example.org/");
    let answer = bench.apply(spec).await;
    let effects: Vec<Effect> = answer.changes.iter().map(|change| change.effect).collect();
    assert_eq!(effects, [Effect::Widens, Effect::Narrows, Effect::Narrows]);
}
