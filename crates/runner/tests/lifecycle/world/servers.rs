//! Stand-ins for the control plane and the gateway, as far as a runner sees them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path as Segment, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clawstaff_api::{
    ApiProblem, Code,
    local::{Door, RecordReceipt, RecordRequest},
    nodes::{RunnerClaw, RunnerState, RunnerStatus},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_stream::StreamExt as _;

use super::{Happening, Story};

fn problem(code: Code, detail: &str) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap();
    (status, Json(ApiProblem::new(code, detail))).into_response()
}

/// The control plane's API for nodes.
#[derive(Debug)]
pub(crate) struct Control {
    state: watch::Sender<RunnerState>,
    told: watch::Sender<RunnerStatus>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct ControlState {
    state: watch::Receiver<RunnerState>,
    told: watch::Sender<RunnerStatus>,
}

impl Control {
    pub(crate) fn new(socket: &Path) -> Self {
        let state = watch::Sender::new(RunnerState {
            revision: 1,
            claws: Vec::new(),
            destroyed: Vec::new(),
        });
        let told = watch::Sender::new(RunnerStatus::default());
        let router = Router::new()
            .route("/nodes/v1/runner/state", get(state_after))
            .route("/nodes/v1/runner/status", post(take_status))
            .with_state(ControlState {
                state: state.subscribe(),
                told: told.clone(),
            });
        let listener = UnixListener::bind(socket).unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { state, told, task }
    }

    pub(crate) fn want(&self, claws: &[RunnerClaw]) {
        self.state.send_modify(|state| {
            state.revision += 1;
            state.claws = claws.to_vec();
        });
    }

    pub(crate) fn destroy(&self, cage: &str) {
        self.state.send_modify(|state| {
            state.revision += 1;
            state.claws.retain(|claw| claw.cage != cage);
            state.destroyed.push(cage.to_owned());
        });
    }

    pub(crate) fn told(&self) -> watch::Receiver<RunnerStatus> {
        self.told.subscribe()
    }

    pub(crate) fn forget(&self) {
        self.told.send_replace(RunnerStatus::default());
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

async fn state_after(
    State(control): State<ControlState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if headers
        .get("authorization")
        .is_none_or(|token| token != "Bearer token")
    {
        return problem(Code::Unauthenticated, "no");
    }
    let since = query.map(|query| query.strip_prefix("since=").unwrap().parse::<u64>().unwrap());
    let mut state = control.state;
    let newer = state
        .wait_for(|state| since.is_none_or(|since| state.revision > since))
        .await;
    Json(newer.unwrap().clone()).into_response()
}

async fn take_status(State(control): State<ControlState>, Json(status): Json<RunnerStatus>) -> StatusCode {
    control.told.send_replace(status);
    StatusCode::NO_CONTENT
}

/// The gateway's API for its host.
#[derive(Debug)]
pub(crate) struct Gateway {
    socket: PathBuf,
    state: Arc<GatewayState>,
    life: Mutex<Option<watch::Sender<()>>>,
}

#[derive(Debug)]
struct GatewayState {
    story: Story,
    doors: Mutex<BTreeMap<String, Option<(u32, u64)>>>,
    refuse: AtomicBool,
    records: AtomicU64,
    asked: watch::Sender<u64>,
    alive: Mutex<Option<watch::Receiver<()>>>,
}

impl Gateway {
    pub(crate) fn new(socket: PathBuf, story: Story) -> Self {
        let state = Arc::new(GatewayState {
            story,
            doors: Mutex::default(),
            refuse: AtomicBool::new(false),
            records: AtomicU64::new(0),
            asked: watch::Sender::new(0),
            alive: Mutex::default(),
        });
        Self {
            socket,
            state,
            life: Mutex::default(),
        }
    }

    pub(crate) async fn start(&self) {
        drop(std::fs::remove_file(&self.socket));
        let (life, mut alive) = watch::channel(());
        *self.state.alive.lock().unwrap() = Some(alive.clone());
        *self.life.lock().unwrap() = Some(life);
        let router = Router::new()
            .route("/local/v1/record", post(record))
            .route("/local/v1/door/{claw}", get(door))
            .route("/local/v1/alive", get(alive_stream))
            .with_state(Arc::clone(&self.state));
        let listener = UnixListener::bind(&self.socket).unwrap();
        let serving = axum::serve(listener, router).into_future();
        tokio::spawn(async move {
            tokio::select! {
                served = serving => served.unwrap(),
                _ = alive.changed() => {}
            }
        });
        tokio::task::yield_now().await;
    }

    /// Ends the server; its streams end with it.
    pub(crate) async fn stop(&self) {
        drop(std::fs::remove_file(&self.socket));
        self.life.lock().unwrap().take();
        self.state.alive.lock().unwrap().take();
        tokio::task::yield_now().await;
    }

    pub(crate) fn knows(&self, claw: &str) -> bool {
        self.state.doors.lock().unwrap().contains_key(claw)
    }

    pub(crate) fn door(&self, claw: &str, door: Option<(u32, u64)>) {
        self.state.doors.lock().unwrap().insert(claw.to_owned(), door);
    }

    pub(crate) async fn asked_again(&self) {
        let mut asked = self.state.asked.subscribe();
        // The one that may be on its way, and one more.
        for _ in 0..2 {
            asked.changed().await.unwrap();
        }
    }

    pub(crate) fn refuse(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::SeqCst);
    }
}

async fn record(State(gateway): State<Arc<GatewayState>>, Json(request): Json<RecordRequest>) -> Response {
    if gateway.refuse.load(Ordering::SeqCst) {
        return problem(Code::Unavailable, "the log cannot be written");
    }
    gateway.story.tell(Happening::Record {
        intent: request.outcome_of.is_none(),
        event: Box::new(request.event),
    });
    let index = gateway.records.fetch_add(1, Ordering::SeqCst);
    Json(RecordReceipt { index }).into_response()
}

async fn door(State(gateway): State<Arc<GatewayState>>, Segment(claw): Segment<String>) -> Response {
    let door = gateway.doors.lock().unwrap().get(&claw).copied().flatten();
    gateway.asked.send_modify(|asked| *asked += 1);
    match door {
        None => problem(Code::NotFound, "not yet"),
        Some((revision, gateway_revision)) => Json(Door {
            dir: "/doors".to_owned(),
            revision,
            gateway_revision,
        })
        .into_response(),
    }
}

async fn alive_stream(State(gateway): State<Arc<GatewayState>>) -> Response {
    let alive = gateway.alive.lock().unwrap().clone();
    let Some(alive) = alive else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // Says something once, then nothing, and ends when the gateway's life ends.
    let stream = tokio_stream::wrappers::WatchStream::new(alive)
        .map(|()| Ok::<_, std::io::Error>(Bytes::from("alive\n")));
    Body::from_stream(stream).into_response()
}

/// One request over a socket, answered whole whatever its status.
pub(crate) async fn send(socket: &Path, path: &str, body: String) -> Bytes {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body)));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap().to_bytes()
}
