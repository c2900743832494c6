//! Taking the log out in other formats.

use clawstaff_types::Outcome;
use http::{Method, StatusCode, header};

use super::bench::{Bench, Following, Gateway};

async fn with_calls(count: usize) -> (Bench, Gateway) {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    gateway.hello(&bench).await;
    for number in 0..count {
        let change = |event: &mut clawstaff_types::Event| {
            event.resource = Some(format!("channel:C{number}").parse().unwrap());
            event.reason = Some(format!("number {number}\nand \"more\", =1+1"));
        };
        gateway.call(change, Some(Outcome::Succeeded)).await;
    }
    gateway.pushed(&bench, 0).await;
    (bench, gateway)
}

#[tokio::test]
async fn an_export_has_every_record_once_in_each_format() {
    let (bench, _gateway) = with_calls(300).await;
    for (query, media, lines) in [
        ("format=jsonl", "application/jsonl", 300),
        ("format=csv", "text/csv; charset=utf-8; header=present", 301),
        ("format=ocsf", "application/jsonl", 300),
        ("format=ocsf&ocsf_version=1.1", "application/jsonl", 300),
        ("format=cef", "text/plain; charset=utf-8", 300),
    ] {
        let path = format!("/v1/audit/export?{query}&kind=tool.call");
        let answer = bench.person(Method::GET, &path, &()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers[header::CONTENT_TYPE], media);
        let text = answer.text();
        assert_eq!(text.lines().count(), lines, "{query}");
        for number in [0, 299] {
            assert_eq!(
                text.matches(&format!("channel:C{number}\"")).count() > 0,
                !query.contains("cef"),
                "{query}"
            );
        }
    }
    bench.stop().await;
}

#[tokio::test]
async fn an_export_is_on_record_before_it_begins() {
    let (bench, _gateway) = with_calls(1).await;
    let path = "/v1/audit/export?format=ocsf&ocsf_version=1.5&claw=triage";
    let answer = bench.person(Method::GET, path, &()).await;
    let event: serde_json::Value = answer.json();
    assert_eq!(event["metadata"]["version"], "1.5.0");
    assert_eq!(event["metadata"]["uid"], "clawstaff.local/gateway:0");
    let page = bench.audit("kind=audit.export").await;
    let [record] = page.records.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!(record.event.facts["format"], "ocsf-1.5.0");
    assert!(record.event.facts["filter"].contains("triage"), "{record:?}");
    // It is not in the export itself, and the next one has it.
    let all = bench
        .person(Method::GET, "/v1/audit/export?format=jsonl", &())
        .await;
    assert_eq!(all.text().matches("\"audit.export\"").count(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_following_export_goes_on_as_records_come() {
    let (bench, gateway) = with_calls(2).await;
    let mut lines = Following::open(&bench, "format=csv&claw=triage").await;
    assert!(lines.next().await.starts_with("\"id\",\"log\",\"index\""));
    assert!(lines.next().await.starts_with("\"gateway:0\""));
    assert!(lines.next().await.starts_with("\"gateway:2\""));
    let known = gateway.log.size();
    gateway.call(|_| {}, Some(Outcome::Failed)).await;
    gateway.pushed(&bench, known).await;
    assert!(lines.next().await.starts_with("\"gateway:4\""));
    bench.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_not_recorded() {
    let bench = Bench::start().await;
    for query in [
        "format=xml",
        "",
        "format=csv&ocsf_version=1.5",
        "format=ocsf&ocsf_version=2",
        "format=csv&limit=1",
    ] {
        let path = format!("/v1/audit/export?{query}");
        let answer = bench.person(Method::GET, &path, &()).await;
        assert_eq!(answer.problem().status, 400, "{query}");
    }
    assert_eq!(bench.audit("kind=audit.export").await.records.len(), 0);
    bench.stop().await;
}
