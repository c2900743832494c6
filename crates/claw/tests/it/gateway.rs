//! A stand-in for the gateway: serves the doors of the contract by script and remembers what it was asked.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use clawstaff_cage_contract::Opening;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// An answer of the script.
#[derive(Debug, Clone)]
pub(crate) struct Scripted {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// The body does not end.
    pub(crate) open: bool,
}

type Body = BoxBody<Bytes, Infallible>;

impl Scripted {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".into())],
            body: body.to_string(),
            open: false,
        }
    }

    fn response(self) -> Response<Body> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let frame = stream::once(async move { Ok(Frame::data(Bytes::from(self.body))) });
        let body: Body = if self.open {
            BodyExt::boxed(StreamBody::new(frame.chain(stream::pending())))
        } else {
            BodyExt::boxed(StreamBody::new(frame))
        };
        response.body(body).unwrap()
    }
}

/// An Anthropic answer that calls tools.
pub(crate) fn tool_use(calls: &[(&str, Value)]) -> Scripted {
    let blocks: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(place, (name, input))| {
            json!({ "type": "tool_use", "id": format!("t{place}"), "name": name, "input": input })
        })
        .collect();
    Scripted::json(200, &json!({ "content": blocks, "stop_reason": "tool_use" }))
}

/// An Anthropic answer that closes the item.
pub(crate) fn closing(text: &str) -> Scripted {
    let blocks = json!([{ "type": "text", "text": text }]);
    Scripted::json(200, &json!({ "content": blocks, "stop_reason": "end_turn" }))
}

/// What the stand-in will answer.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) items: VecDeque<Value>,
    pub(crate) model: VecDeque<Scripted>,
    /// Names of granted tools.
    pub(crate) tools: Vec<&'static str>,
    /// Answer MCP as a stream of events that stays open after the answer.
    pub(crate) events: bool,
}

/// The running stand-in.
pub(crate) struct Gateway {
    arrivals: mpsc::UnboundedReceiver<Asked>,
    seen: Vec<Asked>,
    stage: Stage,
}

/// What every connection of the stand-in needs.
#[derive(Clone)]
struct Stage {
    script: Arc<Mutex<Script>>,
    sender: mpsc::UnboundedSender<Asked>,
    /// Opened by the test: then `/hold` is answered.
    gate: Arc<Semaphore>,
}

impl Gateway {
    pub(crate) fn new(script: Script) -> Self {
        let (sender, arrivals) = mpsc::unbounded_channel();
        Self {
            arrivals,
            seen: Vec::new(),
            stage: Stage {
                script: Arc::new(Mutex::new(script)),
                sender,
                gate: Arc::new(Semaphore::new(0)),
            },
        }
    }

    /// Answers whoever asked for `/hold`.
    pub(crate) fn release(&self) {
        self.stage.gate.add_permits(1);
    }

    /// Serves the doors, or the proxy, over TCP.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stage = self.stage.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(TokioIo::new(stream), stage.clone()));
            }
        });
        address
    }

    /// Serves the cage's door.
    pub(crate) fn open_door(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        let stage = self.stage.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(through_door(stream, stage.clone()));
            }
        });
    }

    /// Waits for a request to `path` that has not been looked at yet.
    pub(crate) async fn asked(&mut self, path: &str) -> Asked {
        loop {
            if let Some(place) = self.seen.iter().position(|asked| asked.path == path) {
                return self.seen.remove(place);
            }
            let next = timeout(PATIENCE, self.arrivals.recv()).await;
            self.seen.push(
                next.unwrap_or_else(|_| panic!("nobody asked for {path}; seen: {:#?}", self.seen))
                    .unwrap(),
            );
        }
    }

    /// Everything that has arrived at `path` so far and has not been looked at.
    pub(crate) fn all(&mut self, path: &str) -> Vec<Asked> {
        while let Ok(asked) = self.arrivals.try_recv() {
            self.seen.push(asked);
        }
        self.seen
            .iter()
            .filter(|asked| asked.path == path)
            .cloned()
            .collect()
    }
}

async fn through_door(mut stream: UnixStream, stage: Stage) {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await.unwrap());
    }
    let line = String::from_utf8(line).unwrap();
    match Opening::parse(line.trim_end_matches('\n')).unwrap() {
        Opening::Doors | Opening::Proxy => serve(TokioIo::new(stream), stage).await,
        Opening::Name { host, port } => {
            let greeting = format!("you dialled {host} {port}\n");
            stream.write_all(greeting.as_bytes()).await.unwrap();
        }
    }
}

async fn serve<I>(io: I, stage: Stage)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = service_fn(move |request| answer(request, stage.clone()));
    // A client that goes away in the middle is part of some tests.
    let _ended = http1::Builder::new().serve_connection(io, service).await;
}

async fn answer(request: Request<Incoming>, stage: Stage) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let asked = Asked {
        path: head.uri.to_string(),
        headers: head.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    };
    let scripted = scripted(&mut stage.script.lock().unwrap(), &asked);
    let held = asked.path == "/hold";
    // The test may be over.
    let _gone = stage.sender.send(asked);
    if held {
        stage.gate.acquire().await.unwrap().forget();
    }
    match scripted {
        Some(scripted) => Ok(scripted.response()),
        None => std::future::pending().await,
    }
}

/// The answer to a request; none means never.
fn scripted(script: &mut Script, asked: &Asked) -> Option<Scripted> {
    match asked.path.as_str() {
        "/claw/v1/inbox/next?wait=25" => script.items.pop_front().map(|item| Scripted::json(200, &item)),
        "/anthropic/v1/messages" | "/openai/v1/chat/completions" => script.model.pop_front(),
        "/mcp" => Some(mcp(script, &asked.body)),
        path if path.starts_with("/claw/v1/") => Some(Scripted::json(204, &Value::Null)),
        path if path.contains("refused.example") || path.contains("169.254") => Some(Scripted::json(
            403,
            &json!({
                "type": "https://clawstaff.dev/problems/egress", "title": "Denied", "status": 403,
                "detail": "no connection of this organization serves that host",
            }),
        )),
        _ => Some(Scripted {
            status: 200,
            headers: vec![("content-type", "text/plain".into())],
            body: "hello from outside".into(),
            open: false,
        }),
    }
}

fn mcp(script: &Script, request: &Value) -> Scripted {
    let id = &request["id"];
    let name = request["params"]["name"].as_str().unwrap_or_default();
    let answer = match request["method"].as_str() {
        Some("tools/list") => {
            let tool = |name: &&str| json!({ "name": name, "inputSchema": { "type": "object" } });
            let tools: Vec<Value> = script.tools.iter().map(tool).collect();
            json!({ "jsonrpc": "2.0", "id": id, "result": { "resultType": "complete", "tools": tools } })
        }
        _ if script.tools.contains(&name) => {
            let text = format!("result of {name}");
            json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [{ "type": "text", "text": text }] } })
        }
        _ => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32602, "message": "unknown tool" } }),
    };
    if script.events {
        return Scripted {
            status: 200,
            headers: vec![("content-type", "text/event-stream".into())],
            body: format!(": welcome\n\nevent: message\ndata: {answer}\n\n"),
            open: true,
        };
    }
    Scripted::json(200, &answer)
}
