//! Every route leaves the record that the table of routes promises, and no route is left out.

use clawstaff_api::join::{JOIN, RENEW, RenewRequest};
use clawstaff_api::nodes::{
    CONTROL_ENTRIES, ControlLog, Cosigned, GATEWAY_CONTROL_LOG, GATEWAY_COSIGNED, GATEWAY_HELLO, GATEWAY_LOG,
    GATEWAY_STATE, GATEWAY_STATUS, GatewayStatus, Phase, RUNNER_STATE, RUNNER_STATUS, RunnerStatus,
};
use clawstaff_api::people::AuditRecord;
use clawstaff_audit::cosignature::cosign;
use clawstaff_control_plane::{Leaves, records_of_routes};
use clawstaff_types::{Actor, EventKind, Grant, Outcome};
use http::{
    Method,
    header::{AUTHORIZATION, COOKIE},
};
use serde_json::{Value, json};

use super::bench::{Answer, Bench, GATEWAY_TOKEN, Gateway, RUNNER_TOKEN, Tail, sealed, triage};
use super::{approvals, joining};

/// Records of the control plane's own log from this index on.
async fn records(bench: &Bench, from: u64) -> Vec<AuditRecord> {
    let page = bench.audit("limit=1000").await;
    let own = page
        .records
        .into_iter()
        .filter(|record| record.id.starts_with("control:"));
    own.filter(|record| record.index >= from).collect()
}

/// The index that the next record will have, or one before it.
async fn end(bench: &Bench) -> u64 {
    let all = records(bench, 0).await;
    let last = all
        .iter()
        .map(|record| record.outcome_index.unwrap_or(record.index))
        .max();
    last.map_or(0, |last| last + 1)
}

/// The running Claw of the example, whatever was done to it before.
async fn world(bench: &Bench) {
    bench.apply(triage()).await;
    bench.runner_reports(Phase::Running).await;
}

async fn wish(bench: &Bench, wish: &str, then: Phase) {
    let answer = bench
        .person(Method::POST, &format!("/v1/claws/triage/{wish}"), &())
        .await;
    assert!(answer.status.is_success(), "{}", answer.text());
    bench.runner_reports(then).await;
}

async fn revise(bench: &Bench) {
    let mut spec = triage();
    spec["claws"][0]["spec"]["instructions"] = sealed("second");
    bench.apply(spec).await;
}

fn a_sink(name: &str) -> Value {
    json!({ "name": name, "kind": "file", "format": "csv" })
}

async fn a_grant(bench: &Bench) -> String {
    let grants: Vec<Grant> = bench.get("/v1/grants").await;
    grants[0].id.to_string()
}

/// What has to be so before the route can do its work.
async fn prepare(bench: &Bench, method: &str, path: &str) {
    world(bench).await;
    match (method, path) {
        ("POST", "/v1/apply") => {
            bench.person(Method::DELETE, "/v1/claws/triage", &()).await;
        }
        ("POST", "/v1/claws/{name}/start") => wish(bench, "stop", Phase::Stopped).await,
        ("POST", "/v1/claws/{name}/resume") => wish(bench, "pause", Phase::Paused).await,
        ("POST", "/v1/claws/{name}/rollback") => revise(bench).await,
        ("POST", path) if path.starts_with("/v1/approvals/") => {
            let asks = approvals::asking_grant(bench).await;
            approvals::report(bench, &asks, waiting_at(path), &[]).await;
        }
        ("POST", RENEW) => {
            // Its first request is a login.
            renewed(bench).await;
            bench.person(Method::DELETE, "/v1/nodes/renews", &()).await;
        }
        ("DELETE", "/v1/audit/sinks/{name}") => {
            bench
                .person(Method::POST, "/v1/audit/sinks", &a_sink("taken-away"))
                .await;
        }
        _ => {}
    }
}

/// A node joins and renews its certificate.
async fn renewed(bench: &Bench) -> Answer {
    let host = joining::joined(bench, "renews").await;
    let renew = RenewRequest {
        public_key: host.public_key(),
    };
    host.ask(bench, None, Method::POST, RENEW, &renew).await
}

/// The id of the waiting call that a route decides: one for each.
fn waiting_at(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn body(method: &str, path: &str) -> Value {
    match (method, path) {
        ("POST", "/v1/apply") => json!({ "spec": triage(), "dry_run": false, "prune": false }),
        ("POST", "/v1/claws/{name}/rollback") => json!({ "revision": 1 }),
        ("POST", "/v1/claws/{name}/messages") => json!({ "sealed": sealed("hello") }),
        ("POST", "/v1/grants") => json!({
            "claw": "triage",
            "grant": { "connection": "slack", "actions": ["messages.send"], "resources": ["channel:C0SUPPORT"] },
        }),
        ("POST", "/v1/approvals/{id}/grant") => json!({ "for_seconds": 60 }),
        ("POST", "/v1/grants/check") => {
            json!({ "claw": "triage", "action": "slack:messages.read", "resource": null })
        }
        ("POST", "/v1/guardrails") => {
            json!({ "name": "no-sending", "actions": ["slack:messages.send"], "resources": ["*"] })
        }
        ("POST", "/v1/audit/sinks") => a_sink("files"),
        ("POST", "/v1/nodes") => json!({ "node": "berlin", "pool": "eu" }),
        _ => Value::Null,
    }
}

/// Uses a route as somebody would who may.
async fn drive(bench: &Bench, gateway: &Gateway, method: &str, path: &str) -> Answer {
    let verb: Method = method.parse().unwrap();
    match (method, path) {
        ("POST", GATEWAY_HELLO) => gateway.try_hello(bench).await,
        ("GET", GATEWAY_STATE) => bench.node(GATEWAY_TOKEN, verb, path, &()).await,
        ("POST", GATEWAY_LOG) => bench.push(&gateway.push_from(0)).await,
        ("POST", GATEWAY_COSIGNED) => {
            let own = format!("{GATEWAY_CONTROL_LOG}?from=0");
            let own: ControlLog = bench.node(GATEWAY_TOKEN, Method::GET, &own, &()).await.json();
            let checkpoint = cosign(&own.checkpoint, &gateway.key, jiff::Timestamp::now()).unwrap();
            bench
                .node(GATEWAY_TOKEN, verb, path, &Cosigned { checkpoint })
                .await
        }
        ("POST", GATEWAY_STATUS) => {
            bench
                .node(GATEWAY_TOKEN, verb, path, &GatewayStatus::default())
                .await
        }
        ("GET", GATEWAY_CONTROL_LOG | CONTROL_ENTRIES) => {
            bench
                .node(GATEWAY_TOKEN, verb, &format!("{path}?from=0"), &())
                .await
        }
        ("GET", "/v1/audit/export") => bench.person(verb, "/v1/audit/export?format=csv", &()).await,
        ("POST", JOIN) => {
            joining::join(bench, &joining::invited(bench, "joins").await, "joins")
                .await
                .0
        }
        ("POST", RENEW) => renewed(bench).await,
        ("DELETE", "/v1/nodes/{name}") => {
            joining::joined(bench, "leaves").await;
            bench.person(verb, "/v1/nodes/leaves", &()).await
        }
        ("GET", RUNNER_STATE) => bench.node(RUNNER_TOKEN, verb, path, &()).await,
        ("POST", RUNNER_STATUS) => {
            bench
                .node(RUNNER_TOKEN, verb, path, &RunnerStatus::default())
                .await
        }
        ("DELETE", "/v1/grants/{id}") => {
            let grant = a_grant(bench).await;
            bench.person(verb, &format!("/v1/grants/{grant}"), &()).await
        }
        _ => {
            let (name, id) = match path {
                "/v1/guardrails/{name}" => ("no-production-writes", ""),
                "/v1/audit/sinks/{name}" => ("taken-away", ""),
                "/v1/connectors/{id}" => ("", "slack"),
                _ if path.starts_with("/v1/approvals/") => ("", waiting_at(path)),
                _ => ("triage", "control:0"),
            };
            let target = path.replace("{name}", name).replace("{id}", id);
            bench.person(verb, &target, &body(method, path)).await
        }
    }
}

#[tokio::test]
async fn every_route_leaves_the_record_that_the_table_promises() {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    gateway.call(|_| {}, Some(Outcome::Succeeded)).await;
    // The first requests of each caller are logins; they are not what is looked for here.
    bench.gateway_state(0).await;
    let mut driven = 0;
    // Only who has introduced itself may report and push, so that route goes first.
    let (first, others): (Vec<_>, Vec<_>) =
        records_of_routes().partition(|(_, path, _)| *path == GATEWAY_HELLO);
    for (method, path, leaves) in first.into_iter().chain(others) {
        prepare(&bench, method, path).await;
        let from = end(&bench).await;
        if path == "/v1/audit/tail" {
            drop(Tail::open(&bench, "").await);
        } else {
            let answer = drive(&bench, &gateway, method, path).await;
            assert!(answer.status.is_success(), "{method} {path}: {}", answer.text());
        }
        let found = records(&bench, from).await;
        match leaves {
            Leaves::Record(kinds) => {
                assert!(!found.is_empty(), "{method} {path} left no record");
                for record in &found {
                    let event = &record.event;
                    assert!(kinds.contains(&event.kind), "{method} {path} left {record:?}");
                    assert_eq!(
                        event.outcome,
                        Some(Outcome::Succeeded),
                        "{method} {path} left {record:?}"
                    );
                }
            }
            Leaves::Nothing(_) => assert!(found.is_empty(), "{method} {path} left {found:?}"),
        }
        driven += 1;
    }
    assert_eq!(driven, records_of_routes().count());
}

#[test]
fn a_route_that_changes_something_says_why_if_it_leaves_no_record() {
    let silent: Vec<String> = records_of_routes()
        .filter(|(method, _, leaves)| *method != "GET" && matches!(leaves, Leaves::Nothing(_)))
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    // The whole list of exceptions; a new one is a decision, not an oversight.
    let expected = [
        "POST /v1/grants/check",
        "POST /nodes/v1/gateway/log",
        "POST /nodes/v1/gateway/status",
        "POST /nodes/v1/gateway/control-log/cosigned",
        "POST /nodes/v1/runner/status",
    ];
    assert_eq!(silent, expected);
}

#[tokio::test]
async fn logins_logouts_and_refusals_are_on_record() {
    let bench = Bench::start().await;
    let kinds = async |kind: &str| bench.audit(&format!("kind={kind}")).await.records;
    let me = format!("member:uid-{}", rustix::process::getuid().as_raw());
    assert_eq!(kinds("auth.login").await[0].event.actor.to_string(), me);
    assert_eq!(
        kinds("auth.login").await.len(),
        1,
        "one login, however many requests"
    );

    let wrong = [(AUTHORIZATION, "Bearer wrong".to_owned())];
    bench.network(Method::GET, "/v1/claws", &wrong).await;
    bench.node("wrong", Method::GET, GATEWAY_STATE, &()).await;
    let failed = kinds("auth.failed").await;
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[0].event.facts["from"], "127.0.0.1");
    assert_eq!(failed[0].event.outcome, Some(Outcome::Refused));

    bench.gateway_state(0).await;
    let gateway = Actor::System("gateway".to_owned());
    assert!(
        kinds("auth.login")
            .await
            .iter()
            .any(|login| login.event.actor == gateway)
    );

    let token = bench.dashboard_token();
    bench.network(Method::GET, &format!("/?token={token}"), &[]).await;
    let cookie = [(COOKIE, format!("clawstaff={token}"))];
    let gone = bench.network(Method::POST, "/logout", &cookie).await;
    let cookie = gone.headers[http::header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.starts_with("clawstaff=;") && cookie.contains("Max-Age=0"),
        "{cookie}"
    );
    let logout = kinds("auth.logout").await;
    assert_eq!(logout.len(), 1);
    assert_eq!(logout[0].event.kind, EventKind::AuthLogout);
    assert_eq!(logout[0].event.actor.to_string(), "member:dashboard-token");
    let shown = serde_json::to_string(&bench.audit("").await.records).unwrap();
    assert!(!shown.contains(token.trim()), "no record holds the token");
}

#[tokio::test]
async fn a_flood_of_refusals_does_not_fill_the_log_and_is_counted() {
    let bench = Bench::start().await;
    for _ in 0..60 {
        bench.network(Method::GET, "/v1/claws", &[]).await;
    }
    let bench = bench.restart().await;
    let failed = bench.audit("kind=auth.failed&limit=1000").await.records;
    assert!(failed.len() < 30, "{} records", failed.len());
    let counted: usize = failed
        .iter()
        .filter_map(|record| record.event.facts.get("not_recorded")?.parse::<usize>().ok())
        .sum();
    let one_by_one = failed
        .iter()
        .filter(|record| record.event.facts.contains_key("from"))
        .count();
    assert_eq!(one_by_one + counted, 60, "{failed:?}");
}

#[test]
fn the_page_of_kinds_speaks_of_every_kind() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit-kinds.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = page.split("## The kinds").nth(1).unwrap();
    for kind in EventKind::ALL {
        assert!(
            table.contains(&format!("`{kind}`")),
            "docs/audit-kinds.md says nothing of `{kind}`"
        );
    }
}
