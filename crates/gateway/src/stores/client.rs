//! One request to a store: token, TLS, bounds, and what its status means.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use clawstaff_types::{Secret, StoreName, StoredAt};
use clawstaff_vault::{LookupError, Store, read_token};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use zeroize::Zeroizing;

use super::{
    answer,
    config::{Engine, Row},
};
use crate::{
    forward::{self, ForwardError, Pool, dial::Dialer},
    settle::chain,
};

/// How long connection, request and answer may take together.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer: a Secret of Kubernetes holds 1 MiB, in base64, beside its metadata.
const MAX_ANSWER: usize = 2 << 20;

/// A store and the way to it.
#[derive(Debug)]
pub(super) struct Service {
    name: StoreName,
    row: Row,
    pool: Pool,
}

impl Service {
    /// # Errors
    /// When its authorities cannot be read; in words.
    pub(super) fn new(name: StoreName, row: Row, extra_ca: Option<&Path>) -> Result<Self, String> {
        let mut tls = match &row.ca_file {
            None => forward::tls_config(extra_ca).map_err(|error| chain(&error))?,
            Some(file) => forward::tls_of(authorities(file)?).map_err(|error| error.to_string())?,
        };
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let pool = forward::pool(Dialer::new(Arc::new(tls), true));
        Ok(Self { name, row, pool })
    }

    pub(super) const fn store(&self) -> Store {
        match self.row.engine {
            Engine::Bao { .. } => Store::Bao,
            Engine::Kubernetes => Store::Kubernetes,
        }
    }

    pub(super) const fn keep(&self) -> Duration {
        self.row.keep
    }

    /// Refuses an entry that this host did not allow.
    pub(super) fn check(&self, place: &StoredAt) -> Result<(), LookupError> {
        if self.row.allow.iter().any(|allowed| allowed.covers(place.path())) {
            return Ok(());
        }
        Err(LookupError::NotAllowed {
            store: self.name.clone(),
            path: place.path().to_owned(),
        })
    }

    /// Asks once.
    pub(super) async fn fetch(&self, place: &StoredAt) -> Result<Secret<Vec<u8>>, LookupError> {
        let request = self.request(place)?;
        let exchange = async {
            let answer = forward::exchange(&self.pool, request, PATIENCE).await;
            let answer = answer.map_err(|error| self.unanswered(&error))?;
            let status = answer.status();
            Ok::<_, LookupError>((status, self.body(answer.into_body()).await?))
        };
        let in_time = tokio::time::timeout(PATIENCE, exchange).await;
        let (status, body) = in_time.map_err(|_| self.slow())??;
        self.meaning(place, status, &body)
    }

    fn request(&self, place: &StoredAt) -> Result<Request<Full<Bytes>>, LookupError> {
        let failed = |why: String| LookupError::Token {
            store: self.name.clone(),
            why,
        };
        let token = read_token(&self.row.token_file).map_err(|error| failed(chain(&error)))?;
        let headers = self.headers(&token);
        let headers = headers.ok_or_else(|| failed("it cannot travel in a header".to_owned()))?;
        let mut request = Request::get(self.row.address.at(&self.path(place)).text())
            .body(Full::default())
            .map_err(|error| self.unreachable(&error))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// KV version 2 (`/v1/MOUNT/data/PATH`), or `/api/v1/namespaces/NAMESPACE/secrets/NAME`. A place has no character
    /// that would have to be escaped here.
    fn path(&self, place: &StoredAt) -> String {
        match &self.row.engine {
            Engine::Bao { mount, .. } => format!("/v1/{mount}/data/{}", place.path()),
            Engine::Kubernetes => {
                let (namespace, name) = place.path().split_once('/').unwrap_or_default();
                format!("/api/v1/namespaces/{namespace}/secrets/{name}")
            }
        }
    }

    fn headers(&self, token: &Secret<String>) -> Option<HeaderMap> {
        let agent = concat!("clawstaff/", env!("CARGO_PKG_VERSION"));
        let mut headers = HeaderMap::from_iter([
            (header::USER_AGENT, HeaderValue::from_static(agent)),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        match &self.row.engine {
            Engine::Bao { namespace, .. } => {
                headers.insert("x-vault-token", sensitive(token.expose_secret())?);
                headers.insert("x-vault-request", HeaderValue::from_static("true"));
                if let Some(namespace) = namespace {
                    headers.insert("x-vault-namespace", HeaderValue::from_str(namespace).ok()?);
                }
            }
            Engine::Kubernetes => {
                let bearer = Secret::new(format!("Bearer {}", token.expose_secret()));
                headers.insert(header::AUTHORIZATION, sensitive(bearer.expose_secret())?);
            }
        }
        Some(headers)
    }

    fn unanswered(&self, error: &ForwardError) -> LookupError {
        match error {
            ForwardError::AnswerTimeout(_) => self.slow(),
            ForwardError::Address
            | ForwardError::Connect
            | ForwardError::ConnectTimeout
            | ForwardError::TlsExpired
            | ForwardError::TlsName
            | ForwardError::Tls
            | ForwardError::Handshake
            | ForwardError::Broken => self.unreachable(error),
        }
    }

    fn slow(&self) -> LookupError {
        LookupError::Slow {
            store: self.name.clone(),
            seconds: PATIENCE.as_secs(),
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> LookupError {
        LookupError::Unreachable {
            store: self.name.clone(),
            why: chain(error),
        }
    }

    /// The whole body; what growth leaves behind is wiped.
    async fn body(&self, mut body: Incoming) -> Result<Secret<Vec<u8>>, LookupError> {
        let too_long = || LookupError::TooLong {
            store: self.name.clone(),
            limit: MAX_ANSWER,
        };
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > MAX_ANSWER {
            return Err(too_long());
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(announced.max(4096)));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| self.unreachable(&ForwardError::Broken))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > MAX_ANSWER {
                return Err(too_long());
            }
            if whole.len() + data.len() > whole.capacity() {
                let mut larger = Vec::with_capacity((whole.len() + data.len()) * 2);
                larger.extend_from_slice(&whole);
                whole = Zeroizing::new(larger);
            }
            whole.extend_from_slice(&data);
        }
        Ok(Secret::new(std::mem::take(&mut *whole)))
    }

    fn meaning(
        &self,
        place: &StoredAt,
        status: StatusCode,
        body: &Secret<Vec<u8>>,
    ) -> Result<Secret<Vec<u8>>, LookupError> {
        let (store, path) = (self.name.clone(), place.path().to_owned());
        match status {
            StatusCode::OK => match self.row.engine {
                Engine::Bao { .. } => answer::of_bao(place, body.expose_secret()),
                Engine::Kubernetes => answer::of_kubernetes(place, body.expose_secret()),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(LookupError::Denied {
                store,
                path,
                status: status.as_u16(),
            }),
            StatusCode::NOT_FOUND => Err(match answer::deleted(body.expose_secret()) {
                Some(destroyed) => LookupError::Deleted {
                    store,
                    path,
                    destroyed,
                },
                None => LookupError::Missing { store, path },
            }),
            StatusCode::SERVICE_UNAVAILABLE => Err(LookupError::Sealed { store }),
            other => Err(LookupError::Status {
                store,
                status: other.as_u16(),
            }),
        }
    }
}

/// The certificates in a PEM file, at least one.
fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: rustls_pki_types::pem::Error| format!("reading `{}`: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(format!("`{}` holds no certificate", file.display()));
    }
    Ok(found)
}
