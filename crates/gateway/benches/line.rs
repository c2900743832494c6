//! What the line costs: the same small tool call straight to a service and through the gateway, everything on
//! (policy, vault, durable log). Prints a table; run with `cargo bench -p clawstaff-gateway`.

#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a measurement")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clawstaff_api::nodes::{GatewayClaw, GatewayState};
use clawstaff_audit::{Log, SigningKey, log::Options};
use clawstaff_gateway::{
    Gateway, Parts,
    inbox::{Inbox, InboxKey},
    shared::Instance,
};
use clawstaff_types::Secret;
use clawstaff_vault::{Vault, seal::PrivateKey};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
};

const CALLS: u32 = 2_000;
const WARM_UP: u32 = 200;

fn main() {
    // One thread, so that the process's CPU time divides by the number of calls.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run());
}

async fn run() {
    let dir = tempfile::tempdir().unwrap();
    let port = service().await;
    let _gateway = gateway(dir.path(), port).await;
    let body = json!({ "channel": "C1", "text": "hello" }).to_string();

    let direct = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    direct.set_nodelay(true).unwrap();
    let direct = measure(client(direct).await, || request("/api/chat.postMessage", &body)).await;

    let mut door = UnixStream::connect(dir.path().join("doors/a/door.sock"))
        .await
        .unwrap();
    door.write_all(b"CLAW/1 name slack.com 80\n").await.unwrap();
    let by_http = measure(client(door).await, || request("/api/chat.postMessage", &body)).await;

    let mut door = UnixStream::connect(dir.path().join("doors/a/door.sock"))
        .await
        .unwrap();
    door.write_all(b"CLAW/1 doors\n").await.unwrap();
    let by_mcp = measure(client(door).await, mcp).await;

    println!(
        "{:<24}{:>10}{:>10}{:>12}{:>14}",
        "one call at a time", "p50 µs", "p99 µs", "CPU µs/call", "added p50 µs"
    );
    for (name, cost) in [
        ("direct", &direct),
        ("gateway, HTTP", &by_http),
        ("gateway, MCP", &by_mcp),
    ] {
        let added = cost.p50.saturating_sub(direct.p50).as_micros();
        let (p50, p99) = (cost.p50.as_micros(), cost.p99.as_micros());
        println!("{name:<24}{p50:>10}{p99:>10}{:>12.1}{added:>14}", cost.cpu_micros);
    }
    println!("CPU of client, gateway and service together; each gateway call is two durable log entries");
}

struct Cost {
    p50: Duration,
    p99: Duration,
    cpu_micros: f64,
}

async fn measure(mut client: SendRequest<Full<Bytes>>, request: impl Fn() -> Request<Full<Bytes>>) -> Cost {
    for _ in 0..WARM_UP {
        call(&mut client, request()).await;
    }
    let before = cpu();
    let mut times = Vec::with_capacity(CALLS as usize);
    for _ in 0..CALLS {
        let start = Instant::now();
        call(&mut client, request()).await;
        times.push(start.elapsed());
    }
    let spent = cpu().saturating_sub(before);
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap();
    Cost {
        p50: at(50),
        p99: at(99),
        cpu_micros: spent.as_micros() as f64 / f64::from(CALLS),
    }
}

async fn call(client: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) {
    client.ready().await.unwrap();
    let answer = client.send_request(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(status.is_success(), "{status}: {body:?}");
}

fn cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap())
}

fn request(path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "slack.com")
        .header("content-type", "application/json")
        .body(Full::from(body.to_owned()))
        .unwrap()
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

async fn gateway(dir: &std::path::Path, port: u16) -> Arc<Gateway> {
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
    vault
        .set(&"slack".parse().unwrap(), Secret::new("xoxb-real".to_owned()))
        .unwrap();
    let key = InboxKey::load_or_create(&at("gateway/keys/inbox")).unwrap();
    let gateway = Gateway::new(Parts {
        log: Log::open(options).unwrap().0,
        vault,
        inbox: Inbox::open(&at("gateway/inbox"), key).unwrap(),
        seal_key: PrivateKey::generate(),
        doors_dir: at("doors"),
        keys_dir: at("gateway/keys"),
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
    }
}
