//! A real gateway with a real log and vault in a temporary directory, an upstream double, and a way in through
//! the cage's socket. The tests look at it from outside: what the cage reads, what the upstream saw, what the
//! log holds.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use clawstaff_api::nodes::{GatewayClaw, GatewayState};
use clawstaff_audit::{
    Entry, Log, SigningKey,
    log::{Environment, Options},
};
use clawstaff_gateway::{
    CustodyPolicy, Gateway, Parts,
    approvals::Approvals,
    inbox::{Inbox, InboxKey},
    shared::Instance,
    waits::Waits,
};
use clawstaff_types::{ClawName, EventKind, Grant, Secret, spec::Connection};
use clawstaff_vault::{Binding, Vault, seal::PrivateKey};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::UnixStream};

use crate::{disk::FaultyDisk, upstream::Upstream};

pub(crate) const SECRET: &str = "xoxb-the-real-credential";

/// Everything of one test.
pub(crate) struct World {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) upstream: Upstream,
    pub(crate) log_fails: Arc<AtomicBool>,
    dir: tempfile::TempDir,
    state: Mutex<GatewayState>,
}

/// What the cage read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Read {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl World {
    /// A gateway with connections `slack`, `notion`, `anthropic` and `openai`, all at the upstream double, and the Claw `a`.
    pub(crate) async fn new() -> Self {
        Self::with_waits(Waits::default()).await
    }

    /// The same, with a gateway that waits as long as `waits` says.
    pub(crate) async fn with_waits(waits: Waits) -> Self {
        Self::with(waits, CustodyPolicy::default()).await
    }

    /// The same, with a gateway that keeps and guards content as `custody` says.
    pub(crate) async fn with(waits: Waits, custody: CustodyPolicy) -> Self {
        let instance = Instance {
            custody,
            ..Instance::default()
        };
        Self::of(tempfile::tempdir().unwrap(), waits, instance).await
    }

    /// The same, with a gateway that trusts this certificate authority for upstreams as well.
    pub(crate) async fn trusting(waits: Waits, authority: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, authority).unwrap();
        let instance = Instance {
            extra_ca: Some(path),
            ..Instance::default()
        };
        Self::of(dir, waits, instance).await
    }

    async fn of(dir: tempfile::TempDir, waits: Waits, instance: Instance) -> Self {
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("gateway")).unwrap();
        let upstream = Upstream::start().await;
        let (disk, log_fails) = FaultyDisk::new();
        let options = Options {
            dir: at("gateway/log"),
            anchor: None,
            origin: "gateway.test".to_owned(),
            key: SigningKey::generate("gateway.test").unwrap(),
            segment_bytes: 1 << 20,
        };
        let environment = Environment {
            disk: Arc::new(disk),
            ..Environment::default()
        };
        let (log, _) = Log::open_in(options, environment).unwrap();
        std::fs::create_dir_all(at("gateway/keys")).unwrap();
        let gateway = gateway(dir.path(), log, waits, instance);
        let state = GatewayState {
            revision: 0,
            node: clawstaff_types::NodeName::local(),
            connections: ["slack", "notion", "anthropic", "openai"]
                .map(|name| upstream.connection(name))
                .to_vec(),
            claws: vec![claw(
                "a",
                json!({ "model": { "connection": "anthropic", "name": "claude-sonnet-5" } }),
            )],
            grants: Vec::new(),
            guardrails: Vec::new(),
            messages: Vec::new(),
            approvals: Vec::new(),
            sinks: Vec::new(),
        };
        let world = Self {
            gateway,
            upstream,
            log_fails,
            dir,
            state: Mutex::new(state),
        };
        world.change(|_| {}).await;
        world
    }

    /// Another gateway with the same log and the same state, as after a restart.
    pub(crate) async fn restarted(self) -> Self {
        let Self {
            gateway: old,
            upstream,
            log_fails,
            dir,
            state,
        } = self;
        for used in ["doors", "gateway/inbox", "gateway/approvals"] {
            std::fs::rename(
                dir.path().join(used),
                dir.path().join(format!("{used}.{}", old.log.size())),
            )
            .unwrap();
        }
        let gateway = gateway(dir.path(), old.log.clone(), Waits::default(), Instance::default());
        let world = Self {
            gateway,
            upstream,
            log_fails,
            dir,
            state,
        };
        world.change(|_| {}).await;
        world
    }

    /// Puts a changed state in force.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut GatewayState)) {
        let wanted = {
            let mut state = self.state.lock().unwrap();
            state.revision += 1;
            change(&mut state);
            state.clone()
        };
        self.gateway.adopt(wanted).await.unwrap();
    }

    /// Grants `actions` on `connection` and `resource` to the Claw `a`.
    pub(crate) async fn grant(&self, connection: &str, action: &str, resource: &str) {
        let grant = grant("a", connection, action, resource);
        self.change(|state| state.grants.push(grant)).await;
    }

    pub(crate) fn door(&self) -> PathBuf {
        self.door_of("a")
    }

    pub(crate) fn door_of(&self, claw: &str) -> PathBuf {
        self.dir.path().join("doors").join(claw)
    }

    pub(crate) fn data(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A connection through the door, its opening line sent.
    pub(crate) async fn connect(&self, opening: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.door().join("door.sock")).await.unwrap();
        stream
            .write_all(format!("CLAW/1 {opening}\n").as_bytes())
            .await
            .unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, opening: &str, request: Request<Full<Bytes>>) -> Read {
        let mut client = Client::over(self.connect(opening).await).await;
        client.send(request).await
    }

    /// A JSON request at the fixed doors.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Read {
        self.send("doors", post("localhost", path, body)).await
    }

    /// A JSON request to Slack by its own name, as an SDK in the cage makes it.
    pub(crate) async fn slack(&self, path: &str, body: &Value) -> Read {
        self.send("name slack.com 80", post("slack.com", path, body))
            .await
    }

    /// All entries of the log.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let stored = self.gateway.log.read(0, 1000).unwrap();
        stored
            .iter()
            .map(|stored| Entry::parse(&stored.leaf).unwrap())
            .collect()
    }

    /// The log as text, to look for what must not be in it.
    pub(crate) fn log_text(&self) -> String {
        let stored = self.gateway.log.read(0, 1000).unwrap();
        stored.iter().fold(String::new(), |mut text, stored| {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(&stored.leaf));
            text
        })
    }

    /// The last entry of this kind.
    pub(crate) fn last(&self, kind: EventKind) -> Entry {
        let found = self
            .entries()
            .into_iter()
            .rev()
            .find(|entry| entry.event.kind == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {}", self.log_text()))
    }

    /// Waits until the log has an entry that `wanted` holds of.
    pub(crate) async fn until(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let mut sizes = self.gateway.log.watch();
        loop {
            if let Some(entry) = self.entries().into_iter().find(|entry| wanted(entry)) {
                return entry;
            }
            tokio::time::timeout(std::time::Duration::from_secs(10), sizes.changed())
                .await
                .unwrap_or_else(|_| panic!("not in the log: {}", self.log_text()))
                .unwrap();
        }
    }

    pub(crate) fn break_log(&self) {
        self.log_fails.store(true, Ordering::SeqCst);
    }
}

/// A gateway in this folder, with a secret for each connection.
fn gateway(dir: &std::path::Path, log: Log, waits: Waits, instance: Instance) -> Arc<Gateway> {
    let at = |name: &str| dir.join(name);
    let vault = Vault::open(&at("gateway/vault")).unwrap();
    for name in ["slack", "notion", "anthropic", "openai"] {
        let here = Binding {
            hosts: ["127.0.0.1", "localhost"]
                .map(|host| host.parse().unwrap())
                .to_vec(),
            connections: Vec::new(),
        };
        vault
            .set_bound(&name.parse().unwrap(), Secret::new(SECRET.to_owned()), here)
            .unwrap();
    }
    let key = InboxKey::load_or_create(&at("gateway/keys/inbox")).unwrap();
    let parts = Parts {
        log,
        vault,
        inbox: Inbox::open(&at("gateway/inbox"), key).unwrap(),
        approvals: Approvals::open(at("gateway/approvals")).unwrap(),
        seal_key: PrivateKey::generate(),
        doors_dir: at("doors"),
        keys_dir: at("gateway/keys"),
        own_dir: at("gateway"),
        instance,
    };
    Gateway::with_waits(parts, waits).unwrap()
}

/// An HTTP/1.1 client on one connection.
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn over<IO>(io: IO) -> Self
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .unwrap();
        tokio::spawn(connection.with_upgrades());
        Self { sender }
    }

    pub(crate) async fn start(&mut self, request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
        self.sender.ready().await.unwrap();
        self.sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Read {
        let (parts, body) = self.start(request).await.into_parts();
        Read {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }
}

pub(crate) fn post(host: &str, path: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", host)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::from(body.to_string()))
        .unwrap()
}

pub(crate) fn claw(name: &str, more: Value) -> GatewayClaw {
    let mut spec = json!({ "name": name });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    GatewayClaw {
        cage: format!("{name}-00000001"),
        revision: 1,
        spec: serde_json::from_value(spec).unwrap(),
    }
}

pub(crate) fn grant(claw: &str, connection: &str, action: &str, resource: &str) -> Grant {
    let id = format!("gr_{connection}_{}", action.replace(['*', ':'], "x"));
    let grant = json!({
        "id": id, "claw": claw, "connection": connection, "actions": [action], "resources": [resource],
        "granted_by": "uid-1000",
    });
    serde_json::from_value(grant).unwrap()
}

pub(crate) fn connection(name: &str, base_url: Option<String>) -> Connection {
    let mut connection = json!({ "name": name, "connector": name, "credential": format!("vault:{name}") });
    if let Some(base_url) = base_url {
        connection["base_url"] = base_url.into();
    }
    serde_json::from_value(connection).unwrap()
}

pub(crate) fn name(text: &str) -> ClawName {
    text.parse().unwrap()
}
