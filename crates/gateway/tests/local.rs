//! The local API over its Unix socket: who may call, what is recorded, and secrets that nobody sees again.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "ingress/support.rs"]
mod support;

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use clawstaff_api::local::{ALIVE, DOOR, INFO, RECORD, SECRETS, VAULT};
use clawstaff_audit::{Entry, Phase};
use clawstaff_gateway::{
    inbox::NewItem,
    local::{self, Callers},
};
use clawstaff_types::{EventKind, Outcome, spec::SlackEvent};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use support::{World, claw, may_read, state, triggered};
use tokio::net::UnixStream;
use tokio_util::sync::{CancellationToken, DropGuard};

const CANARY: &str = "xoxb-canary-4711";

/// Of what kind each entry is, and what came of it.
fn kinds(entries: &[Entry]) -> Vec<(EventKind, Option<Outcome>)> {
    let kind = |entry: &Entry| (entry.event.kind, entry.event.outcome);
    entries.iter().map(kind).collect()
}

struct Local {
    world: World,
    socket: PathBuf,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Local {
    async fn new(callers: Callers) -> Self {
        let world = World::new();
        let wanted = state(
            7,
            vec![triggered("triage", SlackEvent::Message)],
            vec![may_read("triage")],
        );
        world.gateway.adopt(wanted).await.unwrap();
        let socket = world.dir.path().join("gateway.sock");
        let listener = local::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(local::serve(
            world.gateway.clone(),
            listener,
            callers,
            stop.clone(),
        ));
        Self {
            world,
            socket,
            _stop: stop.clone().drop_guard(),
            stop,
        }
    }

    async fn usual() -> Self {
        Self::new(Callers::new(&[])).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<bytes::Bytes>,
    ) -> http::Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gateway")
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        sender.send_request(request).await.unwrap()
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<bytes::Bytes>) -> (StatusCode, Value) {
        let response = self.send(method, path, body).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn record(&self, body: &Value) -> (StatusCode, Value) {
        self.ask(Method::POST, RECORD, body.to_string()).await
    }
}

fn lifecycle(kind: &str, outcome_of: Option<u64>, outcome: Option<&str>) -> Value {
    let event = match outcome {
        Some(outcome) => json!({ "kind": kind, "actor": "system:runner", "outcome": outcome }),
        None => json!({ "kind": kind, "actor": "system:runner" }),
    };
    json!({ "claw": "triage", "outcome_of": outcome_of, "event": event })
}

#[tokio::test]
async fn only_listed_uids_are_served() {
    let local = Local::usual().await;
    let mode = std::fs::metadata(&local.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    assert_eq!(local.ask(Method::GET, INFO, "").await.0, StatusCode::OK);
    let nobody = Local::new(Callers::none()).await;
    let (status, problem) = nobody.ask(Method::GET, INFO, "").await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("forbidden"))
    );
}

#[tokio::test]
async fn the_gateway_says_who_it_is_and_which_doors_are_open() {
    let local = Local::usual().await;
    let (_, info) = local.ask(Method::GET, INFO, "").await;
    assert_eq!(info["revision"], 7);
    assert_eq!(info["log_vkey"], local.world.log_key.vkey());
    assert_eq!(
        info["seal_key"],
        local.world.gateway.seal_key.public().to_string()
    );
    let (status, door) = local.ask(Method::GET, &format!("{DOOR}/triage"), "").await;
    assert_eq!(
        (status, &door["revision"], &door["gateway_revision"]),
        (StatusCode::OK, &json!(3), &json!(7))
    );
    assert!(
        std::path::Path::new(door["dir"].as_str().unwrap())
            .join("door.sock")
            .exists()
    );
    for unknown in ["other", "Not_A_Name"] {
        let (status, _) = local.ask(Method::GET, &format!("{DOOR}/{unknown}"), "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn lifecycle_acts_are_recorded_before_and_after() {
    let local = Local::usual().await;
    let (status, receipt) = local.record(&lifecycle("claw.started", None, None)).await;
    assert_eq!((status, &receipt["index"]), (StatusCode::OK, &json!(0)));
    let (status, _) = local
        .record(&lifecycle("claw.started", Some(0), Some("succeeded")))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = local
        .record(&lifecycle("claw.failed", None, Some("failed")))
        .await;
    assert_eq!(status, StatusCode::OK);
    let entries = local.world.entries();
    let phases: Vec<_> = entries.iter().map(|entry| entry.phase).collect();
    assert_eq!(phases, [Phase::Intent, Phase::Outcome { of: 0 }, Phase::Fact]);
    assert!(
        entries
            .iter()
            .all(|entry| entry.event.claw == Some(claw("triage")))
    );
    assert_eq!(entries[0].call, entries[1].call);
}

#[tokio::test]
async fn an_outcome_that_comes_after_it_was_settled_is_kept_as_a_fact() {
    let local = Local::usual().await;
    local.record(&lifecycle("claw.stopped", None, None)).await;
    local
        .record(&lifecycle("claw.stopped", Some(0), Some("unknown")))
        .await;
    let (status, _) = local
        .record(&lifecycle("claw.stopped", Some(0), Some("succeeded")))
        .await;
    assert_eq!(status, StatusCode::OK);
    let last = local.world.entries().pop().unwrap();
    assert_eq!(
        (last.phase, last.event.facts["late_outcome_of"].as_str()),
        (Phase::Fact, "0")
    );
}

#[tokio::test]
async fn records_that_are_not_the_hosts_to_make_are_refused() {
    let local = Local::usual().await;
    let mut other = lifecycle("claw.started", None, None);
    other["event"]["claw"] = json!("other");
    let mut extra = lifecycle("claw.started", None, None);
    extra["event"]["prompt"] = json!("content");
    for body in [
        lifecycle("tool.call", None, None),
        lifecycle("grant.added", None, Some("succeeded")),
        lifecycle("claw.started", Some(99), Some("succeeded")),
        lifecycle("claw.started", Some(0), None),
        other,
        extra,
        json!({}),
    ] {
        assert_eq!(local.record(&body).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
    assert!(local.world.entries().is_empty());
}

#[tokio::test]
async fn a_cage_that_starts_anew_gets_what_the_last_one_did_not_finish() {
    let local = Local::usual().await;
    let inbox = &local.world.gateway.inbox;
    let item = NewItem {
        id: "Ev1".parse().unwrap(),
        source: "message".into(),
        event: Value::Null,
        on_behalf_of: None,
    };
    inbox.put(&claw("triage"), item).await.unwrap();
    inbox
        .next(&claw("triage"), Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    local.record(&lifecycle("claw.paused", None, None)).await;
    assert!(inbox.current(&claw("triage")).is_some());
    local.record(&lifecycle("claw.started", None, None)).await;
    let again = inbox
        .next(&claw("triage"), Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((again.id.as_str(), again.attempt), ("Ev1", 2));
}

#[tokio::test]
async fn secrets_are_set_rotated_removed_and_each_is_recorded_without_its_value() {
    let local = Local::usual().await;
    let path = format!("{SECRETS}/slack-bot");
    for value in [CANARY, "another"] {
        assert_eq!(
            local.ask(Method::PUT, &path, value).await.0,
            StatusCode::NO_CONTENT
        );
    }
    let (status, list) = local.ask(Method::GET, SECRETS, "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(list.to_string().contains("slack-bot") && !list.to_string().contains("another"));
    assert_eq!(
        local.ask(Method::DELETE, &path, "").await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        local.ask(Method::DELETE, &path, "").await.0,
        StatusCode::NOT_FOUND
    );
    let entries = local.world.entries();
    let done = Some(Outcome::Succeeded);
    assert_eq!(
        kinds(&entries),
        [
            (EventKind::SecretSet, None),
            (EventKind::SecretSet, done),
            (EventKind::SecretRotated, None),
            (EventKind::SecretRotated, done),
            (EventKind::SecretRemoved, None),
            (EventKind::SecretRemoved, done),
        ]
    );
    let own = format!("member:uid-{}", rustix::process::geteuid().as_raw());
    assert!(entries.iter().all(|entry| entry.event.actor.to_string() == own));
    assert!(!serde_json::to_string(&entries).unwrap().contains(CANARY));
}

#[tokio::test]
async fn secrets_that_cannot_be_kept_are_refused() {
    let local = Local::usual().await;
    let path = format!("{SECRETS}/a");
    for (path, value) in [
        (path.as_str(), Vec::new()),
        (&path, vec![0xFF]),
        (&path, vec![b'x'; 64 * 1024 + 3]),
        (&format!("{SECRETS}/Not_A_Name"), b"x".to_vec()),
    ] {
        assert_eq!(
            local.ask(Method::PUT, path, value).await.0,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    assert_eq!(local.world.gateway.vault.list().unwrap().len(), 1);
}

#[tokio::test]
async fn the_response_of_alive_ends_when_the_gateway_does() {
    let local = Local::usual().await;
    let mut body = local.send(Method::GET, ALIVE, "").await.into_body();
    assert!(body.frame().await.unwrap().unwrap().into_data().is_ok());
    local.stop.cancel();
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    tokio::time::timeout(Duration::from_secs(10), rest).await.unwrap();
}

#[tokio::test]
async fn where_a_secret_may_be_used_is_said_listed_and_recorded_and_a_rotation_keeps_it() {
    let local = Local::usual().await;
    let path = format!("{SECRETS}/ghe");
    let set = format!("{path}?connections=github&hosts=ghe.acme.com");
    assert_eq!(
        local.ask(Method::PUT, &set, CANARY).await.0,
        StatusCode::NO_CONTENT
    );
    let bind = format!("{path}/binding?hosts=ghe.acme.com%3A8443,api.acme.com&add=true");
    assert_eq!(local.ask(Method::PUT, &bind, "").await.0, StatusCode::NO_CONTENT);
    let rotate = format!("{path}/rotate");
    assert_eq!(
        local.ask(Method::POST, &rotate, "second").await.0,
        StatusCode::NO_CONTENT
    );
    let (_, listed) = local.ask(Method::GET, SECRETS, "").await;
    assert_eq!(listed[0]["version"], 2);
    assert_eq!(listed[0]["connections"], json!(["github"]));
    assert_eq!(
        listed[0]["hosts"],
        json!(["ghe.acme.com", "ghe.acme.com:8443", "api.acme.com"])
    );
    assert!(!listed.to_string().contains("second"));

    for (method, path, body) in [
        (Method::PUT, format!("{path}?hosts=https://acme.com"), "x"),
        (Method::PUT, format!("{path}/binding"), ""),
        (Method::PUT, format!("{path}/reference"), "nonsense"),
        (Method::PUT, format!("{path}/reference"), "vault:other"),
        (
            Method::PUT,
            format!("{path}/reference"),
            "env:NO_SUCH_VARIABLE_HERE",
        ),
    ] {
        let (status, problem) = local.ask(method, &path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {problem}");
    }
    let missing = format!("{SECRETS}/none/rotate");
    assert_eq!(
        local.ask(Method::POST, &missing, "x").await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_backup_is_recorded_sealed_and_put_back_and_each_secret_restored_has_its_record() {
    let local = Local::usual().await;
    for name in ["slack-bot", "github"] {
        let path = format!("{SECRETS}/{name}");
        assert_eq!(
            local.ask(Method::PUT, &path, CANARY).await.0,
            StatusCode::NO_CONTENT
        );
    }
    let before = local.world.entries().len();
    let answer = local
        .send(Method::POST, &format!("{VAULT}/backup"), "a passphrase")
        .await;
    assert_eq!(answer.status(), StatusCode::OK);
    let file = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(file.starts_with(b"age-encryption.org/v1"));
    let made = local.world.entries().split_off(before);
    assert!(
        made.iter()
            .all(|entry| entry.event.kind == EventKind::ConfigChanged)
    );
    assert_eq!(made[0].event.facts["backup"], "passphrase");
    assert_eq!((made.len(), made[1].event.outcome), (2, Some(Outcome::Succeeded)));

    let restore = format!("{VAULT}/restore");
    let with = |key: &str| [key.as_bytes(), b"\n", &file].concat();
    let (status, problem) = local.ask(Method::POST, &restore, with("a passphrase")).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    let github = format!("{SECRETS}/github");
    local.ask(Method::DELETE, &github, "").await;
    let before = local.world.entries().len();
    for (body, status) in [
        (with("another"), StatusCode::BAD_REQUEST),
        (file.to_vec(), StatusCode::BAD_REQUEST),
        (Vec::new(), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(local.ask(Method::POST, &restore, body).await.0, status);
    }
    assert_eq!(local.world.entries().len(), before);
    let (status, restored) = local
        .ask(
            Method::POST,
            &format!("{restore}?replace=true"),
            with("a passphrase"),
        )
        .await;
    assert_eq!(
        (status, &restored["secrets"]),
        (StatusCode::OK, &json!(["github", "slack-bot", "slack-signing"]))
    );
    let entries = local.world.entries().split_off(before);
    let done = Some(Outcome::Succeeded);
    assert_eq!(
        kinds(&entries),
        [
            (EventKind::SecretSet, None),
            (EventKind::SecretRotated, None),
            (EventKind::SecretRotated, None),
            (EventKind::SecretSet, done),
            (EventKind::SecretRotated, done),
            (EventKind::SecretRotated, done),
        ]
    );
    assert!(entries.iter().all(|entry| entry.event.facts["from"] == "backup"));
    assert!(
        !serde_json::to_string(&local.world.entries())
            .unwrap()
            .contains(CANARY)
    );
}

#[tokio::test]
async fn a_master_key_that_is_gone_is_a_warning_until_it_is_back() {
    let local = Local::usual().await;
    let (_, info) = local.ask(Method::GET, INFO, "").await;
    assert_eq!(info["warnings"], json!([]));
    let key = local.world.dir.path().join("vault/master.key");
    let kept = key.with_extension("kept");
    std::fs::rename(&key, &kept).unwrap();
    let (_, info) = local.ask(Method::GET, INFO, "").await;
    assert!(
        info["warnings"][0]
            .as_str()
            .unwrap()
            .contains("clawstaff secret backup"),
        "{info}"
    );
    let path = format!("{SECRETS}/slack-bot");
    let (status, _) = local.ask(Method::PUT, &path, CANARY).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    std::fs::rename(&kept, &key).unwrap();
    assert_eq!(
        local.ask(Method::PUT, &path, CANARY).await.0,
        StatusCode::NO_CONTENT
    );
}
