//! The built-in agent's loop: inbox, model, tools, acknowledgement, journal.

use std::{net::SocketAddr, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::gateway::{Asked, Gateway, Script, Scripted, closing, tool_use};

/// A running agent and its gateway.
struct Rig {
    gateway: Gateway,
    dir: TempDir,
    _agent: Child,
}

pub(crate) fn item(id: &str) -> Value {
    json!({ "id": id, "source": "message", "event": { "text": "please help" }, "attempt": 1 })
}

pub(crate) fn claw_file(command: &[&str], api: &str) -> Value {
    json!({
        "contract": 1, "claw": "triage", "revision": 3, "command": command,
        "env": { "SLACK_BOT_TOKEN": "xoxb-placeholder" },
        "model": { "api": api, "name": "model-1" },
    })
}

async fn rig(api: &str, script: Script) -> Rig {
    let gateway = Gateway::new(script);
    let doors: SocketAddr = gateway.listen().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("claw.json"), claw_file(&[], api).to_string()).unwrap();
    std::fs::write(dir.path().join("instructions.md"), "Turn messages into tickets.").unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_claw"))
        .args([
            "agent",
            "--doors",
            &doors.to_string(),
            "--proxy",
            &doors.to_string(),
        ])
        .arg("--claw-dir")
        .arg(dir.path())
        .arg("--data")
        .arg(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Rig {
        gateway,
        dir,
        _agent: agent,
    }
}

impl Rig {
    async fn ack(&mut self, id: &str) -> Value {
        self.gateway.asked(&format!("/claw/v1/inbox/{id}/ack")).await.body
    }

    async fn question(&mut self) -> Asked {
        self.gateway.asked("/anthropic/v1/messages").await
    }

    /// The results that the model was given in its next question.
    async fn results(&mut self) -> Vec<Value> {
        let body = self.question().await.body;
        let last = body["messages"].as_array().unwrap().last().unwrap().clone();
        last["content"].as_array().unwrap().clone()
    }
}

/// One item, whose answers of the model are `model`.
fn script(model: Vec<Scripted>) -> Script {
    Script {
        items: [item("Ev1")].into(),
        model: model.into(),
        ..Script::default()
    }
}

#[tokio::test]
async fn an_item_is_worked_on_with_granted_tools_and_closed() {
    let mut rig = rig(
        "anthropic",
        Script {
            tools: vec!["slack_messages_read"],
            ..script(vec![
                tool_use(&[("slack_messages_read", json!({ "channel": "C1" }))]),
                closing("Made ticket 7."),
            ])
        },
    )
    .await;
    let first = rig.question().await;
    assert_eq!(first.body["model"], "model-1");
    assert_eq!(first.headers["anthropic-version"], "2023-06-01");
    assert!(
        first.body["system"]
            .as_str()
            .unwrap()
            .ends_with("Turn messages into tickets.")
    );
    let told = first.body["messages"][0]["content"][0]["text"].as_str().unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(
        (&told["id"], &told["event"]["text"]),
        (&json!("Ev1"), &json!("please help"))
    );
    let tools = first.body["tools"].as_array().unwrap();
    assert!(tools.iter().any(|tool| tool["name"] == "slack_messages_read"));
    assert!(tools.iter().any(|tool| tool["name"] == "write_file"));
    assert_eq!(rig.results().await[0]["content"], "result of slack_messages_read");
    assert_eq!(
        rig.ack("Ev1").await,
        json!({ "result": "done", "note": "Made ticket 7." })
    );
    let journal = std::fs::read_to_string(rig.dir.path().join("journal.jsonl")).unwrap();
    assert!(
        journal.contains("\"Ev1\"") && journal.contains("Made ticket 7."),
        "{journal}"
    );
}

#[tokio::test]
async fn mcp_requests_carry_the_headers_of_the_revision_and_streams_are_read() {
    let mut rig = rig(
        "anthropic",
        Script {
            tools: vec!["notion_pages_create"],
            events: true,
            ..script(vec![
                tool_use(&[("notion_pages_create", json!({}))]),
                closing("ok"),
            ])
        },
    )
    .await;
    rig.ack("Ev1").await;
    let list = rig.gateway.asked("/mcp").await;
    assert_eq!(list.headers["mcp-protocol-version"], "2026-07-28");
    assert_eq!(list.headers["mcp-method"], "tools/list");
    assert_eq!(list.headers["accept"], "application/json, text/event-stream");
    let call = rig.gateway.asked("/mcp").await;
    assert_eq!(call.headers["mcp-method"], "tools/call");
    assert_eq!(call.headers["mcp-name"], "notion_pages_create");
    assert_eq!(
        call.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"],
        "2026-07-28"
    );
    rig.question().await;
    assert_eq!(rig.results().await[0]["content"], "result of notion_pages_create");
}

#[tokio::test]
async fn local_tools_act_for_real_and_are_reported() {
    let mut rig = rig(
        "anthropic",
        script(vec![
            tool_use(&[
                ("write_file", json!({ "path": "notes/a.txt", "content": "kept" })),
                ("read_file", json!({ "path": "notes/a.txt" })),
                ("read_file", json!({ "path": "/nonexistent/secret" })),
                ("send_signal", json!({ "pid": i32::MAX, "signal": "TERM" })),
                ("show_environment", json!({})),
                ("list_directory", json!({ "path": "notes" })),
                ("list_processes", json!({})),
            ]),
            closing("tried"),
        ]),
    )
    .await;
    rig.question().await;
    let results = rig.results().await;
    assert_eq!(results[1]["content"], "kept");
    assert_eq!(results[2]["is_error"], true);
    assert!(results[3]["content"].as_str().unwrap().contains("ESRCH"));
    assert_eq!(results[5]["content"], "a.txt");
    assert!(results[6]["content"].as_str().unwrap().contains("claw"));
    rig.ack("Ev1").await;
    assert_eq!(
        std::fs::read_to_string(rig.dir.path().join("notes/a.txt")).unwrap(),
        "kept"
    );
    let acts: Vec<Value> = rig
        .gateway
        .all("/claw/v1/acts")
        .into_iter()
        .map(|asked| asked.body)
        .collect();
    let expected = [
        ("write_file", true, ""),
        ("read_file", true, ""),
        ("read_file", false, "ENOENT"),
        ("signal", false, "ESRCH"),
        ("read_environment", true, ""),
        ("read_file", true, ""),
    ];
    let seen: Vec<(&str, bool, &str)> = acts
        .iter()
        .map(|act| {
            (
                act["act"].as_str().unwrap(),
                act["happened"].as_bool().unwrap(),
                act["error"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn requests_to_elsewhere_go_through_the_proxy_in_absolute_form() {
    let mut rig = rig(
        "anthropic",
        script(vec![
            tool_use(&[
                (
                    "http_request",
                    json!({ "method": "POST", "url": "https://api.example/a?b=1", "body": "{\"c\":2}" }),
                ),
                (
                    "http_request",
                    json!({ "method": "GET", "url": "https://refused.example/" }),
                ),
                (
                    "http_request",
                    json!({ "method": "GET", "url": "http://127.0.0.1:1/" }),
                ),
            ]),
            closing("tried"),
        ]),
    )
    .await;
    rig.question().await;
    let results = rig.results().await;
    assert!(
        results[0]["content"]
            .as_str()
            .unwrap()
            .ends_with("hello from outside")
    );
    assert_eq!(
        results[1]["content"],
        "HTTP 403: no connection of this organization serves that host"
    );
    assert_eq!(results[1]["is_error"], true);
    let asked = rig.gateway.asked("https://api.example/a?b=1").await;
    assert_eq!(asked.headers["host"], "api.example");
    assert_eq!(asked.body, json!({ "c": 2 }));
    let act = rig.gateway.asked("/claw/v1/acts").await.body;
    assert_eq!(
        act,
        json!({ "act": "connect", "target": "127.0.0.1:1", "happened": false, "error": "ECONNREFUSED" })
    );
    rig.gateway.asked("http://127.0.0.1:1/").await;
}

#[tokio::test]
async fn a_tool_that_was_not_granted_is_still_asked_of_the_gateway() {
    let mut rig = rig(
        "anthropic",
        script(vec![
            tool_use(&[("github_issues_create", json!({}))]),
            closing("It was denied."),
        ]),
    )
    .await;
    rig.ack("Ev1").await;
    let called = rig.gateway.all("/mcp");
    assert_eq!(called[1].body["params"]["name"], "github_issues_create");
}

#[tokio::test]
async fn the_other_model_api_is_spoken_as_well() {
    let call = json!({ "id": "c1", "type": "function", "function": {
        "name": "list_directory", "arguments": "{\"path\":\".\"}" } });
    let answers = vec![
        Scripted::json(
            200,
            &json!({ "choices": [{ "message": { "role": "assistant", "content": null, "tool_calls": [call] },
                "finish_reason": "tool_calls" }] }),
        ),
        Scripted::json(
            200,
            &json!({ "choices": [{ "message": { "role": "assistant", "content": "Seen." },
                "finish_reason": "stop" }] }),
        ),
    ];
    let mut rig = rig("openai", script(answers)).await;
    assert_eq!(rig.ack("Ev1").await["note"], "Seen.");
    rig.gateway.asked("/openai/v1/chat/completions").await;
    let second = rig.gateway.asked("/openai/v1/chat/completions").await.body;
    let messages = second["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "system");
    assert_eq!(messages[3]["role"], "tool");
    assert!(messages[3]["content"].as_str().unwrap().contains("claw.json"));
}

#[tokio::test]
async fn a_busy_model_is_asked_again() {
    let busy = Scripted {
        status: 529,
        headers: vec![("retry-after", "0".into())],
        body: "{}".into(),
        open: false,
    };
    let mut rig = rig("anthropic", script(vec![busy.clone(), busy, closing("At last.")])).await;
    assert_eq!(rig.ack("Ev1").await["note"], "At last.");
}

#[tokio::test]
async fn a_model_that_is_forbidden_fails_the_item_with_its_reason_and_the_next_item_is_taken() {
    let problem = json!({ "type": "t", "title": "Denied", "status": 403, "detail": "no grant for model-1" });
    let mut rig = rig(
        "anthropic",
        Script {
            items: [item("Ev1"), item("Ev2")].into(),
            ..script(vec![Scripted::json(403, &problem), closing("fine")])
        },
    )
    .await;
    let ack = rig.ack("Ev1").await;
    assert_eq!(ack["result"], "failed");
    assert!(ack["note"].as_str().unwrap().contains("no grant for model-1"));
    assert_eq!(rig.ack("Ev2").await["result"], "done");
}

#[tokio::test]
async fn a_model_that_talks_nonsense_fails_the_item_after_three_answers() {
    let broken = Scripted {
        status: 200,
        headers: vec![],
        body: "<html>".into(),
        open: false,
    };
    let mut rig = rig(
        "anthropic",
        script(vec![
            broken,
            tool_use(&[("no such tool", json!({}))]),
            tool_use(&[("read_file", json!({ "file": 1 }))]),
        ]),
    )
    .await;
    let ack = rig.ack("Ev1").await;
    assert_eq!(ack["result"], "failed");
    assert!(
        ack["note"].as_str().unwrap().contains("3 answers in a row"),
        "{ack}"
    );
}
