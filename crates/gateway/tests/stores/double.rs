//! Doubles of an OpenBao server with a KV engine of version 2 and of a Kubernetes API server, over TLS. The answers have the shapes that
//! their documentation shows (OpenBao "KV secrets engine - version 2 (API)"; Kubernetes API reference, `Secret` and `Status`).

use std::{
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::authority::Authority;

pub(crate) const BAO_TOKEN: &str = "s.bao-token-4711";
pub(crate) const KUBERNETES_TOKEN: &str = "eyJ.kubernetes-token-4711";

/// How it behaves next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Sealed,
    Hangs,
    /// 200 with these bytes.
    Says(Vec<u8>),
    /// 200 with as many pieces of 64 KiB, and no word of it before.
    Pours(usize),
    Redirects,
}

pub(crate) struct Double {
    pub(crate) port: u16,
    /// The PEM text of its authority.
    pub(crate) authority: String,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    slack: String,
    asked: usize,
}

impl Double {
    pub(crate) async fn start() -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor("localhost", |_| {});
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Well,
            slack: "xoxb-1".to_owned(),
            asked: 0,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let answer = service_fn(move |request| answer(Arc::clone(&state), request));
                    let served = hyper::server::conn::http1::Builder::new();
                    let _ended = served.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self {
            port,
            authority: authority.pem,
            state,
        }
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Gives the entry `acme/slack` another value.
    pub(crate) fn rotate(&self, value: &str) {
        value.clone_into(&mut self.state.lock().unwrap().slack);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    /// Writes what a gateway needs to know of it to `own`: tokens, authority, and `stores.toml` with these lines in both stores.
    pub(crate) fn describe(&self, own: &Path, lines: &str) {
        private(&own.join("bao.token"), &format!("{BAO_TOKEN}\n"));
        private(&own.join("k8s.token"), KUBERNETES_TOKEN);
        std::fs::write(own.join("store-ca.pem"), &self.authority).unwrap();
        let store = |name: &str, rest: &str| {
            format!(
                "[store.{name}]\naddress = \"https://localhost:{}\"\nca_file = \"store-ca.pem\"\n{rest}\n{lines}\n",
                self.port
            )
        };
        let bao = "kind = \"openbao\"\nmount = \"kv/team\"\nnamespace = \"eu\"\ntoken_file = \"bao.token\"";
        let k8s = "kind = \"kubernetes\"\ntoken_file = \"k8s.token\"";
        std::fs::write(
            own.join("stores.toml"),
            store("main", bao) + &store("cluster", k8s),
        )
        .unwrap();
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn private(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (mood, slack) = {
        let mut state = state.lock().unwrap();
        state.asked += 1;
        (state.mood.clone(), state.slack.clone())
    };
    let path = request.uri().path().to_owned();
    let (status, body) = match mood {
        Mood::Pours(pieces) => {
            let piece = || Ok(Frame::data(Bytes::from(vec![b' '; 64 << 10])));
            let pieces = (0..pieces).map(move |_| piece());
            return Ok(Response::new(
                StreamBody::new(futures_util::stream::iter(pieces)).boxed(),
            ));
        }
        Mood::Hangs => std::future::pending().await,
        Mood::Says(bytes) => (StatusCode::OK, bytes),
        Mood::Sealed => {
            let body = json!({ "errors": ["Vault is sealed"] });
            (StatusCode::SERVICE_UNAVAILABLE, body.to_string().into_bytes())
        }
        Mood::Redirects => (StatusCode::TEMPORARY_REDIRECT, Vec::new()),
        Mood::Well => {
            let (status, body) = match path.strip_prefix("/v1/kv/team/data/") {
                Some(entry) => bao(request.headers(), entry, &slack),
                None => kubernetes(request.headers(), &path),
            };
            (status, body.to_string().into_bytes())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    let elsewhere = "https://localhost:1/".parse().unwrap();
    response.headers_mut().insert(http::header::LOCATION, elsewhere);
    Ok(response)
}

fn bao(headers: &HeaderMap, entry: &str, slack: &str) -> (StatusCode, Value) {
    let errors = |status, errors: &[&str]| (status, json!({ "errors": errors }));
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|own| own == value);
    if !is("x-vault-token", BAO_TOKEN) || !is("x-vault-namespace", "eu") || entry == "acme/forbidden" {
        return errors(
            StatusCode::FORBIDDEN,
            &["1 error occurred:\n\t* permission denied\n\n"],
        );
    }
    let version = |data: Value, deletion_time: &str, destroyed: bool| {
        json!({
            "request_id": "7d0b1a5a-9fd1-2cb4-8a2c-1c9b7f2d3e4f", "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": { "data": data, "metadata": {
                "created_time": "2026-03-22T02:24:06.945319214Z", "custom_metadata": null,
                "deletion_time": deletion_time, "destroyed": destroyed, "version": 2,
            } },
            "wrap_info": null, "warnings": null, "auth": null,
        })
    };
    let gone = "2026-03-22T02:36:43.986212308Z";
    match entry {
        "acme/slack" => {
            let data = json!({ "bot_token": slack, "quoted": "a\"b\\c", "port": 8200, "nested": { "a": [1, null, true] } });
            (StatusCode::OK, version(data, "", false))
        }
        "acme/deleted" => (StatusCode::NOT_FOUND, version(Value::Null, gone, false)),
        "acme/destroyed" => (StatusCode::NOT_FOUND, version(Value::Null, "", true)),
        _ => errors(StatusCode::NOT_FOUND, &[]),
    }
}

fn kubernetes(headers: &HeaderMap, path: &str) -> (StatusCode, Value) {
    let failure = |status: StatusCode, reason: &str| {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "secrets is not to be had", "reason": reason, "details": { "kind": "secrets" }, "code": status.as_u16(),
        });
        (status, body)
    };
    let bearer = format!("Bearer {KUBERNETES_TOKEN}");
    if headers.get("authorization").is_none_or(|own| *own != *bearer) {
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    match path {
        "/api/v1/namespaces/agents/secrets/slack" => {
            let body = json!({
                "kind": "Secret", "apiVersion": "v1",
                "metadata": { "name": "slack", "namespace": "agents", "resourceVersion": "164619" },
                "data": { "token": "eG94Yi1jbHVzdGVy", "broken": "%%%" }, "type": "Opaque",
            });
            (StatusCode::OK, body)
        }
        "/api/v1/namespaces/agents/secrets/forbidden" => failure(StatusCode::FORBIDDEN, "Forbidden"),
        _ => failure(StatusCode::NOT_FOUND, "NotFound"),
    }
}
