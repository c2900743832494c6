//! What model streams cost: time to the first token, throughput, memory and how soon a rotated key is used.
//!
//! The gateway is a process of its own (this program again), with everything on: policy, vault, durable log, budgets,
//! masking. The provider is a stand-in on loopback in clear, so TLS to the provider is in neither figure.
//! Run with `cargo bench -p clawstaff-gateway --bench streams`.

#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a measurement")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
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
use clawstaff_types::{NodeName, Secret, SecretName};
use clawstaff_vault::{Binding, Vault, seal::PrivateKey};
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
};

/// Set for the process that is the gateway: its directory and the provider's port.
const GATEWAY: &str = "CLAWSTAFF_BENCH_GATEWAY";
const CLAWS: usize = 50;
const CALLS: usize = 1_000;
const STREAMS: usize = 200;
/// What each of the streams carries, in events of about a kilobyte.
const EVENTS: usize = 2_000;
/// At the pace of a model that is fast: so many events, each so long after the one before.
const PACED_EVENTS: usize = 250;
const PACE: Duration = Duration::from_millis(20);
const MANY: usize = 1_000;

fn main() {
    if let Ok(place) = std::env::var(GATEWAY) {
        let (dir, port) = place.rsplit_once(':').unwrap();
        return be_gateway(Path::new(dir), port.parse().unwrap());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let (port, keys) = provider().await;
    let mut gateway = Running::start(dir.path(), port);
    first_token(dir.path(), port).await;
    throughput(dir.path(), port, "paced").await;
    throughput(dir.path(), port, "long").await;
    memory(dir.path(), &gateway).await;
    rotation(dir.path(), &mut gateway, &keys).await;
}

async fn first_token(dir: &Path, port: u16) {
    let mut clients = [direct(port).await, door(dir, 0).await];
    let mut times = [Vec::new(), Vec::new()];
    // Taken in turns, so that whatever else the machine does bears on both.
    for round in 0..CALLS {
        for (client, times) in clients.iter_mut().zip(&mut times) {
            let start = Instant::now();
            let mut body = ask(client, "short").await;
            body.frame().await.unwrap().unwrap();
            if round >= CALLS / 10 {
                times.push(start.elapsed());
            }
            while let Some(frame) = body.frame().await {
                frame.unwrap();
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap().as_secs_f64() * 1e3
    };
    let [direct, through] = &mut times;
    let (direct, through) = (median(direct), median(through));
    println!(
        "time to first token, p50: direct {direct:.3} ms, through the gateway {through:.3} ms, added {:.3} ms",
        through - direct
    );
}

/// `paced` asks whether the gateway keeps up with a provider, `long` what it carries at most.
async fn throughput(dir: &Path, port: u16, kind: &str) {
    let mut rates = [0.0, 0.0];
    for (rate, through) in rates.iter_mut().zip([false, true]) {
        let mut clients = Vec::new();
        for number in 0..STREAMS {
            clients.push(if through {
                door(dir, number % CLAWS).await
            } else {
                direct(port).await
            });
        }
        let start = Instant::now();
        let read = join_all(clients.iter_mut().map(async |client| {
            let mut bytes = 0;
            let mut body = ask(client, kind).await;
            while let Some(frame) = body.frame().await {
                bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
            bytes
        }))
        .await;
        *rate = read.iter().sum::<usize>() as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20);
    }
    let [direct, through] = rates;
    println!(
        "{STREAMS} {kind} streams at once: direct {direct:.1} MiB/s, through the gateway {through:.1} MiB/s, ratio {:.2}",
        through / direct
    );
}

async fn memory(dir: &Path, gateway: &Running) {
    let before = gateway.resident();
    let mut open = Vec::new();
    for number in 0..MANY {
        let mut client = door(dir, number % CLAWS).await;
        let mut body = ask(&mut client, "slow").await;
        body.frame().await.unwrap().unwrap();
        open.push((client, body));
    }
    println!(
        "{MANY} streams open: the gateway has {} MiB resident, {before} MiB before them",
        gateway.resident()
    );
}

async fn rotation(dir: &Path, gateway: &mut Running, keys: &Mutex<String>) {
    let mut client = door(dir, CLAWS - 1).await;
    let mut worst = Duration::ZERO;
    for round in 0..20 {
        let new = format!("sk-ant-rotated-{round}");
        let start = Instant::now();
        gateway.rotate(&new);
        loop {
            let mut body = ask(&mut client, "short").await;
            while let Some(frame) = body.frame().await {
                frame.unwrap();
            }
            if *keys.lock().unwrap() == new {
                break;
            }
        }
        worst = worst.max(start.elapsed());
    }
    println!(
        "rotated key in use at the provider, the worst of 20: {:.1} ms after it was asked for",
        worst.as_secs_f64() * 1e3
    );
}

async fn direct(port: u16) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    client(stream).await
}

async fn door(dir: &Path, claw: usize) -> SendRequest<Full<Bytes>> {
    let mut stream = UnixStream::connect(dir.join(format!("doors/c{claw}/door.sock")))
        .await
        .unwrap();
    stream.write_all(b"CLAW/1 doors\n").await.unwrap();
    client(stream).await
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

async fn ask(client: &mut SendRequest<Full<Bytes>>, kind: &str) -> Incoming {
    let body = json!({ "model": "m", "max_tokens": 64, "stream": true, "messages": [{ "role": "user", "content": kind }] });
    let request = Request::post("/anthropic/v1/messages")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap();
    client.ready().await.unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.into_body()
}

/// A provider that streams as it is asked to, and the key that it was shown last.
async fn provider() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let keys = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&keys);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(streaming(stream, Arc::clone(&seen)));
        }
    });
    (port, keys)
}

async fn streaming(mut stream: TcpStream, seen: Arc<Mutex<String>>) {
    let event = format!(
        "data: {{\"type\":\"content_block_delta\",\"text\":\"{}\"}}\n\n",
        "x".repeat(960)
    );
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    let end = "data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n\n";
    let last = format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len());
    let mut buffer = vec![0; 16 << 10];
    let mut request = Vec::new();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(buffer.get(..count).unwrap()),
        }
        // Every request ends so, and none holds it before.
        if !request.ends_with(b"}]}") && !request.ends_with(b"true}") {
            continue;
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((_, key)) = text.split_once("x-api-key: ") {
            key.lines().next().unwrap().clone_into(&mut seen.lock().unwrap());
        }
        request.clear();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        if stream
            .write_all(format!("{head}{chunk}").as_bytes())
            .await
            .is_err()
        {
            return;
        }
        if text.contains("\"slow\"") {
            let _until_it_is_left = stream.read(&mut buffer).await;
            return;
        }
        if text.contains("\"paced\"") {
            let mut pace = tokio::time::interval(PACE);
            for _ in 0..PACED_EVENTS {
                pace.tick().await;
                if stream.write_all(chunk.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
        if text.contains("\"long\"") {
            for _ in 0..EVENTS {
                if stream.write_all(chunk.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
        if stream.write_all(last.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The gateway's process.
struct Running {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(dir: &Path, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(GATEWAY, format!("{}:{port}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self {
            child,
            orders,
            answers,
        };
        running.answer();
        running
    }

    fn answer(&mut self) {
        let mut line = String::new();
        assert!(
            self.answers.read_line(&mut line).unwrap() > 0,
            "the gateway has ended"
        );
    }

    fn rotate(&mut self, key: &str) {
        writeln!(self.orders, "{key}").unwrap();
        self.answer();
    }

    /// Resident memory in MiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn be_gateway(dir: &Path, port: u16) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let name: SecretName = "anthropic".parse().unwrap();
    let gateway = runtime.block_on(gateway(dir, port, &name));
    println!("ready");
    for order in std::io::stdin().lines().map_while(Result::ok) {
        gateway.vault.rotate(&name, Secret::new(order)).unwrap();
        println!("rotated");
    }
}

async fn gateway(dir: &Path, port: u16, name: &SecretName) -> Arc<Gateway> {
    let at = |name: &str| -> PathBuf { dir.join(name) };
    std::fs::create_dir_all(at("gateway/keys")).unwrap();
    let options = Options {
        dir: at("gateway/log"),
        anchor: None,
        origin: "gateway.bench".to_owned(),
        key: SigningKey::generate("gateway.bench").unwrap(),
        segment_bytes: 16 << 20,
    };
    let vault = Vault::open(&at("gateway/vault")).unwrap();
    let here = Binding {
        connections: Vec::new(),
        hosts: vec!["127.0.0.1".parse().unwrap()],
    };
    vault
        .set_bound(name, Secret::new("sk-ant-real".to_owned()), here)
        .unwrap();
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
    let connection = json!({ "name": "anthropic", "connector": "anthropic", "credential": "vault:anthropic",
        "base_url": format!("http://127.0.0.1:{port}") });
    let claws = (0..CLAWS).map(|number| GatewayClaw {
        cage: format!("c{number}-00000001"),
        revision: 1,
        spec: serde_json::from_value(json!({ "name": format!("c{number}"),
            "model": { "connection": "anthropic", "name": "m" },
            "budget": { "tokens_per_day": 1_000_000_000_u64 } }))
        .unwrap(),
    });
    let grants = (0..CLAWS).map(|number| {
        serde_json::from_value(json!({ "id": format!("gr_{number}"), "claw": format!("c{number}"),
            "connection": "anthropic", "actions": ["messages.create"], "resources": ["model:m"], "granted_by": "uid-0" }))
        .unwrap()
    });
    GatewayState {
        revision: 1,
        node: NodeName::local(),
        connections: vec![serde_json::from_value(connection).unwrap()],
        claws: claws.collect(),
        grants: grants.collect(),
        guardrails: Vec::new(),
        messages: Vec::new(),
        approvals: Vec::new(),
        sinks: Vec::new(),
    }
}
