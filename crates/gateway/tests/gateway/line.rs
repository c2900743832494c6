//! The life of an action: allowed, denied, unknown, unrecorded, revoked, over budget.

use clawstaff_audit::Phase;
use clawstaff_types::{Decision, EventKind, Outcome};
use http::StatusCode;
use serde_json::json;

use crate::world::{Client, SECRET, World, claw, connection, grant, post};

#[tokio::test]
async fn an_allowed_call_carries_the_real_credential_and_leaves_intent_and_outcome() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let mut request = post(
        "slack.com",
        "/api/chat.postMessage",
        &json!({ "channel": "C1", "text": "a secret plan" }),
    );
    request
        .headers_mut()
        .insert("authorization", "Bearer xoxb-placeholder-0".parse().unwrap());
    request.headers_mut().insert("cookie", "d=xoxd".parse().unwrap());
    request
        .headers_mut()
        .insert("x-other", "Basic xoxb-placeholder-0".parse().unwrap());
    let read = world.send("name slack.com 80", request).await;
    assert_eq!(
        (read.status, read.json()),
        (StatusCode::OK, json!({ "ok": true }))
    );

    let seen = world.upstream.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path_and_query, "/api/chat.postMessage");
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(seen[0].body, r#"{"channel":"C1","text":"a secret plan"}"#);
    let all = format!("{:?}", seen[0].headers);
    assert!(!all.contains("placeholder") && !all.contains("xoxd"), "{all}");

    let entries = world.entries();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].phase, Phase::Intent);
    assert_eq!(entries[0].event.decision, Some(Decision::Allow));
    assert_eq!(entries[0].event.outcome, None);
    assert_eq!(entries[1].phase, Phase::Outcome { of: 0 });
    assert_eq!(entries[1].event.outcome, Some(Outcome::Succeeded));
    assert_eq!(entries[1].event.kind, EventKind::MessageSent);
    assert_eq!(entries[1].event.grants.len(), 1);
    assert!(entries[1].event.digests.contains_key("response"));
    let text = world.log_text();
    assert!(!text.contains("secret plan") && !text.contains(SECRET));
}

#[tokio::test]
async fn a_denied_call_never_reaches_the_service_and_is_on_record() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let read = world
        .slack("/api/chat.postMessage", &json!({ "channel": "C2", "text": "x" }))
        .await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert_eq!(read.headers["content-type"], "application/problem+json");
    assert_eq!(read.json()["status"], 403);
    assert!(world.upstream.seen().is_empty());
    let denied = world.last(EventKind::ToolDenied).event;
    assert_eq!(denied.action.unwrap().to_string(), "slack:messages.send");
    assert_eq!(denied.resource.unwrap().to_string(), "channel:C2");
    assert_eq!(
        (denied.decision, denied.outcome),
        (Some(Decision::Deny), Some(Outcome::Refused))
    );
}

#[tokio::test]
async fn a_claw_without_grants_can_do_nothing() {
    let world = World::new().await;
    for path in [
        "/api/chat.postMessage",
        "/api/conversations.history",
        "/api/admin.users.remove",
    ] {
        let read = world.slack(path, &json!({ "channel": "C1", "text": "x" })).await;
        assert_eq!(read.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.entries().len(), 3);
}

#[tokio::test]
async fn a_host_of_no_connection_is_refused_at_once_and_recorded() {
    let world = World::new().await;
    let request = post("evil.example", "/collect", &json!({}));
    let read = world.send("name evil.example 80", request).await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert!(read.text().contains("evil.example"));
    let denied = world.last(EventKind::EgressDenied).event;
    assert_eq!(denied.resource.unwrap().to_string(), "host:evil.example");
}

#[tokio::test]
async fn without_a_record_nothing_happens() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    world.break_log();
    let read = world
        .slack("/api/chat.postMessage", &json!({ "channel": "C1", "text": "x" }))
        .await;
    assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(read.text().contains("nothing was done"));
    let denied = world
        .slack("/api/chat.postMessage", &json!({ "channel": "C2", "text": "x" }))
        .await;
    assert_eq!(denied.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_revoked_grant_bites_on_the_next_request_of_an_open_connection() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let mut client = Client::over(world.connect("name slack.com 80").await).await;
    let request = || {
        post(
            "slack.com",
            "/api/chat.postMessage",
            &json!({ "channel": "C1", "text": "x" }),
        )
    };
    assert_eq!(client.send(request()).await.status, StatusCode::OK);
    world.change(|state| state.grants.clear()).await;
    assert_eq!(client.send(request()).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_echo_of_the_credential_is_masked_in_body_and_headers_however_it_is_spelled() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    world.upstream.answers_with(|_| {
        let echo = r#"{"ok":true,"plain":"Bearer xoxb-the-real-credential","basic":"eDp4b3hiLXRoZS1yZWFsLWNyZWRlbnRpYWw=","url":"xoxb%2Dthe%2Dreal%2Dcredential"}"#;
        let mut response = crate::upstream::json(200, echo);
        let headers = response.headers_mut();
        headers.insert("x-echo", "Bearer xoxb-the-real-credential".parse().unwrap());
        headers.insert("x-hex", "786f78622d7468652d7265616c2d63726564656e7469616c".parse().unwrap());
        Box::pin(async move { response })
    });
    let read = world
        .slack("/api/chat.postMessage", &json!({ "channel": "C1", "text": "x" }))
        .await;
    let answer = read.json();
    assert_eq!(answer["plain"], "Bearer [masked]");
    assert_eq!(answer["basic"], "eDp[masked]w=");
    assert_eq!(answer["url"], "[masked]");
    assert_eq!(
        (&read.headers["x-echo"], &read.headers["x-hex"]),
        (&"[masked]".parse().unwrap(), &"[masked]".parse().unwrap())
    );
}

#[tokio::test]
async fn requests_beyond_the_budget_are_refused_and_recorded() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let tight = claw("a", json!({ "budget": { "requests_per_minute": 2 } }));
    world.change(|state| state.claws = vec![tight]).await;
    let body = json!({ "channel": "C1", "text": "x" });
    for _ in 0..2 {
        assert_eq!(
            world.slack("/api/chat.postMessage", &body).await.status,
            StatusCode::OK
        );
    }
    let read = world.slack("/api/chat.postMessage", &body).await;
    assert_eq!(read.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(read.headers.contains_key("retry-after"));
    assert_eq!(world.upstream.seen().len(), 2);
    assert_eq!(world.last(EventKind::ToolDenied).event.facts["denial"], "budget");
}

#[tokio::test]
async fn calls_beyond_the_budget_of_their_grant_are_refused_and_those_of_another_grant_are_not() {
    let world = World::new().await;
    let mut small = grant("a", "slack", "messages.send", "channel:C1");
    small.id = "gr_small".parse().unwrap();
    small.conditions.budget.requests_per_minute = Some(1);
    world.change(|state| state.grants.push(small)).await;
    world.grant("slack", "messages.send", "channel:C2").await;
    let send = async |channel: &str| {
        let body = json!({ "channel": channel, "text": "x" });
        world.slack("/api/chat.postMessage", &body).await
    };
    assert_eq!(send("C1").await.status, StatusCode::OK);
    let read = send("C1").await;
    assert_eq!(read.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(read.text().contains("gr_small"), "{}", read.text());
    assert_eq!(world.last(EventKind::ToolDenied).event.facts["denial"], "budget");
    assert_eq!(send("C2").await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_several_connections_at_one_host_the_placeholder_names_the_one_that_is_meant() {
    let world = World::new().await;
    let mut second = connection(
        "slack",
        Some(format!("http://127.0.0.1:{}/api", world.upstream.port)),
    );
    second.name = "other".parse().unwrap();
    world
        .change(|state| {
            state.connections.push(second);
            for connection in ["slack", "other"] {
                state
                    .grants
                    .push(grant("a", connection, "messages.send", "channel:C1"));
            }
        })
        .await;
    let body = json!({ "channel": "C1", "text": "x" });
    let read = world.slack("/api/chat.postMessage", &body).await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert!(read.text().contains("several connections"));

    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.door().join("claw.json")).unwrap()).unwrap();
    let placeholder = file["env"]["OTHER_TOKEN"].as_str().unwrap().to_owned();
    assert!(placeholder.starts_with("xoxb-"));
    let mut request = post("slack.com", "/api/chat.postMessage", &body);
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {placeholder}").parse().unwrap());
    let read = world.send("name slack.com 80", request).await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(
        world
            .last(EventKind::MessageSent)
            .event
            .connection
            .unwrap()
            .as_str(),
        "other"
    );
}
