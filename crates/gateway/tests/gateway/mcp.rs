//! The same actions as tools: the same verdicts, and what is not granted does not exist.

use clawstaff_types::{EventKind, Outcome};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::{Client, Read, World, post};

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
    })
}

pub(crate) fn modern(method: &str, mut params: Value) -> Request<Full<bytes::Bytes>> {
    params["_meta"] = meta();
    let name = params["name"].as_str().map(str::to_owned);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let mut request = post("127.0.0.1:7070", "/mcp", &body);
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    headers.insert("mcp-method", method.parse().unwrap());
    if let Some(name) = name {
        headers.insert("mcp-name", name.parse().unwrap());
    }
    request
}

/// The JSON-RPC message in an answer, whether it came as JSON or as a stream.
pub(crate) fn message(read: &Read) -> Value {
    let text = read.text();
    let of_event = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .rfind(|data| data.contains("jsonrpc"));
    serde_json::from_str(of_event.unwrap_or(&text).trim()).unwrap_or_else(|_| panic!("{text}"))
}

#[tokio::test]
async fn the_tools_are_exactly_the_granted_actions() {
    let world = World::new().await;
    let read = world.send("doors", modern("tools/list", json!({}))).await;
    assert_eq!(message(&read)["result"]["tools"], json!([]), "{}", read.text());
    world.grant("slack", "messages.*", "channel:C1").await;
    let read = world.send("doors", modern("tools/list", json!({}))).await;
    let tools = message(&read)["result"]["tools"].clone();
    let mut names: Vec<&str> = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["slack_messages_read", "slack_messages_send"]);
}

#[tokio::test]
async fn a_tool_call_walks_the_same_line_as_http() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let call = |channel: &str| {
        let arguments = json!({ "channel": channel, "text": "hello" });
        modern(
            "tools/call",
            json!({ "name": "slack_messages_send", "arguments": arguments }),
        )
    };
    let allowed = message(&world.send("doors", call("C1")).await);
    assert_eq!(
        allowed["result"]["structuredContent"],
        json!({ "ok": true }),
        "{allowed}"
    );
    assert_ne!(allowed["result"]["isError"], true);
    let denied = message(&world.send("doors", call("C2")).await);
    assert_eq!(denied["result"]["isError"], true, "{denied}");
    let by_http = world
        .slack(
            "/api/chat.postMessage",
            &json!({ "channel": "C2", "text": "hello" }),
        )
        .await;
    assert_eq!(
        denied["result"]["structuredContent"]["detail"],
        by_http.json()["detail"]
    );
    assert_eq!(world.upstream.seen().len(), 1);
    assert_eq!(
        world.last(EventKind::MessageSent).event.outcome,
        Some(Outcome::Succeeded)
    );
}

#[tokio::test]
async fn a_tool_that_is_not_granted_looks_unknown_and_its_use_is_recorded() {
    let world = World::new().await;
    let mut answers = Vec::new();
    for tool in ["slack_messages_send", "no_such_tool"] {
        let read = world
            .send(
                "doors",
                modern("tools/call", json!({ "name": tool, "arguments": {} })),
            )
            .await;
        let error = message(&read)["error"].clone();
        assert_eq!(error["code"], -32602, "{}", read.text());
        answers.push(error["message"].as_str().unwrap().replace(tool, "X"));
    }
    assert_eq!(answers[0], answers[1]);
    let denied = &world.entries()[0].event;
    assert_eq!(denied.kind, EventKind::ToolDenied);
    assert_eq!(denied.action.as_ref().unwrap().to_string(), "slack:messages.send");
}

#[tokio::test]
async fn headers_that_contradict_the_body_are_refused() {
    let world = World::new().await;
    let mut request = modern(
        "tools/call",
        json!({ "name": "slack_messages_send", "arguments": {} }),
    );
    request
        .headers_mut()
        .insert("mcp-name", "slack_messages_read".parse().unwrap());
    let read = world.send("doors", request).await;
    assert_eq!(read.status, StatusCode::BAD_REQUEST);
    assert_eq!(message(&read)["error"]["code"], -32020);
}

#[tokio::test]
async fn the_short_way_and_the_long_way_give_the_same_answer() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    for (name, arguments) in [
        ("slack_messages_send", json!({ "channel": "C1", "text": "hello" })),
        ("slack_messages_send", json!({ "channel": "C2", "text": "hello" })),
        (
            "slack_messages_send",
            json!({ "channel": "C1", "text": 7, "more": true }),
        ),
        ("slack_messages_read", json!({ "channel": "C1" })),
        ("no_such_tool", json!({})),
    ] {
        let call = || modern("tools/call", json!({ "name": name, "arguments": arguments }));
        let short = world.send("doors", call()).await;
        // What is not exactly as usual goes to rmcp.
        let mut unusual = call();
        let media_type = "application/json;charset=utf-8".parse().unwrap();
        unusual.headers_mut().insert("content-type", media_type);
        let long = world.send("doors", unusual).await;
        assert_eq!(short.text(), long.text());
        assert_eq!(short.status, long.status);
        assert_eq!(short.headers["content-type"], long.headers["content-type"]);
    }
}

#[tokio::test]
async fn the_older_revision_works_with_initialize_and_a_session() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let mut client = Client::over(world.connect("doors").await).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    let read = client.send(post("127.0.0.1:7070", "/mcp", &hello)).await;
    assert_eq!(
        message(&read)["result"]["protocolVersion"],
        "2025-11-25",
        "{}",
        read.text()
    );
    let session = read.headers["mcp-session-id"].clone();
    let within = |body: Value| {
        let mut request = post("127.0.0.1:7070", "/mcp", &body);
        request.headers_mut().insert("mcp-session-id", session.clone());
        request
            .headers_mut()
            .insert("mcp-protocol-version", "2025-11-25".parse().unwrap());
        request
    };
    client
        .send(within(
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        ))
        .await;
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "slack_messages_send", "arguments": { "channel": "C1", "text": "hello" } } });
    let read = client.send(within(call)).await;
    assert_eq!(
        message(&read)["result"]["structuredContent"],
        json!({ "ok": true }),
        "{}",
        read.text()
    );
}

#[tokio::test]
async fn discovery_names_both_revisions() {
    let world = World::new().await;
    let read = world.send("doors", modern("server/discover", json!({}))).await;
    let versions = message(&read)["result"]["supportedVersions"].to_string();
    assert!(
        versions.contains("2026-07-28") && versions.contains("2025-11-25"),
        "{}",
        read.text()
    );
}
