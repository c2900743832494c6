//! Calls that wait for a human: held, decided, used once, and denied by silence.

use std::{sync::Arc, time::Duration};

use clawstaff_api::nodes::{Answer, MemberDecision};
use clawstaff_audit::Entry;
use clawstaff_gateway::waits::Waits;
use clawstaff_types::{Decision, Digest, EventKind, Mode};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::mcp::{message, modern};
use crate::world::{Client, Read, World, grant, post};

/// A gateway that keeps a caller waiting for a short while, and a grant that asks.
async fn asking(waits: Waits) -> Arc<World> {
    let world = World::with_waits(waits).await;
    let mut asks = grant("a", "slack", "messages.send", "channel:C1");
    asks.mode = Mode::Ask;
    world.change(|state| state.grants.push(asks)).await;
    Arc::new(world)
}

fn short() -> Waits {
    Waits {
        human: Duration::from_millis(200),
        ..Waits::default()
    }
}

fn patient() -> Waits {
    Waits {
        human: Duration::from_secs(20),
        ..Waits::default()
    }
}

fn body(text: &str) -> Value {
    json!({ "channel": "C1", "text": text })
}

async fn send(world: &World, text: &str) -> Read {
    world.slack("/api/chat.postMessage", &body(text)).await
}

fn sending(world: &Arc<World>, text: &'static str) -> tokio::task::JoinHandle<Read> {
    let world = Arc::clone(world);
    tokio::spawn(async move { send(&world, text).await })
}

/// The request for an approval that is not one of `before`.
async fn requested(world: &World, before: usize) -> Entry {
    let count = |world: &World| {
        let kind = EventKind::ApprovalRequested;
        world
            .entries()
            .iter()
            .filter(|entry| entry.event.kind == kind)
            .count()
    };
    world.until(|_| count(world) > before).await;
    world.last(EventKind::ApprovalRequested)
}

fn decision(entry: &Entry, answer: Answer) -> MemberDecision {
    MemberDecision {
        id: entry.event.facts["approval"].parse().unwrap(),
        claw: entry.event.claw.clone().unwrap(),
        digest: entry.event.digests["request"],
        by: "uid-7".parse().unwrap(),
        at: Timestamp::now(),
        answer,
    }
}

fn once() -> Answer {
    Answer::Once {
        expires: Timestamp::now() + jiff::SignedDuration::from_hours(1),
    }
}

async fn decide(world: &World, decision: MemberDecision) {
    world.change(|state| state.approvals.push(decision)).await;
}

#[tokio::test]
async fn a_held_call_is_let_through_when_a_member_agrees_and_the_record_says_who() {
    let world = asking(patient()).await;
    let call = sending(&world, "x");
    let asked = requested(&world, 0).await;
    assert_eq!(asked.event.decision, Some(Decision::Ask));
    assert_eq!(asked.event.resource.as_ref().unwrap().to_string(), "channel:C1");
    assert!(world.upstream.seen().is_empty(), "nothing is sent while it waits");
    decide(&world, decision(&asked, once())).await;
    assert_eq!(call.await.unwrap().status, StatusCode::OK);
    assert_eq!(world.upstream.seen().len(), 1);
    let granted = world.last(EventKind::ApprovalGranted).event;
    assert_eq!(granted.actor.to_string(), "member:uid-7");
    assert_eq!(granted.digests["request"], asked.event.digests["request"]);
    assert!(granted.facts.contains_key("expires"));
    let sent = world.last(EventKind::MessageSent).event;
    assert_eq!(sent.facts["approval"], asked.event.facts["approval"]);
    assert_eq!(sent.facts["approved_by"], "uid-7");
    assert_eq!(sent.digests["request"], asked.event.digests["request"]);
}

#[tokio::test]
async fn a_call_that_nobody_decides_while_it_is_held_is_told_to_come_back_and_its_retry_is_let_through_once()
{
    let world = asking(short()).await;
    let waiting = send(&world, "x").await;
    assert_eq!(waiting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(waiting.headers.contains_key("retry-after"));
    let asked = world.last(EventKind::ApprovalRequested);
    assert!(
        waiting.text().contains(&asked.event.facts["approval"]),
        "{}",
        waiting.text()
    );
    send(&world, "x").await;
    let requests = world.entries().into_iter();
    let requests = requests.filter(|entry| entry.event.kind == EventKind::ApprovalRequested);
    assert_eq!(requests.count(), 1, "the same call waits once");
    decide(&world, decision(&asked, once())).await;
    assert_eq!(send(&world, "x").await.status, StatusCode::OK);
    assert_eq!(
        send(&world, "x").await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "it was used up"
    );
    world.change(|_| {}).await;
    assert_eq!(
        send(&world, "x").await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "and is not replayed"
    );
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_approval_opens_no_other_bytes_and_one_for_another_digest_has_no_effect() {
    let world = asking(short()).await;
    send(&world, "x").await;
    let asked = world.last(EventKind::ApprovalRequested);
    let mut other = decision(&asked, once());
    other.digest = Digest::of(b"other bytes");
    decide(&world, other).await;
    assert_eq!(send(&world, "x").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let mut foreign = decision(&asked, once());
    foreign.claw = "b".parse().unwrap();
    decide(&world, foreign).await;
    assert_eq!(send(&world, "x").await.status, StatusCode::SERVICE_UNAVAILABLE);
    world.change(|state| state.approvals.clear()).await;
    decide(&world, decision(&asked, once())).await;
    assert_eq!(send(&world, "y").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.upstream.seen().is_empty());
    assert_eq!(send(&world, "x").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_approval_that_is_not_used_in_time_expires() {
    let world = asking(short()).await;
    send(&world, "x").await;
    let asked = world.last(EventKind::ApprovalRequested);
    let expires = Timestamp::now() + jiff::SignedDuration::from_millis(100);
    decide(&world, decision(&asked, Answer::Once { expires })).await;
    while Timestamp::now() < expires {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(&world, "x").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.upstream.seen().is_empty());
    world.change(|_| {}).await;
    let expired = world.last(EventKind::ApprovalExpired).event;
    assert_eq!(expired.facts["approval"], asked.event.facts["approval"]);
}

#[tokio::test]
async fn a_refusal_by_a_member_ends_the_wait_and_answers_the_same_call_again() {
    let world = asking(patient()).await;
    let call = sending(&world, "x");
    let asked = requested(&world, 0).await;
    decide(&world, decision(&asked, Answer::Deny)).await;
    let read = call.await.unwrap();
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert!(read.text().contains("a human refused"), "{}", read.text());
    assert_eq!(
        world.last(EventKind::ApprovalDenied).event.actor.to_string(),
        "member:uid-7"
    );
    let denied = world.last(EventKind::ToolDenied).event;
    assert_eq!(denied.facts["denial"], "refused_by_human");
    assert_eq!(send(&world, "x").await.status, StatusCode::FORBIDDEN);
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn silence_denies() {
    let waits = Waits {
        ask: Duration::from_millis(300),
        ..patient()
    };
    let world = asking(waits).await;
    let read = send(&world, "x").await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert!(read.text().contains("nobody approved"), "{}", read.text());
    let expired = world.last(EventKind::ApprovalExpired).event;
    assert_eq!(expired.actor.to_string(), "system:gateway");
    assert_eq!(expired.decision, Some(Decision::Deny));
    assert_eq!(
        world.last(EventKind::ToolDenied).event.facts["denial"],
        "not_approved"
    );
}

#[tokio::test]
async fn taking_the_grant_away_while_a_call_waits_denies_it_at_once_and_its_approval_is_worth_nothing() {
    let world = asking(patient()).await;
    let call = sending(&world, "x");
    let asked = requested(&world, 0).await;
    let approved = decision(&asked, once());
    world.change(|state| state.grants.clear()).await;
    assert_eq!(call.await.unwrap().status, StatusCode::FORBIDDEN);
    let expired = world.last(EventKind::ApprovalExpired).event;
    assert!(expired.reason.unwrap().contains("taken away"));
    decide(&world, approved).await;
    assert_eq!(send(&world, "x").await.status, StatusCode::FORBIDDEN);
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_grant_given_with_the_answer_lets_the_waiting_call_and_the_next_one_through() {
    let world = asking(patient()).await;
    let call = sending(&world, "x");
    let asked = requested(&world, 0).await;
    let mut given = grant("a", "slack", "messages.send", "channel:C1");
    given.id = "gr_given".parse().unwrap();
    let answer = Answer::Grant {
        grant: given.id.clone(),
    };
    let decision = decision(&asked, answer);
    world
        .change(|state| {
            state.grants.push(given);
            state.approvals.push(decision);
        })
        .await;
    assert_eq!(call.await.unwrap().status, StatusCode::OK);
    assert_eq!(
        world.last(EventKind::ApprovalGranted).event.facts["grant"],
        "gr_given"
    );
    assert_eq!(send(&world, "y").await.status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_is_done_for_a_caller_that_is_gone_and_its_approval_stays_for_the_same_call() {
    let world = asking(patient()).await;
    let mut client = Client::over(world.connect("name slack.com 80").await).await;
    let request = post("slack.com", "/api/chat.postMessage", &body("x"));
    let call = tokio::spawn(async move { client.start(request).await });
    let asked = requested(&world, 0).await;
    call.abort();
    assert!(call.await.is_err());
    decide(&world, decision(&asked, once())).await;
    assert_eq!(send(&world, "x").await.status, StatusCode::OK);
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_claw_may_have_eight_calls_waiting_and_no_more() {
    let world = asking(Waits {
        human: Duration::from_millis(10),
        ..Waits::default()
    })
    .await;
    for number in 0..8 {
        let read = send(&world, &format!("call {number}")).await;
        assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(
        send(&world, "one more").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(
        world.last(EventKind::ToolDenied).event.facts["denial"],
        "too_many_wait"
    );
}

#[tokio::test]
async fn without_a_record_of_the_request_nothing_waits() {
    let world = asking(short()).await;
    world.break_log();
    let read = send(&world, "x").await;
    assert!(
        read.text().contains("audit log cannot be written"),
        "{}",
        read.text()
    );
    let files = std::fs::read_dir(world.data().join("gateway/approvals")).unwrap();
    assert_eq!(files.count(), 0);
}

#[tokio::test]
async fn a_tool_call_waits_like_any_other_and_is_told_so_in_its_result() {
    let world = asking(short()).await;
    let arguments = json!({ "channel": "C1", "text": "x" });
    let call = || {
        let params = json!({ "name": "slack_messages_send", "arguments": arguments });
        world.send("doors", modern("tools/call", params))
    };
    let result = message(&call().await)["result"].clone();
    assert_eq!(result["isError"], json!(true));
    assert!(result.to_string().contains("waiting for a human"), "{result}");
    let asked = world.last(EventKind::ApprovalRequested);
    decide(&world, decision(&asked, once())).await;
    let result = message(&call().await)["result"].clone();
    assert_ne!(result["isError"], json!(true), "{result}");
    assert_eq!(world.upstream.seen().len(), 1);
}
