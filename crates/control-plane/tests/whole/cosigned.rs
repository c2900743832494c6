//! The control plane's own log, shown to the gateway and cosigned by it.

use clawstaff_api::{
    Code,
    nodes::{ControlLog, Cosigned, GATEWAY_CONTROL_LOG, GATEWAY_COSIGNED, GatewayWelcome},
    people::LogView,
};
use clawstaff_audit::{Checkpoint, SigningKey, VerifyingKey, cosignature::cosign, tree::verify_consistency};
use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::bench::{Answer, Bench, GATEWAY_TOKEN, Gateway};

async fn own_log(bench: &Bench, from: u64) -> ControlLog {
    let path = format!("{GATEWAY_CONTROL_LOG}?from={from}");
    bench.node(GATEWAY_TOKEN, Method::GET, &path, &()).await.json()
}

async fn cosigned(bench: &Bench, checkpoint: String) -> Answer {
    let cosigned = Cosigned { checkpoint };
    bench
        .node(GATEWAY_TOKEN, Method::POST, GATEWAY_COSIGNED, &cosigned)
        .await
}

/// Something that is recorded in the control plane's own log.
async fn grow(bench: &Bench, name: &str) {
    let guardrail =
        json!({ "guardrails": [{ "name": name, "actions": ["*"], "resources": ["repo:acme/x"] }] });
    bench.apply(guardrail).await;
}

async fn shown(bench: &Bench) -> String {
    let logs: Vec<LogView> = bench.get("/v1/audit/checkpoints").await;
    let own = logs
        .into_iter()
        .find(|log| log.origin == "clawstaff.local/control");
    own.unwrap().checkpoint
}

#[tokio::test]
async fn the_own_log_is_shown_as_it_grows_and_its_cosignature_is_kept() {
    let (bench, gateway) = (Bench::start().await, Gateway::new());
    let welcome: GatewayWelcome = gateway.hello(&bench).await;
    let key = VerifyingKey::parse(&welcome.log_vkey).unwrap();
    grow(&bench, "one").await;
    let first = own_log(&bench, 0).await;
    let one = Checkpoint::verify(&first.checkpoint, &key).unwrap();
    grow(&bench, "two").await;
    let mut second = own_log(&bench, one.size).await;
    let two = Checkpoint::verify(&second.checkpoint, &key).unwrap();
    assert!(verify_consistency(
        one.size,
        two.size,
        &one.root,
        &two.root,
        &second.consistency
    ));
    // Somebody who has seen more than there is is told what there is.
    assert_eq!(own_log(&bench, two.size + 100).await.consistency, []);

    second.checkpoint = cosign(&second.checkpoint, &gateway.key, Timestamp::now()).unwrap();
    assert_eq!(cosigned(&bench, second.checkpoint.clone()).await.status, 204);
    assert_eq!(shown(&bench).await, second.checkpoint);
    // An older one that comes late does not replace it, and a restart does not lose it.
    let late = cosign(&first.checkpoint, &gateway.key, Timestamp::now()).unwrap();
    assert_eq!(cosigned(&bench, late).await.status, 204);
    let bench = bench.restart().await;
    assert_eq!(shown(&bench).await, second.checkpoint);
}

#[tokio::test]
async fn cosignatures_by_others_or_of_other_checkpoints_are_refused() {
    let (bench, gateway) = (Bench::start().await, Gateway::new());
    gateway.hello(&bench).await;
    grow(&bench, "one").await;
    let log = own_log(&bench, 0).await;
    let stranger = SigningKey::generate("stranger").unwrap();
    let by_stranger = cosign(&log.checkpoint, &stranger, Timestamp::now()).unwrap();
    let other = cosign(&gateway.log.checkpoint(), &gateway.key, Timestamp::now());
    for bad in [
        log.checkpoint.clone(),
        by_stranger,
        other.unwrap_or_default(),
        String::new(),
    ] {
        assert_eq!(cosigned(&bench, bad).await.problem().code, Code::Invalid);
    }
    assert!(!shown(&bench).await.contains("— clawstaff.local/gateway"));
}
