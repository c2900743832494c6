//! A small HTTP/1.1 client to the cage's own doors: one connection a request, bounded answers.
//!
//! It speaks to loopback addresses only, without TLS: where TLS is wanted, the gateway originates it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT},
    request::Builder,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpStream, task::JoinHandle};

/// The longest answer that is read where nothing else is said, in bytes.
pub(crate) const MAX_ANSWER: usize = 1024 * 1024;

/// How the agent calls itself.
const AGENT: &str = concat!("claw/", env!("CARGO_PKG_VERSION"));

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The request could not be written down.
    #[error("making the request: {0}")]
    Request(#[from] http::Error),
    /// A value has no JSON form.
    #[error("writing the request's JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Nobody listens.
    #[error("connecting to {to}: {source}")]
    Connect {
        /// Where.
        to: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("exchanging HTTP with {to}: {source}")]
    Exchange {
        /// With whom.
        to: SocketAddr,
        /// How.
        source: hyper::Error,
    },
    /// The answer is longer than the caller can use.
    #[error("the answer from {to} is longer than {max} bytes")]
    TooLong {
        /// From whom.
        to: SocketAddr,
        /// The bound.
        max: usize,
    },
}

/// An answer whose head has arrived. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    to: SocketAddr,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    driver: JoinHandle<()>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Exchange {
    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The next piece of the body; nothing at its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.body.frame().await {
            let to = self.to;
            let frame = frame.map_err(|source| HttpError::Exchange { to, source })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body.
    ///
    /// # Errors
    /// When the connection breaks or the body is longer than `max`.
    pub(crate) async fn whole(self, max: usize) -> Result<Vec<u8>, HttpError> {
        let to = self.to;
        match self.first(max).await? {
            (bytes, false) => Ok(bytes),
            (_, true) => Err(HttpError::TooLong { to, max }),
        }
    }

    /// The first `max` bytes of the body, and whether there were more.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn first(mut self, max: usize) -> Result<(Vec<u8>, bool), HttpError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            let room = max - bytes.len();
            if chunk.len() > room {
                bytes.extend_from_slice(chunk.get(..room).unwrap_or_default());
                return Ok((bytes, true));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes, false))
    }
}

/// A request to a door at `to`, with the headers that all of them carry.
pub(crate) fn request(method: Method, to: SocketAddr, path: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, to.to_string())
        .header(USER_AGENT, AGENT)
}

/// A request through the proxy: its target is the whole URL (absolute form, RFC 9112, section 3.2.2).
pub(crate) fn proxied(method: Method, url: &Uri) -> Builder {
    let host = url.authority().map_or("", |authority| authority.as_str());
    Request::builder()
        .method(method)
        .uri(url.clone())
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
}

/// A `GET` to a door.
///
/// # Errors
/// When `path` is not one.
pub(crate) fn get(to: SocketAddr, path: &str) -> Result<Request<Full<Bytes>>, HttpError> {
    let builder = request(Method::GET, to, path).header(ACCEPT, "application/json");
    Ok(builder.body(Full::default())?)
}

/// A `POST` of JSON to a door.
///
/// # Errors
/// When `path` is not one, or `body` has no JSON form.
pub(crate) fn post_json<T: Serialize>(
    to: SocketAddr,
    path: &str,
    body: &T,
) -> Result<Request<Full<Bytes>>, HttpError> {
    let bytes = serde_json::to_vec(body)?;
    let builder = request(Method::POST, to, path)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json");
    Ok(builder.body(Full::new(bytes.into()))?)
}

/// Sends `request` to whoever listens at `to`. Time is the caller's to bound.
///
/// # Errors
/// When nobody listens or the exchange breaks before the answer's head is complete.
pub(crate) async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Exchange, HttpError> {
    let stream = TcpStream::connect(to)
        .await
        .map_err(|source| HttpError::Connect { to, source })?;
    let broke = |source| HttpError::Exchange { to, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    let driver = tokio::spawn(async move {
        // Its errors are those of the exchange, which reports them.
        let _ended = connection.await;
    });
    match sender.send_request(request).await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            Ok(Exchange {
                to,
                status: head.status,
                headers: head.headers,
                body,
                driver,
            })
        }
        Err(source) => {
            driver.abort();
            Err(broke(source))
        }
    }
}
