//! The model doors: the Claw's own model, whole and streamed, metered and budgeted.

use std::convert::Infallible;

use bytes::Bytes;
use clawstaff_types::{EventKind, Outcome};
use futures_util::StreamExt as _;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::world::{Client, SECRET, World, claw, post};

fn question() -> Value {
    json!({ "model": "claude-sonnet-5", "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] })
}

async fn with_model() -> World {
    let world = World::new().await;
    world
        .grant("anthropic", "messages.create", "model:claude-sonnet-5")
        .await;
    world
}

/// The upstream streams what is sent into the channel.
fn streaming(world: &World) -> mpsc::UnboundedSender<&'static str> {
    let (send, receive) = mpsc::unbounded_channel::<&'static str>();
    let receive = std::sync::Mutex::new(Some(receive));
    world.upstream.answers_with(move |_| {
        let receive = receive.lock().unwrap().take().unwrap();
        let pieces = futures_util::stream::unfold(receive, |mut receive| async move {
            let piece = receive.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(piece))), receive))
        });
        let response = Response::builder().header("content-type", "text/event-stream");
        let response = response
            .body(StreamBody::new(pieces.boxed()).boxed_unsync())
            .unwrap();
        Box::pin(async move { response })
    });
    send
}

#[tokio::test]
async fn a_model_call_carries_the_key_in_the_providers_own_header_and_its_tokens_are_recorded() {
    let world = with_model().await;
    world.upstream.answers(
        200,
        r#"{"id":"msg_1","type":"message","content":[],"usage":{"input_tokens":12,"output_tokens":34}}"#,
    );
    let read = world.post("/anthropic/v1/messages", &question()).await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.text());
    let seen = &world.upstream.seen()[0];
    assert_eq!(seen.path_and_query, "/v1/messages");
    assert_eq!(seen.headers["x-api-key"], SECRET);
    assert_eq!(seen.headers["anthropic-version"], "2023-06-01");
    assert!(!seen.headers.contains_key("authorization"));
    let call = world.last(EventKind::ModelCall).event;
    assert_eq!(
        (
            call.facts["tokens_in"].as_str(),
            call.facts["tokens_out"].as_str()
        ),
        ("12", "34")
    );
}

#[tokio::test]
async fn another_model_or_another_provider_is_refused() {
    let world = with_model().await;
    let mut other = question();
    other["model"] = "claude-opus-5".into();
    assert_eq!(
        world.post("/anthropic/v1/messages", &other).await.status,
        StatusCode::FORBIDDEN
    );
    let chat = json!({ "model": "gpt", "messages": [] });
    assert_eq!(
        world.post("/openai/v1/chat/completions", &chat).await.status,
        StatusCode::FORBIDDEN
    );
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece_and_its_outcome_is_recorded_at_its_end() {
    let world = with_model().await;
    let upstream = streaming(&world);
    let mut client = Client::over(world.connect("doors").await).await;
    upstream
        .send("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n")
        .unwrap();
    let mut answer = client
        .start(post("localhost", "/anthropic/v1/messages", &question()))
        .await;
    let first = answer
        .body_mut()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert!(first.starts_with(b"event: message_start"));
    assert_eq!(world.entries().len(), 1, "only the intent while it flows");
    upstream
        .send("event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\n")
        .unwrap();
    drop(upstream);
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(rest.starts_with(b"event: message_delta"));
    let call = world.last(EventKind::ModelCall).event;
    assert_eq!(call.outcome, Some(Outcome::Succeeded));
    assert_eq!(
        (
            call.facts["tokens_in"].as_str(),
            call.facts["tokens_out"].as_str()
        ),
        ("7", "9")
    );
    assert_eq!(call.facts["stream"], "complete");
}

#[tokio::test]
async fn a_stream_that_the_cage_leaves_is_still_settled() {
    let world = with_model().await;
    let upstream = streaming(&world);
    let mut client = Client::over(world.connect("doors").await).await;
    upstream.send("data: 1\n\n").unwrap();
    let answer = client
        .start(post("localhost", "/anthropic/v1/messages", &question()))
        .await;
    drop(answer);
    drop(client);
    let left = world.until(|entry| entry.event.outcome.is_some()).await;
    assert_eq!(left.event.outcome, Some(Outcome::Unknown));
    assert_eq!(left.event.facts["stream"], "cage_gone");
    drop(upstream);
}

#[tokio::test]
async fn a_revoked_grant_ends_an_open_stream() {
    let world = with_model().await;
    let upstream = streaming(&world);
    let mut client = Client::over(world.connect("doors").await).await;
    upstream.send("data: 1\n\n").unwrap();
    let mut answer = client
        .start(post("localhost", "/anthropic/v1/messages", &question()))
        .await;
    answer.body_mut().frame().await.unwrap().unwrap();
    world.change(|state| state.grants.clear()).await;
    assert!(answer.into_body().collect().await.is_err());
    let cut = world.until(|entry| entry.event.outcome.is_some()).await;
    assert_eq!(cut.event.facts["stream"], "revoked");
    drop(upstream);
}

#[tokio::test]
async fn a_call_that_could_exceed_the_token_budget_is_refused_before_it_is_made() {
    let world = with_model().await;
    let thrifty = json!({ "model": { "connection": "anthropic", "name": "claude-sonnet-5" }, "budget": { "tokens_per_day": 200 } });
    world.change(|state| state.claws = vec![claw("a", thrifty)]).await;
    world
        .upstream
        .answers(200, r#"{"usage":{"input_tokens":5,"output_tokens":95}}"#);
    assert_eq!(
        world.post("/anthropic/v1/messages", &question()).await.status,
        StatusCode::OK
    );
    let read = world.post("/anthropic/v1/messages", &question()).await;
    assert_eq!(read.status, StatusCode::TOO_MANY_REQUESTS, "{}", read.text());
    assert_eq!(world.upstream.seen().len(), 1);
}
