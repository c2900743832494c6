//! The address of an API: scheme, host, port and path prefix, checked once.
//!
//! It knows nothing of connections and resolves no name.

use std::net::IpAddr;

use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};

/// `https://host[:port][/prefix]`, or `http://` for a loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    authority: Authority,
    url: String,
}

/// Why a text is not the address of an API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// It has another form.
    #[error("`{0}` is not an address of an API: write `https://host[:port][/path]`")]
    Form(String),
    /// Credentials would travel in the clear.
    #[error("`{0}` would send the credential unencrypted: `http://` is accepted for loopback addresses only")]
    Clear(String),
}

impl Base {
    /// Reads an address.
    ///
    /// # Errors
    /// When it has user information, a query or a dot segment, or is `http://` to anything but loopback.
    pub fn parse(text: &str) -> Result<Self, BaseError> {
        let form = || BaseError::Form(text.chars().take(200).collect());
        let uri: Uri = text.parse().map_err(|_| form())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(form()),
        };
        let authority = uri.authority().ok_or_else(form)?;
        let path = uri.path().trim_end_matches('/');
        if authority.as_str().contains('@')
            || uri.query().is_some()
            || path.contains("..")
            || path.contains("//")
        {
            return Err(form());
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        if !tls && !is_loopback(&host) {
            return Err(BaseError::Clear(text.chars().take(200).collect()));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let authority = authority_of(tls, &host, port).parse().map_err(|_| form())?;
        let scheme = if tls { "https" } else { "http" };
        Ok(Self {
            tls,
            host,
            port,
            path: path.to_owned(),
            url: format!("{scheme}://{authority}{path}"),
            authority,
        })
    }

    /// Whether TLS is spoken.
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Lower-case name or address literal without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path prefix: empty, or starting and not ending with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The `Host` of requests: the port only where it is not the scheme's own.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// `https://host/prefix`, to which a path that starts with `/` is appended.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The whole address of a path (starting with `/`, with its query) below this one.
    ///
    /// # Errors
    /// When that is not the address of anything.
    pub(crate) fn uri(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        let whole = [self.path.as_str(), path_and_query].concat();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(bytes::Bytes::from(whole))?);
        Ok(Uri::from_parts(parts)?)
    }
}

fn authority_of(tls: bool, host: &str, port: u16) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    match (tls, port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_written() {
        for text in [
            "https://slack.com/api",
            "http://127.0.0.1:9001/api",
            "https://[::1]:8443",
        ] {
            let base = Base::parse(text).unwrap();
            assert_eq!(base.url(), text);
            assert_eq!(
                base.uri("/x?y=1").unwrap(),
                format!("{text}/x?y=1").parse::<http::Uri>().unwrap()
            );
        }
    }

    #[test]
    fn addresses_that_would_leak_or_confuse_are_refused() {
        for text in [
            "http://slack.com",
            "ftp://a",
            "https://user@host/",
            "https://a/?q",
            "https://a/b/../c",
            "slack.com",
            "",
        ] {
            assert!(Base::parse(text).is_err(), "{text}");
        }
    }
}
