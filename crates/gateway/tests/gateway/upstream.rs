//! A service outside: it answers as a test tells it to and remembers every request.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use clawstaff_types::spec::Connection;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::world::connection;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Arc<dyn Fn(&Seen) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// One request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path_and_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The service.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let usual: Answer = Arc::new(|_| Box::pin(async { json(200, r#"{"ok":true}"#) }));
        let upstream = Self {
            port,
            seen: Arc::default(),
            answer: Arc::new(Mutex::new(usual)),
        };
        let (seen, answer) = (Arc::clone(&upstream.seen), Arc::clone(&upstream.answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move {
                    let service =
                        service_fn(move |request| one(Arc::clone(&seen), Arc::clone(&answer), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        upstream
    }

    /// A connection to it, under the path that the connector's own API has.
    pub(crate) fn connection(&self, name: &str) -> Connection {
        let path = if name == "slack" { "/api" } else { "" };
        connection(name, Some(format!("http://127.0.0.1:{}{path}", self.port)))
    }

    /// Answers with this from now on.
    pub(crate) fn answers(&self, status: u16, body: &'static str) {
        self.answers_with(move |_| Box::pin(async move { json(status, body) }));
    }

    pub(crate) fn answers_with(
        &self,
        answer: impl Fn(&Seen) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) fn json(status: u16, body: &'static str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::from(body).boxed_unsync())
        .unwrap()
}

async fn one(
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Mutex<Answer>>,
    request: http::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let one = Seen {
        path_and_query: parts.uri.to_string(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    seen.lock().unwrap().push(one.clone());
    let answer = Arc::clone(&*answer.lock().unwrap());
    Ok(answer(&one).await)
}
