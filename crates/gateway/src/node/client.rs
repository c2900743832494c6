//! One HTTP request at a time over the control plane's Unix socket, bounded in time and size.
//!
//! Every request has a connection of its own: it is a local socket, and a broken one leaves nothing behind.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clawstaff_api::ApiProblem;
use clawstaff_types::Secret;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

/// The longest answer: a whole desired state.
const MAX_ANSWER: usize = 32 << 20;
const MAX_TOKEN: u64 = 4096;

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The node token cannot be read.
    #[error("cannot read the node token `{}`: {source}", path.display())]
    Token {
        /// Where it should be.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Nobody listens.
    #[error("cannot connect to `{}`: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("{path}: the conversation broke: {why}")]
    Broken {
        /// The route.
        path: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{0}: no answer in time")]
    Slow(String),
    /// The control plane refused.
    #[error("{path}: the control plane answered {status}: {detail}")]
    Refused {
        /// The route.
        path: String,
        /// The status.
        status: u16,
        /// Its words, shortened.
        detail: String,
    },
    /// The answer is not what the contract says.
    #[error("{path}: the answer is not as it should be: {why}")]
    Malformed {
        /// The route.
        path: String,
        /// Why.
        why: String,
    },
}

/// Speaks to one control plane.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    token: PathBuf,
}

impl Client {
    pub(crate) const fn new(socket: PathBuf, token: PathBuf) -> Self {
        Self { socket, token }
    }

    /// `GET`; `None` for 204.
    pub(crate) async fn get<A: DeserializeOwned>(
        &self,
        path: &str,
        within: Duration,
    ) -> Result<Option<A>, ClientError> {
        self.ask(Method::GET, path, Vec::new(), within).await
    }

    /// `POST` with JSON; `None` for 204.
    pub(super) async fn post<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
        within: Duration,
    ) -> Result<Option<A>, ClientError> {
        let body = serde_json::to_vec(question).map_err(|e| ClientError::Malformed {
            path: path.to_owned(),
            why: e.to_string(),
        })?;
        self.ask(Method::POST, path, body, within).await
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Option<A>, ClientError> {
        let exchange = self.exchange(method, path, body);
        let answer = tokio::time::timeout(within, exchange).await;
        let (status, body) = answer.map_err(|_| ClientError::Slow(path.to_owned()))??;
        match status {
            StatusCode::NO_CONTENT => Ok(None),
            status if status.is_success() => {
                serde_json::from_slice(&body)
                    .map(Some)
                    .map_err(|e| ClientError::Malformed {
                        path: path.to_owned(),
                        why: e.to_string(),
                    })
            }
            status => Err(refusal(path, status, &body)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, bytes::Bytes), ClientError> {
        let request = self.request(method, path, body)?;
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Connect {
                path: self.socket.clone(),
                source,
            })?;
        let broken = |why: String| ClientError::Broken {
            path: path.to_owned(),
            why,
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(e.to_string()))?;
        // Ends with the request: dropping this future drops the sender, which ends the connection.
        let driver = AbortOnDrop(tokio::spawn(connection));
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| broken(e.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|e| broken(e.to_string()))?;
        drop(driver);
        Ok((status, body.to_bytes()))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Request<Full<bytes::Bytes>>, ClientError> {
        let token = read_token(&self.token).map_err(|source| ClientError::Token {
            path: self.token.clone(),
            source,
        })?;
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "control-plane")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .map_err(|e| ClientError::Malformed {
                path: path.to_owned(),
                why: e.to_string(),
            })
    }
}

#[derive(Debug)]
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn read_token(path: &Path) -> io::Result<Secret<String>> {
    let bytes = Secret::new(crate::inbox::read_bounded(path, MAX_TOKEN)?);
    let text = std::str::from_utf8(bytes.expose_secret()).map_err(io::Error::other)?;
    Ok(Secret::new(text.trim().to_owned()))
}

fn refusal(path: &str, status: StatusCode, body: &[u8]) -> ClientError {
    let detail = serde_json::from_slice::<ApiProblem>(body)
        .map(|problem| problem.detail)
        .unwrap_or_default();
    ClientError::Refused {
        path: path.to_owned(),
        status: status.as_u16(),
        detail: detail.chars().take(300).collect(),
    }
}
