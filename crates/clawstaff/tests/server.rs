//! The command line against a stand-in for the control plane: what it sends, what it prints, how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, path::Path, process::Stdio, sync::Arc};

use axum::{
    Json, Router,
    http::{Request, StatusCode},
    response::{IntoResponse as _, Response},
    routing::any,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::UnixListener, process::Command};

type Answer = Arc<dyn Fn(&str, &Value) -> (u16, Value) + Send + Sync>;

/// Runs the program against a server that answers `METHOD PATH` and a body with a status and a body.
async fn run(
    words: &[&str],
    input: &str,
    answer: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static,
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for part in ["control", "run"] {
        std::fs::create_dir_all(data.join(part)).unwrap();
    }
    serve(&data.join("run/api.sock"), Arc::new(answer));
    let mut child = Command::new(env!("CARGO_BIN_EXE_clawstaff"))
        .args(words)
        .current_dir(folder.path())
        .env_clear()
        .env("CLAWSTAFF_DATA", &data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let mut text = format!("exit {}\n", output.status.code().unwrap());
    for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        let said = String::from_utf8(bytes).unwrap();
        if !said.is_empty() {
            write!(text, "--- {name}\n{said}").unwrap();
        }
    }
    text
}

fn serve(socket: &Path, answer: Answer) {
    let handler = move |request: Request<axum::body::Body>| {
        let answer = Arc::clone(&answer);
        async move { reply(request, answer).await }
    };
    let listener = UnixListener::bind(socket).unwrap();
    let router = Router::new().fallback(any(handler));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
}

async fn reply(request: Request<axum::body::Body>, answer: Answer) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (status, body) = answer(&line, &body);
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn claw(name: &str, phase: &str, reason: Option<&str>) -> Value {
    json!({
        "name": name, "description": "", "phase": phase, "reason": reason, "desired": "running", "revision": 2,
        "running_revision": 2, "ready": phase == "running", "cage": format!("{name}-00000001"), "starts": 1,
        "model": "anthropic/claude-sonnet-5", "grants": 3, "stats": null,
    })
}

fn status(gateway: u64) -> Value {
    json!({
        "version": "0.1.0", "revision": 7,
        "gateway": {
            "connected": true, "revision": gateway, "refused": null, "seal_key": "b/oQDHZ6P0cqgA28+s4GEBAdNNcfkQbwTSS8BS5h3E4=",
            "ingress": "http://127.0.0.1:1", "log_vkey": "x",
        },
        "runner": { "connected": true, "revision": 7, "backend": "native" },
        "logs": [],
    })
}

fn problem(status: u16, code: &str) -> (u16, Value) {
    (
        status,
        json!({ "code": code, "status": status, "detail": "no such thing", "hint": "look elsewhere" }),
    )
}

#[tokio::test]
async fn claws_are_listed_as_a_narrow_table() {
    let claws = json!([
        claw("a", "running", None),
        claw("support-triage", "failed", Some("the agent ended\u{1b}[31m"))
    ]);
    let text = run(&["claw", "list"], "", move |_, _| (200, claws.clone())).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn claws_are_listed_as_one_json_object_a_line() {
    let claws = json!([claw("a", "running", None), claw("b", "paused", None)]);
    let text = run(&["claw", "list", "-o", "json"], "", move |_, _| {
        (200, claws.clone())
    })
    .await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn each_problem_has_its_exit_code() {
    for (status, code, exit) in [
        (400, "invalid", 2),
        (401, "unauthenticated", 3),
        (403, "forbidden", 3),
        (404, "not_found", 4),
        (409, "conflict", 5),
        (422, "refused", 1),
        (500, "internal", 1),
        (503, "unavailable", 7),
    ] {
        let text = run(&["claw", "show", "a"], "", move |_, _| problem(status, code)).await;
        assert_eq!(
            text,
            format!("exit {exit}\n--- stderr\nerror: no such thing\nhint: look elsewhere\n")
        );
    }
}

const SPEC: &str = "[[claw]]\nname = \"a\"\ninstructions = \"the secret plan\"\n";

fn change(verb: &str, what: &str, effect: &str, detail: &str) -> Value {
    json!({ "verb": verb, "what": what, "effect": effect, "detail": detail })
}

#[tokio::test]
async fn apply_says_what_changes_and_what_widens_access() {
    let text = run(
        &["apply", "-f", "-", "--dry-run"],
        SPEC,
        |line, body| match line {
            "GET /v1/status" => (200, status(7)),
            "POST /v1/apply" => {
                assert_eq!(body["dry_run"], true);
                let changes = [
                    change("add", "claw a", "neutral", "revision 1"),
                    change("add", "grant a slack messages.read channel:C0", "widens", "allow"),
                    change("change", "connection slack", "neutral", "another address"),
                    change("remove", "guardrail g", "widens", ""),
                    change("remove", "grant b slack * *", "narrows", ""),
                ];
                (
                    200,
                    json!({ "changes": changes, "applied": false, "revision": 7 }),
                )
            }
            _ => problem(404, "not_found"),
        },
    );
    insta::assert_snapshot!(text.await);
}

#[tokio::test]
async fn instructions_leave_the_command_line_sealed() {
    let text = run(&["apply", "-f", "-", "--no-wait"], SPEC, |line, body| {
        if line == "GET /v1/status" {
            return (200, status(7));
        }
        assert!(!body.to_string().contains("secret plan"));
        assert!(body["spec"]["claws"][0]["spec"]["instructions"]["ciphertext"].is_string());
        (200, json!({ "changes": [], "applied": true, "revision": 7 }))
    });
    assert!(text.await.starts_with("exit 0\n"));
}

#[tokio::test]
async fn apply_waits_until_claws_run_under_the_new_policy() {
    let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let text = run(
        &["apply", "-f", "-"],
        "[[claw]]\nname = \"a\"\n",
        move |line, _| match line {
            "GET /v1/status" => (
                200,
                status(5 + asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
            ),
            "GET /v1/claws/a" => (200, claw("a", "running", None)),
            _ => (200, json!({ "changes": [], "applied": true, "revision": 7 })),
        },
    );
    insta::assert_snapshot!(text.await);
}

#[tokio::test]
async fn apply_fails_with_the_reason_when_a_claw_does() {
    let text = run(
        &["apply", "-f", "-"],
        "[[claw]]\nname = \"a\"\n",
        |line, _| match line {
            "GET /v1/status" => (200, status(7)),
            "GET /v1/claws/a" => (200, claw("a", "failed", Some("out of memory"))),
            _ => (200, json!({ "changes": [], "applied": true, "revision": 7 })),
        },
    );
    insta::assert_snapshot!(text.await);
}

#[tokio::test]
async fn records_as_json_always_have_the_documented_fields() {
    let text = run(
        &["audit", "query", "--claw", "a", "--limit", "2", "-o", "json"],
        "",
        |line, _| {
            assert_eq!(line, "GET /v1/audit?claw=a&limit=2");
            let record = json!({
                "id": "gateway:3", "log": "clawstaff.local/gateway", "index": 3, "outcome_index": null,
                "time": "2026-11-23T09:55:35Z", "seq": 1, "kind": "tool.denied", "actor": "claw:a",
            });
            (
                200,
                json!({ "records": [record], "cursor": null, "watermarks": [] }),
            )
        },
    )
    .await;
    let line = text.lines().nth(2).unwrap();
    let record: Value = serde_json::from_str(line).unwrap();
    for field in [
        "id",
        "log",
        "index",
        "time",
        "kind",
        "claw",
        "actor",
        "on_behalf_of",
        "cause",
        "action",
        "resource",
        "decision",
        "grants",
        "guardrails",
        "claw_revision",
        "policy_revision",
        "outcome",
        "digests",
    ] {
        assert!(record.get(field).is_some(), "{field} is missing in {line}");
    }
}

#[tokio::test]
async fn pages_of_a_long_query_come_with_the_newest_last() {
    let text = run(&["audit", "query", "--limit", "1500"], "", |line, _| {
        let record = |index: u64| {
            json!({
                "id": format!("gateway:{index}"), "log": "l", "index": index, "outcome_index": null,
                "time": "2026-11-23T09:55:35Z", "seq": index, "kind": "tool.call", "actor": "claw:a",
            })
        };
        let page = if line.contains("cursor=older") {
            json!({ "records": [record(1), record(2)], "cursor": null, "watermarks": [] })
        } else {
            json!({ "records": [record(3), record(4)], "cursor": "older", "watermarks": [] })
        };
        (200, page)
    });
    insta::assert_snapshot!(text.await);
}

#[tokio::test]
async fn a_check_prints_the_decision_and_why() {
    let text = run(
        &["grant", "check", "a", "slack:messages.read", "*"],
        "",
        |_, body| {
            assert_eq!(body["resource"], Value::Null);
            (
                200,
                json!({ "decision": "deny", "grants": [], "guardrails": ["g"], "reason": "guardrail g forbids it" }),
            )
        },
    );
    insta::assert_snapshot!(text.await);
}
