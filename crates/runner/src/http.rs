//! A small HTTP/1.1 client over Unix sockets, bounded in size and time: all that the runner needs.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How long an answer may take unless it is a long poll.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens.
    #[error("cannot connect to {socket}: {source}")]
    Connect {
        /// The socket.
        socket: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody listens who should not.
    #[error("uid {peer} listens at {socket}, where uid {owner} should")]
    Impostor {
        /// The socket.
        socket: String,
        /// Who listens.
        peer: u32,
        /// Who should.
        owner: u32,
    },
    /// The exchange broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The other end refused.
    #[error("refused with {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The other end's words, shortened.
        detail: String,
    },
    /// The answer is not what it should be.
    #[error("the answer cannot be understood: {0}")]
    Answer(String),
}

/// One server.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// The folder whose owner must be the one who listens.
    pub(crate) owned: PathBuf,
    /// Where the bearer token is, if one is needed.
    pub(crate) token: Option<PathBuf>,
}

impl Peer {
    /// Sends a request and reads the whole answer.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Option<Duration>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let patience = patience.unwrap_or(PATIENCE);
        let exchange = async {
            let response = self.open(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let bytes = body
                .map_err(|error| CallError::Broken(error.to_string()))?
                .to_bytes();
            Ok((status, bytes))
        };
        let (status, bytes) = tokio::time::timeout(patience, exchange)
            .await
            .map_err(|_| CallError::Late(patience))??;
        if status.is_success() {
            Ok((status, bytes))
        } else {
            Err(refusal(status, &bytes))
        }
    }

    /// Sends a request; the body of the answer is the caller's to read.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let stream = self.connect().await?;
        let broken = |error: hyper::Error| CallError::Broken(error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Its error reaches us through the request that it carries.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = self.token().await? {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| CallError::Broken(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn connect(&self) -> Result<UnixStream, CallError> {
        let socket = self.socket.display().to_string();
        let failed = |source| CallError::Connect {
            socket: socket.clone(),
            source,
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
        let peer = stream.peer_cred().map_err(failed)?.uid();
        let owner = std::fs::metadata(&self.owned).map_err(failed)?.uid();
        if peer == owner {
            Ok(stream)
        } else {
            Err(CallError::Impostor { socket, peer, owner })
        }
    }

    async fn token(&self) -> Result<Option<String>, CallError> {
        let Some(path) = &self.token else {
            return Ok(None);
        };
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|source| CallError::Connect {
                socket: path.display().to_string(),
                source,
            })?;
        Ok(Some(text.trim().to_owned()))
    }
}

fn refusal(status: StatusCode, bytes: &Bytes) -> CallError {
    let detail = serde_json::from_slice::<clawstaff_api::ApiProblem>(bytes)
        .map(|problem| problem.detail)
        .unwrap_or_default();
    CallError::Refused {
        status,
        detail: crate::status::shorten(&detail),
    }
}
