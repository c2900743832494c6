//! A control plane to talk to, and the two nodes' side of the conversation.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clawstaff_api::{
    ApiProblem,
    nodes::{
        CageStatus, GATEWAY_HELLO, GATEWAY_LOG, GATEWAY_STATE, GatewayHello, GatewayState, GatewayWelcome,
        LogAck, LogPush, NodeTokens, Phase, RUNNER_STATE, RUNNER_STATUS, RunnerState, RunnerStatus, Signed,
    },
    people::{ApplyAnswer, ApplyRequest, AuditPage, ClawView, Spec},
};
use clawstaff_audit::{Checkpoint, Draft, Entry, Log, Options, Phase as Part, SigningKey, Stream};
use clawstaff_control_plane::{Config, RunError};
use clawstaff_types::{Actor, Digest, Event, EventKind};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(crate) const GATEWAY_TOKEN: &str = "gateway-token-gateway-token-gateway-token";
pub(crate) const RUNNER_TOKEN: &str = "runner-token-runner-token-runner-token-run";
const PATIENCE: Duration = Duration::from_mins(1);

/// A running control plane.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("control")).unwrap();
        let tokens = NodeTokens {
            gateway: Digest::of(GATEWAY_TOKEN.as_bytes()),
            runner: Digest::of(RUNNER_TOKEN.as_bytes()),
        };
        let text = serde_json::to_vec(&tokens).unwrap();
        std::fs::write(dir.path().join("control/nodes.json"), text).unwrap();
        Self::start_in(dir).await
    }

    pub(crate) async fn start_in(dir: tempfile::TempDir) -> Self {
        let config = Config {
            data: dir.path().to_owned(),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            nodes: Some("127.0.0.1:0".parse().unwrap()),
            login_uids: Vec::new(),
            inspectable: false,
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(clawstaff_control_plane::run(config, shutdown.clone()));
        let mut bench = Self {
            dir,
            shutdown,
            running,
        };
        bench.ready().await;
        bench
    }

    async fn ready(&mut self) {
        let (api, nodes) = (self.socket("api.sock"), self.socket("nodes.sock"));
        let both = async {
            while UnixStream::connect(&api).await.is_err() || UnixStream::connect(&nodes).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = both => {}
            ended = &mut self.running => panic!("the control plane ended: {ended:?}"),
            () = tokio::time::sleep(PATIENCE) => panic!("the control plane is not ready"),
        }
    }

    /// Stops it and gives the folder back.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
        self.dir
    }

    pub(crate) async fn restart(self) -> Self {
        Self::start_in(self.stop().await).await
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join("run").join(name)
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join("control").join(name)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        std::fs::read_to_string(self.home("listen"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    pub(crate) fn dashboard_token(&self) -> String {
        std::fs::read_to_string(self.home("dashboard.token")).unwrap()
    }

    /// A request over `api.sock`.
    pub(crate) async fn person(&self, method: Method, path: &str, body: &impl Serialize) -> Answer {
        let request = request(method, path, None, serde_json::to_vec(body).unwrap());
        send_local(&self.socket("api.sock"), request).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.person(Method::GET, path, &()).await.json()
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        self.person(Method::POST, path, body).await.json()
    }

    /// A request over TCP with these headers.
    pub(crate) async fn network(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
    ) -> Answer {
        let mut request = request(method, path, None, Vec::new());
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address()).await.unwrap();
        send(stream, request).await
    }

    /// A request over `nodes.sock`.
    pub(crate) async fn node(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Answer {
        let request = request(method, path, Some(token), serde_json::to_vec(body).unwrap());
        send_local(&self.socket("nodes.sock"), request).await
    }

    pub(crate) async fn apply(&self, spec: serde_json::Value) -> ApplyAnswer {
        self.try_apply(spec, false).await.json()
    }

    pub(crate) async fn try_apply(&self, spec: serde_json::Value, prune: bool) -> Answer {
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let request = ApplyRequest {
            spec,
            dry_run: false,
            prune,
        };
        self.person(Method::POST, "/v1/apply", &request).await
    }

    pub(crate) async fn claw(&self, name: &str) -> ClawView {
        self.get(&format!("/v1/claws/{name}")).await
    }

    pub(crate) async fn audit(&self, query: &str) -> AuditPage {
        self.get(&format!("/v1/audit?{query}")).await
    }

    pub(crate) async fn gateway_state(&self, since: u64) -> GatewayState {
        let path = format!("{GATEWAY_STATE}?since={since}");
        let signed: Signed = self.node(GATEWAY_TOKEN, Method::GET, &path, &()).await.json();
        serde_json::from_str(&signed.payload).unwrap()
    }

    pub(crate) async fn runner_state(&self, since: u64) -> RunnerState {
        let path = format!("{RUNNER_STATE}?since={since}");
        self.node(RUNNER_TOKEN, Method::GET, &path, &()).await.json()
    }

    /// The runner says that every cage it should have is in this phase.
    pub(crate) async fn runner_reports(&self, phase: Phase) {
        let state = self.runner_state(0).await;
        let cages = state.claws.iter().map(|claw| CageStatus {
            claw: claw.claw.clone(),
            cage: claw.cage.clone(),
            revision: claw.revision,
            phase,
            reason: None,
            cause: None,
            good: None,
            starts: 1,
            stats: None,
        });
        let status = RunnerStatus {
            revision: state.revision,
            backend: "native".into(),
            cages: cages.collect(),
        };
        self.runner_status(&status).await;
    }

    pub(crate) async fn runner_status(&self, status: &RunnerStatus) {
        let answer = self.node(RUNNER_TOKEN, Method::POST, RUNNER_STATUS, status).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    pub(crate) async fn push(&self, push: &LogPush) -> Answer {
        self.node(GATEWAY_TOKEN, Method::POST, GATEWAY_LOG, push).await
    }
}

/// The gateway's log, and its introduction.
pub(crate) struct Gateway {
    pub(crate) log: Log,
    pub(crate) key: SigningKey,
    _dir: tempfile::TempDir,
}

pub(crate) const GATEWAY_ORIGIN: &str = "clawstaff.local/gateway";

impl Gateway {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate(GATEWAY_ORIGIN).unwrap();
        let again = SigningKey::from_bytes(GATEWAY_ORIGIN, key.to_bytes().expose_secret()).unwrap();
        let options = Options {
            dir: dir.path().join("log"),
            anchor: None,
            origin: GATEWAY_ORIGIN.into(),
            key: again,
            segment_bytes: 1 << 20,
        };
        let (log, _) = Log::open(options).unwrap();
        Self { log, key, _dir: dir }
    }

    pub(crate) async fn hello(&self, bench: &Bench) -> GatewayWelcome {
        self.try_hello(bench).await.json()
    }

    pub(crate) async fn try_hello(&self, bench: &Bench) -> Answer {
        let hello = GatewayHello {
            log_vkey: self.key.vkey(),
            seal_key: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into(),
            ingress: "http://127.0.0.1:9".into(),
        };
        bench
            .node(GATEWAY_TOKEN, Method::POST, GATEWAY_HELLO, &hello)
            .await
    }

    /// A call of a Claw: the intent, and its outcome if one is given.
    pub(crate) async fn call(&self, change: impl Fn(&mut Event), outcome: Option<clawstaff_types::Outcome>) {
        let claw: clawstaff_types::ClawName = "triage".parse().unwrap();
        let mut event = Event::new(EventKind::ToolCall, Actor::Claw(claw.clone()));
        event.claw = Some(claw.clone());
        change(&mut event);
        let draft = |phase, event| Draft {
            stream: Stream::Claw(claw.clone()),
            phase,
            call: Digest::of(b"call"),
            event,
        };
        let receipt = self.log.append(draft(Part::Intent, event.clone())).await.unwrap();
        if outcome.is_some() {
            event.outcome = outcome;
            let part = Part::Outcome { of: receipt.index() };
            let _durable = self.log.append(draft(part, event)).await.unwrap();
        }
    }

    /// Everything from `from` on, as it would be pushed.
    pub(crate) fn push_from(&self, from: u64) -> LogPush {
        let stored = self.log.read(from, 1000).unwrap();
        LogPush {
            from,
            first: self.log.first(),
            leaves: stored
                .iter()
                .map(|one| String::from_utf8(one.leaf.clone()).unwrap())
                .collect(),
            checkpoint: self.log.checkpoint(),
        }
    }

    pub(crate) async fn pushed(&self, bench: &Bench, from: u64) -> LogAck {
        let ack: LogAck = bench.push(&self.push_from(from)).await.json();
        assert_eq!(ack.size, self.log.size());
        ack
    }

    /// A push of other leaves under a checkpoint that is signed with the right key.
    pub(crate) fn forged(&self, from: u64, leaves: Vec<String>, root: Digest) -> LogPush {
        let checkpoint = Checkpoint {
            origin: GATEWAY_ORIGIN.into(),
            size: from + leaves.len() as u64,
            root,
        };
        LogPush {
            from,
            first: 0,
            leaves,
            checkpoint: checkpoint.sign(&self.key).unwrap(),
        }
    }
}

/// A leaf that is none of the gateway's.
pub(crate) fn leaf(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn problem(&self) -> ApiProblem {
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json",
            "{}",
            self.text()
        );
        let problem: ApiProblem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Vec<u8>,
) -> http::Request<Full<Bytes>> {
    let mut builder = http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "clawstaff");
    if let Some(token) = token {
        builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    builder.body(Full::new(body.into())).unwrap()
}

async fn send_local(socket: &Path, request: http::Request<Full<Bytes>>) -> Answer {
    send(UnixStream::connect(socket).await.unwrap(), request).await
}

pub(crate) async fn send<S>(stream: S, request: http::Request<Full<Bytes>>) -> Answer
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (head, body) = open(stream, request).await.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect())
        .await
        .unwrap()
        .unwrap();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.to_bytes(),
    }
}

async fn open<S>(stream: S, request: http::Request<Full<Bytes>>) -> http::Response<Incoming>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .unwrap()
        .unwrap()
}

/// An export that goes on: its lines as they come.
pub(crate) struct Following(Incoming, String);

impl Following {
    pub(crate) async fn open(bench: &Bench, query: &str) -> Self {
        let path = format!("/v1/audit/export?follow=true&{query}");
        let stream = UnixStream::connect(bench.socket("api.sock")).await.unwrap();
        let response = open(stream, request(Method::GET, &path, None, Vec::new())).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self(response.into_body(), String::new())
    }

    pub(crate) async fn next(&mut self) -> String {
        loop {
            if let Some(end) = self.1.find('\n') {
                let line: String = self.1.drain(..=end).collect();
                return line.trim_end().to_owned();
            }
            let frame = tokio::time::timeout(PATIENCE, self.0.frame()).await;
            let frame = frame.unwrap().unwrap().unwrap();
            self.1
                .push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

/// The next record of a tail under way.
pub(crate) struct Tail(Incoming, String);

impl Tail {
    pub(crate) async fn open(bench: &Bench, query: &str) -> Self {
        let request = request(Method::GET, &format!("/v1/audit/tail?{query}"), None, Vec::new());
        let stream = UnixStream::connect(bench.socket("api.sock")).await.unwrap();
        let response = open(stream, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self(response.into_body(), String::new())
    }

    pub(crate) async fn next(&mut self) -> serde_json::Value {
        loop {
            if let Some(end) = self.1.find("\n\n") {
                let event: String = self.1.drain(..end + 2).collect();
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return serde_json::from_str(data).unwrap();
                }
                continue;
            }
            let frame = tokio::time::timeout(PATIENCE, self.0.frame())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            self.1
                .push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

/// A spec with one Claw on Slack and a model.
pub(crate) fn triage() -> serde_json::Value {
    serde_json::json!({
        "connections": [
            { "name": "slack", "connector": "slack", "credential": "vault:slack-bot" },
            { "name": "anthropic", "connector": "anthropic", "credential": "vault:anthropic" },
        ],
        "guardrails": [
            { "name": "no-production-writes", "actions": ["github:*"], "resources": ["repo:acme/production"] },
        ],
        "claws": [{
            "spec": {
                "name": "triage",
                "description": "Turns messages into tickets",
                "model": { "connection": "anthropic", "name": "claude-sonnet-5" },
                "instructions": sealed("first"),
                "triggers": [{ "slack": { "connection": "slack", "channel": "C0SUPPORT", "on": "message" } }],
            },
            "grants": [
                { "connection": "slack", "actions": ["messages.read"], "resources": ["channel:C0SUPPORT"] },
            ],
        }],
    })
}

pub(crate) fn sealed(text: &str) -> serde_json::Value {
    serde_json::json!({
        "recipient": Digest::of(b"key"), "enc": "AAAA", "ciphertext": "AAAA", "digest": Digest::of(text.as_bytes()),
    })
}
