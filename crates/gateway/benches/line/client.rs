//! The callers of the bench and the service that they call.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    time::{MissedTickBehavior, interval},
};

use super::CLAWS;

/// One way to make the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Http,
    Mcp,
}

/// One caller: a connection that makes one call at a time.
pub(crate) struct Caller {
    way: Way,
    sender: SendRequest<Full<Bytes>>,
}

impl Caller {
    /// The caller of this number; the Claws take turns.
    pub(crate) async fn connect(dir: &Path, port: u16, way: Way, number: usize) -> Self {
        let opening: &[u8] = match way {
            Way::Direct => {
                let direct = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                direct.set_nodelay(true).unwrap();
                let sender = client(direct).await;
                return Self { way, sender };
            }
            Way::Http => b"CLAW/1 name slack.com 80\n",
            Way::Mcp => b"CLAW/1 doors\n",
        };
        let door = format!("doors/{}/door.sock", CLAWS[number % CLAWS.len()]);
        let mut door = UnixStream::connect(dir.join(door)).await.unwrap();
        door.write_all(opening).await.unwrap();
        let sender = client(door).await;
        Self { way, sender }
    }

    pub(crate) async fn call(&mut self) {
        let request = match self.way {
            Way::Direct | Way::Http => post(),
            Way::Mcp => mcp(),
        };
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(status.is_success(), "{status}: {body:?}");
    }
}

/// Every caller makes `calls` calls, one after another; the callers go side by side.
pub(crate) async fn closed(callers: &mut [Caller], calls: u32) -> Vec<Duration> {
    let one = async |caller: &mut Caller| {
        let mut times = Vec::with_capacity(calls as usize);
        for _ in 0..calls {
            let start = Instant::now();
            caller.call().await;
            times.push(start.elapsed());
        }
        times
    };
    futures_util::future::join_all(callers.iter_mut().map(one))
        .await
        .concat()
}

/// `calls` calls begin at a steady rate, whatever becomes of those before them; a call's time counts from when it was
/// due, also while it waits for one of the callers.
pub(crate) async fn open(callers: Vec<Caller>, per_second: u32, calls: u32) -> Vec<Duration> {
    let (give_back, mut free) = tokio::sync::mpsc::unbounded_channel();
    for caller in callers {
        let _ = give_back.send(caller);
    }
    let gap = Duration::from_secs(1) / per_second;
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut running) = (Instant::now(), tokio::task::JoinSet::new());
    let mut next = 0;
    while next < calls {
        ticks.tick().await;
        while next < calls && gap * next <= begun.elapsed() {
            let due = begun + gap * next;
            let mut caller: Caller = free.recv().await.unwrap();
            let give_back = give_back.clone();
            running.spawn(async move {
                caller.call().await;
                let took = due.elapsed();
                let _ = give_back.send(caller);
                took
            });
            next += 1;
        }
    }
    running.join_all().await
}

fn request(host: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", host)
        .header("content-type", "application/json")
        .body(Full::from(body.to_owned()))
        .unwrap()
}

fn post() -> Request<Full<Bytes>> {
    let body = json!({ "channel": "C1", "text": "hello" });
    request("slack.com", "/api/chat.postMessage", &body.to_string())
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
    let mut request = request("localhost", "/mcp", &body.to_string());
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
pub(crate) async fn service() -> u16 {
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
