//! What a sink's address, format and credential mean, parsed once: by the control plane before it takes a sink in,
//! and by the gateway before it uses one.

use clawstaff_types::{SecretName, Sink, SinkKind, spec::CredentialRef};

use crate::{Format, ocsf::Version};

/// The secrets that may be used for sinks. No other leaves the vault for one, so that whoever can change sinks
/// cannot have the credentials of tools sent to them.
pub const SECRET_PREFIX: &str = "sink-";
/// The standard's port (RFC 5425 section 4.1).
const SYSLOG_PORT: u16 = 6514;
const MAX_ADDRESS: usize = 2048;
const MAX_CA: usize = 64 * 1024;

/// A sink that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Syslog over TLS.
    Syslog {
        /// The receiver.
        host: String,
        /// Its port.
        port: u16,
        /// The version of the messages' OCSF.
        version: Version,
        /// Client certificate and key, one PEM text.
        identity: Option<SecretName>,
    },
    /// Signed `POST`s.
    Webhook {
        /// Where to.
        url: Url,
        /// What the body's lines are.
        format: Format,
        /// What signs.
        secret: SecretName,
    },
    /// OTLP over HTTP.
    Otlp {
        /// The collector's full address, `/v1/logs` included.
        url: Url,
        /// Bearer token.
        token: Option<SecretName>,
    },
    /// Objects.
    S3 {
        /// The service: scheme, host and port; the path is empty.
        url: Url,
        /// The bucket, addressed by path.
        bucket: String,
        /// What the objects' names begin with: empty, or ending in `/`.
        prefix: String,
        /// The region, for signing.
        region: String,
        /// What the objects' lines are.
        format: Format,
        /// `ACCESS_KEY_ID:SECRET_ACCESS_KEY`.
        secret: SecretName,
    },
    /// Files.
    File {
        /// What their lines are.
        format: Format,
    },
}

/// An `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `https`.
    pub tls: bool,
    /// The host; an IPv6 address in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, beginning with `/`, and query.
    pub path: String,
}

impl Url {
    /// Reads an address; `http://` is for loopback addresses only.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        if text.len() > MAX_ADDRESS {
            return refuse(format!("an address has at most {MAX_ADDRESS} characters"));
        }
        url(text, "https://witness.example/prefix")
    }

    /// `host:port`, or `host` at the scheme's own port.
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The whole address.
    pub fn text(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// The same service with another path.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..self.clone()
        }
    }
}

/// A sink makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(String);

fn refuse<T>(text: impl Into<String>) -> Result<T, SinkError> {
    Err(SinkError(text.into()))
}

impl Target {
    /// Reads a sink.
    ///
    /// # Errors
    /// When a field is missing, is one that this kind does not have, or cannot be understood; the text says which
    /// and what it should be.
    pub fn parse(sink: &Sink) -> Result<Self, SinkError> {
        if sink.address.len() > MAX_ADDRESS {
            return refuse(format!("an address has at most {MAX_ADDRESS} characters"));
        }
        if sink
            .ca
            .as_ref()
            .is_some_and(|ca| ca.len() > MAX_CA || !ca.contains("-----BEGIN CERTIFICATE-----"))
        {
            return refuse(format!("`ca` is PEM certificates, at most {MAX_CA} bytes"));
        }
        match sink.kind {
            SinkKind::Syslog => syslog(sink),
            SinkKind::Webhook => Ok(Self::Webhook {
                url: url(&sink.address, "https://receiver.example/path")?,
                format: format(sink, Format::Ocsf(Version::NEWEST))?,
                secret: required(sink, "what signs the requests")?,
            }),
            SinkKind::Otlp => {
                without_format(sink)?;
                Ok(Self::Otlp {
                    url: url(&sink.address, "https://collector.example/v1/logs")?,
                    token: secret(sink)?,
                })
            }
            SinkKind::S3 => s3(sink),
            SinkKind::File => {
                if !sink.address.is_empty() || sink.credential.is_some() || sink.ca.is_some() {
                    return refuse(
                        "a file sink has no address, authority or credential: it writes in the gateway's own directory",
                    );
                }
                Ok(Self::File {
                    format: format(sink, Format::Jsonl)?,
                })
            }
        }
    }

    /// The vault's secret that it needs.
    pub const fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::Syslog { identity, .. } => identity.as_ref(),
            Self::Webhook { secret, .. } | Self::S3 { secret, .. } => Some(secret),
            Self::Otlp { token, .. } => token.as_ref(),
            Self::File { .. } => None,
        }
    }
}

fn syslog(sink: &Sink) -> Result<Target, SinkError> {
    let version = match format(sink, Format::Ocsf(Version::NEWEST))? {
        Format::Ocsf(version) => version,
        Format::Jsonl | Format::Csv | Format::Cef => {
            return refuse(
                "the message of a syslog sink is OCSF: leave `format` out, or name a version as in `ocsf-1.5.0`",
            );
        }
    };
    let (host, port) = host_and_port(&sink.address, SYSLOG_PORT)
        .ok_or_else(|| SinkError("the address of a syslog sink is `host` or `host:port`".to_owned()))?;
    Ok(Target::Syslog {
        host,
        port,
        version,
        identity: secret(sink)?,
    })
}

fn s3(sink: &Sink) -> Result<Target, SinkError> {
    const RULE: &str = "`https://service.example/BUCKET/PREFIX/?region=REGION`";
    let url = url(
        &sink.address,
        "https://s3.eu-central-1.amazonaws.com/bucket/prefix/?region=eu-central-1",
    )?;
    let (path, query) = url.path.split_once('?').unwrap_or((&url.path, ""));
    let (bucket, prefix) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let region = query.strip_prefix("region=").unwrap_or("us-east-1");
    let plain = |text: &str, more: &str| {
        text.chars().all(|character| {
            character.is_ascii_alphanumeric() || "-._".contains(character) || more.contains(character)
        })
    };
    if bucket.is_empty()
        || !plain(bucket, "")
        || !plain(prefix, "/")
        || region.is_empty()
        || !plain(region, "")
    {
        return refuse(format!(
            "the address of an S3 sink is {RULE}, of letters, digits, `-`, `.`, `_`"
        ));
    }
    let prefix = if prefix.is_empty() || prefix.ends_with('/') {
        prefix.to_owned()
    } else {
        format!("{prefix}/")
    };
    Ok(Target::S3 {
        bucket: bucket.to_owned(),
        prefix,
        region: region.to_owned(),
        format: format(sink, Format::Jsonl)?,
        secret: required(sink, "`ACCESS_KEY_ID:SECRET_ACCESS_KEY`")?,
        url: url.at(""),
    })
}

fn format(sink: &Sink, usual: Format) -> Result<Format, SinkError> {
    match &sink.format {
        None => Ok(usual),
        Some(text) => text
            .parse()
            .map_err(|error: crate::UnknownFormat| SinkError(error.to_string())),
    }
}

fn without_format(sink: &Sink) -> Result<(), SinkError> {
    if sink.format.is_some() {
        return refuse("an OTLP sink has its own format: leave `format` out");
    }
    Ok(())
}

fn required(sink: &Sink, what: &str) -> Result<SecretName, SinkError> {
    match secret(sink)? {
        Some(name) => Ok(name),
        None => refuse(format!(
            "this kind of sink needs a credential: {what}, as `vault:{SECRET_PREFIX}NAME`"
        )),
    }
}

fn secret(sink: &Sink) -> Result<Option<SecretName>, SinkError> {
    match &sink.credential {
        None => Ok(None),
        Some(CredentialRef::Vault(name)) if name.as_str().starts_with(SECRET_PREFIX) => {
            Ok(Some(name.clone()))
        }
        Some(_) => refuse(format!(
            "the credential of a sink is a secret in the gateway's vault whose name begins with `{SECRET_PREFIX}`: `vault:{SECRET_PREFIX}NAME`"
        )),
    }
}

fn url(text: &str, example: &str) -> Result<Url, SinkError> {
    let bad = || {
        SinkError(format!(
            "the address is an URL such as `{example}`; `http://` is for loopback addresses only"
        ))
    };
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(bad()),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or_else(bad)?;
    let (host, port) = host_and_port(authority, if tls { 443 } else { 80 }).ok_or_else(bad)?;
    let visible = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte));
    if !visible || (!tls && !is_loopback(&host)) {
        return Err(bad());
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok(Url {
        tls,
        host,
        port,
        path: path.to_owned(),
    })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn host_and_port(text: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let _checked: std::net::Ipv6Addr = address.parse().ok()?;
            (
                format!("[{address}]"),
                after.strip_prefix(':').or_else(|| after.is_empty().then_some("")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), Some("")),
        },
    };
    let port = port?;
    let port = if port.is_empty() {
        usual
    } else {
        port.parse().ok().filter(|port| *port != 0)?
    };
    let labels = host.starts_with('[')
        || (!host.is_empty()
            && host.len() <= 253
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'));
    labels.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(kind: SinkKind, address: &str, format: Option<&str>, credential: Option<&str>) -> Sink {
        Sink {
            name: "siem".parse().unwrap(),
            kind,
            address: address.to_owned(),
            format: format.map(str::to_owned),
            ca: None,
            credential: credential.map(|text| CredentialRef::try_from(text.to_owned()).unwrap()),
        }
    }

    #[test]
    fn sinks_that_make_sense_are_understood() {
        let parse =
            |kind, address, format, credential| Target::parse(&sink(kind, address, format, credential));
        let Ok(Target::Syslog {
            host, port, version, ..
        }) = parse(SinkKind::Syslog, "siem.example", Some("ocsf-1.5.0"), None)
        else {
            panic!("a syslog sink")
        };
        assert_eq!(
            (host.as_str(), port, version),
            ("siem.example", 6514, Version::V1_5)
        );
        let Ok(Target::S3 {
            url,
            bucket,
            prefix,
            region,
            ..
        }) = parse(
            SinkKind::S3,
            "http://127.0.0.1:5000/audit/prod/gateway?region=eu-west-1",
            None,
            Some("vault:sink-s3"),
        )
        else {
            panic!("an S3 sink")
        };
        assert_eq!(
            (url.authority().as_str(), url.path.as_str()),
            ("127.0.0.1:5000", "")
        );
        assert_eq!(
            (bucket.as_str(), prefix.as_str(), region.as_str()),
            ("audit", "prod/gateway/", "eu-west-1")
        );
        let Ok(Target::Webhook { url, .. }) = parse(
            SinkKind::Webhook,
            "https://[2001:db8::1]:8443/in?x=1",
            None,
            Some("vault:sink-hook"),
        ) else {
            panic!("a webhook")
        };
        assert_eq!(url.text(), "https://[2001:db8::1]:8443/in?x=1");
        assert!(parse(SinkKind::Otlp, "https://collector.example/v1/logs", None, None).is_ok());
        assert!(parse(SinkKind::File, "", Some("cef"), None).is_ok());
    }

    #[test]
    fn sinks_that_make_no_sense_are_refused() {
        for (kind, address, format, credential) in [
            (SinkKind::Syslog, "", None, None),
            (SinkKind::Syslog, "host:0", None, None),
            (SinkKind::Syslog, "host/path", None, None),
            (SinkKind::Syslog, "host", Some("cef"), None),
            (SinkKind::Webhook, "https://receiver.example", None, None),
            (
                SinkKind::Webhook,
                "http://receiver.example",
                None,
                Some("vault:sink-a"),
            ),
            (
                SinkKind::Webhook,
                "https://receiver.example",
                None,
                Some("vault:slack-bot"),
            ),
            (
                SinkKind::Webhook,
                "https://receiver.example",
                None,
                Some("env:TOKEN"),
            ),
            (
                SinkKind::Webhook,
                "https://user@receiver.example/",
                None,
                Some("vault:sink-a"),
            ),
            (
                SinkKind::Webhook,
                "ftp://receiver.example/",
                None,
                Some("vault:sink-a"),
            ),
            (SinkKind::Otlp, "https://collector.example", Some("jsonl"), None),
            (SinkKind::S3, "https://s3.example/", None, Some("vault:sink-a")),
            (
                SinkKind::S3,
                "https://s3.example/bu%20cket/",
                None,
                Some("vault:sink-a"),
            ),
            (SinkKind::File, "/etc/passwd", None, None),
            (SinkKind::File, "", Some("xml"), None),
        ] {
            assert!(
                Target::parse(&sink(kind, address, format, credential)).is_err(),
                "{kind:?} {address}"
            );
        }
    }
}
