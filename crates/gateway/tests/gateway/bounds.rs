//! Bounds of the hostile side: openings, heads, bodies, ambiguity.

use std::time::Duration;

use clawstaff_gateway::waits::Waits;
use clawstaff_types::EventKind;
use http::StatusCode;
use http_body_util::Full;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, post};

/// Everything that comes back for raw bytes, until the gateway closes.
async fn raw(world: &World, opening: &str, bytes: &[u8]) -> String {
    let mut stream = world.connect(opening).await;
    let _ = stream.write_all(bytes).await;
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back).await;
    String::from_utf8_lossy(&back).into_owned()
}

#[tokio::test]
async fn an_opening_line_that_is_none_closes_the_connection() {
    let world = World::new().await;
    assert_eq!(raw(&world, "nonsense", b"GET / HTTP/1.1\r\n\r\n").await, "");
    let long = "x".repeat(600);
    assert_eq!(raw(&world, &long, b"").await, "");
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused_at_once() {
    let world = World::new().await;
    let answer = raw(&world, "doors", b"\x16\x03\x01 hello\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let folded = b"GET /mcp HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\nconnection: close\r\n\r\n";
    let answer = raw(&world, "doors", folded).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_head_beyond_its_bounds_is_refused() {
    let world = World::new().await;
    let many = "x-a: 1\r\n".repeat(150);
    let head = format!("GET /mcp HTTP/1.1\r\nhost: a\r\n{many}\r\n");
    let answer = raw(&world, "doors", head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let head = format!(
        "GET /mcp HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(80 << 10)
    );
    let answer = raw(&world, "doors", head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_refused_and_recorded() {
    let world = World::new().await;
    let mut request = post("slack.com", "/api/chat.postMessage", &json!({}));
    *request.body_mut() = Full::from(vec![b'x'; (8 << 20) + 1]);
    let read = world.send("name slack.com 80", request).await;
    assert_eq!(read.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.entries().len(), 1);
}

#[tokio::test]
async fn two_lengths_or_two_hosts_are_never_forwarded() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    for head in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "host: slack.com\r\n",
        "transfer-encoding: gzip\r\n",
        "x-http-method-override: GET\r\n",
    ] {
        let request = format!(
            "POST /api/chat.postMessage HTTP/1.1\r\nhost: slack.com\r\nconnection: close\r\n{head}\r\n{{}}"
        );
        let answer = raw(&world, "name slack.com 80", request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{head}: {answer}");
    }
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn paths_that_could_be_read_in_two_ways_are_refused() {
    let world = World::new().await;
    world.grant("slack", "*", "*").await;
    for path in [
        "/api//chat.postMessage",
        "/api/x/../chat.postMessage",
        "/api/%2e%2e/x",
        "/api%2Fchat.postMessage",
    ] {
        let read = world.slack(path, &json!({ "channel": "C1", "text": "x" })).await;
        assert_eq!(read.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_host_header_that_is_not_the_dialled_name_is_refused() {
    let world = World::new().await;
    world.grant("slack", "*", "*").await;
    let request = post(
        "api.notion.com",
        "/api/chat.postMessage",
        &json!({ "channel": "C1", "text": "x" }),
    );
    let read = world.send("name slack.com 80", request).await;
    assert_eq!(read.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(
        world
            .last(EventKind::ToolDenied)
            .event
            .resource
            .unwrap()
            .to_string(),
        "host:slack.com"
    );
}

#[tokio::test]
async fn a_cage_has_only_so_many_connections() {
    let world = World::new().await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(world.connect("doors").await);
    }
    let mut one_more = world.connect("doors").await;
    let mut back = [0; 1];
    let closed = one_more.read(&mut back).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[tokio::test]
async fn a_cage_that_dawdles_is_not_waited_for() {
    let short = Duration::from_millis(50);
    let world = World::with_waits(Waits {
        head: short,
        body: short,
        ..Waits::default()
    })
    .await;
    assert_eq!(raw(&world, "doors", b"GET /mcp HT").await, "");
    let slow = b"POST /api/x HTTP/1.1\r\nhost: slack.com\r\ncontent-length: 10\r\n\r\n{";
    let answer = raw(&world, "name slack.com 80", slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}
