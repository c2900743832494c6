//! The ingress over HTTP, with genuine Slack signatures: who is believed, who gets the message, what is recorded.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "ingress/support.rs"]
mod support;

use std::{net::SocketAddr, time::Duration};

use aws_lc_rs::hmac;
use clawstaff_audit::Phase;
use clawstaff_gateway::{
    inbox::{Clock, MAX_WAITING, NewItem},
    ingress,
};
use clawstaff_types::{Actor, Decision, EventKind, Guardrail, Mode, Outcome, spec::SlackEvent};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{CHANNEL, SIGNING_SECRET, World, claw, may_read, state, triggered};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

const NOW: i64 = 1_800_000_000;
const TEXT: &str = "the printer is on fire canary";

/// A listening ingress whose clock stands still.
struct Ingress {
    world: World,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Ingress {
    async fn new(world: World) -> Self {
        let clock = Clock::from_fn(|| Timestamp::from_second(NOW).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = ingress::router(world.gateway.clone(), clock);
        tokio::spawn(ingress::serve(listener, router, stop.clone()));
        Self {
            world,
            address,
            _stop: stop.drop_guard(),
        }
    }

    /// One Claw `triage` with its grant.
    async fn usual() -> Self {
        let world = World::new();
        let wanted = state(
            7,
            vec![triggered("triage", SlackEvent::Message)],
            vec![may_read("triage")],
        );
        world.gateway.adopt(wanted).await.unwrap();
        Self::new(world).await
    }

    async fn send(&self, request: Request<Full<bytes::Bytes>>) -> (StatusCode, Value) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post(&self, body: &Value) -> StatusCode {
        self.send(signed("slack", NOW, body.to_string())).await.0
    }

    async fn received(&self, name: &str) -> Option<Value> {
        let item = self
            .world
            .gateway
            .inbox
            .next(&claw(name), Duration::ZERO)
            .await
            .unwrap();
        item.map(|item| json!({ "id": item.id, "source": item.source, "event": item.event }))
    }
}

fn signature(secret: &str, time: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{time}:{body}").as_bytes());
    format!("v0={}", hex::encode(tag.as_ref()))
}

fn request(connection: &str, time: i64, signature: &str, body: String) -> Request<Full<bytes::Bytes>> {
    Request::post(format!("/ingress/slack/{connection}"))
        .header("host", "gateway")
        .header("content-type", "application/json")
        .header("x-slack-request-timestamp", time.to_string())
        .header("x-slack-signature", signature)
        .body(Full::new(body.into()))
        .unwrap()
}

fn signed(connection: &str, time: i64, body: String) -> Request<Full<bytes::Bytes>> {
    let signature = signature(SIGNING_SECRET, time, &body);
    request(connection, time, &signature, body)
}

fn message(event_id: &str, ts: &str) -> Value {
    json!({
        "type": "event_callback", "event_id": event_id, "team_id": "T1", "api_app_id": "A1",
        "authorizations": [{ "user_id": "UBOT" }],
        "event": { "type": "message", "channel": CHANNEL, "user": "U1", "text": TEXT, "ts": ts },
    })
}

#[tokio::test]
async fn a_signed_message_is_recorded_and_reaches_the_claw() {
    let ingress = Ingress::usual().await;
    assert_eq!(ingress.post(&message("Ev1", "1.2")).await, StatusCode::OK);
    let entries = ingress.world.entries();
    assert_eq!(entries.len(), 1);
    let event = &entries[0].event;
    assert_eq!(
        (event.kind, entries[0].phase),
        (EventKind::MessageRead, Phase::Fact)
    );
    assert_eq!(event.actor, Actor::Claw(claw("triage")));
    assert_eq!(
        (event.decision, event.outcome),
        (Some(Decision::Allow), Some(Outcome::Succeeded))
    );
    assert_eq!((event.claw_revision, event.policy_revision), (Some(3), Some(7)));
    assert_eq!(event.grants[0].as_str(), "gr_triage");
    assert_eq!(
        event.resource.as_ref().unwrap().to_string(),
        format!("channel:{CHANNEL}")
    );
    assert_eq!(event.cause.as_ref().unwrap().0.as_str(), "Ev1");
    assert_eq!(
        (event.facts["ts"].as_str(), event.facts["event_id"].as_str()),
        ("1.2", "Ev1")
    );
    let record = serde_json::to_string(&entries).unwrap();
    assert!(!record.contains("canary"), "content in the log");
    assert!(
        !record.contains(&clawstaff_types::Digest::of(TEXT.as_bytes()).to_string()),
        "guessable digest"
    );
    let expected = json!({
        "id": "Ev1", "source": "slack.message",
        "event": {
            "type": "message", "channel": CHANNEL, "user": "U1", "text": TEXT, "ts": "1.2",
            "thread_ts": null, "team": "T1", "event_id": "Ev1",
        },
    });
    assert_eq!(ingress.received("triage").await, Some(expected));
}

#[tokio::test]
async fn a_replay_is_acknowledged_and_does_nothing_more() {
    let ingress = Ingress::usual().await;
    for _ in 0..3 {
        assert_eq!(ingress.post(&message("Ev1", "1.2")).await, StatusCode::OK);
    }
    let mut retried = signed("slack", NOW, message("Ev1", "1.2").to_string());
    retried
        .headers_mut()
        .insert("x-slack-retry-num", "1".parse().unwrap());
    assert_eq!(ingress.send(retried).await.0, StatusCode::OK);
    assert_eq!(ingress.world.kinds(), [EventKind::MessageRead]);
    assert!(ingress.received("triage").await.is_some());
    assert!(ingress.received("triage").await.is_none());
}

#[tokio::test]
async fn a_replay_after_a_restart_does_nothing_more_either() {
    let ingress = Ingress::usual().await;
    assert_eq!(ingress.post(&message("Ev1", "1.2")).await, StatusCode::OK);
    let again = Ingress::new(ingress.world).await;
    assert_eq!(again.post(&message("Ev1", "1.2")).await, StatusCode::OK);
    assert_eq!(again.world.kinds(), [EventKind::MessageRead]);
}

#[tokio::test]
async fn a_claw_without_the_grant_gets_nothing_and_that_is_recorded_once() {
    let world = World::new();
    let claws = vec![
        triggered("triage", SlackEvent::Message),
        triggered("other", SlackEvent::Message),
    ];
    world
        .gateway
        .adopt(state(7, claws, vec![may_read("triage")]))
        .await
        .unwrap();
    let ingress = Ingress::new(world).await;
    for _ in 0..2 {
        assert_eq!(ingress.post(&message("Ev1", "1.2")).await, StatusCode::OK);
    }
    assert!(ingress.received("other").await.is_none());
    assert!(ingress.received("triage").await.is_some());
    let entries = ingress.world.entries();
    let denied: Vec<_> = entries
        .iter()
        .filter(|e| e.event.kind == EventKind::ToolDenied)
        .collect();
    assert_eq!((entries.len(), denied.len()), (2, 1));
    assert_eq!(denied[0].event.claw, Some(claw("other")));
    assert_eq!(denied[0].event.decision, Some(Decision::Deny));
    assert_eq!(
        denied[0].event.action.as_ref().unwrap().to_string(),
        "slack:messages.read"
    );
}

#[tokio::test]
async fn guardrails_and_grants_that_ask_keep_messages_away() {
    for guarded in [true, false] {
        let world = World::new();
        let mut grant = may_read("triage");
        grant.mode = if guarded { Mode::Allow } else { Mode::Ask };
        let mut wanted = state(7, vec![triggered("triage", SlackEvent::Message)], vec![grant]);
        let rule = Guardrail {
            name: "no-reading".parse().unwrap(),
            actions: vec!["slack:*.read".parse().unwrap()],
            resources: vec!["*".parse().unwrap()],
        };
        wanted.guardrails = if guarded { vec![rule] } else { Vec::new() };
        world.gateway.adopt(wanted).await.unwrap();
        let ingress = Ingress::new(world).await;
        assert_eq!(ingress.post(&message("Ev1", "1.2")).await, StatusCode::OK);
        assert!(ingress.received("triage").await.is_none());
        let entries = ingress.world.entries();
        let expected = if guarded { Decision::Deny } else { Decision::Ask };
        assert_eq!(entries[0].event.decision, Some(expected));
        assert_eq!(entries[0].event.guardrails.len(), usize::from(guarded));
    }
}

#[tokio::test]
async fn a_mention_reaches_claws_that_wait_for_mentions_once_however_slack_tells() {
    let world = World::new();
    let claws = vec![triggered("triage", SlackEvent::Mention)];
    world
        .gateway
        .adopt(state(7, claws, vec![may_read("triage")]))
        .await
        .unwrap();
    let ingress = Ingress::new(world).await;
    assert_eq!(ingress.post(&message("Ev1", "1.1")).await, StatusCode::OK);
    assert!(ingress.received("triage").await.is_none(), "no mention");
    let mut mention = message("Ev2", "1.2");
    mention["event"]["text"] = json!("hi <@UBOT>");
    assert_eq!(ingress.post(&mention).await, StatusCode::OK);
    let mut told_again = mention.clone();
    told_again["event_id"] = json!("Ev3");
    told_again["event"]["type"] = json!("app_mention");
    assert_eq!(ingress.post(&told_again).await, StatusCode::OK);
    assert_eq!(ingress.received("triage").await.unwrap()["id"], "Ev2");
    assert_eq!(ingress.world.kinds(), [EventKind::MessageRead]);
}

#[tokio::test]
async fn other_channels_bots_and_edits_concern_nobody() {
    let ingress = Ingress::usual().await;
    let mut elsewhere = message("Ev1", "1.1");
    elsewhere["event"]["channel"] = json!("C0OTHER");
    let mut bot = message("Ev2", "1.2");
    bot["event"]["bot_id"] = json!("B1");
    let mut edit = message("Ev3", "1.3");
    edit["event"] = json!({ "type": "message", "subtype": "message_changed", "channel": CHANNEL, "ts": "1.3", "message": {} });
    for body in [elsewhere, bot, edit] {
        assert_eq!(ingress.post(&body).await, StatusCode::OK);
    }
    assert!(ingress.world.entries().is_empty());
    assert!(ingress.received("triage").await.is_none());
}

#[tokio::test]
async fn the_address_is_verified_for_whoever_signs() {
    let ingress = Ingress::usual().await;
    let body = json!({ "type": "url_verification", "challenge": "abc", "token": "x" }).to_string();
    let (status, answer) = ingress.send(signed("slack", NOW, body.clone())).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({ "challenge": "abc" })));
    let (status, _) = ingress.send(request("slack", NOW, "v0=00", body)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn wrong_and_stale_signatures_are_refused_and_a_flood_of_them_is_counted_not_written() {
    let ingress = Ingress::usual().await;
    let body = message("Ev1", "1.2").to_string();
    let wrong = signature("another secret", NOW, &body);
    for (time, signature) in [
        (NOW, wrong.clone()),
        (NOW - 301, signature(SIGNING_SECRET, NOW - 301, &body)),
        (NOW + 301, signature(SIGNING_SECRET, NOW + 301, &body)),
        (NOW, signature(SIGNING_SECRET, NOW - 1, &body)),
    ] {
        let (status, _) = ingress
            .send(request("slack", time, &signature, body.clone()))
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    for _ in 0..20 {
        ingress.send(request("slack", NOW, &wrong, body.clone())).await;
    }
    let kinds = ingress.world.kinds();
    assert!(kinds.iter().all(|kind| *kind == EventKind::AuthFailed));
    assert_eq!(kinds.len(), 5);
    assert!(ingress.received("triage").await.is_none());
}

#[tokio::test]
async fn unknown_connections_large_bodies_and_nonsense_are_refused() {
    let ingress = Ingress::usual().await;
    for unknown in ["other", "Sl_ck", "..%2f"] {
        let (status, _) = ingress
            .send(signed(unknown, NOW, message("Ev1", "1.2").to_string()))
            .await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{unknown}");
    }
    let (status, _) = ingress
        .send(signed("slack", NOW, "x".repeat((1 << 20) + 1)))
        .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for nonsense in ["", "{", "[]", "{\"type\":\"event_callback\"}"] {
        let (status, _) = ingress.send(signed("slack", NOW, nonsense.to_owned())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{nonsense:?}");
    }
    let nowhere = Request::get("/")
        .header("host", "x")
        .body(Full::default())
        .unwrap();
    assert_eq!(ingress.send(nowhere).await.0, StatusCode::NOT_FOUND);
    assert!(ingress.world.entries().is_empty());
}

#[tokio::test]
async fn a_full_inbox_makes_slack_try_again() {
    let ingress = Ingress::usual().await;
    for n in 0..MAX_WAITING {
        let item = NewItem {
            id: format!("i{n}").parse().unwrap(),
            source: "message".into(),
            event: Value::Null,
            on_behalf_of: None,
        };
        ingress
            .world
            .gateway
            .inbox
            .put(&claw("triage"), item)
            .await
            .unwrap();
    }
    assert_eq!(
        ingress.post(&message("Ev1", "1.2")).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let last = ingress.world.entries().pop().unwrap();
    assert_eq!(last.event.outcome, Some(Outcome::Failed));
    let leased = ingress
        .world
        .gateway
        .inbox
        .next(&claw("triage"), Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    let done = clawstaff_cage_contract::Ack {
        result: clawstaff_cage_contract::AckResult::Done,
        note: String::new(),
    };
    ingress
        .world
        .gateway
        .inbox
        .ack(&claw("triage"), &leased.id, &done)
        .await
        .unwrap();
    assert_eq!(ingress.post(&message("Ev1", "1.2")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_signing_secret_that_cannot_be_read_is_no_reason_to_believe() {
    let ingress = Ingress::usual().await;
    ingress
        .world
        .gateway
        .vault
        .remove(&"slack-signing".parse().unwrap())
        .unwrap();
    assert_eq!(
        ingress.post(&message("Ev1", "1.2")).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(ingress.world.entries().is_empty());
}
