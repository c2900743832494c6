//! The dashboard as a browser without JavaScript gets it.

use clawstaff_api::nodes::Phase;
use clawstaff_types::{Decision, Outcome};
use http::{Method, StatusCode, header::CONTENT_SECURITY_POLICY};
use serde_json::json;

use super::bench::{Bench, Gateway, triage};

#[tokio::test]
async fn the_first_page_shows_the_fleet_and_the_log() {
    let bench = Bench::start().await;
    let empty = bench.person(Method::GET, "/", &()).await.text();
    assert!(empty.contains("There are no Claws yet"), "{empty}");
    let gateway = Gateway::new();
    gateway.hello(&bench).await;
    bench.apply(triage()).await;
    bench.runner_reports(Phase::Running).await;
    gateway
        .call(
            |event| event.decision = Some(Decision::Deny),
            Some(Outcome::Refused),
        )
        .await;
    gateway.pushed(&bench, 0).await;
    let answer = bench.person(Method::GET, "/", &()).await;
    let page = answer.text();
    for expected in [
        "href=\"/claws/triage\"",
        ">running<",
        "anthropic/claude-sonnet-5",
        ">deny<",
        "grant.added",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let policy = answer.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'self'"));
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<script>"));
    let filtered = bench
        .person(Method::GET, "/?claw=&decision=deny&text=", &())
        .await
        .text();
    assert!(
        filtered.contains(">deny<") && !filtered.contains("grant.added"),
        "{filtered}"
    );
}

#[tokio::test]
async fn what_people_write_is_never_markup() {
    let bench = Bench::start().await;
    let mut spec = triage();
    spec["claws"][0]["spec"]["description"] = json!("<script>alert(1)</script>");
    bench.apply(spec).await;
    for path in ["/", "/claws/triage", "/?claw=%22%3E%3Cscript%3E"] {
        let page = bench.person(Method::GET, path, &()).await.text();
        assert!(!page.contains("<script>"), "{path}");
    }
}

#[tokio::test]
async fn a_claw_has_a_page_with_its_grants_and_its_timeline() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let page = bench.person(Method::GET, "/claws/triage", &()).await.text();
    for expected in [
        "What it may do",
        "channel:C0SUPPORT",
        "gr_model_triage",
        "claw.deployed",
        "Revisions",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    let id = &bench.audit("kind=claw.deployed").await.records[0].id;
    let record = bench.person(Method::GET, &format!("/records/{id}"), &()).await;
    assert!(record.text().contains("claw.deployed"));
    let missing = bench.person(Method::GET, "/claws/nobody", &()).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.text().contains("<h1>Not possible</h1>"));
}

#[tokio::test]
async fn its_own_files_are_served_and_load_nothing_from_elsewhere() {
    let bench = Bench::start().await;
    for path in ["/static/style.css", "/static/live.js"] {
        let answer = bench.person(Method::GET, path, &()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.text().contains("http"), "{path}");
    }
}
