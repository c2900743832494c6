//! Retention on a real log: what is old enough goes in whole segments, and what stops that.

use std::path::Path;

use clawstaff_api::local::Hold;
use clawstaff_audit::{Entry, Environment, Options, SigningKey, verify::verify_dir};
use clawstaff_vault::{Vault, seal::PrivateKey};
use tempfile::TempDir;

use super::*;
use crate::{
    approvals::Approvals,
    inbox::{Inbox, InboxKey},
    shared::{CustodyPolicy, Instance, Parts},
};

const ENTRIES: u64 = 600;

fn key() -> SigningKey {
    SigningKey::from_bytes("gateway.test", &[5; 32]).unwrap()
}

fn open(dir: &Path, age: SignedDuration) -> Log {
    let options = Options {
        dir: dir.join("log"),
        anchor: None,
        origin: "gateway.test".into(),
        key: key(),
        segment_bytes: 0,
    };
    let environment = Environment {
        clock: Arc::new(move || Timestamp::now() - age),
        publish_every: Duration::ZERO,
        ..Environment::default()
    };
    Log::open_in(options, environment).unwrap().0
}

/// A gateway whose log has entries of 90 days ago, over several segments.
async fn gateway(keep_days: Option<u32>) -> (TempDir, Arc<Gateway>) {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path(), SignedDuration::from_hours(24 * 90));
    for number in 0..ENTRIES {
        let mut event = Event::new(EventKind::ToolCall, Actor::System("gateway".into()));
        event.facts.insert("filler".into(), "x".repeat(800));
        fact(&mut event, "number", number);
        append(&old, Phase::Fact, event).await.unwrap();
    }
    drop(old);
    let log = open(dir.path(), SignedDuration::ZERO);
    while log.published() < ENTRIES {
        std::thread::yield_now();
    }
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("keys")).unwrap();
    let parts = Parts {
        log,
        vault: Vault::open(&at("vault")).unwrap(),
        inbox: Inbox::open(&at("inbox"), InboxKey::load_or_create(&at("keys/inbox")).unwrap()).unwrap(),
        approvals: Approvals::open(at("approvals")).unwrap(),
        seal_key: PrivateKey::generate(),
        doors_dir: at("doors"),
        keys_dir: at("keys"),
        own_dir: dir.path().to_owned(),
        instance: Instance {
            log_vkey: key().vkey(),
            custody: CustodyPolicy {
                keep_days,
                ..CustodyPolicy::default()
            },
            ..Instance::default()
        },
    };
    let gateway = Gateway::new(parts).unwrap();
    (dir, gateway)
}

/// As if the control plane had taken in everything so far.
fn cosign(gateway: &Gateway) {
    std::fs::write(&gateway.cosigned_file, gateway.log.checkpoint()).unwrap();
}

/// The records of retention, each with its outcome and its facts.
fn records(gateway: &Gateway) -> Vec<(Phase, Event)> {
    let stored = gateway.log.read(gateway.log.first(), 1000).unwrap();
    let entries = stored.iter().map(|stored| Entry::parse(&stored.leaf).unwrap());
    entries
        .filter(|entry| entry.event.kind == EventKind::AuditErase)
        .map(|entry| (entry.phase, entry.event))
        .collect()
}

fn system() -> Actor {
    Actor::System("gateway".into())
}

#[tokio::test]
async fn what_is_too_old_goes_once_it_is_cosigned_and_on_record() {
    let (dir, gateway) = gateway(Some(30)).await;
    assert_eq!(
        apply(&gateway, system()).await.unwrap().removed,
        0,
        "not cosigned"
    );
    assert_eq!(records(&gateway).len(), 0);
    cosign(&gateway);
    let done = apply(&gateway, system()).await.unwrap();
    assert!((ENTRIES / 2..ENTRIES).contains(&done.removed), "{done:?}");
    assert_eq!((done.first, gateway.log.first()), (done.removed, done.removed));
    match records(&gateway).as_slice() {
        [(Phase::Intent, intent), (Phase::Outcome { of: ENTRIES }, outcome)] => {
            assert_eq!(
                (intent.facts["what"].as_str(), intent.facts["keep_days"].as_str()),
                ("retention", "30")
            );
            assert_eq!(outcome.outcome, Some(Outcome::Succeeded));
            assert_eq!(outcome.facts["first"], done.first.to_string());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        apply(&gateway, system()).await.unwrap().removed,
        0,
        "the rest is one segment"
    );
    assert_eq!(records(&gateway).len(), 2);
    drop(gateway);
    let report = verify_dir(&dir.path().join("log"), Some(&key().verifying_key()), None);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.first, report.size), (done.first, ENTRIES + 2));
}

#[tokio::test]
async fn a_hold_of_anything_stops_it_and_a_member_who_asks_is_refused_on_record() {
    let (_dir, gateway) = gateway(Some(30)).await;
    cosign(&gateway);
    let hold = Hold {
        name: "case-7".into(),
        subject: Some("claw:a".parse().unwrap()),
        by: "uid-0".parse().unwrap(),
        at: Timestamp::now(),
    };
    gateway.custody.lock().await.holds.insert("case-7".into(), hold);
    let refused = |done: Result<_, _>| matches!(done, Err(RetentionError::Held(hold)) if hold == "case-7");
    assert!(refused(apply(&gateway, system()).await));
    assert_eq!(records(&gateway).len(), 0);
    assert!(refused(
        apply(&gateway, Actor::Member("uid-0".parse().unwrap())).await
    ));
    match records(&gateway).as_slice() {
        [(Phase::Fact, fact)] => assert_eq!(
            (fact.outcome, fact.facts["hold"].as_str()),
            (Some(Outcome::Refused), "case-7")
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        (gateway.log.first(), info(&gateway).await.held.as_deref()),
        (0, Some("case-7"))
    );
    gateway.custody.lock().await.holds.clear();
    assert!(apply(&gateway, system()).await.unwrap().removed > 0);
}

#[tokio::test]
async fn without_a_policy_and_with_a_longer_one_everything_stays() {
    let (_dir, unlimited) = gateway(None).await;
    cosign(&unlimited);
    assert!(matches!(
        apply(&unlimited, system()).await,
        Err(RetentionError::NoPolicy)
    ));
    let (_dir, longer) = gateway(Some(91)).await;
    cosign(&longer);
    assert_eq!(apply(&longer, system()).await.unwrap().removed, 0);
    assert_eq!((unlimited.log.first(), longer.log.first()), (0, 0));
}
