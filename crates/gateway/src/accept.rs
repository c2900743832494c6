//! accept: which cage is this, and what does it want?
//!
//! The socket answers the first question, never a header: every cage has a listener of its own. The opening
//! line answers the second. Everything here is bounded, because the other end is hostile.

mod prefixed;

use std::{future::Future, io, sync::Arc, time::Duration};

use clawstaff_cage_contract::{MAX_OPENING, Opening};
use clawstaff_types::ClawName;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use self::prefixed::Prefixed;
use crate::{body::Body, egress, front, mcp::Mcp, shared::Gateway};

/// Connections that one cage may hold open.
pub const MAX_CONNECTIONS: usize = 256;
/// The longest wait for the opening line.
const OPENING_WAIT: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes and in headers.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// One cage, as its connections know it.
#[derive(Debug)]
pub(crate) struct Cage {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) claw: ClawName,
    pub(crate) mcp: Mcp,
}

/// A connection from a cage, its opening line already read.
pub(crate) type Conn = Prefixed<UnixStream>;

/// Serves one cage's door until `stop`.
pub(crate) async fn listen(cage: Arc<Cage>, listener: UnixListener, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(claw = %cage.claw, %error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            continue; // dropping the stream closes it: the cage has too many open
        };
        let (cage, stop) = (Arc::clone(&cage), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(cage, stream) => {}
            }
            drop(place);
        });
    }
}

async fn connection(cage: Arc<Cage>, stream: UnixStream) {
    let wait = cage.gateway.waits.head;
    let opened = tokio::time::timeout(OPENING_WAIT, opening(stream)).await;
    match opened {
        Ok(Ok((Opening::Doors, conn))) => {
            http(conn, false, wait, move |request| {
                front::answer(Arc::clone(&cage), request)
            })
            .await;
        }
        Ok(Ok((Opening::Proxy, conn))) => {
            http(conn, false, wait, move |request| {
                egress::proxy(Arc::clone(&cage), request)
            })
            .await;
        }
        Ok(Ok((Opening::Name { host, port }, conn))) => egress::name(cage, conn, host, port).await,
        Ok(Err(error)) => tracing::debug!(claw = %cage.claw, %error, "opening line"),
        Err(_) => tracing::debug!(claw = %cage.claw, "no opening line in time"),
    }
}

/// Reads the opening line; what follows it belongs to the payload.
async fn opening(mut stream: UnixStream) -> io::Result<(Opening, Conn)> {
    let mut seen = Vec::with_capacity(MAX_OPENING);
    loop {
        if let Some(end) = seen.iter().position(|byte| *byte == b'\n') {
            let rest = seen.split_off(end + 1);
            let line = std::str::from_utf8(seen.get(..end).unwrap_or_default());
            let opening = line.ok().and_then(|line| Opening::parse(line).ok());
            let opening = opening.ok_or_else(|| io::Error::other("not an opening line"))?;
            return Ok((opening, Prefixed::new(rest.into(), stream)));
        }
        let room = MAX_OPENING.saturating_sub(seen.len());
        if room == 0 {
            return Err(io::Error::other("the opening line is too long"));
        }
        let mut piece = [0; MAX_OPENING];
        let piece = piece.get_mut(..room).unwrap_or_default();
        match stream.read(piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => seen.extend_from_slice(piece.get(..n).unwrap_or_default()),
        }
    }
}

/// Serves HTTP on a connection: HTTP/1.1, and HTTP/2 where TLS has negotiated it.
pub(crate) async fn http<IO, H, F>(io: IO, h2: bool, head_wait: Duration, handler: H)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_wait)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(64)
        .max_send_buf_size(256 << 10);
    let server = if h2 {
        server.http2_only()
    } else {
        server.http1_only()
    };
    let service = service_fn(move |request| {
        // Boxed, because hyper moves it into its own state.
        let answer = Box::pin(handler(request));
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let served = server
        .serve_connection_with_upgrades(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a connection from a cage ended");
    }
}
