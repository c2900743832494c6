//! Witnesses over HTTP: a double that speaks C2SP tlog-witness, and what its answers lead to.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex as StdMutex},
};

use axum::{Json, Router, body::Bytes, extract::State, http::StatusCode, response::IntoResponse, routing};
use clawstaff_api::nodes::{ControlLog, GATEWAY_CONTROL_LOG};
use clawstaff_audit::{
    Cosigner, DEFAULT_SEGMENT_BYTES, Options, SigningKey,
    cosignature::{cosign, cosign_line},
    note::Note,
    published::{Published, TileHashes},
    tree,
    witness::AddCheckpoint,
};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};

use super::*;

const OWN: &str = "clawstaff.local/gateway";
const CONTROL: &str = "clawstaff.local/control";

fn key(name: &str, seed: u8) -> SigningKey {
    SigningKey::from_bytes(name, &[seed; 32]).unwrap()
}

/// A witness as the standard describes it, for whatever log asks.
struct Double {
    key: SigningKey,
    logs: Vec<SigningKey>,
    seen: StdMutex<BTreeMap<String, Checkpoint>>,
    asked: StdMutex<u64>,
}

async fn add_checkpoint(State(double): State<Arc<Double>>, body: Bytes) -> impl IntoResponse {
    *double.asked.lock().unwrap() += 1;
    let Ok(request) = str::from_utf8(&body).unwrap().parse::<AddCheckpoint>() else {
        return (StatusCode::BAD_REQUEST, String::new());
    };
    let Some(stated) = double
        .logs
        .iter()
        .find_map(|log| Checkpoint::verify(&request.checkpoint, &log.verifying_key()).ok())
    else {
        return (StatusCode::FORBIDDEN, String::new());
    };
    if request.old > stated.size {
        return (StatusCode::BAD_REQUEST, String::new());
    }
    let mut seen = double.seen.lock().unwrap();
    let known = seen.get(&stated.origin).cloned();
    let size = known.as_ref().map_or(0, |known| known.size);
    if request.old != size {
        return (StatusCode::CONFLICT, format!("{size}\n"));
    }
    let extends = known.is_none_or(|known| {
        tree::verify_consistency(known.size, stated.size, &known.root, &stated.root, &request.proof)
    });
    if !extends {
        return (StatusCode::UNPROCESSABLE_ENTITY, String::new());
    }
    let text = Note::parse(&request.checkpoint).unwrap().text().to_owned();
    seen.insert(stated.origin.clone(), stated);
    let line = cosign_line(&text, &double.key, Timestamp::now()).unwrap();
    (StatusCode::OK, line)
}

struct World {
    dir: TempDir,
    double: Arc<Double>,
    address: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let double = Arc::new(Double {
            key: key("witness.example", 9),
            logs: vec![key(OWN, 1), key(CONTROL, 2)],
            seen: StdMutex::default(),
            asked: StdMutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/w/add-checkpoint", routing::post(add_checkpoint))
            .with_state(Arc::clone(&double));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
            double,
            address,
        };
        world.policy(&format!(
            "witness w {} http://{address}/w\nquorum w\n",
            world.cosigner()
        ));
        world
    }

    fn cosigner(&self) -> Cosigner {
        Cosigner::of(&self.double.key.verifying_key())
    }

    fn policy(&self, witnesses: &str) {
        let logs = format!("log {}\nlog {}\n", key(OWN, 1).vkey(), key(CONTROL, 2).vkey());
        fs::write(self.dir.path().join("witnesses.policy"), logs + witnesses).unwrap();
    }

    /// The gateway's log in `name`, with as many entries more, which the control plane has cosigned.
    async fn grown(&self, name: &str, entries: u64) -> Log {
        let log = self.open(name);
        for number in 0..entries {
            let mut event = Event::new(EventKind::AuthLogin, Actor::System("gateway".into()));
            event.facts.insert("entry".into(), format!("{name} {number}"));
            let draft = Draft {
                stream: Stream::System("gateway".into()),
                phase: Phase::Fact,
                call: Digest::of(b"call"),
                event,
            };
            drop(log.append(draft).await.unwrap());
        }
        // Closing publishes.
        drop(log);
        let log = self.open(name);
        let cosigned = cosign(&log.checkpoint(), &key(CONTROL, 2), Timestamp::now()).unwrap();
        fs::write(Which::Own.agreed(self.dir.path()), cosigned).unwrap();
        log
    }

    fn open(&self, name: &str) -> Log {
        let options = Options {
            dir: self.dir.path().join(name),
            anchor: None,
            origin: OWN.into(),
            key: key(OWN, 1),
            segment_bytes: DEFAULT_SEGMENT_BYTES / 64,
        };
        Log::open(options).unwrap().0
    }

    fn load(&self, name: &str, log: &Log) -> Result<Option<Witnesses>, WitnessesError> {
        let places = Places {
            own: self.dir.path().to_owned(),
            log: self.dir.path().join(name),
        };
        let socket = self.dir.path().join("nodes.sock");
        let control = node::Client::new(socket, self.dir.path().join("node.token"));
        Witnesses::load(places, log.clone(), control, None)
    }

    fn witnesses(&self, name: &str, log: &Log) -> Witnesses {
        self.load(name, log).unwrap().unwrap()
    }

    fn witnessed(&self, which: Which) -> Option<u64> {
        let note = fs::read_to_string(which.witnessed(self.dir.path())).ok()?;
        self.cosigner().verify(&Note::parse(&note).unwrap()).unwrap();
        Some(Checkpoint::parse(&note).unwrap().size)
    }
}

fn incidents(log: &Log) -> Vec<String> {
    let stored = log.read(0, 1000).unwrap();
    let events = stored.iter().map(|stored| stored.entry().unwrap().event);
    events
        .filter(|event| event.kind == EventKind::IncidentOpened)
        .filter_map(|event| event.reason)
        .collect()
}

#[tokio::test]
async fn a_witness_follows_the_log_as_it_grows_also_after_a_restart() {
    let world = World::new().await;
    let log = world.grown("log", 3).await;
    let witnesses = world.witnesses("log", &log);
    witnesses.round(Which::Own).await.unwrap();
    witnesses.round(Which::Own).await.unwrap();
    assert_eq!(
        (world.witnessed(Which::Own), *world.double.asked.lock().unwrap()),
        (Some(3), 1)
    );
    drop((log, witnesses));
    for (entries, size) in [(5, 8), (300, 308)] {
        let log = world.grown("log", entries).await;
        // It has forgotten where the witness stands, and is told.
        world.witnesses("log", &log).round(Which::Own).await.unwrap();
        assert_eq!(world.witnessed(Which::Own), Some(size));
    }
    assert_eq!(*world.double.asked.lock().unwrap(), 5);
}

#[tokio::test]
async fn a_log_that_a_witness_has_seen_otherwise_is_an_incident_once() {
    let world = World::new().await;
    let log = world.grown("log", 8).await;
    world.witnesses("log", &log).round(Which::Own).await.unwrap();
    drop(log);
    for (name, entries, why) in [("short", 3, "rolled back"), ("other", 9, "rewritten or forked")] {
        let log = world.grown(name, entries).await;
        let witnesses = world.witnesses(name, &log);
        for _ in 0..2 {
            witnesses.round(Which::Own).await.unwrap_err();
        }
        let found = incidents(&log);
        assert!(
            matches!(found.as_slice(), [one] if one.contains(why)),
            "{found:?}"
        );
        assert_eq!(world.witnessed(Which::Own), Some(8), "{name}");
    }
}

#[tokio::test]
async fn a_witness_that_is_away_or_lies_is_no_incident_and_no_quorum() {
    let world = World::new().await;
    let log = world.grown("log", 3).await;
    let other = Cosigner::of(&key("witness.example", 8).verifying_key());
    for witnesses in [
        format!("witness w {} http://127.0.0.1:9/w\nquorum w\n", world.cosigner()),
        format!(
            "witness w {} http://{}/elsewhere\nquorum w\n",
            world.cosigner(),
            world.address
        ),
        format!("witness w {other} http://{}/w\nquorum w\n", world.address),
    ] {
        world.policy(&witnesses);
        world.witnesses("log", &log).round(Which::Own).await.unwrap_err();
    }
    assert_eq!(incidents(&log), Vec::<String>::new());
    assert_eq!(world.witnessed(Which::Own), None);
}

#[tokio::test]
async fn the_control_planes_log_is_shown_with_its_own_proof() {
    let world = World::new().await;
    let log = world.grown("log", 1).await;
    let control = world.dir.path().join("control");
    let open = || {
        let options = Options {
            dir: control.clone(),
            anchor: None,
            origin: CONTROL.into(),
            key: key(CONTROL, 2),
            segment_bytes: DEFAULT_SEGMENT_BYTES / 64,
        };
        Log::open(options).unwrap().0
    };
    fs::write(world.dir.path().join("node.token"), "token").unwrap();
    let served = control.clone();
    let tell = move |axum::extract::Query(query): axum::extract::Query<BTreeMap<String, u64>>| async move {
        let checkpoint = fs::read_to_string(served.join("checkpoint")).unwrap();
        let size = Checkpoint::parse(&checkpoint).unwrap().size;
        let published = Published::new(&served);
        let hashes = TileHashes::new(&published, size);
        let consistency = tree::consistency_proof(&hashes, query["from"], size)
            .unwrap()
            .unwrap();
        Json(ControlLog {
            checkpoint,
            consistency,
        })
    };
    let listener = UnixListener::bind(world.dir.path().join("nodes.sock")).unwrap();
    let router = Router::new().route(GATEWAY_CONTROL_LOG, routing::get(tell));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let witnesses = world.witnesses("log", &log);
    for size in [2, 7] {
        let own = open();
        while own.size() < size {
            let draft = Draft {
                stream: Stream::System("control-plane".into()),
                phase: Phase::Fact,
                call: Digest::of(b"call"),
                event: Event::new(EventKind::AuthLogin, Actor::System("control-plane".into())),
            };
            drop(own.append(draft).await.unwrap());
        }
        let cosigned = cosign(&own.checkpoint(), &key(OWN, 1), Timestamp::now()).unwrap();
        drop(own);
        fs::write(Which::Control.agreed(world.dir.path()), cosigned).unwrap();
        witnesses.round(Which::Control).await.unwrap();
        assert_eq!(world.witnessed(Which::Control), Some(size));
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_followed_stops_the_start() {
    let world = World::new().await;
    let log = world.grown("log", 1).await;
    let path = world.dir.path().join("witnesses.policy");
    let witness = world.cosigner();
    for bad in [
        String::new(),
        "quorum none\n".to_owned(),
        format!("log {}\nquorum none\n", key(CONTROL, 2).vkey()),
        format!(
            "log {}\nwitness w {witness} http://witness.example/\nquorum w\n",
            key(OWN, 1).vkey()
        ),
        format!(
            "log {}\nwitness w {witness} witness.example\nquorum w\n",
            key(OWN, 1).vkey()
        ),
    ] {
        fs::write(&path, &bad).unwrap();
        assert!(world.load("log", &log).is_err(), "{bad}");
    }
    fs::remove_file(&path).unwrap();
    assert!(world.load("log", &log).unwrap().is_none());
}
