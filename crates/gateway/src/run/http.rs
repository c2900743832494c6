//! One HTTP connection of a listener of ours, with patience that ends.
//!
//! Used by `ingress` (strangers) and `local` (this host); which routes there are is theirs.

use std::time::Duration;

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// How long what is under way at shutdown may still take.
const ENDING: Duration = Duration::from_secs(5);

/// How long a peer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the header of a request.
    pub(crate) header: Duration,
    /// For the whole connection, if it has an end.
    pub(crate) connection: Option<Duration>,
}

/// Serves one connection until it ends, its time is over, or `shutdown`.
pub(crate) async fn serve_connection<S>(
    stream: S,
    router: Router,
    patience: Patience,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.header);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(16);
    let serving = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let limit = async {
        match patience.connection {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = limit => return,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(ENDING, serving).await {
                Ok(served) => served,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}
