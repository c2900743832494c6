//! Accepting connections: bounded in number, in the time of their headers, and told who is at the other end.
//!
//! The one thing that goes from here to `http` is the [`Peer`], as an extension of every request.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use clawstaff_types::Digest;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::authority::Authority;

/// Connections at once, on each listener.
const MAX_CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
const MAX_BUFFER: usize = 64 * 1024;
/// How long answers under way may take after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(3);

/// Who is at the other end, as the operating system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this host with this uid.
    Uid(u32),
    /// Somebody on the network.
    Network(SocketAddr),
    /// A host that showed a certificate of the nodes' authority: its digest.
    Certified(Digest),
    /// A host that speaks TLS to us as a node would, and showed none.
    Uncertified(SocketAddr),
}

/// Something that connections come from.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    /// For nodes, with TLS.
    Nodes(TcpListener, Arc<Authority>),
}

/// A connection that came in, and what is to be done before anything is read from it.
enum Came {
    Plain(Box<dyn Stream>, Peer),
    Node(TcpStream, SocketAddr, Arc<Authority>),
}

/// Serves until shutdown, then lets answers under way finish for a moment.
pub(crate) async fn serve(listener: Listener, router: Router, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok(came) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    if let Some((stream, peer)) = came.greet().await {
                        connection(stream, peer, router, shutdown).await;
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("some answers did not finish in time");
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> std::io::Result<Came> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::Uid(stream.peer_cred()?.uid());
                Ok(Came::Plain(Box::new(stream), peer))
            }
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Came::Plain(Box::new(stream), Peer::Network(address)))
            }
            Self::Nodes(listener, authority) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Came::Node(stream, address, Arc::clone(authority)))
            }
        }
    }
}

impl Came {
    /// The stream to serve and who is at its other end; `None` if that did not come about.
    async fn greet(self) -> Option<(Box<dyn Stream>, Peer)> {
        let (stream, address, authority) = match self {
            Self::Plain(stream, peer) => return Some((stream, peer)),
            Self::Node(stream, address, authority) => (stream, address, authority),
        };
        let config = authority
            .server()
            .inspect_err(|error| tracing::error!(%error, "nodes cannot be served"))
            .ok()?;
        let handshake = TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(HEADER_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates();
                let shown = shown.and_then(|chain| chain.first()).map(|leaf| Digest::of(leaf));
                let peer = shown.map_or(Peer::Uncertified(address), Peer::Certified);
                Some((Box::new(stream), peer))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, %address, "a node's handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}

async fn connection(stream: Box<dyn Stream>, peer: Peer, router: Router, shutdown: CancellationToken) {
    let service = hyper::service::service_fn(move |mut request: ::http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
