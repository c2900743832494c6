//! The gateway's log arrives: taken in when it extends what is known, refused and recorded when it does not.

use clawstaff_api::{Code, nodes::LogAck};
use clawstaff_audit::{
    Checkpoint, Cosigner, Entry,
    note::{Note, VerifyingKey},
    tree::{CompactRange, leaf_hash},
};
use clawstaff_types::{Digest, EventKind, Outcome};
use http::{Method, StatusCode};

use super::bench::{Bench, Gateway, leaf};

async fn introduced() -> (Bench, Gateway) {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    gateway.hello(&bench).await;
    (bench, gateway)
}

async fn gaps(bench: &Bench) -> usize {
    let incidents = bench.audit("kind=incident.opened").await.records.len();
    assert_eq!(incidents, bench.audit("kind=audit.gap").await.records.len());
    bench.audit("kind=audit.gap").await.records.len()
}

fn root(leaves: &[String]) -> Digest {
    let mut range = CompactRange::new();
    for leaf in leaves {
        range.push(leaf_hash(leaf.as_bytes()));
    }
    range.root()
}

#[tokio::test]
async fn a_push_is_checked_cosigned_indexed_and_kept_in_a_file() {
    let (bench, gateway) = introduced().await;
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    gateway.call(|_| {}, None).await;
    let ack = gateway.pushed(&bench, 0).await;
    let checkpoint = Checkpoint::verify(&ack.cosigned, &gateway.key.verifying_key()).unwrap();
    assert_eq!(checkpoint.size, 3);
    let own = std::fs::read(bench.home("log.key")).unwrap();
    let own = clawstaff_audit::SigningKey::from_bytes(
        "clawstaff.local/control",
        own.as_slice().try_into().unwrap(),
    );
    let own: VerifyingKey = own.unwrap().verifying_key();
    let note = Note::parse(&ack.cosigned).unwrap();
    Cosigner::of(&own).verify(&note).unwrap();
    assert_eq!(
        std::fs::read_to_string(bench.home("gateway.checkpoint")).unwrap(),
        ack.cosigned
    );
    let records = bench.audit("claw=triage").await.records;
    assert_eq!(records.len(), 2);
    assert_eq!(
        (records[0].id.as_str(), records[0].outcome_index),
        ("gateway:0", Some(1))
    );
    assert_eq!(records[0].event.outcome, Some(Outcome::Succeeded));
    assert_eq!((records[1].index, records[1].outcome_index), (2, None));
}

#[tokio::test]
async fn an_outcome_that_comes_with_a_later_push_finds_its_intent() {
    let (bench, gateway) = introduced().await;
    gateway.call(|_| {}, Some(Outcome::Failed)).await;
    let whole = gateway.push_from(0);
    let first = vec![whole.leaves[0].clone()];
    let ack: LogAck = bench
        .push(&gateway.forged(0, first.clone(), root(&first)))
        .await
        .json();
    assert_eq!(ack.size, 1);
    assert_eq!(bench.audit("claw=triage").await.records[0].event.outcome, None);
    gateway.pushed(&bench, 1).await;
    let records = bench.audit("claw=triage&outcome=failed").await.records;
    assert_eq!((records.len(), records[0].outcome_index), (1, Some(1)));
}

#[tokio::test]
async fn a_push_sent_again_is_acknowledged_and_changes_nothing() {
    let (bench, gateway) = introduced().await;
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    let first = gateway.push_from(0);
    let ack = gateway.pushed(&bench, 0).await;
    let again: LogAck = bench.push(&first).await.json();
    assert_eq!(again, ack);
    gateway.call(|_| {}, None).await;
    let overlapping = gateway.pushed(&bench, 1).await;
    assert_eq!(overlapping.size, 3);
    let old: LogAck = bench.push(&first).await.json();
    assert_eq!(old.size, 3);
    assert_eq!(bench.audit("claw=triage").await.records.len(), 2);
    assert_eq!(gaps(&bench).await, 0);
}

#[tokio::test]
async fn a_changed_leaf_is_refused_and_recorded_once() {
    let (bench, gateway) = introduced().await;
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    let mut push = gateway.push_from(0);
    push.leaves[0] = push.leaves[0].replace("tool.call", "tool.deny");
    for _ in 0..2 {
        let problem = bench.push(&push).await.problem();
        assert_eq!(problem.code, Code::Conflict);
    }
    assert_eq!(gaps(&bench).await, 1);
    assert!(bench.audit("claw=triage").await.records.is_empty());
    gateway.pushed(&bench, 0).await;
}

#[tokio::test]
async fn a_history_that_was_rewritten_and_signed_anew_is_refused() {
    let (bench, gateway) = introduced().await;
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    gateway.pushed(&bench, 0).await;
    let mut leaves = gateway.push_from(0).leaves;
    let mut entry = Entry::parse(leaves[0].as_bytes()).unwrap();
    entry.event.kind = EventKind::MessageRead;
    leaves[0] = leaf(&entry);
    let forged = gateway.forged(0, leaves.clone(), root(&leaves));
    let problem = bench.push(&forged).await.problem();
    assert_eq!(problem.code, Code::Conflict);
    assert!(problem.detail.contains("entry 0"), "{}", problem.detail);
    leaves.push(leaf(&entry));
    let extended = gateway.forged(2, vec![leaves[2].clone()], root(&leaves));
    let problem = bench.push(&extended).await.problem();
    assert!(problem.detail.contains("root"), "{}", problem.detail);
    assert_eq!(gaps(&bench).await, 2);
}

#[tokio::test]
async fn a_gap_is_refused_and_says_from_where_to_push() {
    let (bench, gateway) = introduced().await;
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    let problem = bench.push(&gateway.push_from(1)).await.problem();
    assert_eq!(problem.code, Code::Conflict);
    assert!(problem.detail.contains("push from 0"), "{}", problem.detail);
    assert_eq!(gaps(&bench).await, 1);
}

#[tokio::test]
async fn another_key_is_refused_at_the_door_and_under_a_checkpoint() {
    let (bench, gateway) = introduced().await;
    let other = Gateway::new();
    let problem = other.try_hello(&bench).await.problem();
    assert_eq!(problem.code, Code::Conflict);
    assert!(problem.detail.contains("pinned"), "{}", problem.detail);
    other.call(|_| {}, None).await;
    assert_eq!(
        bench.push(&other.push_from(0)).await.problem().code,
        Code::Conflict
    );
    gateway.call(|_| {}, None).await;
    gateway.pushed(&bench, 0).await;
}

#[tokio::test]
async fn a_push_whose_checkpoint_covers_something_else_is_malformed() {
    let (bench, gateway) = introduced().await;
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    let mut push = gateway.push_from(0);
    push.leaves.pop();
    assert_eq!(bench.push(&push).await.problem().code, Code::Invalid);
    let many = vec!["{}".to_owned(); 1001];
    let push = gateway.forged(0, many.clone(), root(&many));
    assert_eq!(bench.push(&push).await.problem().code, Code::Invalid);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_shows_as_a_gap_and_stops_nothing() {
    let (bench, gateway) = introduced().await;
    let leaves = vec![r#"{"v":99}"#.to_owned()];
    let ack: LogAck = bench
        .push(&gateway.forged(0, leaves.clone(), root(&leaves)))
        .await
        .json();
    assert_eq!(ack.size, 1);
    let records = bench.audit("kind=audit.gap").await.records;
    assert_eq!(records[0].id, "gateway:0");
}

#[tokio::test]
async fn a_gateway_that_never_said_hello_pushes_nothing() {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    gateway.call(|_| {}, None).await;
    assert_eq!(
        bench.push(&gateway.push_from(0)).await.problem().code,
        Code::Conflict
    );
}

#[tokio::test]
async fn a_rebuilt_index_begins_where_retention_has_left_the_log_and_forgets_what_goes_later() {
    let (bench, gateway) = introduced().await;
    for _ in 0..5 {
        gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    }
    gateway.pushed(&bench, 0).await;
    let ids = async || {
        let records = bench.audit("claw=triage").await.records;
        records.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    let rebuilt = bench.person(Method::POST, "/v1/audit/rebuild", &()).await;
    assert_eq!(rebuilt.status, StatusCode::OK);
    assert_eq!(gateway.hello(&bench).await.log_size, 0);

    let mut push = gateway.push_from(4);
    assert_eq!(
        bench.push(&push).await.problem().code,
        Code::Conflict,
        "nothing was pruned"
    );
    push.first = 4;
    let ack: LogAck = bench.push(&push).await.json();
    assert_eq!(ack.size, 10);
    assert_eq!(ids().await, ["gateway:4", "gateway:6", "gateway:8"]);

    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    let mut push = gateway.push_from(10);
    push.first = 7;
    let ack: LogAck = bench.push(&push).await.json();
    assert_eq!(ack.size, 12);
    assert_eq!(ids().await, ["gateway:8", "gateway:10"]);
    assert_eq!(gaps(&bench).await, 0);
}
