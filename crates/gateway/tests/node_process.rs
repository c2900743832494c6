//! The gateway as a process: confined, it starts, listens, records, restarts and ends.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/process.rs"]
mod process;

use std::{path::Path, time::Duration};

use clawstaff_api::local::GatewayInfo;
use clawstaff_audit::verify::verify_dir;
use clawstaff_gateway::{RunError, run};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

struct Process {
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

fn start(data: &Path) -> Process {
    let stop = CancellationToken::new();
    Process {
        running: tokio::spawn(run(process::config(data), stop.clone())),
        stop,
    }
}

impl Process {
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

/// Asks the local API, as soon as it is there.
async fn ask(data: &Path, method: Method, path: &str, body: &str) -> (StatusCode, Vec<u8>) {
    let socket = data.join("run/gateway.sock");
    let connected = async {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let stream = tokio::time::timeout(Duration::from_secs(30), connected)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "gateway")
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from(body.to_owned())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    (
        response.status(),
        response.into_body().collect().await.unwrap().to_bytes().to_vec(),
    )
}

async fn info(data: &Path) -> GatewayInfo {
    let (status, body) = ask(data, Method::GET, "/local/v1/info", "").await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn it_keeps_its_keys_and_its_log_over_a_restart_and_says_what_it_left_open() {
    let data = tempfile::tempdir().unwrap();
    let first = start(data.path());
    let before = info(data.path()).await;
    assert!(before.ingress.starts_with("http://127.0.0.1:"));
    let (status, _) = ask(
        data.path(),
        Method::PUT,
        "/local/v1/secrets/slack-bot",
        "xoxb-canary",
    )
    .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let intent =
        r#"{"claw":"triage","outcome_of":null,"event":{"kind":"claw.started","actor":"system:runner"}}"#;
    assert_eq!(
        ask(data.path(), Method::POST, "/local/v1/record", intent).await.0,
        StatusCode::OK
    );
    first.end().await;
    assert!(!data.path().join("run/gateway.sock").exists());

    let second = start(data.path());
    let after = info(data.path()).await;
    assert_eq!(
        (before.log_vkey, before.seal_key),
        (after.log_vkey, after.seal_key)
    );
    // Set and its outcome, the intent, its unknown outcome, and the gap.
    assert_eq!(after.log_size, 5);
    second.end().await;
    let report = verify_dir(&data.path().join("gateway/log"), None, None);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.size, 5);
    let private = std::fs::metadata(data.path().join("gateway")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&private.permissions()) & 0o777,
        0o700
    );
}

#[tokio::test]
async fn a_secret_that_ends_is_warned_of_and_is_an_incident_once_when_it_has_ended() {
    let data = tempfile::tempdir().unwrap();
    let first = start(data.path());
    let warned = info(data.path()).await;
    assert!(warned.warnings.is_empty(), "{:?}", warned.warnings);
    let set = |end: jiff::Timestamp| format!("/local/v1/secrets/slack-bot?expires={end}");
    let now = jiff::Timestamp::now();
    let (status, _) = ask(data.path(), Method::PUT, &set(now), "xoxb").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let far = set(now + jiff::SignedDuration::from_hours(15 * 24));
    assert_eq!(
        ask(data.path(), Method::PUT, &far, "xoxb").await.0,
        StatusCode::NO_CONTENT
    );
    assert!(info(data.path()).await.warnings.is_empty());
    let soon = set(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2));
    assert_eq!(
        ask(data.path(), Method::PUT, &soon, "xoxb").await.0,
        StatusCode::NO_CONTENT
    );
    let warnings = info(data.path()).await.warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("`slack-bot`"),
        "{warnings:?}"
    );
    let ended = async {
        while !info(data.path()).await.warnings[0].contains("ended") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), ended).await.unwrap();
    first.end().await;
    let size = |data: &Path| verify_dir(&data.join("gateway/log"), None, None).size;
    let before = size(data.path());

    // Each start looks at once.
    let second = start(data.path());
    let told = async {
        while info(data.path()).await.log_size == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), told).await.unwrap();
    second.end().await;
    assert_eq!(size(data.path()), before + 1);
    let noted = std::fs::read_to_string(data.path().join("gateway/ended-secrets.json")).unwrap();
    assert!(noted.contains("slack-bot"), "{noted}");
    let third = start(data.path());
    info(data.path()).await;
    third.end().await;
    assert_eq!(size(data.path()), before + 1);
}
