//! Calls that wait for a human: who may decide, what the gateway is sent, and when it is forgotten.

use clawstaff_api::{
    Code,
    nodes::{Answer, GATEWAY_STATUS, GatewayStatus},
    people::ApprovalView,
};
use clawstaff_types::{Grant, Mode, ResourcePattern};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::bench::{Bench, GATEWAY_TOKEN, Gateway, triage};

/// A Claw with a grant that asks, and a gateway where a call of it waits.
async fn waiting(bench: &Bench) -> Grant {
    Gateway::new().hello(bench).await;
    bench.apply(triage()).await;
    let asks = asking_grant(bench).await;
    report(bench, &asks, "ap_1", &[]).await;
    asks
}

/// A grant of the Claw that asks.
pub(crate) async fn asking_grant(bench: &Bench) -> Grant {
    let grant = json!({ "connection": "slack", "actions": ["messages.*"], "resources": ["channel:*"], "mode": "ask" });
    bench
        .post("/v1/grants", &json!({ "claw": "triage", "grant": grant }))
        .await
}

/// The gateway says that a call waits, and which decisions it has taken.
pub(crate) async fn report(bench: &Bench, asks: &Grant, id: &str, taken: &[&str]) {
    let call = json!({
        "id": id, "claw": "triage", "connection": "slack", "action": "slack:messages.send",
        "resource": "channel:C0SUPPORT", "grants": [asks.id], "on_behalf_of": null,
        "digest": clawstaff_types::Digest::of(id.as_bytes()), "asked": Timestamp::now(),
        "until": Timestamp::now() + SignedDuration::from_hours(1),
    });
    let status = GatewayStatus {
        waiting: vec![serde_json::from_value(call).unwrap()],
        approvals_taken: taken.iter().map(|id| id.parse().unwrap()).collect(),
        ..GatewayStatus::default()
    };
    let answer = bench
        .node(GATEWAY_TOKEN, Method::POST, GATEWAY_STATUS, &status)
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

async fn refused(bench: &Bench, path: &str, body: &Value) -> Code {
    bench.person(Method::POST, path, body).await.problem().code
}

#[tokio::test]
async fn a_yes_goes_to_the_gateway_with_the_member_the_digest_and_an_end_and_is_dropped_once_taken() {
    let bench = Bench::start().await;
    let asks = waiting(&bench).await;
    let listed: Vec<ApprovalView> = bench.get("/v1/approvals").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].decided, None);
    let page = bench.person(Method::GET, "/", &()).await;
    assert!(page.text().contains("Waiting for a human"), "{}", page.text());
    let decided: ApprovalView = bench.post("/v1/approvals/ap_1/approve", &json!(null)).await;
    assert_eq!(decided.decided.as_deref(), Some("approved"));
    let bench = bench.restart().await;
    let state = bench.gateway_state(0).await;
    assert_eq!(state.approvals.len(), 1);
    let sent = &state.approvals[0];
    assert_eq!(
        (sent.digest, &sent.by),
        (listed[0].digest, decided.decided_by.as_ref().unwrap())
    );
    let Answer::Once { expires } = sent.answer else {
        panic!("{sent:?}")
    };
    assert!(expires > Timestamp::now() && expires <= Timestamp::now() + SignedDuration::from_hours(1));
    assert_eq!(
        refused(&bench, "/v1/approvals/ap_1/deny", &json!(null)).await,
        Code::Conflict
    );
    let records = bench.audit("kind=config.changed&text=approval").await.records;
    assert_eq!(
        records.len(),
        1,
        "the member's act is in the control plane's own log"
    );
    report(&bench, &asks, "ap_2", &["ap_1"]).await;
    assert!(bench.gateway_state(0).await.approvals.is_empty());
}

#[tokio::test]
async fn a_yes_for_a_while_gives_a_grant_of_no_more_than_the_call_and_no_longer_than_asked() {
    let bench = Bench::start().await;
    let asks = waiting(&bench).await;
    let _granted: ApprovalView = bench
        .post("/v1/approvals/ap_1/grant", &json!({ "for_seconds": 3600 }))
        .await;
    let state = bench.gateway_state(0).await;
    let Answer::Grant { grant } = &state.approvals[0].answer else {
        panic!("{:?}", state.approvals)
    };
    let given = state.grants.iter().find(|given| given.id == *grant).unwrap();
    assert_eq!(given.mode, Mode::Allow);
    assert_eq!(given.actions.len(), 1);
    assert_eq!(given.actions[0].to_string(), "slack:messages.send");
    assert_eq!(
        given.resources,
        [ResourcePattern::Exactly("channel:C0SUPPORT".parse().unwrap())]
    );
    let left = given.expires.unwrap().duration_since(Timestamp::now());
    assert!(
        left <= SignedDuration::from_hours(1) && left > SignedDuration::from_mins(59),
        "{left:?}"
    );
    assert_ne!(given.id, asks.id);
}

#[tokio::test]
async fn what_does_not_wait_or_whose_grant_is_gone_cannot_be_approved() {
    let bench = Bench::start().await;
    let asks = waiting(&bench).await;
    assert_eq!(
        refused(&bench, "/v1/approvals/ap_9/approve", &json!(null)).await,
        Code::NotFound
    );
    let zero = json!({ "for_seconds": 0 });
    assert_eq!(
        refused(&bench, "/v1/approvals/ap_1/grant", &zero).await,
        Code::Invalid
    );
    let gone = bench
        .person(Method::DELETE, &format!("/v1/grants/{}", asks.id), &())
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(
        refused(&bench, "/v1/approvals/ap_1/approve", &json!(null)).await,
        Code::Conflict
    );
    assert!(bench.gateway_state(0).await.approvals.is_empty());
}
