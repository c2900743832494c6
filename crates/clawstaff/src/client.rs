//! The HTTP client of every command: over the installation's Unix sockets, or to `--server`.
//!
//! One connection per request, bounded in size and time. Over a Unix socket it makes sure that the process at
//! the other end runs as the user who owns that part's folder, so that nobody else can pose as it.

mod connect;
mod events;
mod pieces;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use clawstaff_api::{ApiProblem, Code};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use connect::Endpoint;
pub(crate) use events::Events;
pub(crate) use pieces::Pieces;

use crate::failure::{Exit, Failure};

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A client of one API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    /// What is at the other end, for messages: `the control plane`.
    who: &'static str,
    patience: Duration,
}

impl Client {
    /// A client of the API at `endpoint`, which messages call `who`.
    pub(crate) const fn new(endpoint: Endpoint, who: &'static str) -> Self {
        Self {
            endpoint,
            who,
            patience: PATIENCE,
        }
    }

    /// The same, with more patience for an answer.
    #[must_use]
    pub(crate) const fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A client of a socket whose server must be the owner of `owned`.
    pub(crate) const fn local(socket: PathBuf, owned: PathBuf, who: &'static str) -> Self {
        Self::new(Endpoint::Socket { socket, owned }, who)
    }

    /// `GET` something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(Method::GET, path, Bytes::new()).await
    }

    /// `POST` without a body.
    pub(crate) async fn post_empty<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(Method::POST, path, Bytes::new()).await
    }

    /// `PUT` something.
    pub(crate) async fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.answer(Method::PUT, path, json(body)?).await
    }

    /// `POST` something.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.answer(Method::POST, path, json(body)?).await
    }

    /// `DELETE` something, with an answer.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(Method::DELETE, path, Bytes::new()).await
    }

    /// Sends a request whose answer's body does not matter.
    pub(crate) async fn tell(&self, method: Method, path: &str, body: Bytes) -> Result<(), Failure> {
        self.bytes(method, path, body).await.map(drop)
    }

    /// The answer's body as it is.
    pub(crate) async fn bytes(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            body.map(http_body_util::Collected::to_bytes)
                .map_err(|error| self.broken(&error))
        };
        tokio::time::timeout(self.patience, exchange)
            .await
            .map_err(|_| self.late())?
    }

    /// A stream of server-sent events.
    pub(crate) async fn events(&self, path: &str) -> Result<Events, Failure> {
        let response = tokio::time::timeout(self.patience, self.send(Method::GET, path, Bytes::new()))
            .await
            .map_err(|_| self.late())??;
        Ok(Events::new(response.into_body()))
    }

    /// An answer of any length, piece by piece.
    pub(crate) async fn pieces(&self, path: &str) -> Result<Pieces, Failure> {
        let response = tokio::time::timeout(self.patience, self.send(Method::GET, path, Bytes::new()))
            .await
            .map_err(|_| self.late())??;
        Ok(Pieces(response.into_body()))
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let bytes = self.bytes(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(format!("cannot understand the answer of {}: {error}", self.who))
                .hint("are the command line and the server of the same version?")
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>, Failure> {
        let mut sender = self.endpoint.connect(self.who).await?;
        let mut request = Request::builder()
            .method(method)
            .uri(self.endpoint.path(path))
            .header(header::HOST, self.endpoint.host())
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("clawstaff/", env!("CARGO_PKG_VERSION")),
            );
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = self.endpoint.token() {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Failure::usage(format!("cannot make a request of this: {error}")))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response).await)
        }
    }

    async fn refusal(&self, response: http::Response<Incoming>) -> Failure {
        let status = response.status();
        let body = Limited::new(response.into_body(), 256 * 1024).collect().await;
        let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        match serde_json::from_slice::<ApiProblem>(&bytes) {
            Ok(problem) => problem.into(),
            Err(_) => Failure::new(
                exit_of(status),
                format!("{} answered {status} without saying why", self.who),
            ),
        }
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::unavailable(format!("the connection to {} broke: {error}", self.who))
    }

    fn late(&self) -> Failure {
        Failure::unavailable(format!(
            "{} did not answer within {} s",
            self.who,
            self.patience.as_secs()
        ))
    }
}

fn exit_of(status: StatusCode) -> Exit {
    match status {
        StatusCode::BAD_REQUEST => Exit::Api(Code::Invalid),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::CONFLICT => Exit::Api(Code::Conflict),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Exit::Unavailable
        }
        _ => Exit::Failed,
    }
}

/// One segment of a path, or one value of a query, escaped.
pub(crate) fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A query string of the pairs that have a value; empty without any.
pub(crate) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = pairs
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))))
        .collect();
    if given.is_empty() {
        String::new()
    } else {
        format!("?{}", given.join("&"))
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    let text = serde_json::to_vec(body);
    text.map(Bytes::from)
        .map_err(|error| Failure::failed(format!("cannot write the request as JSON: {error}")))
}
