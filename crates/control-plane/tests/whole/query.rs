//! Questions to the audit log over the wire.

use clawstaff_api::{
    Code,
    people::{AuditRecord, ClawView, LogView},
};
use clawstaff_types::{Cause, Decision, Outcome};
use http::Method;

use super::bench::{Bench, Gateway, Tail, triage};

async fn recorded() -> (Bench, Gateway) {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    gateway.hello(&bench).await;
    gateway
        .call(
            |event| {
                event.action = Some("slack:messages.read".parse().unwrap());
                event.resource = Some("channel:C0SUPPORT".parse().unwrap());
                event.decision = Some(Decision::Allow);
                event.cause = Some(Cause("Ev1".parse().unwrap()));
            },
            Some(Outcome::Succeeded),
        )
        .await;
    gateway
        .call(
            |event| {
                event.action = Some("slack:messages.send".parse().unwrap());
                event.decision = Some(Decision::Deny);
                event.reason = Some("no grant speaks of it".into());
            },
            Some(Outcome::Refused),
        )
        .await;
    gateway.pushed(&bench, 0).await;
    (bench, gateway)
}

#[tokio::test]
async fn filters_combine_and_find_what_they_say() {
    let (bench, _gateway) = recorded().await;
    for (query, expected) in [
        ("claw=triage", vec!["gateway:0", "gateway:2"]),
        ("decision=deny", vec!["gateway:2"]),
        ("action=slack:messages.*&decision=allow", vec!["gateway:0"]),
        ("resource=channel:C0SUPPORT", vec!["gateway:0"]),
        ("outcome=refused", vec!["gateway:2"]),
        ("cause=Ev1", vec!["gateway:0"]),
        ("text=grant%20speaks", vec!["gateway:2"]),
        (
            "actor=claw:triage&kind=tool.call,tool.denied",
            vec!["gateway:0", "gateway:2"],
        ),
        ("since=2100-01-01T00:00:00Z", vec![]),
        (
            "until=2100-01-01T00:00:00Z&limit=1&claw=triage",
            vec!["gateway:2"],
        ),
        ("claw=nobody", vec![]),
    ] {
        let records = bench.audit(query).await.records;
        let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, expected, "{query}");
    }
}

#[tokio::test]
async fn pages_go_back_in_time_and_end() {
    let (bench, _gateway) = recorded().await;
    let first = bench.audit("claw=triage&limit=1").await;
    assert_eq!(first.records[0].id, "gateway:2");
    let second = bench
        .audit(&format!("claw=triage&limit=1&cursor={}", first.cursor.unwrap()))
        .await;
    assert_eq!(second.records[0].id, "gateway:0");
    assert!(second.cursor.is_none());
    let gateway = second
        .watermarks
        .iter()
        .find(|log| log.origin == "clawstaff.local/gateway");
    assert_eq!(gateway.map(|log| (log.size, log.known)), Some((4, 4)));
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let bench = Bench::start().await;
    for query in [
        "limit=0",
        "limit=1001",
        "decision=perhaps",
        "kind=x",
        "since=now",
        "cursor=x",
        "colour=red",
    ] {
        let problem = bench
            .person(Method::GET, &format!("/v1/audit?{query}"), &())
            .await
            .problem();
        assert_eq!(problem.code, Code::Invalid, "{query}");
    }
}

#[tokio::test]
async fn one_record_is_found_by_its_id() {
    let (bench, _gateway) = recorded().await;
    let record: AuditRecord = bench.get("/v1/audit/gateway:2").await;
    assert_eq!(record.event.decision, Some(Decision::Deny));
    for id in ["gateway:1", "gateway:99", "other:0", "gateway", "gateway:x"] {
        let problem = bench
            .person(Method::GET, &format!("/v1/audit/{id}"), &())
            .await
            .problem();
        assert_eq!(problem.code, Code::NotFound, "{id}");
    }
    let logs: Vec<LogView> = bench.get("/v1/audit/checkpoints").await;
    assert_eq!(logs.len(), 2);
}

#[tokio::test]
async fn a_tail_shows_records_as_they_arrive_and_again_with_their_outcome() {
    let (bench, gateway) = recorded().await;
    let mut tail = Tail::open(&bench, "claw=triage").await;
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    let whole = gateway.push_from(4);
    gateway.pushed(&bench, 4).await;
    assert_eq!(whole.leaves.len(), 2);
    let record = tail.next().await;
    assert_eq!(record["id"], "gateway:4");
    assert_eq!(record["outcome"], "succeeded");
    bench.apply(triage()).await;
    bench.post::<ClawView>("/v1/claws/triage/stop", &()).await;
    loop {
        let record = tail.next().await;
        assert_eq!(record["claw"], "triage");
        if record["facts"]["wish"] == "stop" {
            break;
        }
    }
    let dir = bench.stop().await;
    drop(dir);
}
