//! The gateway's API for its own host, on `gateway.sock`: the runner's records, secrets, and readiness.
//!
//! Callers are told apart by the uid of the peer. Nothing here is reachable from a cage or over the network.

use std::collections::BTreeMap;

use clawstaff_types::{ActionId, ClawName, ConnectionName, Digest, Event, MemberId, SecretName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `POST` [`RecordRequest`] → [`RecordReceipt`]: durable once answered.
pub const RECORD: &str = "/local/v1/record";
/// `GET /local/v1/door/{claw}` → [`Door`]: 200 once the Claw's door is open, 404 if the gateway does not know the Claw yet.
pub const DOOR: &str = "/local/v1/door";
/// `GET` → Vec<[`SecretInfo`]>. Below it, for one secret by name:
///
/// * `PUT /{name}` with the value as the raw body (≤ 64 KiB), `DELETE /{name}`;
/// * `POST /{name}/rotate` with a new value for a secret that is there, and the query [`ExpiryQuery`];
/// * `PUT /{name}/reference` with a reference (`env:…`, `file:…`, `exec:…`, `bao:…`, `k8s:…`) instead of a value;
/// * `PUT /{name}/binding`, without body, to say where it may be used.
///
/// All but rotation take the query [`BindingQuery`].
pub const SECRETS: &str = "/local/v1/secrets";
/// Below it, for custodians: `POST /backup` with a recipient (`age1…`) or a passphrase as the raw body → the sealed file;
/// `POST /restore` with the passphrase or identity, a line break and the file, and the query [`RestoreQuery`] → [`Restored`].
pub const VAULT: &str = "/local/v1/vault";
/// `GET /local/v1/content/{index}` → [`Content`]: what is kept of the record at that index of the gateway's log.
pub const CONTENT: &str = "/local/v1/content";
/// `GET` → Vec<[`Hold`]>; `PUT /local/v1/holds/{name}` [`HoldRequest`] → [`Hold`]; `DELETE /local/v1/holds/{name}`.
pub const HOLDS: &str = "/local/v1/holds";
/// `POST` [`EraseRequest`] → [`EraseAnswer`].
pub const ERASE: &str = "/local/v1/erase";
/// `GET /local/v1/mcp/{connection}` → Vec<[`OfferedTool`]>, asked of the server now;
/// `POST /local/v1/mcp/{connection}/approve` [`ApproveTools`].
pub const MCP: &str = "/local/v1/mcp";
/// `GET` → [`Retention`]; `POST` → [`Retention`]: what is older than the operator keeps it is removed now.
pub const RETENTION: &str = "/local/v1/retention";
/// `GET` → [`GatewayInfo`].
pub const INFO: &str = "/local/v1/info";
/// `GET`: a response that never ends; when it breaks, the gateway is gone (the runner freezes cages).
pub const ALIVE: &str = "/local/v1/alive";

/// A lifecycle act to be recorded before it is done, or its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordRequest {
    /// The Claw in whose stream the record goes.
    pub claw: ClawName,
    /// `None`: an intent. `Some(index)`: the outcome of the intent at that index.
    pub outcome_of: Option<u64>,
    /// The event; kinds `claw.*` and `cage.exec` only.
    pub event: Event,
}

/// The record is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordReceipt {
    /// Its index in the gateway's log.
    pub index: u64,
}

/// An open door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    /// The directory to mount read-only at `/claw`.
    pub dir: String,
    /// The Claw's revision that the files describe.
    pub revision: u32,
    /// The state revision in force at the gateway.
    pub gateway_revision: u64,
}

/// A secret, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// When it was last written (RFC 3339).
    pub updated: String,
    /// Counts the values that it has had, from 1; absent when its seal does not open.
    pub version: Option<u32>,
    /// The connections that may use it; filled in at the first use when empty.
    pub connections: Vec<ConnectionName>,
    /// The hosts that it may go to; filled in at the first use when empty.
    pub hosts: Vec<String>,
    /// Where its value is found, if not in the vault.
    pub reference: Option<String>,
    /// When its value stops being good, if that was said.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

/// Where a secret may be used. What is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingQuery {
    /// Names of connections, with commas between them.
    pub connections: Option<String>,
    /// `host`, `*.domain` or `host:port`, with commas between them.
    pub hosts: Option<String>,
    /// Add to what there is instead of taking its place.
    #[serde(default)]
    pub add: bool,
    /// When the value stops being good; not for a binding alone.
    pub expires: Option<Timestamp>,
}

/// What may be said of a new value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiryQuery {
    /// When it stops being good.
    pub expires: Option<Timestamp>,
}

/// How to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreQuery {
    /// Secrets of the same names give way, instead of refusing all of it.
    #[serde(default)]
    pub replace: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// The secrets, by name.
    pub secrets: Vec<SecretName>,
}

/// A tool of an MCP server, as the server defines it now and as it stands with the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferedTool {
    /// Its name at the server.
    pub name: String,
    /// The action that grants name: `mcp:tools.NAME`.
    pub action: ActionId,
    /// `approved`; `new`, if it never was; `changed`, if it was another when it was approved.
    pub standing: String,
    /// Of the definition.
    pub digest: Digest,
    /// What in it speaks to a model rather than of the tool.
    pub warnings: Vec<String>,
    /// The definition, as JSON. Words of the server: shown, never followed.
    pub definition: String,
    /// Who approved it last.
    pub approved_by: Option<MemberId>,
    /// When.
    pub approved_at: Option<Timestamp>,
    /// What was approved, where it is another now.
    pub approved_definition: Option<String>,
}

/// Approves definitions of tools, each by the digest that the approver saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveTools {
    /// Digests by the tools' names.
    pub tools: BTreeMap<String, Digest>,
}

/// The gateway about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayInfo {
    /// C2SP vkey of its log.
    pub log_vkey: String,
    /// X25519 public key, base64.
    pub seal_key: String,
    /// Digest of that key, for comparing by eye.
    pub seal_key_digest: Digest,
    /// `http://host:port` of the ingress.
    pub ingress: String,
    /// State revision in force.
    pub revision: u64,
    /// Entries in its log.
    pub log_size: u64,
    /// What its operator should do something about, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Whose content: what a legal hold and an erasure are about. Text form: `claw:support-triage`, `member:uid-1000`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    /// Everything a Claw did.
    Claw(ClawName),
    /// Everything any Claw did on behalf of a member.
    Member(MemberId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Claw(name) => write!(f, "claw:{name}"),
            Self::Member(id) => write!(f, "member:{id}"),
        }
    }
}

/// The text names no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectError;

impl std::fmt::Display for SubjectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a subject is `claw:NAME` or `member:ID`")
    }
}

impl std::error::Error for SubjectError {}

impl std::str::FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        match text.split_once(':') {
            Some(("claw", name)) => name.parse().map(Self::Claw).map_err(|_| SubjectError),
            Some(("member", id)) => id.parse().map(Self::Member).map_err(|_| SubjectError),
            _ => Err(SubjectError),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;

    fn try_from(text: String) -> Result<Self, SubjectError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

/// What is kept of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The parts, in the order in which they were kept.
    pub parts: Vec<ContentPart>,
    /// Parts that are there but can no longer be read: their subject was erased.
    pub erased: usize,
}

/// One part of a record's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentPart {
    /// `request`, `response` or `message`; also the label of its digest in the record.
    pub label: String,
    /// What it consists of, each in base64: of a request its method, address, path, media type and body.
    pub pieces: Vec<String>,
    /// The commitment to it, made anew: equal to the record's digest of this label if it is what was recorded.
    pub digest: Digest,
}

/// A legal hold: nothing that it speaks of is erased or falls to retention until it is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its name, 1 to 64 of `a-z 0-9 -`.
    pub name: String,
    /// Of whom; `None` holds everything.
    pub subject: Option<Subject>,
    /// Who placed it.
    pub by: MemberId,
    /// When.
    pub at: Timestamp,
}

/// Places a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Of whom; `None` holds everything.
    pub subject: Option<Subject>,
}

/// Has a subject's content erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// Whose.
    pub subject: Subject,
}

/// For how long entries of the gateway's log are kept, and what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Entries that are older than so many days are removed; `None`: they never are.
    pub keep_days: Option<u32>,
    /// The first entry that is still there.
    pub first: u64,
    /// How many entries there are, the removed ones included.
    pub size: u64,
    /// A hold, while there is one: nothing is removed.
    pub held: Option<String>,
    /// How many entries this request has removed.
    pub removed: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EraseAnswer {
    /// Keys and salts are destroyed.
    Erased {
        /// How many.
        keys: usize,
        /// The record of it in the gateway's log.
        record: u64,
    },
    /// It is asked for; a second member has to ask for the same before it is done.
    Waits,
}
