//! What every database behind the store must do, seen through its public methods only.
#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

use clawstaff_api::{
    nodes::{Desired, GatewayHello, GatewayStatus, MemberMessage, RunnerStatus},
    people::AuditRecord,
};
use clawstaff_store::{GrantOrigin, LogRow, NewClaw, Place, Search, Store};
use clawstaff_types::{
    Actor, ClawName, Decision, Digest, Event, EventKind, Grant, Guardrail, MemberId, NodeName, Outcome,
    spec::{ClawSpec, Connection, Sealed},
};
use jiff::{SignedDuration, Timestamp};

struct Bench {
    store: Store,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("control.db")).await.unwrap();
        Self { store, dir }
    }

    async fn reopen(self) -> Self {
        self.store.close().await;
        let store = Store::open(&self.dir.path().join("control.db")).await.unwrap();
        Self { store, dir: self.dir }
    }
}

fn member() -> MemberId {
    "uid-0".parse().unwrap()
}

fn name(text: &str) -> ClawName {
    text.parse().unwrap()
}

fn spec(claw: &str) -> ClawSpec {
    serde_json::from_value(serde_json::json!({ "name": claw })).unwrap()
}

fn grant(id: &str, claw: &str) -> Grant {
    serde_json::from_value(serde_json::json!({
        "id": id, "claw": claw, "connection": "slack", "actions": ["messages.read"],
        "resources": ["channel:C1"], "granted_by": "uid-0",
    }))
    .unwrap()
}

fn connection(base: Option<&str>) -> Connection {
    Connection {
        name: "slack".parse().unwrap(),
        connector: "slack".parse().unwrap(),
        credential: "vault:slack-bot".to_owned().try_into().unwrap(),
        signing_secret: None,
        base_url: base.map(str::to_owned),
    }
}

async fn add_claw(store: &Store, claw: &str, cage: &str) -> u64 {
    let spec = spec(claw);
    let by = member();
    let mut change = store.begin().await.unwrap();
    let state = change.raise_revision().await.unwrap();
    let new = NewClaw {
        cage,
        spec: &spec,
        digest: Digest::of(b"spec"),
        at: Timestamp::now(),
        by: &by,
        state,
    };
    change.add_claw(&new).await.unwrap();
    change.commit().await.unwrap();
    state
}

#[tokio::test]
async fn a_new_database_is_empty_at_revision_1_and_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new().await;
    let snapshot = bench.store.snapshot().await.unwrap();
    assert_eq!(snapshot.revision, 1);
    assert!(snapshot.claws.is_empty() && snapshot.grants.is_empty());
    for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn what_is_committed_survives_reopening_and_what_is_dropped_never_was() {
    let bench = Bench::new().await;
    let mut change = bench.store.begin().await.unwrap();
    change.put_connection(&connection(None)).await.unwrap();
    change.raise_revision().await.unwrap();
    drop(change);
    assert_eq!(bench.store.revision().await.unwrap(), 1);
    let mut change = bench.store.begin().await.unwrap();
    change
        .put_connection(&connection(Some("http://127.0.0.1:1/")))
        .await
        .unwrap();
    assert_eq!(change.raise_revision().await.unwrap(), 2);
    change.commit().await.unwrap();
    let bench = bench.reopen().await;
    let snapshot = bench.store.snapshot().await.unwrap();
    assert_eq!(snapshot.revision, 2);
    assert_eq!(
        snapshot.connections,
        vec![connection(Some("http://127.0.0.1:1/"))]
    );
}

#[tokio::test]
async fn connections_and_guardrails_are_replaced_and_removed_by_name() {
    let bench = Bench::new().await;
    let guardrail = Guardrail {
        name: "no-writes".parse().unwrap(),
        actions: vec!["*.write".parse().unwrap()],
        resources: vec!["*".parse().unwrap()],
    };
    let mut change = bench.store.begin().await.unwrap();
    change.put_connection(&connection(None)).await.unwrap();
    change
        .put_connection(&connection(Some("https://x/")))
        .await
        .unwrap();
    change.put_guardrail(&guardrail).await.unwrap();
    change.commit().await.unwrap();
    let snapshot = bench.store.snapshot().await.unwrap();
    assert_eq!(snapshot.connections, vec![connection(Some("https://x/"))]);
    assert_eq!(snapshot.guardrails, vec![guardrail.clone()]);
    let mut change = bench.store.begin().await.unwrap();
    change.remove_connection(&connection(None).name).await.unwrap();
    change.remove_guardrail(&guardrail.name).await.unwrap();
    change.commit().await.unwrap();
    let snapshot = bench.store.snapshot().await.unwrap();
    assert!(snapshot.connections.is_empty() && snapshot.guardrails.is_empty());
}

#[tokio::test]
async fn revisions_of_a_claw_are_kept_and_the_newest_is_current() {
    let bench = Bench::new().await;
    add_claw(&bench.store, "triage", "triage-00000001").await;
    let mut next = spec("triage");
    next.description = "second".into();
    let by = member();
    let mut change = bench.store.begin().await.unwrap();
    let state = change.raise_revision().await.unwrap();
    let new = NewClaw {
        cage: "triage-00000001",
        spec: &next,
        digest: Digest::of(b"second"),
        at: Timestamp::now(),
        by: &by,
        state,
    };
    change.revise_claw(&new, 2).await.unwrap();
    change
        .wish("triage-00000001", Desired::Paused, 3, &by, state)
        .await
        .unwrap();
    change.commit().await.unwrap();
    let snapshot = bench.store.snapshot().await.unwrap();
    let row = snapshot.claw(&name("triage")).unwrap();
    assert_eq!(
        (row.revision, row.generation, row.desired),
        (2, 3, Desired::Paused)
    );
    assert_eq!((row.revised_in, row.wished_in), (state, state));
    assert_eq!(row.spec, next);
    let revisions = bench.store.revisions("triage-00000001").await.unwrap();
    assert_eq!(revisions.len(), 2);
    assert_eq!(revisions[0].spec, spec("triage"));
    let first = bench
        .store
        .claw_revision("triage-00000001", 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.spec, spec("triage"));
    assert!(
        bench
            .store
            .claw_revision("triage-00000001", 3)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_name_is_free_again_once_its_claw_is_destroyed_and_not_before() {
    let bench = Bench::new().await;
    add_claw(&bench.store, "triage", "triage-00000001").await;
    let (by, again) = (member(), spec("triage"));
    let mut change = bench.store.begin().await.unwrap();
    let new = NewClaw {
        cage: "triage-00000002",
        spec: &again,
        digest: Digest::of(b"x"),
        at: Timestamp::now(),
        by: &by,
        state: 9,
    };
    assert!(change.add_claw(&new).await.is_err());
    drop(change);
    let mut change = bench.store.begin().await.unwrap();
    change
        .destroy_claw(&name("triage"), "triage-00000001", &by, Timestamp::now(), 9)
        .await
        .unwrap();
    change.commit().await.unwrap();
    add_claw(&bench.store, "triage", "triage-00000002").await;
    let snapshot = bench.store.snapshot().await.unwrap();
    assert_eq!(snapshot.claws.len(), 1);
    assert_eq!(snapshot.claws[0].cage, "triage-00000002");
    let old = bench
        .store
        .claw_by_cage("triage-00000001")
        .await
        .unwrap()
        .unwrap();
    assert!(old.destroyed);
}

#[tokio::test]
async fn revoked_grants_are_gone_and_their_ids_can_be_given_again() {
    let bench = Bench::new().await;
    add_claw(&bench.store, "triage", "triage-00000001").await;
    let model = grant("gr_model_triage", "triage");
    let hand = grant("gr_1", "triage");
    let now = Timestamp::now();
    for _ in 0..2 {
        let mut change = bench.store.begin().await.unwrap();
        change
            .add_grant("triage-00000001", &model, GrantOrigin::Model, now)
            .await
            .unwrap();
        change.commit().await.unwrap();
        let mut change = bench.store.begin().await.unwrap();
        change.revoke_grant(&model.id, &member(), now).await.unwrap();
        change.commit().await.unwrap();
    }
    let mut change = bench.store.begin().await.unwrap();
    change
        .add_grant("triage-00000001", &hand, GrantOrigin::Hand, now)
        .await
        .unwrap();
    change.adopt_grant(&hand.id).await.unwrap();
    change.commit().await.unwrap();
    let snapshot = bench.store.snapshot().await.unwrap();
    assert_eq!(snapshot.grants.len(), 1);
    assert_eq!(snapshot.grants[0].origin, GrantOrigin::File);
    assert_eq!(snapshot.grants_of(&name("triage")).count(), 1);
    let mut change = bench.store.begin().await.unwrap();
    change
        .revoke_grants_of(&name("triage"), &member(), now)
        .await
        .unwrap();
    change.commit().await.unwrap();
    assert!(bench.store.snapshot().await.unwrap().grants.is_empty());
}

#[tokio::test]
async fn messages_wait_in_order_until_they_are_taken() {
    let bench = Bench::new().await;
    let message = |id: &str| MemberMessage {
        id: id.into(),
        claw: name("triage"),
        from: "uid-0".into(),
        sealed: Sealed {
            recipient: Digest::of(b"k"),
            enc: "AA==".into(),
            ciphertext: "AA==".into(),
            digest: Digest::of(b"t"),
        },
    };
    let mut change = bench.store.begin().await.unwrap();
    let early = Timestamp::UNIX_EPOCH;
    change.add_message(&message("msg_b"), early).await.unwrap();
    change
        .add_message(&message("msg_a"), early + SignedDuration::from_secs(1))
        .await
        .unwrap();
    change.commit().await.unwrap();
    let waiting = bench.store.snapshot().await.unwrap().messages;
    assert_eq!(
        waiting.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["msg_b", "msg_a"]
    );
    let mut change = bench.store.begin().await.unwrap();
    change
        .drop_messages(&["msg_b".into(), "msg_unknown".into()])
        .await
        .unwrap();
    change.commit().await.unwrap();
    assert_eq!(bench.store.waiting_messages().await.unwrap(), 1);
}

#[tokio::test]
async fn nodes_are_remembered_and_the_first_log_key_stays_pinned() {
    let bench = Bench::new().await;
    assert!(bench.store.gateway(&NodeName::local()).await.unwrap().is_none());
    assert!(bench.store.runners().await.unwrap().is_empty());
    let hello = |vkey: &str| GatewayHello {
        log_vkey: vkey.into(),
        seal_key: "AA==".into(),
        ingress: "http://127.0.0.1:1".into(),
    };
    let status = GatewayStatus {
        revision: 7,
        ..GatewayStatus::default()
    };
    let now = Timestamp::now();
    let mut change = bench.store.begin().await.unwrap();
    change
        .put_gateway_hello(&NodeName::local(), &hello("first"), now)
        .await
        .unwrap();
    change
        .put_gateway_hello(&NodeName::local(), &hello("second"), now)
        .await
        .unwrap();
    change
        .put_gateway_status(&NodeName::local(), &status, now)
        .await
        .unwrap();
    change
        .put_runner_status(&NodeName::local(), &RunnerStatus::default(), now)
        .await
        .unwrap();
    change.commit().await.unwrap();
    assert_eq!(
        bench
            .store
            .pinned_log_key(&NodeName::local())
            .await
            .unwrap()
            .as_deref(),
        Some("first")
    );
    assert_eq!(
        bench
            .store
            .gateway(&NodeName::local())
            .await
            .unwrap()
            .unwrap()
            .status,
        status
    );
    assert_eq!(
        bench.store.runners().await.unwrap()[&NodeName::local()].status,
        RunnerStatus::default()
    );
}

#[tokio::test]
async fn logs_and_the_hashes_of_their_leaves_are_kept() {
    let bench = Bench::new().await;
    let row = LogRow {
        name: "gateway".into(),
        origin: "o".into(),
        size: 2,
        frontier: vec![Digest::of(b"root")],
        checkpoint: "c".into(),
        cosigned: "cc".into(),
        indexed: 1,
        index_frontier: vec![Digest::of(b"0")],
    };
    let hashes = [Digest::of(b"0"), Digest::of(b"1")];
    let mut change = bench.store.begin().await.unwrap();
    change.put_log(&row).await.unwrap();
    change.put_leaves("gateway", 0, &hashes).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(bench.store.log("gateway").await.unwrap(), Some(row.clone()));
    assert_eq!(bench.store.logs().await.unwrap(), vec![row]);
    assert_eq!(
        bench.store.leaves("gateway", 1, 10).await.unwrap(),
        vec![hashes[1]]
    );
    let mut change = bench.store.begin().await.unwrap();
    assert!(change.put_leaves("gateway", 1, &hashes).await.is_err());
}

fn record(index: u64, minute: i64, change: impl FnOnce(&mut Event)) -> AuditRecord {
    let mut event = Event::new(EventKind::ToolCall, Actor::Claw(name("triage")));
    event.claw = Some(name("triage"));
    change(&mut event);
    AuditRecord {
        id: format!("gateway:{index}"),
        log: "o".into(),
        index,
        outcome_index: None,
        time: Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute),
        seq: index,
        event,
    }
}

async fn indexed(records: &[AuditRecord]) -> Bench {
    let bench = Bench::new().await;
    let mut change = bench.store.begin().await.unwrap();
    let records: Vec<&AuditRecord> = records.iter().collect();
    change.put_records("gateway", &records).await.unwrap();
    change.commit().await.unwrap();
    bench
}

async fn check(bench: &Bench, search: Search, expected: &[u64]) {
    let found = bench.store.search(&search, None, 100).await.unwrap();
    let indices: Vec<u64> = found.iter().map(|found| found.record.index).collect();
    assert_eq!(indices, expected, "{search:?}");
}

#[tokio::test]
async fn every_filter_finds_what_it_says_newest_first() {
    let records = [
        record(0, 0, |event| {
            event.action = Some("slack:messages.read".parse().unwrap());
            event.resource = Some("channel:C0SUPPORT".parse().unwrap());
            event.decision = Some(Decision::Allow);
            event.facts.insert("status".into(), "200".into());
        }),
        record(1, 1, |event| {
            event.action = Some("notion:pages.create".parse().unwrap());
            event.resource = Some("database:abc".parse().unwrap());
            event.decision = Some(Decision::Deny);
            event.outcome = Some(Outcome::Refused);
            event.reason = Some("no grant speaks of it".into());
            event.kind = EventKind::ToolDenied;
        }),
        record(2, 2, |event| {
            event.claw = Some(name("other"));
            event.actor = Actor::System("runner".into());
            event.kind = EventKind::ClawStarted;
            event.cause = Some(clawstaff_types::Cause("Ev1".parse().unwrap()));
        }),
    ];
    let bench = indexed(&records).await;
    let any = Search::default;
    let text = |text: &str| Some(text.to_owned());
    let minute = |minute| Some(Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute));
    check(&bench, any(), &[2, 1, 0]).await;
    check(
        &bench,
        Search {
            claw: text("triage"),
            ..any()
        },
        &[1, 0],
    )
    .await;
    check(
        &bench,
        Search {
            actor: text("system:runner"),
            ..any()
        },
        &[2],
    )
    .await;
    check(
        &bench,
        Search {
            action: text("slack:messages.read"),
            ..any()
        },
        &[0],
    )
    .await;
    check(
        &bench,
        Search {
            action: text("*:pages.*"),
            ..any()
        },
        &[1],
    )
    .await;
    check(
        &bench,
        Search {
            resource: text("channel:*"),
            ..any()
        },
        &[0],
    )
    .await;
    check(
        &bench,
        Search {
            resource: text("channel:[A-Z]*"),
            ..any()
        },
        &[],
    )
    .await;
    check(
        &bench,
        Search {
            decision: Some(Decision::Deny),
            ..any()
        },
        &[1],
    )
    .await;
    check(
        &bench,
        Search {
            outcome: Some(Outcome::Refused),
            ..any()
        },
        &[1],
    )
    .await;
    let kinds = vec![EventKind::ToolDenied, EventKind::ClawStarted];
    check(&bench, Search { kinds, ..any() }, &[2, 1]).await;
    check(
        &bench,
        Search {
            since: minute(1),
            ..any()
        },
        &[2, 1],
    )
    .await;
    check(
        &bench,
        Search {
            until: minute(1),
            ..any()
        },
        &[0],
    )
    .await;
    check(
        &bench,
        Search {
            cause: text("Ev1"),
            ..any()
        },
        &[2],
    )
    .await;
    check(
        &bench,
        Search {
            words: vec!["grant".into(), "speaks".into()],
            ..any()
        },
        &[1],
    )
    .await;
    check(
        &bench,
        Search {
            words: vec!["C0SUPPORT".into()],
            ..any()
        },
        &[0],
    )
    .await;
    check(
        &bench,
        Search {
            words: vec!["NEAR(".into(), "\"".into()],
            ..any()
        },
        &[],
    )
    .await;
    let both = Search {
        claw: text("triage"),
        words: vec!["200".into()],
        ..any()
    };
    check(&bench, both, &[0]).await;
}

#[tokio::test]
async fn pages_follow_on_without_gap_or_overlap() {
    let records: Vec<AuditRecord> = (0..25)
        .map(|index| record(index, i64::try_from(index / 3).unwrap(), |_| {}))
        .collect();
    let bench = indexed(&records).await;
    let (mut before, mut seen) = (None::<Place>, Vec::new());
    loop {
        let page = bench.store.search(&Search::default(), before, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.place);
        seen.extend(page.iter().map(|found| found.record.index));
    }
    assert_eq!(seen, (0..25).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn an_outcome_replaces_its_record_and_shows_as_a_change() {
    let bench = indexed(&[record(0, 0, |_| {}), record(1, 1, |_| {})]).await;
    let newest = bench.store.newest_change().await.unwrap();
    assert_eq!(newest, 2);
    let mut change = bench.store.begin().await.unwrap();
    let mut first = change.record("gateway", 0).await.unwrap().unwrap();
    first.outcome_index = Some(2);
    first.event.outcome = Some(Outcome::Failed);
    first.event.reason = Some("ratelimited".into());
    change.put_records("gateway", &[&first]).await.unwrap();
    change.commit().await.unwrap();
    let changed = bench
        .store
        .search_changed(&Search::default(), newest, 10)
        .await
        .unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].record, first);
    assert_eq!(bench.store.find_record("gateway", 0).await.unwrap(), Some(first));
    let failed = Search {
        outcome: Some(Outcome::Failed),
        ..Search::default()
    };
    check(&bench, failed, &[0]).await;
    check(
        &bench,
        Search {
            words: vec!["ratelimited".into()],
            ..Search::default()
        },
        &[0],
    )
    .await;
    check(&bench, Search::default(), &[1, 0]).await;
}

#[tokio::test]
async fn the_same_log_indexed_again_in_other_portions_gives_the_same_index() {
    // Many records of one instant, as when a clock stands still, and outcomes that come later.
    let records: Vec<AuditRecord> = (0..200)
        .map(|index| record(index, i64::try_from(index / 150).unwrap(), |_| {}))
        .collect();
    let live = indexed(&records).await;
    let again = Bench::new().await;
    for portion in records.chunks(7) {
        let portion: Vec<&AuditRecord> = portion.iter().collect();
        let mut change = again.store.begin().await.unwrap();
        change.put_records("gateway", &portion).await.unwrap();
        change.commit().await.unwrap();
    }
    let everything = Search::default();
    let found = again.store.search(&everything, None, 1000).await.unwrap();
    assert_eq!(found.len(), 200);
    assert_eq!(found, live.store.search(&everything, None, 1000).await.unwrap());
}

#[tokio::test]
async fn clearing_the_index_of_one_log_leaves_the_other_alone() {
    let bench = indexed(&[record(0, 0, |_| {}), record(1, 1, |_| {})]).await;
    let mut change = bench.store.begin().await.unwrap();
    change
        .put_records("control", &[&record(0, 0, |_| {})])
        .await
        .unwrap();
    change.clear_index("gateway").await.unwrap();
    change.commit().await.unwrap();
    check(&bench, Search::default(), &[0]).await;
    assert!(bench.store.find_record("control", 0).await.unwrap().is_some());
    let words = Search {
        words: vec!["triage".into()],
        ..Search::default()
    };
    check(&bench, words, &[0]).await;
}
