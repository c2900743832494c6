//! Services that are down, refuse, break or lie: typed answers, and the outcome on record.

use std::time::Duration;

use clawstaff_gateway::waits::Waits;
use clawstaff_types::{EventKind, Outcome};
use clawstaff_vault::Binding;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::world::{Client, World, connection, post};

fn message() -> Value {
    json!({ "channel": "C1", "text": "x" })
}

async fn world() -> World {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    world
}

#[tokio::test]
async fn a_service_that_is_down_is_said_to_be_so_and_nothing_was_sent() {
    let world = world().await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let down = connection("slack", Some(format!("http://127.0.0.1:{nobody}/api")));
    world.change(|state| state.connections[0] = down).await;
    let read = world.slack("/api/chat.postMessage", &message()).await;
    assert_eq!(read.status, StatusCode::BAD_GATEWAY);
    assert!(read.text().contains("nothing was sent"), "{}", read.text());
    assert!(!read.text().contains("127.0.0.1"));
    let event = world.last(EventKind::MessageSent).event;
    assert_eq!(event.outcome, Some(Outcome::Failed));
    assert_eq!(event.facts["error"], "connect");
}

#[tokio::test]
async fn what_a_service_refuses_passes_through_and_is_recorded_as_failed() {
    let world = world().await;
    for status in [429, 500, 503] {
        world
            .upstream
            .answers(status, r#"{"ok":false,"error":"ratelimited"}"#);
        let read = world.slack("/api/chat.postMessage", &message()).await;
        assert_eq!(read.status.as_u16(), status);
        let event = world.last(EventKind::MessageSent).event;
        assert_eq!(event.outcome, Some(Outcome::Failed));
        assert_eq!(event.facts["status"], status.to_string());
    }
}

#[tokio::test]
async fn a_two_hundred_that_means_no_is_recorded_as_failed() {
    let world = world().await;
    world
        .upstream
        .answers(200, r#"{"ok":false,"error":"channel_not_found"}"#);
    assert_eq!(
        world.slack("/api/chat.postMessage", &message()).await.status,
        StatusCode::OK
    );
    let event = world.last(EventKind::MessageSent).event;
    assert_eq!(event.outcome, Some(Outcome::Failed));
    assert_eq!(event.facts["error"], "channel_not_found");
}

#[tokio::test]
async fn a_cage_that_goes_away_does_not_take_the_record_with_it() {
    let world = world().await;
    let (go, wait) = tokio::sync::watch::channel(false);
    world.upstream.answers_with(move |_| {
        let mut wait = wait.clone();
        Box::pin(async move {
            wait.wait_for(|go| *go).await.unwrap();
            crate::upstream::json(200, r#"{"ok":true}"#)
        })
    });
    let mut client = Client::over(world.connect("name slack.com 80").await).await;
    let request = post("slack.com", "/api/chat.postMessage", &message());
    let asking = tokio::spawn(async move { client.start(request).await });
    world
        .until(|entry| entry.event.kind == EventKind::MessageSent)
        .await;
    asking.abort();
    go.send(true).unwrap();
    let outcome = world.until(|entry| entry.event.outcome.is_some()).await;
    assert_eq!(outcome.event.outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let world = world().await;
    world.upstream.answers_with(|_| {
        let elsewhere = Response::builder()
            .status(302)
            .header("location", "http://169.254.169.254/")
            .body(Full::default().boxed_unsync())
            .unwrap();
        Box::pin(async move { elsewhere })
    });
    let read = world.slack("/api/chat.postMessage", &message()).await;
    assert_eq!(read.status, StatusCode::FOUND);
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_compressed_without_being_asked_for_is_withheld() {
    let world = world().await;
    world.upstream.answers_with(|_| {
        let zipped = Response::builder()
            .header("content-encoding", "gzip")
            .body(Full::from("zip").boxed_unsync())
            .unwrap();
        Box::pin(async move { zipped })
    });
    let read = world.slack("/api/chat.postMessage", &message()).await;
    assert_eq!(read.status, StatusCode::BAD_GATEWAY);
    assert_eq!(
        world.last(EventKind::MessageSent).event.facts["withheld"],
        "content-encoding"
    );
}

#[tokio::test]
async fn a_credential_that_is_not_in_the_vault_is_said_to_be_missing() {
    let world = world().await;
    world.gateway.vault.remove(&"slack".parse().unwrap()).unwrap();
    let read = world.slack("/api/chat.postMessage", &message()).await;
    assert_eq!(read.status, StatusCode::BAD_GATEWAY);
    assert!(read.text().contains("credential"));
    assert!(world.upstream.seen().is_empty());
    assert_eq!(
        world.last(EventKind::MessageSent).event.facts["error"],
        "credential"
    );
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_and_the_outcome_is_unknown() {
    let world = World::with_waits(Waits {
        answer: Duration::from_millis(50),
        ..Waits::default()
    })
    .await;
    world.grant("slack", "messages.send", "channel:C1").await;
    world.upstream.answers_with(|_| Box::pin(std::future::pending()));
    let read = world.slack("/api/chat.postMessage", &message()).await;
    assert_eq!(read.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(read.text().contains("may have taken effect"));
    let event = world.last(EventKind::MessageSent).event;
    assert_eq!(event.outcome, Some(Outcome::Unknown));
    assert_eq!(event.facts["error"], "answer_timeout");
}

#[tokio::test]
async fn a_connection_that_is_sent_to_another_address_does_not_get_the_credential() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let own = Binding {
        connections: vec!["slack".parse().unwrap()],
        hosts: vec![format!("127.0.0.1:{}", world.upstream.port).parse().unwrap()],
    };
    world.gateway.vault.bind(&"slack".parse().unwrap(), own).unwrap();
    let evil = crate::upstream::Upstream::start().await;
    let redefined = evil.connection("slack");
    world
        .change(|state| {
            let slack = state.connections.iter_mut().find(|c| c.name.as_str() == "slack");
            *slack.unwrap() = redefined;
        })
        .await;
    let read = world
        .slack("/api/chat.postMessage", &json!({ "channel": "C1", "text": "x" }))
        .await;
    assert_eq!(read.status, StatusCode::BAD_GATEWAY);
    assert!(read.text().contains("clawstaff secret bind"), "{}", read.text());
    assert!(evil.seen().is_empty() && world.upstream.seen().is_empty());
    let call = world.last(EventKind::MessageSent).event;
    assert_eq!(call.outcome, Some(Outcome::Failed));
    assert_eq!(call.facts["error"], "credential_not_for_this");
}
