//! Git over HTTPS: fetching and pushing are actions like others, judged by what git sends.

use std::io::Write as _;

use bytes::Bytes;
use clawstaff_types::EventKind;
use flate2::{Compression, write::GzEncoder};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::world::{Read, World, grant};

/// A world with the connection `git`, at the upstream double.
async fn world() -> World {
    let world = World::new().await;
    let connection = json!({ "name": "git", "connector": "github-git", "credential": "vault:slack",
        "base_url": format!("http://127.0.0.1:{}", world.upstream.port) });
    let connection = serde_json::from_value(connection).unwrap();
    world.change(|state| state.connections.push(connection)).await;
    world
}

async fn refs(world: &World, service: &str) -> Read {
    let request = Request::get(format!("/acme/site.git/info/refs?service={service}"))
        .header("host", "github.com")
        .header("git-protocol", "version=2")
        .body(Full::default())
        .unwrap();
    world.send("name github.com 80", request).await
}

fn post(service: &str, body: Vec<u8>) -> http::request::Builder {
    Request::post(format!("/acme/site.git/{service}"))
        .header("host", "github.com")
        .header("content-type", format!("application/x-{service}-request"))
        .header("content-length", body.len())
}

async fn push(world: &World, name: &str) -> Read {
    let (old, new) = ("1".repeat(40), "2".repeat(40));
    let line = format!("{old} {new} {name}\0report-status");
    let body = format!("{:04x}{line}0000PACK", line.len() + 4).into_bytes();
    let request = post("git-receive-pack", body.clone())
        .body(Full::from(body))
        .unwrap();
    world.send("name github.com 80", request).await
}

#[tokio::test]
async fn a_repository_is_fetched_under_a_grant_and_the_credential_joins_as_git_wants_it() {
    let world = world().await;
    assert_eq!(
        refs(&world, "git-upload-pack").await.status,
        StatusCode::FORBIDDEN
    );
    let denied = world.last(EventKind::ToolDenied).event;
    assert_eq!(denied.action.unwrap().to_string(), "github:git.read");
    assert_eq!(denied.resource.unwrap().to_string(), "repo:acme/site");
    world.grant("git", "git.read", "repo:acme/*").await;
    assert_eq!(refs(&world, "git-upload-pack").await.status, StatusCode::OK);
    let seen = world.upstream.seen().remove(0);
    assert_eq!(
        seen.path_and_query,
        "/acme/site.git/info/refs?service=git-upload-pack"
    );
    // x-access-token:xoxb-the-real-credential
    assert_eq!(
        seen.headers["authorization"],
        "Basic eC1hY2Nlc3MtdG9rZW46eG94Yi10aGUtcmVhbC1jcmVkZW50aWFs"
    );
    assert_eq!(seen.headers["git-protocol"], "version=2");
    assert_eq!(
        push(&world, "refs/heads/main").await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_push_is_granted_by_ref_and_forbidden_by_a_guardrail_on_github() {
    let world = world().await;
    let mut branch = grant("a", "git", "git.write", "repo:acme/site");
    branch.conditions.arguments =
        serde_json::from_value(json!([{ "name": "ref", "one_of": ["refs/heads/claw"] }])).unwrap();
    world.change(|state| state.grants.push(branch)).await;
    assert_eq!(push(&world, "refs/heads/claw").await.status, StatusCode::OK);
    assert_eq!(
        push(&world, "refs/heads/main").await.status,
        StatusCode::FORBIDDEN
    );
    let rail = json!({ "name": "frozen", "actions": ["github:*.write"], "resources": ["repo:acme/site"] });
    let rail = serde_json::from_value(rail).unwrap();
    world.change(|state| state.guardrails.push(rail)).await;
    let read = push(&world, "refs/heads/claw").await;
    assert_eq!(read.status, StatusCode::FORBIDDEN);
    assert!(read.text().contains("frozen"), "{}", read.text());
}

#[tokio::test]
async fn a_body_in_gzip_is_judged_and_sent_unpacked_and_never_grows_beyond_the_bound() {
    let world = world().await;
    world.grant("git", "git.read", "repo:acme/site").await;
    let zip = |plain: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let send = async |body: Vec<u8>| {
        let request = post("git-upload-pack", body.clone()).header("content-encoding", "gzip");
        let request = request.body(Full::from(Bytes::from(body))).unwrap();
        world.send("name github.com 80", request).await.status
    };
    assert_eq!(send(zip(b"0011command=fetch0000")).await, StatusCode::OK);
    let seen = world.upstream.seen().remove(0);
    assert_eq!(seen.body.as_ref(), b"0011command=fetch0000");
    assert!(!seen.headers.contains_key("content-encoding"));
    let bomb = zip(&vec![0; 9 << 20]);
    assert!(bomb.len() < 100_000);
    assert_eq!(send(bomb).await, StatusCode::PAYLOAD_TOO_LARGE);
    let mut behind = zip(b"0000");
    behind.extend_from_slice(b"more");
    assert_eq!(send(behind).await, StatusCode::BAD_REQUEST);
    assert_eq!(send(b"not gzip".to_vec()).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.upstream.seen().len(), 1);
}
