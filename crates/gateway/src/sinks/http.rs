//! One HTTP request to a receiver: TLS, bounded in time and size, no redirect, no retry.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use clawstaff_export::sink::Url;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::job::Failed;
use crate::forward::dial::Dialer;

const ANSWER_TIME: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 << 10;
/// What is shown of an answer that refuses.
const MAX_SHOWN: usize = 120;

/// Certificate and key of a client.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// TLS toward a receiver: with its own authorities, or the public ones and those of this installation.
pub(super) fn tls(
    ca: Option<&str>,
    extra_ca: Option<&Path>,
    identity: Option<Identity>,
) -> Result<rustls::ClientConfig, Failed> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate?)?;
        }
    } else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let extra = extra_ca.map(CertificateDer::pem_file_iter).transpose()?;
        for certificate in extra.into_iter().flatten() {
            roots.add(certificate?)?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match identity {
        None => config.with_no_client_auth(),
        Some(Identity { chain, key }) => config.with_client_auth_cert(chain, key)?,
    })
}

/// A client of one receiver.
#[derive(Debug)]
pub(crate) struct Http {
    pool: Client<Dialer, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new(ca: Option<&str>, extra_ca: Option<&Path>) -> Result<Self, Failed> {
        let mut tls = tls(ca, extra_ca, None)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_mins(1))
            .build(Dialer::new(Arc::new(tls), true));
        Ok(Self { pool })
    }

    /// Sends once. Anything but 2xx is a failure.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Bytes, Failed> {
        let (status, body) = self.exchange(method, url, headers, body).await?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(refused(status, &body))
        }
    }

    /// Sends once, whatever the answer.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        url: &Url,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failed> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.text())
            .header(
                header::USER_AGENT,
                concat!("clawstaff/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::new(body))?;
        request.headers_mut().extend(headers);
        let exchange = async {
            let (head, body) = self.pool.request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| Failed(format!("the answer cannot be read: {error}")))?;
            Ok((head.status, body.to_bytes()))
        };
        tokio::time::timeout(ANSWER_TIME, exchange)
            .await
            .map_err(|_| Failed(format!("no answer within {} seconds", ANSWER_TIME.as_secs())))?
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Failed {
    let mut text = format!("the receiver answered {status}");
    let said: String = String::from_utf8_lossy(body)
        .chars()
        .filter(|character| !clawstaff_export::text::is_unsafe(*character))
        .take(MAX_SHOWN)
        .collect();
    if !said.trim().is_empty() {
        // Writing to a string cannot fail.
        let _written = write!(text, ": {}", said.trim());
    }
    Failed(text)
}

/// A header's value; a secret one is never shown.
pub(super) fn value(text: &str, secret: bool) -> Result<HeaderValue, Failed> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(secret);
    Ok(value)
}
