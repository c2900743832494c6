//! The way to the control plane: TLS 1.3 with the node's certificate, and trust in one authority alone.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clawstaff_api::{
    ApiProblem,
    join::{self, JOIN, JoinRequest, RENEW, RenewRequest, SERVER_NAME},
};
use clawstaff_types::Secret;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, ClientConfig, KeyLog, RootCertStore},
};

use super::identity::{Identity, Key};
use crate::{failure::Failure, place::Place};

/// How long a connection, and an answer about certificates, may take.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;

/// The way of a node that joined.
#[derive(Clone)]
pub(crate) struct Wire {
    place: Place,
    key_log: Option<Arc<dyn KeyLog>>,
}

impl Wire {
    /// `key_log`: a file to which the secrets of every connection are written, for whoever captures and reads them.
    pub(crate) fn new(place: Place, key_log: Option<&Path>) -> Result<Self, Failure> {
        let key_log = key_log.map(keylog::open).transpose()?;
        Ok(Self { place, key_log })
    }

    pub(super) fn identity(&self) -> Result<Identity, Failure> {
        Identity::load(&self.place)
    }

    /// A fresh connection, with the newest certificate.
    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let identity = self.identity()?;
        let mut config = config(&identity.authority, Some(&identity))?;
        if let Some(key_log) = &self.key_log {
            config.key_log = Arc::clone(key_log);
        }
        dial(&identity.address, config).await
    }

    /// Gets a certificate for a new key and puts both in the place of the old ones.
    pub(crate) async fn renew(&self) -> Result<Timestamp, Failure> {
        let old = self.identity()?;
        let key = Key::generate()?;
        let stream = self.connect().await?;
        let request = RenewRequest {
            public_key: key.public(),
        };
        let issued = ask(stream, RENEW, None, &request).await?;
        let names = (old.node.clone(), old.address.clone(), old.authority.clone());
        let new = Identity::new(names, &key, issued);
        new.keep(&self.place)?;
        Ok(new.expires)
    }
}

/// Joins: shows the token's secret to the control plane that its authority vouches for.
pub(crate) async fn join(
    address: &str,
    token: &join::JoinToken,
    request: &JoinRequest,
) -> Result<join::Identity, Failure> {
    let stream = dial(address, config(&token.authority, None)?).await?;
    ask(stream, JOIN, Some(&token.secret), request).await
}

fn config(authority: &str, identity: Option<&Identity>) -> Result<ClientConfig, Failure> {
    let unusable =
        |error: &dyn std::fmt::Display| Failure::failed(format!("cannot use the node's identity: {error}"));
    let decoded = |text: &str| STANDARD.decode(text).map_err(|error| unusable(&error));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(decoded(authority)?))
        .map_err(|error| unusable(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = identity.key().ok_or_else(|| unusable(&"its key is not one"))?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
            let chain = vec![CertificateDer::from(decoded(&identity.certificate)?)];
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable(&error))?
        }
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn dial(address: &str, config: ClientConfig) -> Result<TlsStream<TcpStream>, Failure> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Failure::unavailable(format!("cannot reach the control plane at {address}: {error}"))
    };
    let connecting = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| unreachable(&error))?;
        let connector = TlsConnector::from(Arc::new(config));
        connector
            .connect(name, stream)
            .await
            .map_err(|error| unreachable(&error))
    };
    tokio::time::timeout(PATIENCE, connecting)
        .await
        .map_err(|_| unreachable(&"no answer in time"))?
}

async fn ask(
    stream: TlsStream<TcpStream>,
    path: &str,
    secret: Option<&Secret<String>>,
    body: &impl Serialize,
) -> Result<join::Identity, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::unavailable(format!("the connection to the control plane broke: {error}"))
    };
    let exchange = async {
        let (mut sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let driver = tokio::spawn(connection);
        let request = request(path, secret, body)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let bytes = body.map_err(|error| broken(&error))?.to_bytes();
        driver.abort();
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| broken(&error));
        }
        Err(match serde_json::from_slice::<ApiProblem>(&bytes) {
            Ok(problem) => problem.into(),
            Err(_) => broken(&status),
        })
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| broken(&"no answer in time"))?
}

fn request(
    path: &str,
    secret: Option<&Secret<String>>,
    body: &impl Serialize,
) -> Result<Request<Full<Bytes>>, Failure> {
    let unusable =
        |error: &dyn std::fmt::Display| Failure::failed(format!("cannot make the request: {error}"));
    let body = serde_json::to_vec(body).map_err(|error| unusable(&error))?;
    let mut request = Request::builder()
        .method("POST")
        .uri(path)
        .header(header::HOST, SERVER_NAME)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(secret) = secret {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose_secret()))
            .map_err(|error| unusable(&error))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request
        .body(Full::new(body.into()))
        .map_err(|error| unusable(&error))
}

/// The secrets of connections, in the format of `SSLKEYLOGFILE` (draft-ietf-tls-keylogfile).
mod keylog {
    use std::{
        fs::File,
        io::Write as _,
        os::unix::fs::OpenOptionsExt as _,
        path::Path,
        sync::{Arc, Mutex, PoisonError},
    };

    use tokio_rustls::rustls::KeyLog;

    use crate::failure::Failure;

    #[derive(Debug)]
    struct ToFile(Mutex<File>);

    pub(super) fn open(path: &Path) -> Result<Arc<dyn KeyLog>, Failure> {
        let mut options = File::options();
        let opened = options.append(true).create(true).mode(0o600).open(path);
        let file =
            opened.map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
        Ok(Arc::new(ToFile(Mutex::new(file))))
    }

    impl KeyLog for ToFile {
        fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
            let line = format!("{label} {} {}\n", hex::encode(client_random), hex::encode(secret));
            let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.write_all(line.as_bytes()) {
                tracing::warn!(%error, "the TLS key log cannot be written");
            }
        }
    }
}
