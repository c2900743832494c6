//! What an organization asks for: connections and Claws, as the control plane stores and the nodes receive them.
//!
//! The text of a Claw's instructions is content, so here it is only ever [`Sealed`] to the gateway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    name::{ClawName, ConnectionName, ConnectorId, NameError, NodeName, SecretName},
    stored::StoredAt,
    unit::ByteSize,
};

/// Content sealed to a gateway's public key (RFC 9180 HPKE: X25519, HKDF-SHA256, ChaCha20-Poly1305).
///
/// Whoever holds only this can tell two texts apart by [`Sealed::digest`] and nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Digest of the recipient's public key.
    pub recipient: Digest,
    /// HPKE encapsulated key, base64.
    pub enc: String,
    /// HPKE ciphertext, base64.
    pub ciphertext: String,
    /// Digest of the plaintext, so that an unchanged text can be recognised.
    pub digest: Digest,
}

/// Where a connection's credential is found. Text form: `vault:NAME`, `env:VAR`, `file:/path`, `exec:command`,
/// `bao:STORE/PATH#FIELD`, `k8s:STORE/NAMESPACE/SECRET#KEY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CredentialRef {
    /// A secret in the gateway's vault.
    Vault(SecretName),
    /// A variable of the gateway's environment.
    Env(String),
    /// A file on the gateway's host.
    File(String),
    /// A command on the gateway's host whose standard output is the secret.
    Exec(String),
    /// A field of an entry in OpenBao or Vault (KV version 2).
    Bao(StoredAt),
    /// A key of a Secret in Kubernetes; the path is `NAMESPACE/SECRET`.
    Kubernetes(StoredAt),
}

impl TryFrom<String> for CredentialRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let rule = "`vault:NAME`, `env:VARIABLE`, `file:/absolute/path`, `exec:command`, `bao:STORE/PATH#FIELD` or `k8s:STORE/NAMESPACE/SECRET#KEY`";
        let bad = || NameError {
            what: "credential reference",
            text: text.chars().take(80).collect(),
            rule,
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(bad)?;
        match scheme {
            "vault" => Ok(Self::Vault(rest.parse()?)),
            "env" if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                Ok(Self::Env(rest.to_owned()))
            }
            "file" if rest.starts_with('/') => Ok(Self::File(rest.to_owned())),
            "exec" if !rest.trim().is_empty() => Ok(Self::Exec(rest.to_owned())),
            "bao" => Ok(Self::Bao(rest.parse()?)),
            "k8s" => {
                let place: StoredAt = rest.parse()?;
                let is_pair = place.path().split('/').count() == 2;
                is_pair.then_some(Self::Kubernetes(place)).ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

impl From<CredentialRef> for String {
    fn from(reference: CredentialRef) -> Self {
        match reference {
            CredentialRef::Vault(name) => format!("vault:{name}"),
            CredentialRef::Env(name) => format!("env:{name}"),
            CredentialRef::File(path) => format!("file:{path}"),
            CredentialRef::Exec(command) => format!("exec:{command}"),
            CredentialRef::Bao(place) => format!("bao:{place}"),
            CredentialRef::Kubernetes(place) => format!("k8s:{place}"),
        }
    }
}

/// An organization's own authenticated instance of a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Its name.
    pub name: ConnectionName,
    /// The connector it instantiates.
    pub connector: ConnectorId,
    /// Where its credential is found; never the credential.
    pub credential: CredentialRef,
    /// Where the secret that signs inbound events is found, if it receives any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<CredentialRef>,
    /// Another address for the same API; `http://` is accepted for loopback addresses only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
}

impl Connection {
    /// The digest of all of it: what stands in the record that its server is about to be asked what it offers, and
    /// what its credential is released for.
    pub fn digest(&self) -> Digest {
        let credential = |of: &CredentialRef| String::from(of.clone());
        let parts = [
            self.name.as_str(),
            self.connector.as_str(),
            &credential(&self.credential),
            &self.signing_secret.as_ref().map(credential).unwrap_or_default(),
            self.base_url.as_deref().unwrap_or_default(),
        ];
        let parts = parts.map(|part| Digest::of(part.as_bytes()));
        let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes().as_slice()).collect();
        Digest::of_parts(&bytes)
    }
}

/// What runs in a cage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Agent {
    /// The agent that is part of the in-cage `claw` program.
    #[default]
    Builtin,
    /// A container image with a command of its own.
    Image {
        /// Where the image is: `oci:`, `oci-archive:` or `docker:` and a place, or a name in a registry.
        image: String,
        /// The command; empty means the image's own.
        #[serde(default)]
        command: Vec<String>,
        /// Variables for the command; never secrets.
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
}

/// The model a Claw thinks with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The connection to its provider.
    pub connection: ConnectionName,
    /// The provider's name of the model.
    pub name: String,
    /// Calls that ask for more tokens in the answer than this, or do not say how many, are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// How often a call that the provider could not take is made again before the Claw hears of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u8,
    /// The provider's name of the model that is asked when this one cannot answer after all retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// The limits of a cage. Each is enforced or the deploy is refused, unless `accept_unenforced` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, swap included.
    pub memory: ByteSize,
    /// Thousandths of a CPU.
    pub milli_cpus: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Size of `/data`.
    pub storage: ByteSize,
    /// Limits that the operator accepts unenforced on hosts that cannot enforce them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_unenforced: Vec<Limit>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(256),
            milli_cpus: 500,
            pids: 64,
            storage: ByteSize::mib(256),
            accept_unenforced: Vec::new(),
        }
    }
}

/// The name of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// [`Limits::memory`]
    Memory,
    /// [`Limits::milli_cpus`]
    Cpus,
    /// [`Limits::pids`]
    Pids,
    /// [`Limits::storage`]
    Storage,
}

/// What a Claw may spend, or may be spent under a grant. Absent means no limit of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Calls through the gateway, model calls included, in any 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Model tokens, in and out, per UTC day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// What model calls may cost per UTC day, in millionths of a US dollar. A model without a known price is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_micros_per_day: Option<u64>,
}

impl Budget {
    /// Whether it sets no limit at all.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// Something outside that sets a Claw to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// Messages in a Slack channel.
    Slack {
        /// The Slack connection.
        connection: ConnectionName,
        /// The channel's id.
        channel: String,
        /// Which events.
        on: SlackEvent,
    },
}

/// Slack events that can trigger a Claw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlackEvent {
    /// Every message that a person posts.
    Message,
    /// Only messages that mention the app.
    Mention,
}

/// A Claw as asked for: one immutable revision of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClawSpec {
    /// Its name.
    pub name: ClawName,
    /// The node that has its cage; absent, the control plane's own host. It never changes: a Claw's data and its
    /// sealed instructions are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// What it is for, in a line.
    #[serde(default)]
    pub description: String,
    /// What runs in its cage.
    #[serde(default)]
    pub agent: Agent,
    /// The model it thinks with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// Its instructions, sealed to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Sealed>,
    /// The limits of its cage.
    #[serde(default)]
    pub limits: Limits,
    /// What it may spend.
    #[serde(default)]
    pub budget: Budget,
    /// What sets it to work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
}

impl ClawSpec {
    /// The node that has its cage.
    pub fn place(&self) -> NodeName {
        self.node.clone().unwrap_or_else(NodeName::local)
    }
}
