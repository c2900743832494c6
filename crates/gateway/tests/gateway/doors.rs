//! The doors as directories, and the contract's own door in them.

use std::os::unix::fs::PermissionsExt as _;

use clawstaff_gateway::inbox::NewItem;
use clawstaff_types::{EventKind, Outcome};
use clawstaff_vault::seal;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::{World, claw, name};

fn get(path: &str) -> Request<Full<bytes::Bytes>> {
    Request::get(path)
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

fn file(world: &World) -> Value {
    serde_json::from_slice(&std::fs::read(world.door().join("claw.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_door_has_its_files_and_its_modes() {
    let world = World::new().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.data().join("doors")), 0o710);
    assert_eq!(mode(&world.door()), 0o711);
    assert_eq!(mode(&world.door().join("door.sock")), 0o666);
    assert!(
        std::fs::read_to_string(world.door().join("ca.pem"))
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    let file = file(&world);
    assert_eq!(
        file["model"],
        json!({ "api": "anthropic", "name": "claude-sonnet-5" })
    );
    assert_eq!(
        file["env"]["ANTHROPIC_BASE_URL"],
        "http://127.0.0.1:7070/anthropic"
    );
    assert!(
        file["env"]["ANTHROPIC_API_KEY"]
            .as_str()
            .unwrap()
            .starts_with("sk-ant-")
    );
    assert!(file["env"].get("SLACK_BOT_TOKEN").is_none());
    world.grant("slack", "messages.read", "channel:C1").await;
    assert!(
        self::file(&world)["env"]["SLACK_BOT_TOKEN"]
            .as_str()
            .unwrap()
            .starts_with("xoxb-")
    );
    let open = world.gateway.door(&name("a")).unwrap();
    assert_eq!((open.revision, open.gateway_revision), (1, 2));
}

#[tokio::test]
async fn instructions_are_opened_for_the_cage_alone() {
    let world = World::new().await;
    let sealed = seal::seal(world.gateway.seal_key.public(), "instructions", b"be kind").unwrap();
    let told = claw("a", json!({ "instructions": sealed }));
    world.change(|state| state.claws = vec![told]).await;
    assert_eq!(
        std::fs::read(world.door().join("instructions.md")).unwrap(),
        b"be kind"
    );
}

#[tokio::test]
async fn a_claw_that_is_gone_has_no_door() {
    let world = World::new().await;
    world.change(|state| state.claws.push(claw("b", json!({})))).await;
    assert!(world.door_of("b").exists());
    world
        .change(|state| state.claws.retain(|claw| claw.spec.name.as_str() != "a"))
        .await;
    assert!(!world.door().exists());
    assert!(world.door_of("b").join("door.sock").exists());
    assert!(world.gateway.door(&name("a")).is_none());
}

#[tokio::test]
async fn an_inbox_item_is_leased_becomes_the_cause_and_is_acknowledged() {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    let none = world.send("doors", get("/claw/v1/inbox/next?wait=0")).await;
    assert_eq!(none.status, StatusCode::NO_CONTENT);
    let item = NewItem {
        id: "Ev1".parse().unwrap(),
        source: "message".to_owned(),
        event: json!({ "text": "hello" }),
        on_behalf_of: Some("uid-1000".parse().unwrap()),
    };
    world.gateway.inbox.put(&name("a"), item).await.unwrap();
    let read = world.send("doors", get("/claw/v1/inbox/next?wait=5")).await;
    assert_eq!(read.json()["id"], "Ev1");
    world
        .slack("/api/chat.postMessage", &json!({ "channel": "C1", "text": "x" }))
        .await;
    let event = world.last(EventKind::MessageSent).event;
    assert_eq!(event.cause.unwrap().0.as_str(), "Ev1");
    assert_eq!(event.on_behalf_of.unwrap().as_str(), "uid-1000");
    let ack = json!({ "result": "done" });
    assert_eq!(
        world.post("/claw/v1/inbox/Ev1/ack", &ack).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        world.post("/claw/v1/inbox/Ev1/ack", &ack).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn acts_are_recorded_as_the_cage_reports_them() {
    let world = World::new().await;
    let stopped =
        json!({ "act": "connect", "target": "10.0.0.1:22", "happened": false, "error": "ENETUNREACH" });
    assert_eq!(
        world.post("/claw/v1/acts", &stopped).await.status,
        StatusCode::NO_CONTENT
    );
    let done = json!({ "act": "read_file", "target": "/etc/my file", "happened": true });
    assert_eq!(
        world.post("/claw/v1/acts", &done).await.status,
        StatusCode::NO_CONTENT
    );
    let denied = world.last(EventKind::ToolDenied).event;
    assert_eq!(denied.action.unwrap().to_string(), "cage:network.connect");
    assert_eq!(denied.outcome, Some(Outcome::Refused));
    assert_eq!(
        denied.reason.unwrap(),
        "stopped by the cage's boundary (ENETUNREACH), reported by the cage"
    );
    let read = world.last(EventKind::ToolCall).event;
    assert_eq!(read.resource.unwrap().to_string(), "path:/etc/my_file");
    assert_eq!(
        world.post("/claw/v1/acts", &json!({ "act": "fly" })).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn health_is_noted() {
    let world = World::new().await;
    assert_eq!(
        world
            .post("/claw/v1/health", &json!({ "ready": true }))
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(world.gateway.ready.all().get(&name("a")), Some(&true));
}

#[tokio::test]
async fn there_is_nothing_else_at_the_doors() {
    let world = World::new().await;
    for path in ["/", "/admin", "/claw/v2/inbox/next", "/claw/v1/memory"] {
        assert_eq!(
            world.send("doors", get(path)).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}
