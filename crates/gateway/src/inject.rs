//! inject: the credential joins the call, against a permit and a receipt.
//!
//! A [`Credentialed`] request has one constructor, [`inject`], and `forward` sends nothing else: what was not
//! decided or not recorded cannot leave. Whatever the cage sent as a credential is dropped here.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use clawstaff_audit::Receipt;
use clawstaff_connectors::{Auth, AuthScheme, HostPattern, RecordKind};
use clawstaff_policy::Permit;
use clawstaff_types::Secret;
use clawstaff_vault::{Destination, ReleaseError, Vault};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::Full;

use crate::{commit::MARKS, map::Call};

/// A request that carries the real credential. It can be sent once, and only by `forward`; nothing but
/// [`inject`] makes one.
/// ```compile_fail,E0451
/// let made = clawstaff_gateway::inject::Credentialed { request: todo!(), secret: todo!(), own_address: true, patient: true };
/// ```
#[derive(Debug)]
#[must_use = "a credentialed request that is dropped is not sent"]
pub struct Credentialed {
    request: Request<Full<Bytes>>,
    secret: Secret<String>,
    own_address: bool,
    patient: bool,
}

impl Credentialed {
    /// Takes it apart for sending: the request, the secret in it (to mask its echo), whether the organization
    /// itself named the address, and whether the answer may take long.
    pub(crate) fn into_parts(self) -> (Request<Full<Bytes>>, Secret<String>, bool, bool) {
        (self.request, self.secret, self.own_address, self.patient)
    }
}

/// The credential could not join the call; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The permit is for another call.
    #[error("the permit is for another call than the one to be sent")]
    OtherCall,
    /// The vault did not release it.
    #[error("releasing the credential: {0}")]
    Release(#[from] ReleaseError),
    /// It cannot travel in a header.
    #[error("the credential of connection `{0}` has characters that cannot travel in a header")]
    NotAHeader(clawstaff_types::ConnectionName),
    /// The call does not make a request.
    #[error("putting the request together: {0}")]
    Request(#[from] http::Error),
}

impl InjectError {
    /// Whether the credential is there, but not for this connection or this address.
    pub(crate) const fn is_not_for_this(&self) -> bool {
        match self {
            Self::Release(ReleaseError::Misuse(_) | ReleaseError::ForeignHost { .. }) => true,
            Self::Release(
                ReleaseError::OtherCall
                | ReleaseError::OtherConnection { .. }
                | ReleaseError::Unresolved { .. },
            )
            | Self::OtherCall
            | Self::NotAHeader(_)
            | Self::Request(_) => false,
        }
    }

    /// The word for records.
    pub(crate) const fn as_str(&self) -> &'static str {
        if self.is_not_for_this() {
            "credential_not_for_this"
        } else {
            "credential"
        }
    }
}

/// Headers that never travel from a cage to an upstream, besides the connector's own credential header.
const DROPPED: [&str; 31] = [
    "accept-encoding",
    "alt-used",
    "api-key",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-api-key",
    "x-client-ip",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-goog-api-key",
];

/// Releases the credential of the call's connection and puts the request together as it goes on the wire.
///
/// With a permit and a receipt it compiles:
/// ```
/// # use clawstaff_gateway::{inject::inject, map::Call};
/// # use {clawstaff_audit::Receipt, clawstaff_policy::Permit, clawstaff_vault::Vault};
/// async fn honest(vault: &Vault, permit: Permit, receipt: &Receipt, call: Call) {
///     let _sent = inject(vault, permit, receipt, call).await;
/// }
/// ```
/// Without the permit, without the receipt, or with a permit that was used before, it does not:
/// ```compile_fail,E0061
/// # use clawstaff_gateway::{inject::inject, map::Call};
/// # use {clawstaff_audit::Receipt, clawstaff_policy::Permit, clawstaff_vault::Vault};
/// async fn undecided(vault: &Vault, permit: Permit, receipt: &Receipt, call: Call) {
///     let _sent = inject(vault, receipt, call).await;
/// }
/// ```
/// ```compile_fail,E0061
/// # use clawstaff_gateway::{inject::inject, map::Call};
/// # use {clawstaff_audit::Receipt, clawstaff_policy::Permit, clawstaff_vault::Vault};
/// async fn unrecorded(vault: &Vault, permit: Permit, receipt: &Receipt, call: Call) {
///     let _sent = inject(vault, permit, call).await;
/// }
/// ```
/// ```compile_fail,E0382
/// # use clawstaff_gateway::{inject::inject, map::Call};
/// # use {clawstaff_audit::Receipt, clawstaff_policy::Permit, clawstaff_vault::Vault};
/// async fn twice(vault: &Vault, permit: Permit, receipt: &Receipt, first: Call, second: Call) {
///     let _sent = inject(vault, permit, receipt, first).await;
///     let _again = inject(vault, permit, receipt, second).await;
/// }
/// ```
///
/// # Errors
/// When the vault refuses or the credential cannot travel; nothing was sent.
pub async fn inject(
    vault: &Vault,
    permit: Permit,
    receipt: &Receipt,
    call: Call,
) -> Result<Credentialed, InjectError> {
    if call.digest != *permit.digest() {
        return Err(InjectError::OtherCall);
    }
    let public = call.link.connector.hosts().iter();
    let public: Vec<&str> = public.map(HostPattern::as_str).collect();
    let to = Destination {
        host: call.link.base.host(),
        port: call.link.base.port(),
        public: &public,
    };
    let secret = vault.release(&permit, receipt, &call.link.connection, to).await?;
    let auth = call.link.connector.auth();
    let mut headers = travelling(&call.headers, auth);
    if let Some(media_type) = &call.content_type {
        headers.insert(
            header::CONTENT_TYPE,
            media_type.parse().map_err(http::Error::from)?,
        );
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in &auth.extra_headers {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    let (name, value) =
        credential(auth, &secret).ok_or_else(|| InjectError::NotAHeader(call.link.name().clone()))?;
    headers.insert(name, value);
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.link.base.uri(&call.path_and_query)?)
        .body(Full::new(call.body))?;
    *request.headers_mut() = headers;
    Ok(Credentialed {
        request,
        secret,
        own_address: call.link.own_address(),
        patient: call.mapped.record == RecordKind::Model,
    })
}

/// The header in which `secret` travels; `None` if it cannot.
pub(crate) fn credential(auth: &Auth, secret: &Secret<String>) -> Option<(HeaderName, HeaderValue)> {
    let text = secret.expose_secret();
    let (name, value) = match &auth.scheme {
        AuthScheme::Bearer => {
            let whole = Secret::new(format!("Bearer {text}"));
            (
                header::AUTHORIZATION,
                HeaderValue::from_str(whole.expose_secret()),
            )
        }
        AuthScheme::Basic { username } => {
            let pair = Secret::new(format!("{username}:{text}"));
            let whole = Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair.expose_secret())));
            (
                header::AUTHORIZATION,
                HeaderValue::from_str(whole.expose_secret()),
            )
        }
        AuthScheme::Header { name } => (name.clone(), HeaderValue::from_str(text)),
    };
    let mut value = value.ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// The cage's headers that may travel: no credential, nothing between two hops, nothing about proxies.
fn travelling(sent: &HeaderMap, auth: &Auth) -> HeaderMap {
    let named: Vec<String> = sent
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let own = match &auth.scheme {
        AuthScheme::Bearer | AuthScheme::Basic { .. } => None,
        AuthScheme::Header { name } => Some(name),
    };
    let mut headers = HeaderMap::with_capacity(sent.len() + 4);
    for (name, value) in sent {
        let dropped = DROPPED.contains(&name.as_str())
            || name.as_str().starts_with("proxy-")
            || name.as_str().starts_with("sec-")
            || named.iter().any(|n| n == name.as_str())
            || own == Some(name)
            || looks_like_a_credential(value, auth);
        if !dropped {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Whether a value has the placeholder's shape, in whatever header.
fn looks_like_a_credential(value: &HeaderValue, auth: &Auth) -> bool {
    let (value, prefix) = (value.as_bytes(), auth.placeholder_prefix.as_bytes());
    let before = |at: usize| value.get(..at).unwrap_or_default();
    MARKS.find_iter(value).any(|at| before(at).ends_with(prefix))
}
