//! parse: from what a cage sent to a canonical request, so that policy and wire see the same bytes.
//!
//! Bounded and strict: whatever two parsers could read in two ways is refused, never repaired. The whole body
//! is read before anything is decided. It knows no connection and makes no decision.

mod path;

use std::{io::Read as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header};

use crate::body::{self, BodyError};

/// The largest body of an ordinary request, in bytes.
pub const MAX_BODY: usize = 8 << 20;
/// The largest body of a model request, in bytes.
pub const MAX_MODEL_BODY: usize = 32 << 20;

/// What a connection already said about where its requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// One of our own doors: the `Host` is ours and says nothing.
    Door,
    /// Software in the cage dialled this name; over TLS it also asked for `sni`.
    Name {
        /// The name of the opening line or of `CONNECT`.
        host: String,
        /// The port dialled.
        port: u16,
        /// The name in the TLS handshake, if there was one with a name.
        sni: Option<String>,
    },
    /// A proxy request with an absolute address.
    Proxy,
}

/// A request as the rest of the line sees it.
#[derive(Debug)]
pub struct Request {
    /// One of the usual methods.
    pub method: Method,
    /// Lower-case host; empty at a door.
    pub host: String,
    /// The port it would have gone to; 0 at a door.
    pub port: u16,
    /// Canonical path, starting with `/`.
    pub path: String,
    /// The query without `?`, as sent.
    pub query: Option<String>,
    /// All headers, as sent.
    pub headers: HeaderMap,
    /// The media type, as sent.
    pub content_type: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// Why a request cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A method that no connector knows.
    #[error("the method is not one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    Method,
    /// No host, or one that is not a name.
    #[error("the request names no usable host")]
    NoHost,
    /// Dialled name, TLS name, address and `Host` header do not agree.
    #[error("the name dialled, the TLS server name, the request's address and its Host header must be one")]
    Misdirected,
    /// A header that may be there once is there twice.
    #[error("the header `{0}` is there more than once")]
    Repeated(HeaderName),
    /// A header that would change what the request means behind our back.
    #[error("the header `{0}` is not accepted: it would change what the request means")]
    Forbidden(HeaderName),
    /// A header whose value cannot be read as text where it must be.
    #[error("the header `{0}` is not plain text")]
    Unreadable(HeaderName),
    /// A body in another coding than gzip.
    #[error("the coding of the request body is not accepted: send it uncompressed, or with gzip")]
    Encoded,
    /// A change of protocol.
    #[error("a change of protocol (such as WebSocket) is not offered here")]
    Upgrade,
    /// A path that could be read in two ways.
    #[error("the path is ambiguous: {0}")]
    Path(&'static str),
    /// The body.
    #[error("{0}")]
    Body(#[from] BodyError),
}

impl ParseError {
    /// The status of the answer.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::Body(BodyError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::Slow(_)) => StatusCode::REQUEST_TIMEOUT,
            Self::NoHost
            | Self::Repeated(_)
            | Self::Forbidden(_)
            | Self::Unreadable(_)
            | Self::Path(_)
            | Self::Body(BodyError::Broken) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Headers that may be there once at most.
static SINGLE: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::CONTENT_ENCODING,
];

/// Headers that some servers let override the request line.
const OVERRIDES: [&str; 7] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-method",
    "x-forwarded-host",
];

/// Makes a canonical request of what arrived, reading at most `max_body` bytes of body and waiting at most
/// `idle` for each piece of it.
///
/// # Errors
/// See [`ParseError`]; nothing was done.
pub async fn canonical<B>(
    via: &Via,
    request: http::Request<B>,
    max_body: usize,
    idle: Duration,
) -> Result<Request, ParseError>
where
    B: http_body::Body<Data = Bytes>,
{
    let (mut parts, incoming) = request.into_parts();
    method(&parts.method)?;
    headers(&parts.headers)?;
    let (host, port) = destination(via, &parts.uri, &parts.headers, parts.version)?;
    let path = path::canonical(parts.uri.path())?;
    let query = query(&parts.uri)?;
    let content_type = text(&parts.headers, &header::CONTENT_TYPE)?.map(str::to_owned);
    let mut body = body::read(incoming, max_body, idle).await?;
    // What is judged and sent is the body itself; its coding ends here.
    if parts
        .headers
        .remove(header::CONTENT_ENCODING)
        .is_some_and(|coding| coding == "gzip")
    {
        body = unzipped(&body, max_body)?;
    }
    Ok(Request {
        method: parts.method,
        host,
        port,
        path,
        query,
        headers: parts.headers,
        content_type,
        body,
    })
}

fn method(method: &Method) -> Result<(), ParseError> {
    match method.as_str() {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => Ok(()),
        _ => Err(ParseError::Method),
    }
}

fn headers(headers: &HeaderMap) -> Result<(), ParseError> {
    for name in &SINGLE {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(ParseError::Repeated(name.clone()));
        }
    }
    for name in OVERRIDES {
        if headers.contains_key(name) {
            return Err(ParseError::Forbidden(HeaderName::from_static(name)));
        }
    }
    if headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(ParseError::Forbidden(header::TRANSFER_ENCODING));
    }
    if let Some(coding) = text(headers, &header::TRANSFER_ENCODING)?
        && !coding.eq_ignore_ascii_case("chunked")
    {
        return Err(ParseError::Forbidden(header::TRANSFER_ENCODING));
    }
    match text(headers, &header::CONTENT_ENCODING)? {
        None | Some("identity" | "gzip") => {}
        Some(_) => return Err(ParseError::Encoded),
    }
    match text(headers, &header::UPGRADE)? {
        Some(protocol) if !protocol.eq_ignore_ascii_case("h2c") => Err(ParseError::Upgrade),
        Some(_) | None => Ok(()),
    }
}

/// A gzip body (RFC 1952) of one member and nothing behind it, at most `max` bytes when it is unpacked.
fn unzipped(body: &[u8], max: usize) -> Result<Bytes, BodyError> {
    let mut decoder = flate2::bufread::GzDecoder::new(body);
    let mut whole = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = (&mut decoder).take(limit).read_to_end(&mut whole);
    read.map_err(|_| BodyError::Broken)?;
    if whole.len() > max {
        return Err(BodyError::TooLarge(max));
    }
    if decoder.into_inner().is_empty() {
        Ok(whole.into())
    } else {
        Err(BodyError::Broken)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ParseError> {
    let value = headers.get(name).map(|value| value.to_str());
    value
        .transpose()
        .map_err(|_| ParseError::Unreadable(name.clone()))
}

/// The one host and port that everything in and around the request agrees on.
fn destination(
    via: &Via,
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
) -> Result<(String, u16), ParseError> {
    let said = text(headers, &header::HOST)?;
    match via {
        Via::Door if uri.scheme().is_some() => Err(ParseError::Misdirected),
        Via::Door => Ok((String::new(), 0)),
        Via::Proxy => {
            let default = match uri.scheme_str() {
                Some("https") => 443,
                Some("http") => 80,
                Some(_) | None => return Err(ParseError::NoHost),
            };
            let authority = uri.authority().ok_or(ParseError::NoHost)?;
            let address = host_and_port(authority.as_str(), default).ok_or(ParseError::NoHost)?;
            agrees(said, &address, default)?;
            Ok(address)
        }
        Via::Name { host, port, sni } => {
            let address = (host.clone(), *port);
            if sni.as_ref().is_some_and(|name| name != host) {
                return Err(ParseError::Misdirected);
            }
            let in_uri = uri.authority().map(http::uri::Authority::as_str);
            if said.is_none() && in_uri.is_none() && version != Version::HTTP_10 {
                return Err(ParseError::NoHost);
            }
            agrees(said, &address, *port)?;
            agrees(in_uri, &address, *port)?;
            Ok(address)
        }
    }
}

fn agrees(said: Option<&str>, address: &(String, u16), default: u16) -> Result<(), ParseError> {
    let Some(said) = said else { return Ok(()) };
    if host_and_port(said, default).as_ref() == Some(address) {
        Ok(())
    } else {
        Err(ParseError::Misdirected)
    }
}

/// Splits `host[:port]`; the host in lower case and without brackets. `None` when it is not one.
pub(crate) fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse().ok()?)
        }
        _ => (text, default),
    };
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|literal| literal.contains(':'))?,
        None if host.contains(':') => return None,
        None => host,
    };
    let host = host.to_ascii_lowercase();
    clawstaff_cage_contract::is_host(&host).then_some((host, port))
}

fn query(uri: &Uri) -> Result<Option<String>, ParseError> {
    let Some(query) = uri.query() else { return Ok(None) };
    if query.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(ParseError::Path("the query has bytes that must be encoded"));
    }
    Ok(Some(query.to_owned()))
}

#[cfg(test)]
mod tests;
