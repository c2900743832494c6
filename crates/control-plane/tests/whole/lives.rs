//! The lives of Claws, their grants, and the nodes that are told of them.

use std::time::Duration;

use clawstaff_api::{
    Code,
    nodes::{
        CageStats, CageStatus, Cause, Desired, GATEWAY_STATUS, GatewayStatus, LogCost, Phase, RunnerStatus,
    },
    people::{CheckAnswer, ClawView, MessageAccepted, RevisionView, ServerStatus},
};
use clawstaff_types::{Decision, Grant};
use http::{Method, StatusCode};
use serde_json::json;

use super::bench::{Bench, GATEWAY_TOKEN, Gateway, sealed, triage};

async fn wish(bench: &Bench, wish: &str) -> ClawView {
    bench.post(&format!("/v1/claws/triage/{wish}"), &()).await
}

async fn refused(bench: &Bench, wish: &str) -> Code {
    bench
        .person(Method::POST, &format!("/v1/claws/triage/{wish}"), &())
        .await
        .problem()
        .code
}

#[tokio::test]
async fn a_claw_goes_through_its_phases_as_the_runner_reports() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    assert_eq!(bench.claw("triage").await.phase, Phase::Pending);
    bench.runner_reports(Phase::Starting).await;
    assert_eq!(bench.claw("triage").await.phase, Phase::Starting);
    bench.runner_reports(Phase::Running).await;
    let running = bench.claw("triage").await;
    assert_eq!(
        (running.phase, running.running_revision, running.starts),
        (Phase::Running, Some(1), 1)
    );
    assert_eq!(wish(&bench, "pause").await.desired, Desired::Paused);
    assert_eq!(bench.runner_state(0).await.claws[0].desired, Desired::Paused);
    bench.runner_reports(Phase::Paused).await;
    assert_eq!(bench.claw("triage").await.phase, Phase::Paused);
    assert_eq!(refused(&bench, "start").await, Code::Conflict);
    wish(&bench, "resume").await;
    bench.runner_reports(Phase::Running).await;
    assert_eq!(refused(&bench, "resume").await, Code::Conflict);
    assert_eq!(wish(&bench, "stop").await.phase, Phase::Stopping);
    bench.runner_reports(Phase::Stopped).await;
    assert_eq!(bench.claw("triage").await.phase, Phase::Stopped);
    assert_eq!(refused(&bench, "pause").await, Code::Conflict);
    assert_eq!(wish(&bench, "start").await.phase, Phase::Pending);
}

#[tokio::test]
async fn a_restart_raises_the_generation_and_so_does_starting_what_failed() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let generation = async || bench.runner_state(0).await.claws[0].generation;
    assert_eq!(generation().await, 1);
    bench.runner_reports(Phase::Running).await;
    wish(&bench, "start").await;
    assert_eq!(generation().await, 1);
    wish(&bench, "restart").await;
    assert_eq!(generation().await, 2);
    bench.runner_reports(Phase::Failed).await;
    assert_eq!(bench.claw("triage").await.phase, Phase::Failed);
    assert_eq!(wish(&bench, "start").await.phase, Phase::Pending);
    assert_eq!(generation().await, 3);
}

#[tokio::test]
async fn a_destroyed_claw_leaves_with_its_cage_and_its_name_is_free_at_once() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    bench.runner_reports(Phase::Running).await;
    let old = bench.claw("triage").await;
    let answer = bench.person(Method::DELETE, "/v1/claws/triage", &()).await;
    assert_eq!(answer.json::<ClawView>().phase, Phase::Stopping);
    let state = bench.runner_state(0).await;
    assert!(state.claws.is_empty());
    assert_eq!(state.destroyed.as_slice(), std::slice::from_ref(&old.cage));
    assert!(bench.gateway_state(0).await.grants.is_empty());
    assert_eq!(bench.claw("triage").await.phase, Phase::Stopping);
    bench.apply(triage()).await;
    let all: Vec<ClawView> = bench.get("/v1/claws").await;
    assert_eq!(all.len(), 2);
    bench.runner_reports(Phase::Running).await;
    let all: Vec<ClawView> = bench.get("/v1/claws").await;
    assert_eq!(all.len(), 1);
    assert_ne!(all[0].cage, old.cage);
    let revoked = bench.audit("kind=grant.revoked").await.records;
    assert_eq!(revoked.len(), 2);
}

#[tokio::test]
async fn a_rollback_is_a_new_revision_with_an_old_spec() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let mut spec = triage();
    spec["claws"][0]["spec"]["model"]["name"] = json!("claude-opus-5");
    bench.apply(spec).await;
    let back: ClawView = bench
        .post("/v1/claws/triage/rollback", &json!({ "revision": 1 }))
        .await;
    assert_eq!(back.revision, 3);
    assert_eq!(back.model.as_deref(), Some("anthropic/claude-sonnet-5"));
    let history: Vec<RevisionView> = bench.get("/v1/claws/triage/history").await;
    assert_eq!(
        history.iter().map(|one| one.revision).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(history[0].digest, history[2].digest);
    let grants: Vec<Grant> = bench.get("/v1/grants").await;
    assert!(
        grants
            .iter()
            .any(|grant| grant.resources[0].to_string() == "model:claude-sonnet-5")
    );
    for (revision, code) in [(3, Code::Conflict), (9, Code::NotFound)] {
        let body = json!({ "revision": revision });
        let problem = bench
            .person(Method::POST, "/v1/claws/triage/rollback", &body)
            .await
            .problem();
        assert_eq!(problem.code, code);
    }
}

#[tokio::test]
async fn a_revision_that_does_not_run_is_taken_back_once_to_the_last_good_one() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let mut spec = triage();
    spec["claws"][0]["spec"]["model"]["name"] = json!("claude-opus-5");
    bench.apply(spec).await;
    let fails = async |revision| {
        let state = bench.runner_state(0).await;
        let cage = CageStatus {
            claw: state.claws[0].claw.clone(),
            cage: state.claws[0].cage.clone(),
            revision,
            phase: Phase::Failed,
            reason: Some("the agent ended with code 1".to_owned()),
            cause: Some(Cause::CrashLoop),
            good: Some(1),
            starts: 4,
            stats: None,
        };
        bench
            .runner_status(&RunnerStatus {
                revision: state.revision,
                backend: "native".into(),
                cages: vec![cage],
            })
            .await;
        bench.claw("triage").await
    };
    let back = fails(2).await;
    assert_eq!(back.revision, 3);
    assert_eq!(back.model.as_deref(), Some("anthropic/claude-sonnet-5"));
    let history: Vec<RevisionView> = bench.get("/v1/claws/triage/history").await;
    assert_eq!(history[0].digest, history[2].digest);
    let updates = bench.audit("kind=claw.updated").await.records;
    let newest = updates
        .iter()
        .find(|record| record.event.claw_revision == Some(3))
        .unwrap();
    assert_eq!(newest.event.actor.to_string(), "system:control-plane");
    assert!(
        newest
            .event
            .reason
            .as_deref()
            .unwrap()
            .contains("revision 2 is taken back to 1")
    );
    // The same words again, and the good spec failing as well, change nothing more.
    assert_eq!(fails(2).await.revision, 3);
    assert_eq!(fails(3).await.revision, 3);
    assert_eq!(bench.claw("triage").await.cause, Some(Cause::CrashLoop));
}

#[tokio::test]
async fn wishes_are_recorded_with_who_and_what() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    wish(&bench, "stop").await;
    wish(&bench, "stop").await;
    let records = bench.audit("text=stop&kind=config.changed").await.records;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].event.facts["wish"], "stop");
    assert_eq!(records[0].event.claw.as_ref().unwrap().as_str(), "triage");
}

#[tokio::test]
async fn a_claw_that_nobody_knows_is_not_found_and_the_nearest_is_named() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let problem = bench.person(Method::GET, "/v1/claws/traige", &()).await.problem();
    assert_eq!(problem.code, Code::NotFound);
    assert!(problem.hint.unwrap().contains("`triage`"));
    let malformed = bench
        .person(Method::GET, "/v1/claws/Not_A_Name", &())
        .await
        .problem();
    assert_eq!(malformed.code, Code::Invalid);
}

#[tokio::test]
async fn a_revoked_grant_is_gone_for_the_gateway_at_once() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let grants: Vec<Grant> = bench.get("/v1/grants").await;
    let id = &grants
        .iter()
        .find(|grant| grant.connection.as_str() == "slack")
        .unwrap()
        .id;
    let path = format!("/v1/grants/{id}");
    assert_eq!(
        bench.person(Method::DELETE, &path, &()).await.status,
        StatusCode::NO_CONTENT
    );
    let state = bench.gateway_state(2).await;
    assert!(state.grants.iter().all(|grant| grant.id != *id));
    assert_eq!(
        bench.person(Method::DELETE, &path, &()).await.problem().code,
        Code::NotFound
    );
    assert_eq!(bench.audit("kind=grant.revoked").await.records.len(), 1);
}

#[tokio::test]
async fn check_answers_as_the_policy_would() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let check = async |action: &str, resource: Option<&str>| {
        let body = json!({ "claw": "triage", "action": action, "resource": resource });
        bench.post::<CheckAnswer>("/v1/grants/check", &body).await
    };
    assert_eq!(
        check("slack:messages.read", Some("channel:C0SUPPORT"))
            .await
            .decision,
        Decision::Allow
    );
    assert_eq!(check("slack:messages.read", None).await.decision, Decision::Allow);
    let denied = check("slack:messages.read", Some("channel:C0OTHER")).await;
    assert_eq!(denied.decision, Decision::Deny);
    assert!(!denied.reason.is_empty());
    let unconnected = check("notion:pages.create", None).await;
    assert!(
        unconnected.reason.contains("no connection"),
        "{}",
        unconnected.reason
    );
    let body = json!({ "claw": "triage", "action": "slack:messages.raed", "resource": null });
    let problem = bench
        .person(Method::POST, "/v1/grants/check", &body)
        .await
        .problem();
    assert_eq!(problem.code, Code::NotFound);
    assert!(problem.hint.unwrap().contains("slack:messages.read"));
}

#[tokio::test]
async fn guardrails_come_and_go_one_by_one() {
    let bench = Bench::start().await;
    let rail = json!({ "name": "no-slack", "actions": ["slack:*"], "resources": ["*"] });
    bench.post::<serde_json::Value>("/v1/guardrails", &rail).await;
    let again = bench
        .person(Method::POST, "/v1/guardrails", &rail)
        .await
        .problem();
    assert_eq!(again.code, Code::Conflict);
    assert_eq!(bench.gateway_state(0).await.guardrails.len(), 1);
    let gone = bench.person(Method::DELETE, "/v1/guardrails/no-slack", &()).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let gone = bench.person(Method::DELETE, "/v1/guardrails/no-slack", &()).await;
    assert_eq!(gone.problem().code, Code::NotFound);
}

#[tokio::test]
async fn a_waiting_node_wakes_when_the_state_changes() {
    let bench = Bench::start().await;
    let waiting = async { bench.runner_state(1).await };
    let changing = async {
        tokio::task::yield_now().await;
        bench.apply(triage()).await
    };
    let (state, answer) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waiting, changing) })
            .await
            .unwrap();
    assert_eq!(state.revision, answer.revision);
    assert_eq!(state.claws.len(), 1);
}

#[tokio::test]
async fn a_message_goes_sealed_to_the_gateway_and_is_dropped_when_taken() {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    gateway.hello(&bench).await;
    bench.apply(triage()).await;
    let accepted: MessageAccepted = bench
        .post("/v1/claws/triage/messages", &json!({ "sealed": sealed("hello") }))
        .await;
    let state = bench.gateway_state(2).await;
    assert_eq!(state.messages.len(), 1);
    assert_eq!(state.messages[0].id, accepted.id);
    let status = GatewayStatus {
        revision: state.revision,
        messages_taken: vec![accepted.id],
        ready: [("triage".parse().unwrap(), true)].into(),
        log: LogCost {
            entries: 7,
            counted: 2,
            bytes: 2_001,
            micros: 501,
        },
        ..GatewayStatus::default()
    };
    let answer = bench
        .node(GATEWAY_TOKEN, Method::POST, GATEWAY_STATUS, &status)
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(bench.gateway_state(0).await.messages.is_empty());
    assert!(bench.claw("triage").await.ready);
    let logs = bench.get::<ServerStatus>("/v1/status").await.logs;
    let (gateway, own) = (&logs[0], &logs[1]);
    assert_eq!((gateway.entries, gateway.indexed, gateway.behind), (7, 0, 7));
    assert_eq!(
        (gateway.bytes_per_entry, gateway.micros_per_entry),
        (Some(1000), Some(250))
    );
    assert!(
        own.entries > 0 && own.bytes_per_entry > Some(400) && own.micros_per_entry > Some(0),
        "{own:?}"
    );
    let body = json!({ "sealed": { "recipient": sealed("k")["recipient"], "enc": "AA", "ciphertext": "A".repeat(40_000), "digest": sealed("k")["digest"] } });
    let large = bench
        .person(Method::POST, "/v1/claws/triage/messages", &body)
        .await
        .problem();
    assert_eq!(large.code, Code::Invalid);
}

#[tokio::test]
async fn everything_is_there_after_a_restart_keys_included() {
    let bench = Bench::start().await;
    let gateway = Gateway::new();
    let welcome = gateway.hello(&bench).await;
    bench.apply(triage()).await;
    gateway.call(|_| {}, None).await;
    gateway.pushed(&bench, 0).await;
    bench.runner_reports(Phase::Running).await;
    let (claw, records, token) = (
        bench.claw("triage").await,
        bench.audit("claw=triage").await.records,
        bench.dashboard_token(),
    );
    let bench = bench.restart().await;
    assert_eq!(bench.claw("triage").await, claw);
    assert_eq!(bench.audit("claw=triage").await.records, records);
    assert_eq!(bench.dashboard_token(), token);
    let again = gateway.hello(&bench).await;
    assert_eq!((again.state_key, again.log_size), (welcome.state_key, 1));
    assert_eq!(bench.gateway_state(0).await.revision, 2);
    bench.post::<ClawView>("/v1/claws/triage/stop", &()).await;
    assert_eq!(bench.audit("text=stop").await.records.len(), 1);
}

#[tokio::test]
async fn the_status_shows_the_nodes() {
    let bench = Bench::start().await;
    let status: ServerStatus = bench.get("/v1/status").await;
    assert!(status.gateway.is_none() && status.runner.is_none());
    Gateway::new().hello(&bench).await;
    let cage = CageStatus {
        claw: "ghost".parse().unwrap(),
        cage: "ghost-00000000".into(),
        revision: 1,
        phase: Phase::Running,
        reason: None,
        cause: None,
        good: None,
        starts: 1,
        stats: Some(CageStats::default()),
    };
    bench
        .runner_status(&RunnerStatus {
            revision: 1,
            backend: "docker".into(),
            cages: vec![cage],
        })
        .await;
    let status: ServerStatus = bench.get("/v1/status").await;
    assert!(status.gateway.unwrap().connected);
    assert_eq!(status.runner.unwrap().backend, "docker");
    assert!(bench.get::<Vec<ClawView>>("/v1/claws").await.is_empty());
    assert_eq!(bench.audit("kind=claw.started").await.records.len(), 0);
}

#[tokio::test]
async fn the_sockets_are_gone_after_shutdown() {
    let bench = Bench::start().await;
    let (api, nodes) = (bench.socket("api.sock"), bench.socket("nodes.sock"));
    assert!(api.exists() && nodes.exists());
    let _dir = bench.stop().await;
    assert!(!api.exists() && !nodes.exists());
}

#[tokio::test]
async fn a_log_that_was_cut_is_refused_at_the_next_start() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    bench.audit("").await;
    let dir = bench.stop().await;
    for name in ["log", "anchor"] {
        std::fs::remove_dir_all(dir.path().join("control").join(name)).unwrap();
    }
    let config = clawstaff_control_plane::Config {
        data: dir.path().to_owned(),
        listen: None,
        nodes: None,
        login_uids: Vec::new(),
        inspectable: false,
    };
    let error = clawstaff_control_plane::run(config, tokio_util::sync::CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cut or replaced"), "{error}");
}

#[tokio::test]
async fn every_thread_of_the_control_plane_is_confined() {
    let bench = Bench::start().await;
    bench.apply(triage()).await;
    let mut seen = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        if status.starts_with("Name:\tcontrol-plane") {
            assert!(
                status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
                "{status}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} threads");
}
