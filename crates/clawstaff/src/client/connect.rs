//! Connecting: a Unix socket whose server is who it must be, or TCP with TLS unless the address is loopback.

use std::{
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clawstaff_types::Secret;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore},
};

use crate::{
    failure::{Exit, Failure},
    fault,
    place::GATEWAY_FAULT,
};

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where an API is.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// A Unix socket; its server must run as the owner of the folder `owned`.
    Socket {
        /// The socket.
        socket: PathBuf,
        /// The folder of the part that serves it.
        owned: PathBuf,
    },
    /// A server elsewhere.
    Server {
        /// Its address.
        url: Uri,
        /// Who asks.
        token: Secret<String>,
    },
}

impl Endpoint {
    /// A server by its address; the token comes from `CLAWSTAFF_TOKEN`.
    pub(crate) fn server(address: &str, token: Option<Secret<String>>) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::usage(format!("--server `{address}` {why}"));
        let url: Uri = address.parse().map_err(|_| bad("is not an address"))?;
        let host = url.host().ok_or_else(|| bad("names no host"))?;
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => {
                return Err(bad("would send the token in the clear")
                    .hint("use https://; http:// is for loopback addresses only"));
            }
            _ => return Err(bad("must start with https://")),
        }
        let token = token.ok_or_else(|| {
            Failure::new(Exit::Denied, "a server needs to know who asks")
                .hint("put a token into CLAWSTAFF_TOKEN")
        })?;
        Ok(Self::Server { url, token })
    }

    /// The request's path below the server's own.
    pub(super) fn path(&self, path: &str) -> String {
        match self {
            Self::Socket { .. } => path.to_owned(),
            Self::Server { url, .. } => format!("{}{path}", url.path().trim_end_matches('/')),
        }
    }

    /// The `Host` header.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Socket { .. } => "localhost".to_owned(),
            Self::Server { url, .. } => url.authority().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// The `Authorization` header.
    pub(super) fn token(&self) -> Option<HeaderValue> {
        match self {
            Self::Socket { .. } => None,
            Self::Server { token, .. } => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
        }
    }

    /// A fresh connection.
    pub(super) async fn connect(&self, who: &str) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let connecting = async {
            match self {
                Self::Socket { socket, owned } => unix(socket, owned, who).await,
                Self::Server { url, .. } => tcp(url, who).await,
            }
        };
        tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(|_| Failure::unavailable(format!("cannot reach {who}: no answer within {PATIENCE:?}")))?
    }
}

/// Whether an address stays on this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn unix(socket: &Path, owned: &Path, who: &str) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let message = format!("cannot reach {who} at {}: {error}", socket.display());
        let fault = fault::read(&socket.with_file_name(GATEWAY_FAULT));
        match (error.kind(), fault) {
            (ErrorKind::PermissionDenied, _) => Failure::new(Exit::Denied, message),
            (_, Some(why)) => Failure::unavailable(format!("{message}; {why}")),
            (_, None) => Failure::unavailable(message)
                .hint("start it with `clawstaff up`, or name the right one with --data or --server"),
        }
    })?;
    check_owner(&stream, owned, who)?;
    http1(stream, who).await
}

/// The process that listens must be the one that owns the part's folder.
fn check_owner(stream: &UnixStream, owned: &Path, who: &str) -> Result<(), Failure> {
    let peer = stream.peer_cred().map(|cred| cred.uid());
    let owner = std::fs::metadata(owned).map(|meta| meta.uid());
    match (peer, owner) {
        (Ok(peer), Ok(owner)) if peer == owner => Ok(()),
        (Ok(peer), Ok(owner)) => Err(Failure::new(
            Exit::Denied,
            format!("uid {peer} poses as {who}, which runs as uid {owner}"),
        )),
        (Err(error), _) | (_, Err(error)) => Err(Failure::unavailable(format!(
            "cannot tell who serves as {who}: {error}"
        ))),
    }
}

async fn tcp(url: &Uri, who: &str) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let host = url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let unreachable = |error: &dyn std::fmt::Display| {
        Failure::unavailable(format!("cannot reach {who} at {host}:{port}: {error}"))
    };
    let stream = TcpStream::connect((bare, port))
        .await
        .map_err(|error| unreachable(&error))?;
    if !secure {
        return http1(stream, who).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| unreachable(&error))?;
    let connector = TlsConnector::from(Arc::new(tls()?));
    let stream = connector.connect(name, stream).await.map_err(|error| {
        unreachable(&error)
            .hint("a private certificate authority goes, as PEM, into the file that CLAWSTAFF_CA names")
    })?;
    http1(stream, who).await
}

fn tls() -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = std::env::var_os("CLAWSTAFF_CA") {
        let path = PathBuf::from(path);
        let unusable =
            |error: &dyn std::fmt::Display| Failure::usage(format!("cannot use {}: {error}", path.display()));
        for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| unusable(&error))? {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
    }
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    who: &str,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::unavailable(format!("the connection to {who} broke: {error}")))?;
    // Its error reaches us through the request that it carries.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
