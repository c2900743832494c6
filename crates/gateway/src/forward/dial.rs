//! Resolve, judge the addresses, dial one of them, speak TLS where the address says so.
//!
//! The address judged is the address dialled: nothing resolves the name again in between.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::address::may_dial;

/// The longest wait for a connection, TLS included.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// No connection could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialError {
    /// Only addresses that may not be dialled.
    #[error("the name leads to addresses that may not be dialled")]
    Address,
    /// No address, or nobody there.
    #[error("unreachable")]
    Unreachable,
    /// Too slow.
    #[error("no connection within {} seconds", CONNECT_WAIT.as_secs())]
    Timeout,
    /// TLS failed.
    #[error("TLS failed")]
    Tls,
    /// The certificate's time is over, or has not begun.
    #[error("the certificate has expired")]
    TlsExpired,
    /// The certificate is somebody else's.
    #[error("the certificate is for another name")]
    TlsName,
}

impl DialError {
    fn of_handshake(error: &io::Error) -> Self {
        let rustls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match rustls {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => Self::TlsExpired,
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Self::TlsName,
            Some(_) | None => Self::Tls,
        }
    }
}

/// Makes connections for the pool.
#[derive(Clone)]
pub(crate) struct Dialer {
    tls: TlsConnector,
    named: bool,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("named", &self.named)
            .finish_non_exhaustive()
    }
}

impl Dialer {
    pub(crate) fn new(config: Arc<rustls::ClientConfig>, named: bool) -> Self {
        Self {
            tls: TlsConnector::from(config),
            named,
        }
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Line>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let dialled = tokio::time::timeout(CONNECT_WAIT, dialer.dial(&uri)).await;
            dialled.unwrap_or(Err(DialError::Timeout)).map(TokioIo::new)
        })
    }
}

impl Dialer {
    async fn dial(&self, uri: &Uri) -> Result<Line, DialError> {
        let host = uri.host().ok_or(DialError::Unreachable)?.trim_matches(['[', ']']);
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = self.connect(host, port).await?;
        if !tls {
            return Ok(Line::Clear(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::Tls)?;
        let stream = self.tls.connect(name, stream).await;
        let stream = stream.map_err(|error| DialError::of_handshake(&error))?;
        Ok(Line::Tls(Box::new(stream)))
    }

    /// A connection to an address that may be dialled.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<SocketAddr> = found.map_err(|_| DialError::Unreachable)?.take(16).collect();
        let mut verdict = DialError::Unreachable;
        for address in found {
            if !may_dial(address.ip(), self.named) {
                verdict = DialError::Address;
                continue;
            }
            if let Ok(stream) = TcpStream::connect(address).await {
                let _best_effort = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        Err(verdict)
    }
}

/// A connection to an upstream.
pub(crate) enum Line {
    /// To a loopback address that the organization named.
    Clear(TcpStream),
    /// Everything else.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        let h2 = match self {
            Self::Clear(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        let connected = Connected::new();
        if h2 { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
