//! Control plane ↔ gateway and runner: desired state down, status and log up.
//!
//! Everything is level-triggered: a node asks for the state at a revision newer than the one it has, makes it
//! so and reports. Served on `nodes.sock`, and over mutual TLS to other hosts; `Authorization: Bearer <node token>`.

use std::collections::BTreeMap;

use clawstaff_types::{
    ActionId, ApprovalId, ClawName, ConnectionName, Digest, Grant, GrantId, Guardrail, MemberId, NodeName,
    ResourceRef, Sink, SinkName,
    spec::{ClawSpec, Connection, Limits, Sealed},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET ?since=REVISION` → 200 [`Signed`]<[`GatewayState`]> | 204 after 25 s without news.
pub const GATEWAY_STATE: &str = "/nodes/v1/gateway/state";
/// `POST` [`GatewayHello`] → [`GatewayWelcome`]: first thing after connecting, and after every reconnect.
pub const GATEWAY_HELLO: &str = "/nodes/v1/gateway/hello";
/// `POST` [`LogPush`] → [`LogAck`].
pub const GATEWAY_LOG: &str = "/nodes/v1/gateway/log";
/// `GET ?from=SIZE` → 200 [`ControlLog`] when the control plane's own log has another size | 204 after 25 s.
pub const GATEWAY_CONTROL_LOG: &str = "/nodes/v1/gateway/control-log";
/// `POST` [`Cosigned`] → 204: the gateway has checked a [`ControlLog`] and cosigns it.
pub const GATEWAY_COSIGNED: &str = "/nodes/v1/gateway/control-log/cosigned";
/// `POST` [`GatewayStatus`] → 204.
pub const GATEWAY_STATUS: &str = "/nodes/v1/gateway/status";
/// `GET ?from=INDEX` → 200 [`ControlEntries`] | 204 after 25 s without news.
pub const CONTROL_ENTRIES: &str = "/nodes/v1/gateway/control-entries";
/// `GET ?since=REVISION` → 200 [`RunnerState`] | 204 after 25 s without news.
pub const RUNNER_STATE: &str = "/nodes/v1/runner/state";
/// `POST` [`RunnerStatus`] → 204.
pub const RUNNER_STATUS: &str = "/nodes/v1/runner/status";

/// A JSON document and an Ed25519 signature over exactly its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The document, as the text that was signed.
    pub payload: String,
    /// Ed25519 signature over `"clawstaff/state/v1\n" + payload`, base64.
    pub signature: String,
}

/// What a gateway must know to do its work. It refuses a state whose `revision` is not above its last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayState {
    /// Rises with every change of anything in here; also the policy revision.
    pub revision: u64,
    /// The node that it is for; a gateway refuses another's.
    #[serde(default = "NodeName::local")]
    pub node: NodeName,
    /// The connections.
    pub connections: Vec<Connection>,
    /// The Claws of this node, in whatever phase.
    pub claws: Vec<GatewayClaw>,
    /// All their grants, in force or expired; those of each Claw's model included.
    pub grants: Vec<Grant>,
    /// The guardrails.
    pub guardrails: Vec<Guardrail>,
    /// Messages typed by members for Claws, sealed, until the gateway reports them as taken.
    #[serde(default)]
    pub messages: Vec<MemberMessage>,
    /// What members decided about calls that wait, until the gateway reports it as taken.
    #[serde(default)]
    pub approvals: Vec<MemberDecision>,
    /// Where the records of the logs are sent.
    #[serde(default)]
    pub sinks: Vec<Sink>,
}

/// One Claw, for the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayClaw {
    /// The cage's id, see [`RunnerClaw::cage`].
    pub cage: String,
    /// The revision in force.
    pub revision: u32,
    /// The spec of that revision.
    pub spec: ClawSpec,
}

/// A member's message on its way to a Claw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberMessage {
    /// Its id, unique for ever.
    pub id: String,
    /// For whom.
    pub claw: ClawName,
    /// From whom.
    pub from: String,
    /// The text, sealed with the label `message`.
    pub sealed: Sealed,
}

/// A call that waits for a human, as the gateway tells of it: names, ids and a digest, never content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingCall {
    /// Its id, made by the gateway.
    pub id: ApprovalId,
    /// Whose call it is.
    pub claw: ClawName,
    /// The connection it is to go through.
    pub connection: ConnectionName,
    /// The action.
    pub action: ActionId,
    /// The most specific resource, if it touches one.
    pub resource: Option<ResourceRef>,
    /// The grants that ask.
    pub grants: Vec<GrantId>,
    /// The member on whose behalf it is made.
    pub on_behalf_of: Option<MemberId>,
    /// Keyed digest of the call's canonical bytes. Only a call of exactly these bytes can be approved.
    pub digest: Digest,
    /// When it was first made.
    pub asked: Timestamp,
    /// From then on silence has denied it.
    pub until: Timestamp,
}

/// What a member decided about a waiting call. It travels in the signed state, so the gateway records who it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberDecision {
    /// The waiting call's id.
    pub id: ApprovalId,
    /// The Claw, as the gateway told it.
    pub claw: ClawName,
    /// The digest, as the gateway told it: the decision is about these bytes.
    pub digest: Digest,
    /// Who decided.
    pub by: MemberId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub answer: Answer,
}

/// A member's answer to a waiting call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes, this once, if it is made before that instant.
    Once {
        /// From then on the yes allows nothing.
        expires: Timestamp,
    },
    /// Yes, and this grant in the same state allows it from now on.
    Grant {
        /// The grant.
        grant: GrantId,
    },
    /// No.
    Deny,
}

/// The gateway introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayHello {
    /// C2SP vkey of the gateway's log.
    pub log_vkey: String,
    /// X25519 public key to which content is sealed, base64.
    pub seal_key: String,
    /// `http://host:port` where inbound events arrive.
    pub ingress: String,
}

/// What the gateway needs in return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayWelcome {
    /// Ed25519 public key of the control plane's state signatures, base64. Pinned on first use.
    pub state_key: String,
    /// C2SP vkey of the control plane's own log. Pinned on first use.
    pub log_vkey: String,
    /// How many entries of the gateway's log the control plane has; push from here.
    pub log_size: u64,
}

/// A run of log entries and a checkpoint that covers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPush {
    /// Index of the first leaf.
    pub from: u64,
    /// The first entry that the log still has: retention has removed those before it.
    #[serde(default)]
    pub first: u64,
    /// The leaves' JSON, in order, at most 1,000.
    pub leaves: Vec<String>,
    /// Signed checkpoint of size `from + leaves.len()`.
    pub checkpoint: String,
}

/// The control plane has checked that the push extends what it knew, and cosigns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogAck {
    /// Entries it has now.
    pub size: u64,
    /// The checkpoint with the control plane's signature line added.
    pub cosigned: String,
}

/// The control plane's own log as it is now, with the proof that it extends what the gateway cosigned last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlLog {
    /// Signed checkpoint.
    pub checkpoint: String,
    /// RFC 6962 consistency proof from the size that was asked for; empty if the log is not longer than that.
    pub consistency: Vec<Digest>,
}

/// A checkpoint of the control plane's own log with the gateway's cosignature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigned {
    /// The signed and cosigned checkpoint.
    pub checkpoint: String,
}

/// A run of the control plane's own log, for the gateway's sinks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlEntries {
    /// Its origin.
    pub origin: String,
    /// Index of the first leaf; above the one asked for if what was before is pruned.
    pub from: u64,
    /// The leaves' JSON, in order.
    pub leaves: Vec<String>,
    /// A signed checkpoint; it may cover fewer entries than there are leaves.
    pub checkpoint: String,
}

/// How far a sink has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkStatus {
    /// Its name.
    #[schema(value_type = String)]
    pub name: SinkName,
    /// Per log.
    pub logs: Vec<SinkProgress>,
    /// How long the oldest record that is not delivered has waited, in seconds; 0 if none waits.
    pub lag_seconds: u64,
    /// Why the last delivery failed, if it did.
    pub error: Option<String>,
}

/// How far a sink has come with one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkProgress {
    /// The log's short name.
    pub log: String,
    /// The first index that is not delivered.
    pub next: u64,
    /// Records that wait.
    pub waiting: u64,
}

/// What a gateway reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayStatus {
    /// The state revision in force.
    pub revision: u64,
    /// Why the newest state was refused, if it was.
    #[serde(default)]
    pub refused: Option<String>,
    /// Ids of member messages that are in the durable inbox now.
    #[serde(default)]
    pub messages_taken: Vec<String>,
    /// Per Claw: whether its agent reported itself ready.
    #[serde(default)]
    pub ready: BTreeMap<ClawName, bool>,
    /// The calls that wait for a human, all of them.
    #[serde(default)]
    pub waiting: Vec<WaitingCall>,
    /// Ids of decisions of the state in force that have had their effect.
    #[serde(default)]
    pub approvals_taken: Vec<ApprovalId>,
    /// The sinks, and how far each has come.
    #[serde(default)]
    pub sinks: Vec<SinkStatus>,
    /// The gateway's own log.
    #[serde(default)]
    pub log: LogCost,
}

/// How long a log is, and what its entries have cost since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCost {
    /// Entries that are durable.
    pub entries: u64,
    /// How many of them since it was opened.
    pub counted: u64,
    /// Bytes written to the journal for those.
    pub bytes: u64,
    /// Microseconds that their batches took from the queue to the receipts.
    pub micros: u64,
}

/// What a runner must make so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerState {
    /// Rises with every change of anything in here.
    pub revision: u64,
    /// The cages that should exist. One that exists, and is neither listed here nor in `destroyed`, is frozen and
    /// kept: a control plane that lost its memory must not cost anybody their data.
    pub claws: Vec<RunnerClaw>,
    /// The cages that a member had destroyed. Only these are removed, with their storage.
    #[serde(default)]
    pub destroyed: Vec<String>,
}

/// One Claw, for the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerClaw {
    /// The Claw.
    pub claw: ClawName,
    /// The cage's id, `<claw>-<8 hex>`: stable over stop, start and update; new after destroy.
    pub cage: String,
    /// The revision that should run; the cage is restarted when it differs.
    pub revision: u32,
    /// Rises with each `restart`.
    pub generation: u64,
    /// What is wanted.
    pub desired: Desired,
    /// Image and command; empty image means the built-in one.
    pub image: Option<String>,
    /// The limits.
    pub limits: Limits,
    /// The revision of gateway state that must be in force before the cage starts.
    pub needs_gateway_revision: u64,
    /// Who asked for it, for the record.
    pub by: String,
}

/// A wanted phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Running.
    Running,
    /// Frozen in place.
    Paused,
    /// Not running, storage kept.
    Stopped,
}

/// Why a cage is not simply as it is wanted. The words beside it are for people; this is for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The agent ended by itself.
    Exited,
    /// The kernel ended it, or a process of it, because it needed more than `limits.memory`.
    OutOfMemory,
    /// It ended so often that it is not started again.
    CrashLoop,
    /// It runs, and can have no more processes: it reached `limits.pids`.
    PidsReached,
    /// It runs, and `/data`, `/tmp` or `/dev/shm` takes no more bytes.
    StorageFull,
    /// It runs, and `/data`, `/tmp` or `/dev/shm` takes no more files.
    InodesUsedUp,
    /// It runs, and a process of it can open no more files.
    DescriptorsReached,
    /// It runs, and prints more than is kept of its output.
    OutputFlooded,
    /// It runs, and waits for CPU time most of the time: it reached `limits.cpus`.
    CpusReached,
    /// It cannot run on this host as it is asked for.
    Refused,
    /// Starting it failed.
    StartFailed,
    /// Starting it has not been tried: it could not be recorded, or its door is not open.
    NotReady,
    /// Nobody saw why it ended.
    Unknown,
    /// The gateway is lost: nobody mediates, nothing can be recorded.
    GatewayLost,
    /// The control plane neither lists it nor had it destroyed.
    NotListed,
}

/// A phase as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asked for, not begun.
    Pending,
    /// Being created or started.
    Starting,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Cut off by an incident.
    Quarantined,
    /// Being stopped.
    Stopping,
    /// Not running, storage kept.
    Stopped,
    /// Ended by itself or could not be started; the reason says which and what next.
    Failed,
    /// Gone.
    Destroyed,
}

/// What a runner reports, whole, at every change and at least every 10 s.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerStatus {
    /// The state revision it works towards.
    pub revision: u64,
    /// The back end in use: `native`, `docker`.
    pub backend: String,
    /// The cages it has.
    pub cages: Vec<CageStatus>,
}

/// One cage as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CageStatus {
    /// The Claw.
    pub claw: ClawName,
    /// The cage.
    pub cage: String,
    /// The revision that runs or ran.
    pub revision: u32,
    /// Its phase.
    pub phase: Phase,
    /// Why, where the phase wants a reason: at most 300 characters, ours and the kernel's words.
    #[serde(default)]
    pub reason: Option<String>,
    /// The same for programs.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// The newest revision that ran well: long enough, without ending.
    #[serde(default)]
    pub good: Option<u32>,
    /// Starts since it was made.
    pub starts: u32,
    /// Resources, when running.
    #[serde(default)]
    pub stats: Option<CageStats>,
}

/// Resources of a cage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CageStats {
    /// Memory in use.
    pub memory_bytes: u64,
    /// CPU time since start.
    pub cpu_micros: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes used in `/data`.
    pub storage_bytes: u64,
}

/// The digest of a node's token, as the control plane keeps it: `nodes.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTokens {
    /// SHA-256 of the gateway's token.
    pub gateway: Digest,
    /// SHA-256 of the runner's token.
    pub runner: Digest,
}
