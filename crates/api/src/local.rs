//! The gateway's API for its own host, on `gateway.sock`: the runner's records, secrets, and readiness.
//!
//! Callers are told apart by the uid of the peer. Nothing here is reachable from a cage or over the network.

use clawstaff_types::{ClawName, Digest, Event, SecretName};
use serde::{Deserialize, Serialize};

/// `POST` [`RecordRequest`] → [`RecordReceipt`]: durable once answered.
pub const RECORD: &str = "/local/v1/record";
/// `GET /local/v1/door/{claw}` → [`Door`]: 200 once the Claw's door is open, 404 if the gateway does not know the Claw yet.
pub const DOOR: &str = "/local/v1/door";
/// `GET` → Vec<[`SecretInfo`]>; `PUT /local/v1/secrets/{name}` with the value as the raw body (≤ 64 KiB); `DELETE /local/v1/secrets/{name}`.
pub const SECRETS: &str = "/local/v1/secrets";
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
    /// When it was last set (RFC 3339).
    pub updated: String,
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
}
