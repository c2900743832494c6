//! The inbox from outside: at least once, once where it can be, in order, bounded, and never lost.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use clawstaff_cage_contract::{Ack, AckResult};
use clawstaff_gateway::inbox::{
    Clock, Inbox, InboxError, InboxKey, MAX_ATTEMPTS, MAX_ITEM, MAX_WAITING, NewItem, Put,
};
use clawstaff_types::{ClawName, EventId, Secret};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde_json::json;

const NOW: Duration = Duration::ZERO;
const CANARY: &str = "canary-in-a-message";

fn key() -> InboxKey {
    InboxKey::new(&Secret::new(vec![7; 32])).unwrap()
}

fn open(dir: &Path) -> Inbox {
    Inbox::open(dir, key()).unwrap()
}

fn claw() -> ClawName {
    "triage".parse().unwrap()
}

fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

fn item(id_text: &str) -> NewItem {
    NewItem {
        id: id(id_text),
        source: "message".into(),
        event: json!({ "text": CANARY }),
        on_behalf_of: Some("uid-1000".parse().unwrap()),
    }
}

fn ack(result: AckResult) -> Ack {
    Ack {
        result,
        note: String::new(),
    }
}

async fn next_id(inbox: &Inbox) -> Option<String> {
    inbox
        .next(&claw(), NOW)
        .await
        .unwrap()
        .map(|item| item.id.to_string())
}

#[tokio::test]
async fn items_are_handed_out_in_order_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    for name in ["b", "a", "c"] {
        assert_eq!(inbox.put(&claw(), item(name)).await.unwrap(), Put::Stored);
    }
    let first = inbox.next(&claw(), NOW).await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), first.attempt), ("b", 1));
    assert_eq!(first.event, json!({ "text": CANARY }));
    assert_eq!(next_id(&inbox).await, None, "one is leased");
    assert_eq!(inbox.current(&claw()), Some(id("b")));
    assert_eq!(inbox.on_behalf_of(&claw()).unwrap().as_str(), "uid-1000");
    inbox.ack(&claw(), &id("b"), &ack(AckResult::Done)).await.unwrap();
    assert_eq!(inbox.current(&claw()), None);
    assert_eq!(next_id(&inbox).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn claws_do_not_see_each_others_items() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    let other: ClawName = "other".parse().unwrap();
    assert!(inbox.next(&other, NOW).await.unwrap().is_none());
    assert!(matches!(
        inbox.ack(&other, &id("a"), &ack(AckResult::Done)).await,
        Err(InboxError::NoSuchItem { .. })
    ));
}

#[tokio::test]
async fn whoever_waits_is_woken_by_an_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = Arc::new(open(dir.path()));
    let waiting = tokio::spawn({
        let inbox = Arc::clone(&inbox);
        async move { inbox.next(&claw(), Duration::from_secs(30)).await.unwrap() }
    });
    tokio::task::yield_now().await;
    inbox.put(&claw(), item("a")).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(woken.unwrap().id, id("a"));
}

#[tokio::test]
async fn an_item_whose_receiver_went_away_is_handed_out_again_as_if_for_the_first_time() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    let name = claw();
    for _ in 0..20 {
        // Polled once and dropped: the receiver is gone while the disk still works.
        let received = inbox.next(&name, NOW).now_or_never();
        assert!(received.is_none(), "a disk that answers before it is waited for");
    }
    let again = inbox
        .next(&claw(), Duration::from_secs(10))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((again.id, again.attempt), (id("a"), 1));
}

#[tokio::test]
async fn a_second_delivery_is_a_duplicate_while_it_waits_while_leased_and_when_done() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    assert_eq!(inbox.put(&claw(), item("a")).await.unwrap(), Put::Duplicate);
    next_id(&inbox).await.unwrap();
    assert_eq!(inbox.put(&claw(), item("a")).await.unwrap(), Put::Duplicate);
    inbox.ack(&claw(), &id("a"), &ack(AckResult::Done)).await.unwrap();
    assert_eq!(inbox.put(&claw(), item("a")).await.unwrap(), Put::Duplicate);
    drop(inbox);
    let inbox = open(dir.path());
    assert_eq!(inbox.put(&claw(), item("a")).await.unwrap(), Put::Duplicate);
    assert!(inbox.knows(&claw(), &id("a")).await.unwrap());
    assert_eq!(next_id(&inbox).await, None);
}

#[tokio::test]
async fn ids_are_forgotten_after_seven_days_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_700_000_000));
    let clock = Clock::from_fn({
        let now = Arc::clone(&now);
        move || Timestamp::from_second(now.load(Ordering::SeqCst)).unwrap()
    });
    let inbox = Inbox::open_at(dir.path(), key(), clock.clone()).unwrap();
    inbox.put(&claw(), item("a")).await.unwrap();
    next_id(&inbox).await.unwrap();
    inbox.ack(&claw(), &id("a"), &ack(AckResult::Done)).await.unwrap();
    drop(inbox);
    now.fetch_add(7 * 86_400, Ordering::SeqCst);
    let inbox = Inbox::open_at(dir.path(), key(), clock.clone()).unwrap();
    assert_eq!(inbox.put(&claw(), item("a")).await.unwrap(), Put::Duplicate);
    drop(inbox);
    now.fetch_add(86_400, Ordering::SeqCst);
    let inbox = Inbox::open_at(dir.path(), key(), clock).unwrap();
    assert_eq!(inbox.put(&claw(), item("a")).await.unwrap(), Put::Stored);
}

#[tokio::test]
async fn an_item_is_handed_out_again_when_the_cage_starts_anew_and_given_up_after_five_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("poison")).await.unwrap();
    inbox.put(&claw(), item("good")).await.unwrap();
    for attempt in 1..=MAX_ATTEMPTS {
        let item = inbox.next(&claw(), NOW).await.unwrap().unwrap();
        assert_eq!((item.id.as_str(), item.attempt), ("poison", attempt));
        inbox.release(&claw()).await.unwrap();
    }
    assert_eq!(next_id(&inbox).await.as_deref(), Some("good"));
    let given_up = inbox.given_up().await.unwrap();
    assert_eq!(
        (given_up[0].id.as_str(), given_up[0].attempts),
        ("poison", MAX_ATTEMPTS)
    );
    drop(inbox);
    // Not recorded yet when the process died: still to be reported, and not accepted again.
    let inbox = open(dir.path());
    assert_eq!(inbox.given_up().await.unwrap(), given_up);
    assert_eq!(inbox.put(&claw(), item("poison")).await.unwrap(), Put::Duplicate);
    inbox.reported(&given_up[0]).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(50), inbox.given_up())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_lease_survives_the_gateway_and_ends_with_the_cage() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    inbox.put(&claw(), item("b")).await.unwrap();
    next_id(&inbox).await.unwrap();
    drop(inbox);
    let inbox = open(dir.path());
    assert_eq!(inbox.current(&claw()), Some(id("a")));
    assert_eq!(inbox.on_behalf_of(&claw()).unwrap().as_str(), "uid-1000");
    assert_eq!(next_id(&inbox).await, None);
    inbox.release(&claw()).await.unwrap();
    assert_eq!(inbox.current(&claw()), None);
    let again = inbox.next(&claw(), NOW).await.unwrap().unwrap();
    assert_eq!((again.id.as_str(), again.attempt), ("a", 2));
}

#[tokio::test]
async fn an_item_the_agent_gave_up_is_not_handed_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    next_id(&inbox).await.unwrap();
    inbox
        .ack(&claw(), &id("a"), &ack(AckResult::Failed))
        .await
        .unwrap();
    assert_eq!(next_id(&inbox).await, None);
    assert_eq!(inbox.put(&claw(), item("a")).await.unwrap(), Put::Duplicate);
}

#[tokio::test]
async fn an_inbox_is_bounded_in_items_and_in_size() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    let mut large = item("large");
    large.event = json!("x".repeat(MAX_ITEM));
    assert!(matches!(
        inbox.put(&claw(), large).await,
        Err(InboxError::TooLarge { .. })
    ));
    for n in 0..MAX_WAITING {
        inbox.put(&claw(), item(&format!("i{n}"))).await.unwrap();
    }
    assert!(matches!(
        inbox.put(&claw(), item("one-more")).await,
        Err(InboxError::Full(_))
    ));
    next_id(&inbox).await.unwrap();
    assert!(matches!(
        inbox.put(&claw(), item("one-more")).await,
        Err(InboxError::Full(_))
    ));
    inbox
        .ack(&claw(), &id("i0"), &ack(AckResult::Done))
        .await
        .unwrap();
    assert_eq!(inbox.put(&claw(), item("one-more")).await.unwrap(), Put::Stored);
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn content_lies_encrypted_and_private_on_the_disk() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    let files = files_below(dir.path());
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            file.display()
        );
        let content = fs::read(&file).unwrap();
        assert!(
            !content
                .windows(CANARY.len())
                .any(|part| part == CANARY.as_bytes()),
            "{}",
            file.display()
        );
    }
}

#[tokio::test]
async fn an_altered_or_swapped_item_is_given_up_and_holds_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    inbox.put(&claw(), item("b")).await.unwrap();
    let new = dir.path().join("triage/new");
    let mut names: Vec<_> = fs::read_dir(&new)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    fs::copy(&names[1], &names[0]).unwrap();
    assert_eq!(next_id(&inbox).await.as_deref(), Some("b"));
    assert_eq!(inbox.given_up().await.unwrap()[0].id, id("a"));
}

#[tokio::test]
async fn the_inbox_of_a_claw_that_is_gone_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path());
    inbox.put(&claw(), item("a")).await.unwrap();
    inbox.retain(&BTreeSet::from([claw()])).unwrap();
    assert!(dir.path().join("triage").exists());
    inbox.retain(&BTreeSet::new()).unwrap();
    assert!(!dir.path().join("triage").exists());
    assert_eq!(next_id(&inbox).await, None);
}

#[test]
fn the_key_is_made_once_and_refused_when_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inbox.key");
    InboxKey::load_or_create(&path).unwrap();
    let first = fs::read(&path).unwrap();
    assert_eq!(first.len(), 32);
    InboxKey::load_or_create(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(InboxKey::load_or_create(&path).is_err());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"short").unwrap();
    assert!(InboxKey::load_or_create(&path).is_err());
}
