//! forward: a credentialed request goes out, an answer comes back. Pooled, HTTP/1.1 and HTTP/2, TLS by rustls.
//!
//! Follows no redirect, retries nothing that was sent, and dials no address that the organization did not mean
//! (see [`dial`]). It knows neither policy nor log: holding a [`Credentialed`] is the proof that both agreed.

mod address;
pub(crate) mod dial;

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use clawstaff_types::Secret;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use self::dial::{DialError, Dialer};
use crate::{inject::Credentialed, waits::Waits};

pub(crate) type Pool = Client<Dialer, Full<Bytes>>;

/// The clients toward upstreams: one that dials public addresses only, and one for addresses that the
/// organization named itself.
#[derive(Debug)]
pub struct Upstream {
    public: Pool,
    named: Pool,
}

/// The clients cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The extra authorities cannot be read.
    #[error("reading the certificate authorities in `{path}`: {source}")]
    ExtraCa {
        /// The file.
        path: String,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// TLS cannot be configured.
    #[error("configuring TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// No answer came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Every address of the name is one that may not be dialled.
    #[error("the service's name leads to an address that may not be dialled")]
    Address,
    /// Nobody there.
    #[error("the service cannot be reached")]
    Connect,
    /// Nobody there in time.
    #[error("the service did not accept the connection in time")]
    ConnectTimeout,
    /// Its certificate has expired, or is not valid yet.
    #[error("the service's TLS certificate has expired or is not valid yet")]
    TlsExpired,
    /// Its certificate is for another name.
    #[error("the service's TLS certificate is for another name")]
    TlsName,
    /// Its certificate is not trusted, or TLS failed otherwise.
    #[error("the service's TLS certificate is not trusted or TLS failed")]
    Tls,
    /// The server does not agree to speak MCP with us.
    #[error("the MCP server did not agree to a session")]
    Handshake,
    /// Sent, and no answer in time.
    #[error("the service did not answer within {} seconds", .0.as_secs())]
    AnswerTimeout(Duration),
    /// Sent, and the connection broke or the answer was not HTTP.
    #[error("the connection to the service broke before it answered")]
    Broken,
}

impl ForwardError {
    /// Whether it is certain that the service never saw the request.
    pub const fn never_sent(&self) -> bool {
        match self {
            Self::Address
            | Self::Connect
            | Self::ConnectTimeout
            | Self::Tls
            | Self::TlsExpired
            | Self::TlsName
            | Self::Handshake => true,
            Self::AnswerTimeout(_) | Self::Broken => false,
        }
    }

    /// The word for records.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Address => "address_refused",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::TlsExpired => "tls_expired",
            Self::TlsName => "tls_name",
            Self::AnswerTimeout(_) => "answer_timeout",
            Self::Broken => "broken",
        }
    }
}

/// An answer's head, its body still to come, and the secret that must not be echoed.
#[derive(Debug)]
pub struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) secret: Secret<String>,
}

impl Upstream {
    /// Makes the clients, trusting the usual public authorities and those in `extra_ca`.
    ///
    /// # Errors
    /// When `extra_ca` cannot be read or TLS cannot be configured.
    pub fn new(extra_ca: Option<&Path>) -> Result<Self, UpstreamError> {
        let tls = Arc::new(tls_config(extra_ca)?);
        Ok(Self {
            public: pool(Dialer::new(Arc::clone(&tls), false)),
            named: pool(Dialer::new(tls, true)),
        })
    }

    /// Sends once, waits for the head of the answer.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub async fn send(&self, credentialed: Credentialed, waits: &Waits) -> Result<Answered, ForwardError> {
        let (request, secret, own_address, patient) = credentialed.into_parts();
        let wait = if patient { waits.model } else { waits.answer };
        let response = self.exchange(request, own_address, wait).await?;
        Ok(Answered { response, secret })
    }

    /// One request and the head of its answer.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        own_address: bool,
        wait: Duration,
    ) -> Result<Response<Incoming>, ForwardError> {
        let pool = if own_address { &self.named } else { &self.public };
        exchange(pool, request, wait).await
    }
}

/// One request through `pool` and the head of its answer.
pub(crate) async fn exchange(
    pool: &Pool,
    request: Request<Full<Bytes>>,
    wait: Duration,
) -> Result<Response<Incoming>, ForwardError> {
    match tokio::time::timeout(wait, pool.request(request)).await {
        Err(_) => Err(ForwardError::AnswerTimeout(wait)),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(classify(&error)),
    }
}

fn classify(error: &hyper_util::client::legacy::Error) -> ForwardError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = source {
        if let Some(dial) = this.downcast_ref::<DialError>() {
            return match dial {
                DialError::Address => ForwardError::Address,
                DialError::Unreachable => ForwardError::Connect,
                DialError::Timeout => ForwardError::ConnectTimeout,
                DialError::Tls => ForwardError::Tls,
                DialError::TlsExpired => ForwardError::TlsExpired,
                DialError::TlsName => ForwardError::TlsName,
            };
        }
        source = this.source();
    }
    if error.is_connect() {
        ForwardError::Connect
    } else {
        ForwardError::Broken
    }
}

pub(crate) fn pool(dialer: Dialer) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_mins(1))
        .pool_max_idle_per_host(64)
        .build(dialer)
}

/// TLS toward whom the usual public authorities and those in `extra_ca` vouch for.
pub(crate) fn tls_config(extra_ca: Option<&Path>) -> Result<rustls::ClientConfig, UpstreamError> {
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(path) = extra_ca {
        let unreadable = |source| UpstreamError::ExtraCa {
            path: path.display().to_string(),
            source,
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            roots.add(certificate.map_err(unreadable)?)?;
        }
    }
    Ok(client_config(roots)?)
}

/// TLS toward whom these authorities vouch for, and nobody else.
pub(crate) fn tls_of(
    authorities: Vec<CertificateDer<'static>>,
) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate)?;
    }
    client_config(roots)
}

fn client_config(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        Self::other(error)
    }
}
