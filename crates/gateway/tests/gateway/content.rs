//! Content: kept only if asked for, read by custodians only and on record, held, erased for good.

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use clawstaff_api::local::{CONTENT, Content, ERASE, EraseAnswer, HOLDS};
use clawstaff_audit::{Checkpoint, verify::verify_dir};
use clawstaff_gateway::{
    CustodyPolicy,
    inbox::NewItem,
    local::{self, Callers},
    waits::Waits,
};
use clawstaff_types::{EventKind, Outcome};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::{Client, Read, World, name};

/// Users of the host besides root.
const CUSTODIAN: u32 = 4_001;
const STRANGER: u32 = 4_002;

const ASKED: &str = "the acquisition of Initech closes on Friday";
const ANSWERED: &str = "understood-initech-4711";

/// A gateway that keeps content, and its local API.
struct Custody {
    world: World,
    _serving: DropGuard,
}

impl Custody {
    async fn new(policy: CustodyPolicy) -> Self {
        let world = World::with(Waits::default(), policy).await;
        world.grant("slack", "messages.send", "channel:C1").await;
        let answer = json!({ "ok": true, "note": ANSWERED }).to_string();
        world.upstream.answers(200, Box::leak(answer.into_boxed_str()));
        let stop = CancellationToken::new();
        let listener = local::bind(&world.data().join("gateway.sock")).unwrap();
        let gateway = world.gateway.clone();
        tokio::spawn(local::serve(
            gateway,
            listener,
            Callers::new(&[CUSTODIAN, STRANGER]),
            stop.clone(),
        ));
        Self {
            world,
            _serving: stop.drop_guard(),
        }
    }

    async fn keeping() -> Self {
        Self::new(CustodyPolicy {
            keep: true,
            ..CustodyPolicy::default()
        })
        .await
    }

    /// The Claw sends a message on behalf of a member.
    async fn sends_for(&self, member: &str) -> u64 {
        let before = self.world.gateway.log.size();
        let item = NewItem {
            id: format!("Ev-{before}").parse().unwrap(),
            source: "message".into(),
            event: Value::Null,
            on_behalf_of: Some(member.parse().unwrap()),
        };
        let inbox = &self.world.gateway.inbox;
        inbox.release(&name("a")).await.unwrap();
        inbox.put(&name("a"), item).await.unwrap();
        inbox
            .next(&name("a"), std::time::Duration::ZERO)
            .await
            .unwrap()
            .unwrap();
        let body = json!({ "channel": "C1", "text": ASKED });
        let read = self.world.slack("/api/chat.postMessage", &body).await;
        assert_eq!(read.status, StatusCode::OK, "{}", read.text());
        inbox
            .ack(&name("a"), &format!("Ev-{before}").parse().unwrap(), &done())
            .await
            .unwrap();
        before
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Read {
        let stream = UnixStream::connect(self.world.data().join("gateway.sock"))
            .await
            .unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gateway")
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap();
        Client::over(stream).await.send(request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let read = self.ask("GET", path, &Value::Null).await;
        assert_eq!(read.status, StatusCode::OK, "{}", read.text());
        serde_json::from_slice(&read.body).unwrap()
    }

    async fn content(&self, index: u64) -> Content {
        self.get(&format!("{CONTENT}/{index}")).await
    }

    async fn erase(&self, subject: &str) -> Read {
        self.ask("POST", ERASE, &json!({ "subject": subject })).await
    }

    /// Another user of the host asks for an erasure; status and body of the answer.
    async fn erase_as(&self, uid: u32, subject: &'static str) -> String {
        let socket = self.world.data().join("gateway.sock");
        for (path, mode) in [(self.world.data(), 0o755), (&socket, 0o666)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let script = "import http.client, json, socket, sys
c = http.client.HTTPConnection('gateway')
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(sys.argv[1])
c.request('POST', sys.argv[2], json.dumps({'subject': sys.argv[3]}), {'content-type': 'application/json'})
a = c.getresponse()
print(a.status, a.read().decode())";
        let asked = tokio::task::spawn_blocking(move || {
            Command::new("python3")
                .args(["-c", script, socket.to_str().unwrap(), ERASE, subject])
                .uid(uid)
                .output()
        });
        let asked = asked.await.unwrap();
        let asked =
            asked.unwrap_or_else(|error| panic!("python3 (apt-get install python3), as root: {error}"));
        let errors = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "{errors}");
        String::from_utf8(asked.stdout).unwrap()
    }

    /// Every file below the data directory that holds these bytes.
    fn files_with(&self, needle: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        search(self.world.data(), needle, &mut found);
        found
    }
}

fn done() -> clawstaff_cage_contract::Ack {
    serde_json::from_value(json!({ "result": "done" })).unwrap()
}

fn search(dir: &Path, needle: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, needle, found);
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(needle.len()).any(|window| window == needle)
        {
            found.push(path.display().to_string());
        }
    }
}

fn piece(content: &Content, label: &str, at: usize) -> String {
    let part = content.parts.iter().find(|part| part.label == label).unwrap();
    String::from_utf8(BASE64.decode(&part.pieces[at]).unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_kept_is_what_was_recorded_and_reading_it_is_on_record() {
    let custody = Custody::keeping().await;
    let index = custody.sends_for("uid-7").await;
    let content = custody.content(index).await;
    assert_eq!(piece(&content, "request", 0), "POST");
    assert!(piece(&content, "request", 4).contains(ASKED));
    assert!(piece(&content, "response", 0).contains(ANSWERED));
    let outcome = custody.world.last(EventKind::MessageSent).event;
    for part in &content.parts {
        assert_eq!(outcome.digests[&part.label], part.digest, "{}", part.label);
    }
    let read = custody.world.last(EventKind::AuditExport).event;
    assert_eq!(read.facts["record"], format!("gateway:{index}"));
    assert!(read.actor.to_string().starts_with("member:uid-"));
    assert_eq!(
        custody.files_with(ASKED.as_bytes()),
        Vec::<String>::new(),
        "plaintext is on no disk"
    );
    assert_eq!(custody.files_with(ANSWERED.as_bytes()), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_kept_unless_the_operator_asked_for_it() {
    let custody = Custody::new(CustodyPolicy::default()).await;
    let index = custody.sends_for("uid-7").await;
    let read = custody
        .ask("GET", &format!("{CONTENT}/{index}"), &Value::Null)
        .await;
    assert_eq!(read.status, StatusCode::NOT_FOUND);
    assert!(read.text().contains("--keep-content"), "{}", read.text());
    assert!(!custody.world.data().join("gateway/content").exists());
}

#[tokio::test]
async fn content_that_could_not_be_recorded_as_read_is_not_shown() {
    let custody = Custody::keeping().await;
    let index = custody.sends_for("uid-7").await;
    custody.world.break_log();
    let read = custody
        .ask("GET", &format!("{CONTENT}/{index}"), &Value::Null)
        .await;
    assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!read.text().contains("pieces"));
}

#[tokio::test]
async fn an_erased_subject_is_gone_for_good_and_every_old_proof_still_verifies() {
    let custody = Custody::keeping().await;
    let (ana, ben) = (custody.sends_for("uid-7").await, custody.sends_for("uid-8").await);
    let old = Checkpoint::parse(&custody.world.gateway.log.checkpoint()).unwrap();
    let wrapped = std::fs::read(custody.world.data().join("gateway/keys/subjects/a~uid-7")).unwrap();
    let commitment = custody.world.entries()[usize::try_from(ana).unwrap()].call;

    let answer: EraseAnswer = serde_json::from_slice(&custody.erase("member:uid-7").await.body).unwrap();
    let EraseAnswer::Erased { keys: 1, record } = answer else {
        panic!("{answer:?}")
    };
    let erased = custody.content(ana).await;
    assert_eq!((erased.parts.len(), erased.erased), (0, 2));
    assert!(
        piece(&custody.content(ben).await, "request", 4).contains(ASKED),
        "another's is still there"
    );
    assert_eq!(
        custody.files_with(&wrapped),
        Vec::<String>::new(),
        "the wrapped key is in no file"
    );
    assert_eq!(custody.files_with(&wrapped[13..45]), Vec::<String>::new());

    let entry = &custody.world.entries()[usize::try_from(record).unwrap()];
    assert_eq!(entry.event.kind, EventKind::AuditErase);
    assert_eq!(entry.event.facts["subject"], "member:uid-7");
    let last = custody.world.last(EventKind::AuditErase).event;
    assert_eq!(
        (last.outcome, last.facts["keys"].as_str()),
        (Some(Outcome::Succeeded), "1")
    );

    // The salt is gone, so not even the right text leads to the commitment any more.
    let again = custody.sends_for("uid-7").await;
    let anew = custody.world.entries()[usize::try_from(again).unwrap()].call;
    assert_ne!(anew, commitment, "the same text, committed to under another salt");

    let report = verify_dir(&custody.world.data().join("gateway/log"), None, Some(&old));
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(custody.erase("member:uid-9").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_hold_beats_an_erasure_until_it_is_released() {
    let custody = Custody::keeping().await;
    let index = custody.sends_for("uid-7").await;
    let place = format!("{HOLDS}/case-1");
    let held = custody.ask("PUT", &place, &json!({ "subject": "claw:a" })).await;
    assert_eq!(held.status, StatusCode::OK, "{}", held.text());
    let refused = custody.erase("member:uid-7").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text().contains("case-1"), "{}", refused.text());
    assert_eq!(custody.content(index).await.erased, 0);
    let twice = custody.ask("PUT", &place, &json!({ "subject": null })).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    let bad = custody
        .ask("PUT", &format!("{HOLDS}/Not_A_Name"), &json!({ "subject": null }))
        .await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        custody.ask("DELETE", &place, &Value::Null).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        custody.ask("DELETE", &place, &Value::Null).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(custody.erase("member:uid-7").await.status, StatusCode::OK);
    let kinds: Vec<_> = custody
        .world
        .entries()
        .into_iter()
        .map(|entry| (entry.event.kind, entry.event.outcome))
        .collect();
    let of = |kind| kinds.iter().filter(|(found, _)| *found == kind).count();
    assert_eq!(
        of(EventKind::AuditHold),
        4,
        "added and released, each with its outcome"
    );
    assert!(kinds.contains(&(EventKind::AuditErase, Some(Outcome::Refused))));
}

#[tokio::test]
async fn with_two_persons_one_alone_erases_nothing() {
    let custody = Custody::new(CustodyPolicy {
        keep: true,
        two_persons: true,
        custodians: vec![CUSTODIAN],
        ..CustodyPolicy::default()
    })
    .await;
    let index = custody.sends_for("uid-7").await;
    for _ in 0..2 {
        let answer = custody.erase("member:uid-7").await;
        assert_eq!(
            answer.json(),
            json!("waits"),
            "asking twice oneself is not two persons"
        );
    }
    assert_eq!(custody.content(index).await.erased, 0);
    // One who is no custodian is no second person, whoever started it; another custodian is.
    let stranger = custody.erase_as(STRANGER, "member:uid-7").await;
    assert!(stranger.starts_with("403 "), "{stranger}");
    let second = custody.erase_as(CUSTODIAN, "member:uid-7").await;
    assert!(
        second.starts_with("200 ") && second.contains("erased"),
        "{second}"
    );
    assert_eq!(custody.content(index).await.erased, 2);
    let erased = custody.world.last(EventKind::AuditErase).event;
    assert_eq!(erased.actor.to_string(), format!("member:uid-{CUSTODIAN}"));
    assert_eq!(erased.facts["first_asked_by"], "uid-0");
}

#[tokio::test]
async fn a_request_that_cannot_be_kept_is_not_sent() {
    let custody = Custody::keeping().await;
    let place = custody.world.data().join("gateway/content");
    std::fs::write(&place, "a file where a folder should be").unwrap();
    let body = json!({ "channel": "C1", "text": ASKED });
    let read = custody.world.slack("/api/chat.postMessage", &body).await;
    assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE, "{}", read.text());
    assert!(custody.world.upstream.seen().is_empty());
    let outcome = custody.world.last(EventKind::MessageSent).event;
    assert_eq!(
        (outcome.outcome, outcome.facts["error"].as_str()),
        (Some(Outcome::Failed), "content")
    );
}
