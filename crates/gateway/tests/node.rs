//! The node client against a small control plane on a Unix socket that does what it is told.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "ingress/support.rs"]
mod support;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use clawstaff_api::nodes::{
    ControlLog, Cosigned, GATEWAY_CONTROL_LOG, GATEWAY_COSIGNED, GATEWAY_HELLO, GATEWAY_LOG, GATEWAY_STATE,
    GATEWAY_STATUS, GatewayHello, GatewayState, GatewayStatus, GatewayWelcome, LogAck, LogPush,
    MemberMessage, Signed,
};
use clawstaff_audit::{
    Checkpoint, Cosigner, Draft, Phase, SigningKey, Stream,
    cosignature::cosign,
    note::Note,
    tree::{self, CompactRange, leaf_hash},
};
use clawstaff_gateway::{
    confine::Confinement,
    node::{Node, Paths},
};
use clawstaff_types::{Actor, Digest, Event, EventKind, Outcome, spec::SlackEvent};
use clawstaff_vault::seal;
use support::{World, claw, may_read, state, triggered};
use tokio::{net::UnixListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

const TOKEN: &str = "node-token-0815";
const SOON: Duration = Duration::from_secs(30);

/// What the control plane was told, and what it says.
struct Plane {
    key: Ed25519KeyPair,
    witness: SigningKey,
    log_vkey: String,
    offer: watch::Sender<Option<Signed>>,
    told: watch::Sender<Told>,
    pushed: Mutex<CompactRange>,
    /// Its own log: leaves by their hashes.
    own: watch::Sender<Vec<Digest>>,
    /// Ends long polls when the control plane goes away.
    ending: Mutex<CancellationToken>,
}

#[derive(Default, Clone)]
struct Told {
    hellos: Vec<GatewayHello>,
    statuses: Vec<GatewayStatus>,
    log_size: u64,
    cosigned: String,
    batches: Vec<usize>,
    /// Checkpoints of its own log that the gateway cosigned.
    own_cosigned: Vec<String>,
    /// Looks at its own log, by the size that was asked from.
    own_asked: Vec<u64>,
}

impl Plane {
    fn new(world: &World) -> Arc<Self> {
        let seed: [u8; 32] = std::array::from_fn(|_| 0).map(|_: u8| rand_byte());
        Arc::new(Self {
            key: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(),
            witness: SigningKey::generate("control-plane").unwrap(),
            log_vkey: world.log_key.vkey(),
            offer: watch::Sender::new(None),
            told: watch::Sender::new(Told::default()),
            pushed: Mutex::default(),
            own: watch::Sender::new(Vec::new()),
            ending: Mutex::default(),
        })
    }

    fn sign(&self, payload: String) -> Signed {
        let signature = self.key.sign(format!("clawstaff/state/v1\n{payload}").as_bytes());
        Signed {
            payload,
            signature: BASE64.encode(signature.as_ref()),
        }
    }

    fn offer(&self, state: &GatewayState) {
        self.offer
            .send_replace(Some(self.sign(serde_json::to_string(state).unwrap())));
    }

    fn serve(self: &Arc<Self>, socket: &Path) -> DropGuard {
        let _gone = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let router = Router::new()
            .route(GATEWAY_HELLO, post(hello))
            .route(GATEWAY_STATE, get(desired))
            .route(
                GATEWAY_LOG,
                post(log).layer(axum::extract::DefaultBodyLimit::disable()),
            )
            .route(GATEWAY_STATUS, post(status))
            .route(GATEWAY_CONTROL_LOG, get(own_log))
            .route(GATEWAY_COSIGNED, post(own_cosigned))
            .with_state(Arc::clone(self));
        let stop = CancellationToken::new();
        *self.ending.lock().unwrap() = stop.clone();
        let served = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, router).into_future() => {}
                () = served.cancelled() => {}
            }
        });
        stop.drop_guard()
    }

    /// Waits until what was told satisfies `wanted`.
    async fn told(&self, wanted: impl Fn(&Told) -> bool) -> Told {
        let mut told = self.told.subscribe();
        let found = tokio::time::timeout(SOON, told.wait_for(|told| wanted(told))).await;
        found.unwrap().unwrap().clone()
    }
}

fn rand_byte() -> u8 {
    let mut byte = [0];
    aws_lc_rs::rand::fill(&mut byte).unwrap();
    byte[0]
}

fn authorised(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

async fn hello(
    State(plane): State<Arc<Plane>>,
    headers: HeaderMap,
    Json(hello): Json<GatewayHello>,
) -> Response {
    if !authorised(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    plane.told.send_modify(|told| told.hellos.push(hello));
    let state_key = BASE64.encode(plane.key.public_key().as_ref());
    let log_size = plane.told.borrow().log_size;
    Json(GatewayWelcome {
        state_key,
        log_vkey: plane.witness.vkey(),
        log_size,
    })
    .into_response()
}

#[derive(serde::Deserialize)]
struct Since {
    since: u64,
}

async fn desired(
    State(plane): State<Arc<Plane>>,
    headers: HeaderMap,
    Query(since): Query<Since>,
) -> Response {
    if !authorised(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut offer = plane.offer.subscribe();
    let newer = |signed: &Option<Signed>| {
        let signed = signed.as_ref()?;
        let revision = serde_json::from_str::<serde_json::Value>(&signed.payload)
            .ok()?
            .get("revision")?
            .as_u64();
        Some(revision.is_none_or(|revision| revision > since.since))
    };
    let news = offer.wait_for(|signed| newer(signed) == Some(true));
    let ending = plane.ending.lock().unwrap().clone();
    tokio::select! {
        signed = news => Json(signed.unwrap().clone().unwrap()).into_response(),
        () = ending.cancelled() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        () = tokio::time::sleep(Duration::from_secs(25)) => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Checks what a control plane checks: order, signature, and that the checkpoint is of exactly these leaves.
async fn log(State(plane): State<Arc<Plane>>, headers: HeaderMap, Json(push): Json<LogPush>) -> Response {
    let mut range = plane.pushed.lock().unwrap();
    let known = plane.told.borrow().log_size;
    if !authorised(&headers) || push.from != known || push.leaves.len() > 1_000 || push.leaves.is_empty() {
        return StatusCode::CONFLICT.into_response();
    }
    let key = clawstaff_audit::VerifyingKey::parse(&plane.log_vkey).unwrap();
    let checkpoint = Checkpoint::verify(&push.checkpoint, &key).unwrap();
    for leaf in &push.leaves {
        range.push(leaf_hash(leaf.as_bytes()));
    }
    let size = push.from + push.leaves.len() as u64;
    if (checkpoint.size, checkpoint.root) != (size, range.root()) {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    let cosigned = cosign(&push.checkpoint, &plane.witness, jiff::Timestamp::now()).unwrap();
    plane.told.send_modify(|told| {
        told.log_size = size;
        told.cosigned.clone_from(&cosigned);
        told.batches.push(push.leaves.len());
    });
    Json(LogAck { size, cosigned }).into_response()
}

#[derive(serde::Deserialize)]
struct From {
    from: u64,
}

/// Subtrees of the plane's own log.
struct Own(Vec<Digest>);

impl tree::Hashes for Own {
    type Error = std::convert::Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Digest, Self::Error> {
        let leaves = self.0.iter().skip(usize::try_from(index << level).unwrap());
        let mut range = CompactRange::new();
        leaves.take(1 << level).for_each(|leaf| range.push(*leaf));
        Ok(range.root())
    }
}

async fn own_log(State(plane): State<Arc<Plane>>, Query(from): Query<From>) -> Response {
    plane.told.send_modify(|told| told.own_asked.push(from.from));
    let mut own = plane.own.subscribe();
    let news = own.wait_for(|leaves| leaves.len() as u64 != from.from);
    let ending = plane.ending.lock().unwrap().clone();
    let leaves = tokio::select! {
        leaves = news => leaves.unwrap().clone(),
        () = ending.cancelled() => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let size = leaves.len() as u64;
    let own = Own(leaves);
    let checkpoint = Checkpoint {
        origin: "control-plane".into(),
        size,
        root: tree::root_of(&own, size).unwrap(),
    };
    let consistency = tree::consistency_proof(&own, from.from, size).unwrap();
    Json(ControlLog {
        checkpoint: checkpoint.sign(&plane.witness).unwrap(),
        consistency: consistency.unwrap_or_default(),
    })
    .into_response()
}

async fn own_cosigned(State(plane): State<Arc<Plane>>, Json(cosigned): Json<Cosigned>) -> StatusCode {
    plane
        .told
        .send_modify(|told| told.own_cosigned.push(cosigned.checkpoint));
    StatusCode::NO_CONTENT
}

async fn status(
    State(plane): State<Arc<Plane>>,
    headers: HeaderMap,
    Json(status): Json<GatewayStatus>,
) -> StatusCode {
    if !authorised(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    plane.told.send_modify(|told| told.statuses.push(status));
    StatusCode::NO_CONTENT
}

fn paths(dir: &Path) -> Paths {
    fs::write(dir.join("node.token"), format!("{TOKEN}\n")).unwrap();
    Paths {
        node: clawstaff_types::NodeName::local(),
        data: dir.to_owned(),
        socket: dir.join("nodes.sock"),
        token: dir.join("node.token"),
        state_key: dir.join("state_key"),
        state: dir.join("state.json"),
        cosigned: dir.join("cosigned.checkpoint"),
        control_checkpoint: dir.join("control.checkpoint"),
        control_vkey: dir.join("control.vkey"),
        guardrails: dir.join("guardrails.toml"),
    }
}

/// Starts the client of `world` in `dir`; it stops with the guard.
async fn start(world: &World, dir: &Path) -> DropGuard {
    let key = SigningKey::from_bytes("test", world.log_key.to_bytes().expose_secret()).unwrap();
    let node = Node::prepare(world.gateway.clone(), paths(dir), key, Confinement::none())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(node.run(stop.clone()));
    stop.drop_guard()
}

fn usual(revision: u64) -> GatewayState {
    state(
        revision,
        vec![triggered("triage", SlackEvent::Message)],
        vec![may_read("triage")],
    )
}

async fn append(world: &World, count: usize) {
    for n in 0..count {
        let event = Event::new(EventKind::ToolCall, Actor::System(format!("n{n}")));
        let draft = Draft {
            stream: Stream::System("test".into()),
            phase: Phase::Fact,
            call: Digest::of(b""),
            event,
        };
        drop(world.gateway.log.append(draft).await.unwrap());
    }
}

fn last(told: &Told) -> &GatewayStatus {
    told.statuses.last().unwrap()
}

#[tokio::test]
async fn a_signed_state_comes_into_force_and_is_reported() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let plane = Plane::new(&world);
    let _plane = plane.serve(&dir.path().join("nodes.sock"));
    let _node = start(&world, dir.path()).await;
    plane.offer(&usual(5));
    let told = plane
        .told(|told| told.statuses.iter().any(|status| status.revision == 5))
        .await;
    assert_eq!(told.hellos[0].log_vkey, world.log_key.vkey());
    assert_eq!(world.gateway.state.load().revision(), 5);
    assert!(world.gateway.door(&claw("triage")).is_some());
    plane.offer(&usual(6));
    plane.told(|told| last(told).revision == 6).await;
    world.gateway.ready.set(&claw("triage"), true);
    plane
        .told(|told| {
            last(told)
                .ready
                .get("triage".parse::<clawstaff_types::ClawName>().as_ref().unwrap())
                == Some(&true)
        })
        .await;
}

#[tokio::test]
async fn the_last_good_state_works_without_a_control_plane() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let plane = Plane::new(&world);
    let serving = plane.serve(&dir.path().join("nodes.sock"));
    let node = start(&world, dir.path()).await;
    plane.offer(&usual(5));
    plane
        .told(|told| told.statuses.iter().any(|status| status.revision == 5))
        .await;
    drop((serving, node));
    let restarted = World::new();
    let _node = start(&restarted, dir.path()).await;
    assert_eq!(restarted.gateway.state.load().revision(), 5);
    // A kept state that somebody altered does not hold.
    let kept = fs::read_to_string(dir.path().join("state.json")).unwrap();
    fs::write(
        dir.path().join("state.json"),
        kept.replace("gr_triage", "gr_forged"),
    )
    .unwrap();
    let altered = World::new();
    let _node = start(&altered, dir.path()).await;
    assert_eq!(altered.gateway.state.load().revision(), 0);
}

#[tokio::test]
async fn states_that_are_forged_older_or_unsound_are_refused_and_the_last_good_one_stays() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let plane = Plane::new(&world);
    let _plane = plane.serve(&dir.path().join("nodes.sock"));
    let _node = start(&world, dir.path()).await;
    plane.offer(&usual(5));
    plane
        .told(|told| told.statuses.iter().any(|status| status.revision == 5))
        .await;
    let refused = |words: &'static str| {
        let plane = Arc::clone(&plane);
        async move {
            plane
                .told(|told| last(told).refused.as_ref().is_some_and(|why| why.contains(words)))
                .await;
        }
    };
    let mut forged = plane.sign(serde_json::to_string(&usual(6)).unwrap());
    forged.payload = forged.payload.replace("gr_triage", "gr_forged");
    plane.offer.send_replace(Some(forged));
    refused("not signed").await;
    let mut doubled = usual(7);
    doubled.claws.push(doubled.claws[0].clone());
    plane.offer(&doubled);
    refused("triage").await;
    let mut unknown = usual(8);
    unknown.connections[0].connector = "no-such-tool".parse().unwrap();
    plane.offer(&unknown);
    refused("no-such-tool").await;
    plane
        .offer
        .send_replace(Some(plane.sign("{\"revision\":9}".into())));
    refused("understood").await;
    assert_eq!(world.gateway.state.load().revision(), 5);
    plane.offer(&usual(10));
    plane
        .told(|told| last(told).revision == 10 && last(told).refused.is_none())
        .await;
}

#[tokio::test]
async fn another_control_planes_key_is_refused() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("nodes.sock");
    let first = Plane::new(&world);
    let serving = first.serve(&socket);
    let _node = start(&world, dir.path()).await;
    first.offer(&usual(5));
    first
        .told(|told| told.statuses.iter().any(|status| status.revision == 5))
        .await;
    drop(serving);
    let impostor = Plane::new(&world);
    let _impostor = impostor.serve(&socket);
    impostor.offer(&usual(6));
    impostor.told(|told| !told.hellos.is_empty()).await;
    append(&world, 1).await;
    let told = impostor.told(|told| told.hellos.len() >= 2).await;
    assert_eq!((told.statuses.len(), told.log_size), (0, 0));
    assert_eq!(world.gateway.state.load().revision(), 5);
}

#[tokio::test]
async fn the_log_arrives_whole_in_batches_and_its_cosigned_checkpoint_is_kept() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    append(&world, 2_345).await;
    let plane = Plane::new(&world);
    let serving = plane.serve(&dir.path().join("nodes.sock"));
    let _node = start(&world, dir.path()).await;
    let told = plane.told(|told| told.log_size == 2_345).await;
    assert_eq!(told.batches, [1_000, 1_000, 345]);
    append(&world, 3).await;
    plane.told(|told| told.log_size == 2_348).await;
    // A control plane that was away hears the rest.
    drop(serving);
    append(&world, 1_500).await;
    let _again = plane.serve(&dir.path().join("nodes.sock"));
    plane.told(|told| told.log_size == 3_848).await;
    append(&world, 1).await;
    plane.told(|told| told.log_size == 3_849).await;
    let kept = fs::read_to_string(dir.path().join("cosigned.checkpoint")).unwrap();
    let checkpoint = Checkpoint::verify(&kept, &world.log_key.verifying_key()).unwrap();
    assert!(checkpoint.size >= 3_848);
    let witness = Cosigner::of(&plane.witness.verifying_key());
    witness.verify(&Note::parse(&kept).unwrap()).unwrap();
}

fn leaf(n: u32) -> Digest {
    leaf_hash(&n.to_be_bytes())
}

fn incidents(world: &World) -> usize {
    let stored = world.gateway.log.read(0, 10_000).unwrap();
    let entries = stored.iter().map(|stored| stored.entry().unwrap());
    entries
        .filter(|entry| entry.event.kind == EventKind::IncidentOpened)
        .count()
}

#[tokio::test]
async fn the_control_plane_s_log_is_cosigned_as_it_grows_and_never_when_it_goes_back_or_forks() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let plane = Plane::new(&world);
    let _serving = plane.serve(&dir.path().join("nodes.sock"));
    let node = start(&world, dir.path()).await;
    let cosigner = Cosigner::of(
        &SigningKey::from_bytes("test", world.log_key.to_bytes().expose_secret())
            .unwrap()
            .verifying_key(),
    );
    for size in [1_u64, 5, 6] {
        plane
            .own
            .send_replace((0..).take(usize::try_from(size).unwrap()).map(leaf).collect());
        let told = plane.told(|told| told.own_asked.contains(&size)).await;
        let note = told.own_cosigned.last().unwrap();
        cosigner.verify(&Note::parse(note).unwrap()).unwrap();
        let checkpoint = Checkpoint::verify(note, &plane.witness.verifying_key()).unwrap();
        assert_eq!(checkpoint.size, size);
        assert_eq!(
            fs::read_to_string(dir.path().join("control.checkpoint")).unwrap(),
            *note
        );
    }
    assert_eq!(incidents(&world), 0);
    let cosigned = plane.told.borrow().own_cosigned.len();

    // Rolled back; after a restart of the gateway, too.
    plane.own.send_replace((0..3).map(leaf).collect());
    let mut log = world.gateway.log.watch();
    log.wait_for(|_| incidents(&world) == 1).await.unwrap();
    drop(node);
    let _node = start(&world, dir.path()).await;
    // Forked: as long and longer, with another second entry.
    plane
        .own
        .send_replace((0..7).map(|n| leaf(if n == 1 { 99 } else { n })).collect());
    log.wait_for(|_| incidents(&world) == 2).await.unwrap();
    // The evidence is kept right after the record.
    let path = dir.path().join("control.conflict");
    let second = |text: &String| Checkpoint::parse(text).is_ok_and(|checkpoint| checkpoint.size == 7);
    let evidence = tokio::time::timeout(SOON, async {
        loop {
            match fs::read_to_string(&path).ok().filter(second) {
                Some(evidence) => break evidence,
                None => tokio::task::yield_now().await,
            }
        }
    });
    let evidence = evidence.await.unwrap();
    assert_eq!(
        Checkpoint::verify(&evidence, &plane.witness.verifying_key())
            .unwrap()
            .size,
        7
    );
    assert_eq!(
        plane.told.borrow().own_cosigned.len(),
        cosigned,
        "nothing of it is cosigned"
    );
}

fn message(world: &World, id: &str, label: &str) -> MemberMessage {
    let sealed = seal::seal(world.gateway.seal_key.public(), label, b"canary: please look").unwrap();
    MemberMessage {
        id: id.into(),
        claw: claw("triage"),
        from: "uid-1000".into(),
        sealed,
    }
}

#[tokio::test]
async fn members_messages_reach_the_inbox_once_and_are_reported_as_taken() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let plane = Plane::new(&world);
    let _plane = plane.serve(&dir.path().join("nodes.sock"));
    let _node = start(&world, dir.path()).await;
    let mut wanted = usual(5);
    wanted.messages = vec![
        message(&world, "msg_1", "message"),
        message(&world, "msg_2", "instructions"),
    ];
    plane.offer(&wanted);
    let told = plane
        .told(|told| told.statuses.iter().any(|s| !s.messages_taken.is_empty()))
        .await;
    assert_eq!(last(&told).messages_taken, ["msg_1"]);
    wanted.revision = 6;
    plane.offer(&wanted);
    plane
        .told(|told| last(told).revision == 6 && last(told).messages_taken == ["msg_1"])
        .await;
    wanted.revision = 7;
    wanted.messages.clear();
    plane.offer(&wanted);
    plane
        .told(|told| last(told).revision == 7 && last(told).messages_taken.is_empty())
        .await;
    let inbox = &world.gateway.inbox;
    let item = inbox
        .next(&claw("triage"), Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((item.id.as_str(), item.source.as_str()), ("msg_1", "message"));
    assert_eq!(item.event["text"], "canary: please look");
    assert_eq!(inbox.on_behalf_of(&claw("triage")).unwrap().as_str(), "uid-1000");
    let entries = world.entries();
    let outcomes: Vec<_> = entries
        .iter()
        .map(|entry| (entry.event.kind, entry.event.outcome))
        .collect();
    let read = EventKind::MessageRead;
    assert_eq!(
        outcomes,
        [(read, Some(Outcome::Succeeded)), (read, Some(Outcome::Failed))]
    );
    assert_eq!(entries[0].event.cause.as_ref().unwrap().0.as_str(), "msg_1");
    assert!(!serde_json::to_string(&entries).unwrap().contains("canary"));
}

#[tokio::test]
async fn the_hosts_guardrails_are_in_every_policy_and_cannot_be_renamed_away() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let rule =
        "[[guardrail]]\nname = \"host-rule\"\nforbid = { actions = [\"slack:*\"], resources = [\"*\"] }\n";
    fs::write(dir.path().join("guardrails.toml"), rule).unwrap();
    let plane = Plane::new(&world);
    let _plane = plane.serve(&dir.path().join("nodes.sock"));
    let _node = start(&world, dir.path()).await;
    plane.offer(&usual(5));
    plane
        .told(|told| told.statuses.iter().any(|status| status.revision == 5))
        .await;
    let names: Vec<_> = world
        .gateway
        .state
        .load()
        .raw()
        .guardrails
        .iter()
        .map(|g| g.name.to_string())
        .collect();
    assert_eq!(names, ["host-rule"]);
    let mut usurper = usual(6);
    let mut harmless = world.gateway.state.load().raw().guardrails[0].clone();
    harmless.actions = vec!["notion:nothing".parse().unwrap()];
    usurper.guardrails = vec![harmless];
    plane.offer(&usurper);
    plane
        .told(|told| {
            last(told)
                .refused
                .as_ref()
                .is_some_and(|why| why.contains("host-rule"))
        })
        .await;
    assert_eq!(world.gateway.state.load().revision(), 5);
}

#[tokio::test]
async fn a_guardrail_file_that_cannot_be_understood_stops_the_start() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("guardrails.toml"), "[[guardrail]]\nname = 1").unwrap();
    let key = SigningKey::generate("test").unwrap();
    let node = Node::prepare(world.gateway.clone(), paths(dir.path()), key, Confinement::none()).await;
    assert!(node.is_err());
}
