//! Where the records of the log are sent, as the organization asked for it.

use serde::{Deserialize, Serialize};

use crate::{Digest, name::SinkName, spec::CredentialRef};

/// How records are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// Syslog (RFC 5424) over TLS (RFC 5425).
    Syslog,
    /// `POST` to an address of one's own, signed.
    Webhook,
    /// OpenTelemetry log records over HTTP.
    Otlp,
    /// Objects in a bucket (the S3 protocol).
    S3,
    /// Files in the gateway's own directory, rotated.
    File,
}

impl SinkKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Syslog, Self::Webhook, Self::Otlp, Self::S3, Self::File];

    /// `syslog`, `webhook`, `otlp`, `s3` or `file`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::Webhook => "webhook",
            Self::Otlp => "otlp",
            Self::S3 => "s3",
            Self::File => "file",
        }
    }
}

/// A place to which the gateway sends every record of its own log and of the control plane's.
///
/// What address, format and credential mean depends on the kind; `clawstaff-export` reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Its name.
    pub name: SinkName,
    /// How records are delivered.
    pub kind: SinkKind,
    /// Where: `host:port` for syslog, an URL for webhook, OTLP and S3, nothing for files.
    #[serde(default)]
    pub address: String,
    /// The records' format: `jsonl`, `csv`, `ocsf-VERSION`, `cef`; nothing where the kind leaves no choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Certificate authorities (PEM) to trust there instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Where its credential is found, never the credential: a vault secret whose name begins with `sink-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialRef>,
}

impl Sink {
    /// The digest of all of it: what stands in the record that says that it is in force, and what its credential is
    /// released for.
    pub fn digest(&self) -> Digest {
        let credential = self.credential.clone().map(String::from).unwrap_or_default();
        let parts = [
            self.name.as_str(),
            self.kind.as_str(),
            &self.address,
            self.format.as_deref().unwrap_or_default(),
            self.ca.as_deref().unwrap_or_default(),
            &credential,
        ];
        let parts = parts.map(|part| Digest::of(part.as_bytes()));
        let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes().as_slice()).collect();
        Digest::of_parts(&bytes)
    }
}
