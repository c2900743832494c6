//! A client of the OCI distribution protocol, version 1, as far as pulling goes: manifests, blobs, and the bearer
//! tokens that registries give to anybody, or for a credential of the host's own file ([`Credentials`]). A credential goes
//! to the registry that it is for and to the place that this names for tokens, and to nobody else.
//!
//! [`Credentials`]: super::Credentials
//!
//! TLS always, except to a registry on this very host. Answers are bounded in size and time; what a digest names is
//! checked when the layout is read.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    Doing, ImageError, RegistryName,
    credentials::Credential,
    layout::{Descriptor, MOST_JSON, Parsed, member, parse},
    refused,
};
use clawstaff_types::Digest;

/// For a connection, a header, or the next piece of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most redirects from one address to another.
const MOST_REDIRECTS: u32 = 5;
/// The most that is read of a token's answer or of a refusal, in bytes.
const MOST_WORDS: usize = 64 << 10;
/// The largest blob, in bytes.
const MOST_BLOB: u64 = 8 << 30;

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// What helps where a name and a password are wanted.
const PRIVATE: &str = "; it is private or not there: put a credential for the registry into `runner/registries.json` of the \
                       data directory, pull it with the engine and name it `docker:…`, or bring an archive";

/// Why a registry did not give an image.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or the exchange broke.
    #[error("the registry at `{host}` cannot be reached: {why}")]
    Unreachable {
        /// Its host.
        host: String,
        /// What was heard.
        why: String,
    },
    /// It refused.
    #[error("the registry refuses {what}: {status}{hint}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its answer.
        status: StatusCode,
        /// What may help.
        hint: &'static str,
    },
    /// It answers with something that is not the protocol.
    #[error("the registry at `{host}` does not keep to the protocol: {why}")]
    Protocol {
        /// Its host.
        host: String,
        /// What is wrong.
        why: String,
    },
}

impl RegistryError {
    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Protocol { .. } => false,
        }
    }
}

/// Downloads an image as a layout into `place`.
pub(super) async fn fetch(
    name: &RegistryName,
    credential: Option<Credential>,
    place: &Path,
) -> Result<(), ImageError> {
    let mut client = Client::new(name, credential)?;
    tokio::fs::create_dir_all(place.join("blobs/sha256"))
        .await
        .doing("make a directory for an image")?;
    let wanted = name
        .digest
        .map_or_else(|| name.tag.clone(), |digest| digest.to_string());
    let bytes = client.manifest(&wanted).await?;
    let digest = Digest::of(&bytes);
    if name.digest.is_some_and(|pinned| pinned != digest) {
        return Err(refused(format!("`{name}` is not what its digest says")));
    }
    let index =
        serde_json::json!({ "schemaVersion": 2, "manifests": [{ "digest": digest, "size": bytes.len() }] });
    write(&place.join("index.json"), index.to_string().as_bytes()).await?;
    let mut next = (digest, bytes);
    // An index leads to a manifest; the layout is read again, and checked, by whoever unpacks it.
    for _ in 0..3 {
        write(&place.join(member(&next.0)), &next.1).await?;
        match parse(&next.1, None)? {
            Parsed::Elsewhere(descriptor) => {
                let bytes = client.manifest(&descriptor.digest.to_string()).await?;
                next = (descriptor.digest, bytes);
            }
            Parsed::Manifest(manifest) => {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    client.blob(blob, &place.join(member(&blob.digest))).await?;
                }
                return Ok(());
            }
        }
    }
    Err(refused("its index leads nowhere"))
}

async fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    tokio::fs::write(path, bytes)
        .await
        .doing("keep a part of an image")
}

/// One registry and what it gave us.
struct Client<'a> {
    name: &'a RegistryName,
    tls: TlsConnector,
    credential: Option<Credential>,
    /// The value of the `Authorization` header, once the registry has asked for it.
    authorization: Option<String>,
}

impl<'a> Client<'a> {
    fn new(name: &'a RegistryName, credential: Option<Credential>) -> Result<Self, ImageError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            name,
            tls: TlsConnector::from(Arc::new(config)),
            credential,
            authorization: None,
        })
    }

    fn url(&self, what: &str, of: &str) -> String {
        let scheme = if self.name.is_local() { "http" } else { "https" };
        format!(
            "{scheme}://{}/v2/{}/{what}/{of}",
            self.name.host, self.name.repository
        )
    }

    async fn manifest(&mut self, of: &str) -> Result<Vec<u8>, ImageError> {
        let url = self.url("manifests", of);
        let response = self.get(&url, MANIFESTS).await?;
        let most = usize::try_from(MOST_JSON).unwrap_or(usize::MAX);
        let bytes = bounded(response.into_body(), most).await;
        Ok(bytes.map_err(|why| self.broken(why))?)
    }

    /// Downloads a blob, of exactly the size that its descriptor says.
    async fn blob(&mut self, blob: &Descriptor, to: &Path) -> Result<(), ImageError> {
        if blob.size > MOST_BLOB {
            return Err(refused("a layer is larger than an image may be"));
        }
        let url = self.url("blobs", &blob.digest.to_string());
        let mut body = self.get(&url, "*/*").await?.into_body();
        let mut file = tokio::fs::File::create(to)
            .await
            .doing("keep a part of an image")?;
        let mut left = blob.size;
        while let Some(frame) = patiently(body.frame()).await.map_err(|why| self.broken(why))? {
            let frame = frame.map_err(|error| self.broken(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            left = left
                .checked_sub(data.len() as u64)
                .ok_or_else(|| refused("a blob is longer than its manifest says"))?;
            file.write_all(&data).await.doing("keep a part of an image")?;
        }
        if left > 0 {
            return Err(refused("a blob is shorter than its manifest says"));
        }
        file.flush().await.doing("keep a part of an image")
    }

    /// Asks; once more with what authorizes if the registry wants that.
    async fn get(&mut self, url: &str, accept: &str) -> Result<Response<Incoming>, ImageError> {
        let response = self.follow(url, accept).await?;
        if response.status() != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return Ok(good(url, response)?);
        }
        self.authorization = Some(self.authorize(response.headers()).await?);
        let response = self.follow(url, accept).await?;
        Ok(good(url, response)?)
    }

    /// One request, and the redirects that follow. What authorizes goes to the registry alone.
    async fn follow(&self, url: &str, accept: &str) -> Result<Response<Incoming>, RegistryError> {
        let mut url: Uri = url
            .parse()
            .map_err(|_| self.protocol("an address that is none"))?;
        for _ in 0..=MOST_REDIRECTS {
            let own = url
                .authority()
                .is_some_and(|authority| authority.as_str() == self.name.host);
            let authorization = self.authorization.as_deref().filter(|_| own);
            let response = self.send(&url, accept, authorization).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let to = response
                .headers()
                .get(header::LOCATION)
                .and_then(|to| to.to_str().ok());
            let to = to.ok_or_else(|| self.protocol("a redirect to nowhere"))?;
            url = self.resolve(&url, to)?;
        }
        Err(self.protocol("it redirects without end"))
    }

    /// Where a redirect leads. Never from TLS to plain HTTP.
    fn resolve(&self, from: &Uri, to: &str) -> Result<Uri, RegistryError> {
        let absolute = if to.starts_with('/') {
            let (scheme, authority) = (from.scheme_str(), from.authority());
            let parts = scheme
                .zip(authority)
                .ok_or_else(|| self.protocol("a redirect from nowhere"))?;
            format!("{}://{}{to}", parts.0, parts.1)
        } else {
            to.to_owned()
        };
        let uri: Uri = absolute
            .parse()
            .map_err(|_| self.protocol("a redirect to no address"))?;
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if self.name.is_local() && uri.authority() == from.authority() => Ok(uri),
            _ => Err(self.protocol("a redirect away from TLS")),
        }
    }

    /// What the registry wants to hear: the credential itself, or a token that it gives for it.
    async fn authorize(&self, headers: &HeaderMap) -> Result<String, ImageError> {
        let mut challenges = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let is_basic = |text: &str| {
            text.get(..5)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic"))
        };
        let basic = challenges.any(|value| value.to_str().is_ok_and(is_basic));
        match &self.credential {
            Some(credential) if basic => Ok(credential.header()),
            Some(_) | None => Ok(format!("Bearer {}", self.ask_token(headers).await?)),
        }
    }

    /// The token that `WWW-Authenticate: Bearer realm="…",service="…",scope="…"` asks for.
    async fn ask_token(&self, headers: &HeaderMap) -> Result<String, ImageError> {
        let challenge = headers
            .get(header::WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok());
        let challenge = challenge.and_then(|text| text.strip_prefix("Bearer "));
        let fields = challenge.map(fields).ok_or_else(|| RegistryError::Refused {
            what: self.name.to_string(),
            status: StatusCode::UNAUTHORIZED,
            hint: PRIVATE,
        })?;
        let field = |name: &str| {
            fields
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        let realm = field("realm").ok_or_else(|| self.protocol("a token without a place to get it"))?;
        let scope = format!("repository:{}:pull", self.name.repository);
        let service = field("service").unwrap_or_default();
        let query = format!(
            "service={}&scope={}",
            escaped(service),
            escaped(field("scope").unwrap_or(&scope))
        );
        let joint = if realm.contains('?') { '&' } else { '?' };
        let uri: Uri = format!("{realm}{joint}{query}")
            .parse()
            .map_err(|_| self.protocol("a token from no address"))?;
        if uri.scheme_str() != Some("https") && !self.name.is_local() {
            return Err(self.protocol("a token without TLS").into());
        }
        let credential = self.credential.as_ref().map(Credential::header);
        let response = good(
            "a token",
            self.send(&uri, "application/json", credential.as_deref()).await?,
        )?;
        let bytes = bounded(response.into_body(), MOST_WORDS)
            .await
            .map_err(|why| self.broken(why))?;
        let answer: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| self.protocol(&error.to_string()))?;
        let token = answer.get("token").or_else(|| answer.get("access_token"));
        let token = token.and_then(serde_json::Value::as_str);
        Ok(token
            .ok_or_else(|| self.protocol("an answer without a token"))?
            .to_owned())
    }

    async fn send(
        &self,
        uri: &Uri,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let host = uri
            .host()
            .ok_or_else(|| self.protocol("an address without a host"))?;
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(
                header::HOST,
                uri.authority().map_or(host, |authority| authority.as_str()),
            )
            .header(header::ACCEPT, accept)
            .header(
                header::USER_AGENT,
                concat!("clawstaff/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| self.protocol(&error.to_string()))?;
        let exchange = async {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((bare, port))
                .await
                .map_err(|error| error.to_string())?;
            if !tls {
                return exchange(stream, request).await;
            }
            let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
            let stream = self
                .tls
                .connect(name, stream)
                .await
                .map_err(|error| error.to_string())?;
            exchange(stream, request).await
        };
        let answered = patiently(exchange).await.and_then(|answered| answered);
        answered.map_err(|why| RegistryError::Unreachable {
            host: host.to_owned(),
            why,
        })
    }

    fn broken(&self, why: String) -> RegistryError {
        RegistryError::Unreachable {
            host: self.name.host.clone(),
            why,
        }
    }

    fn protocol(&self, why: &str) -> RegistryError {
        RegistryError::Protocol {
            host: self.name.host.clone(),
            why: why.chars().filter(|c| !c.is_control()).take(200).collect(),
        }
    }
}

/// The answer, if it is a good one.
fn good(url: &str, response: Response<Incoming>) -> Result<Response<Incoming>, RegistryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let hint = match status {
        StatusCode::NOT_FOUND => "; is the name right?",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => PRIVATE,
        _ => "",
    };
    Err(RegistryError::Refused {
        what: url.split('?').next().unwrap_or_default().to_owned(),
        status,
        hint,
    })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // Ends with the body, or with the response that is dropped.
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())
}

async fn patiently<T>(work: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))
}

async fn bounded(mut body: Incoming, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(frame) = patiently(body.frame()).await? {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            if bytes.len() + data.len() > most {
                return Err(format!("its answer is larger than {most} bytes"));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// The fields of a challenge: `name="value"`, with commas between them and perhaps in the values.
fn fields(text: &str) -> Vec<(&str, &str)> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((name, after)) = rest.split_once("=\"") {
        let Some((value, next)) = after.split_once('"') else {
            break;
        };
        found.push((name.trim_start_matches([',', ' ']), value));
        rest = next;
    }
    found
}

/// A value in a query.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_commas_in_its_values() {
        let text = r#"realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            fields(text),
            [
                ("realm", "https://auth.example/token"),
                ("service", "registry.example"),
                ("scope", "repository:a/b:pull,push")
            ]
        );
        assert_eq!(fields("nonsense"), []);
        assert_eq!(escaped("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
