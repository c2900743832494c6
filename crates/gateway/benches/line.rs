//! What the line costs: the same small tool call straight to a service and through the gateway, everything on
//! (policy, vault, durable log). Prints a table; run with `cargo bench -p clawstaff-gateway`.

#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a measurement")]

use std::{
    future::Future,
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clawstaff_api::nodes::{GatewayClaw, GatewayState};
use clawstaff_audit::{Log, SigningKey, log::Options};
use clawstaff_gateway::{
    Gateway, Parts,
    approvals::Approvals,
    inbox::{Inbox, InboxKey},
    shared::Instance,
};
use clawstaff_types::Secret;
use clawstaff_vault::{Binding, Vault, seal::PrivateKey};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
};

const CALLS: u32 = 4_000;
const WARM_UP: u32 = 200;

fn main() {
    // A thread for each side, with a runtime of its own: what the process spends beyond the two others is the
    // gateway's, the log's threads included.
    let dir = tempfile::tempdir().unwrap();
    let port = on_its_own_thread("service", service());
    let doors = dir.path().to_owned();
    let _gateway = on_its_own_thread("gateway", async move { gateway(&doors, port).await });
    runtime().block_on(run(dir.path(), port));
}

/// Runs `work` on a new thread, gives its result, and keeps its runtime going.
fn on_its_own_thread<T: Send + 'static>(name: &str, work: impl Future<Output = T> + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(move || {
            runtime().block_on(async {
                tell.send(work.await).unwrap();
                std::future::pending::<()>().await;
            });
        })
        .unwrap();
    told.recv().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// One way to make the call.
#[derive(Debug, Clone, Copy)]
enum Way {
    Direct,
    Http,
    Mcp,
}

async fn run(dir: &Path, port: u16) {
    for callers in [1, 16] {
        println!("\n{callers} at a time");
        println!(
            "{:<24}{:>10}{:>10}{:>14}{:>10}{:>16}",
            "", "p50 µs", "p99 µs", "added p50 µs", "calls/s", "gateway CPU µs"
        );
        let mut direct = Duration::ZERO;
        for (name, way) in [
            ("direct", Way::Direct),
            ("gateway, HTTP", Way::Http),
            ("gateway, MCP", Way::Mcp),
        ] {
            let cost = measure(dir, port, way, callers).await;
            if matches!(way, Way::Direct) {
                direct = cost.p50;
            }
            let added = cost.p50.saturating_sub(direct).as_micros();
            let (p50, p99) = (cost.p50.as_micros(), cost.p99.as_micros());
            println!(
                "{name:<24}{p50:>10}{p99:>10}{added:>14}{:>10.0}{:>16.1}",
                cost.per_second, cost.cpu_micros
            );
        }
    }
    println!("\neach gateway call is two durable log entries; the CPU of the log's threads is the gateway's");
}

struct Cost {
    p50: Duration,
    p99: Duration,
    per_second: f64,
    cpu_micros: f64,
}

async fn measure(dir: &Path, port: u16, way: Way, callers: u32) -> Cost {
    let mut clients = Vec::new();
    for _ in 0..callers {
        clients.push(connected(dir, port, way).await);
    }
    together(&mut clients, way, WARM_UP).await;
    let (begun, before) = (Instant::now(), gateway_cpu());
    let mut times = together(&mut clients, way, CALLS / callers).await;
    let spent = gateway_cpu().saturating_sub(before);
    let calls = times.len() as f64;
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap();
    Cost {
        p50: at(50),
        p99: at(99),
        per_second: calls / begun.elapsed().as_secs_f64(),
        cpu_micros: spent.as_micros() as f64 / calls,
    }
}

async fn connected(dir: &Path, port: u16, way: Way) -> SendRequest<Full<Bytes>> {
    let opening: &[u8] = match way {
        Way::Direct => {
            let direct = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            direct.set_nodelay(true).unwrap();
            return client(direct).await;
        }
        Way::Http => b"CLAW/1 name slack.com 80\n",
        Way::Mcp => b"CLAW/1 doors\n",
    };
    let mut door = UnixStream::connect(dir.join("doors/a/door.sock")).await.unwrap();
    door.write_all(opening).await.unwrap();
    client(door).await
}

/// Every client makes `calls` calls, one after another; the clients go side by side.
async fn together(clients: &mut [SendRequest<Full<Bytes>>], way: Way, calls: u32) -> Vec<Duration> {
    let one = async |client: &mut SendRequest<Full<Bytes>>| {
        let mut times = Vec::with_capacity(calls as usize);
        for _ in 0..calls {
            let request = match way {
                Way::Direct | Way::Http => post(),
                Way::Mcp => mcp(),
            };
            let start = Instant::now();
            call(client, request).await;
            times.push(start.elapsed());
        }
        times
    };
    futures_util::future::join_all(clients.iter_mut().map(one))
        .await
        .concat()
}

async fn call(client: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) {
    client.ready().await.unwrap();
    let answer = client.send_request(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(status.is_success(), "{status}: {body:?}");
}

/// CPU time of every thread but the client's (the process's first) and the service's, by `/proc`.
fn gateway_cpu() -> Duration {
    let first = std::process::id().to_string();
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap();
        let read = |name: &str| std::fs::read_to_string(thread.path().join(name)).unwrap();
        if thread.file_name() != *first && read("comm") != "service\n" {
            nanos += read("schedstat")
                .split(' ')
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap();
        }
    }
    Duration::from_nanos(nanos)
}

fn request(path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "slack.com")
        .header("content-type", "application/json")
        .body(Full::from(body.to_owned()))
        .unwrap()
}

fn post() -> Request<Full<Bytes>> {
    let body = json!({ "channel": "C1", "text": "hello" });
    request("/api/chat.postMessage", &body.to_string())
}

fn mcp() -> Request<Full<Bytes>> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "slack_messages_send",
        "arguments": { "channel": "C1", "text": "hello" },
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
        },
    } });
    let mut request = request("/mcp", &body.to_string());
    for (name, value) in [
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "slack_messages_send"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

async fn client<IO>(io: IO) -> SendRequest<Full<Bytes>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// A service that says yes.
async fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
                request.into_body().collect().await?;
                let answer = Response::builder().header("content-type", "application/json");
                Ok::<_, hyper::Error>(answer.body(Full::<Bytes>::from(r#"{"ok":true}"#)).unwrap())
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
            );
        }
    });
    port
}

async fn gateway(dir: &Path, port: u16) -> Arc<Gateway> {
    let at = |name: &str| dir.join(name);
    std::fs::create_dir_all(at("gateway/keys")).unwrap();
    let options = Options {
        dir: at("gateway/log"),
        anchor: None,
        origin: "gateway.bench".to_owned(),
        key: SigningKey::generate("gateway.bench").unwrap(),
        segment_bytes: 16 << 20,
    };
    let vault = Vault::open(&at("gateway/vault")).unwrap();
    let slack = "slack".parse().unwrap();
    vault.set(&slack, Secret::new("xoxb-real".to_owned())).unwrap();
    let here = Binding {
        connections: Vec::new(),
        hosts: vec!["127.0.0.1".parse().unwrap()],
    };
    vault.bind(&slack, here).unwrap();
    let key = InboxKey::load_or_create(&at("gateway/keys/inbox")).unwrap();
    let gateway = Gateway::new(Parts {
        log: Log::open(options).unwrap().0,
        vault,
        inbox: Inbox::open(&at("gateway/inbox"), key).unwrap(),
        approvals: Approvals::open(at("gateway/approvals")).unwrap(),
        seal_key: PrivateKey::generate(),
        doors_dir: at("doors"),
        keys_dir: at("gateway/keys"),
        own_dir: at("gateway"),
        instance: Instance::default(),
    })
    .unwrap();
    gateway.adopt(state(port)).await.unwrap();
    gateway
}

fn state(port: u16) -> GatewayState {
    let connection = json!({ "name": "slack", "connector": "slack", "credential": "vault:slack",
        "base_url": format!("http://127.0.0.1:{port}/api") });
    let grant = json!({ "id": "gr_1", "claw": "a", "connection": "slack", "actions": ["messages.send"],
        "resources": ["channel:C1"], "granted_by": "uid-0" });
    GatewayState {
        revision: 1,
        connections: vec![serde_json::from_value(connection).unwrap()],
        claws: vec![GatewayClaw {
            cage: "a-00000001".to_owned(),
            revision: 1,
            spec: serde_json::from_value(json!({ "name": "a" })).unwrap(),
        }],
        grants: vec![serde_json::from_value(grant).unwrap()],
        guardrails: Vec::new(),
        messages: Vec::new(),
        approvals: Vec::new(),
        sinks: Vec::new(),
    }
}
