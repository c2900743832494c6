//! People's API: what the CLI, the dashboard and scripts use. Paths start with `/v1`.
//!
//! | route | body → answer |
//! |---|---|
//! | `GET /v1/whoami` | → [`WhoAmI`] |
//! | `GET /v1/status` | → [`ServerStatus`] |
//! | `POST /v1/apply` | [`ApplyRequest`] → [`ApplyAnswer`] |
//! | `GET /v1/spec` | → [`Spec`] |
//! | `GET /v1/claws` · `GET /v1/claws/{name}` · `GET /v1/claws/{name}/history` | → `Vec<ClawView>` · [`ClawView`] · `Vec<RevisionView>` |
//! | `POST /v1/claws/{name}/{start,stop,restart,pause,resume}` · `DELETE /v1/claws/{name}` | → [`ClawView`] |
//! | `POST /v1/claws/{name}/rollback` | [`RollbackRequest`] → [`ClawView`] |
//! | `POST /v1/claws/{name}/messages` | [`MessageRequest`] → [`MessageAccepted`] |
//! | `GET /v1/connectors` · `GET /v1/connectors/{id}` | → `Vec<ConnectorView>` · [`ConnectorView`] |
//! | `GET /v1/connections` | → `Vec<Connection>` |
//! | `GET /v1/grants?claw=` · `POST /v1/grants` · `DELETE /v1/grants/{id}` | → `Vec<Grant>` · [`GrantRequest`] → [`Grant`] · 204 |
//! | `POST /v1/grants/check` | [`CheckRequest`] → [`CheckAnswer`] |
//! | `GET /v1/guardrails` · `POST /v1/guardrails` · `DELETE /v1/guardrails/{name}` | → `Vec<Guardrail>` · [`Guardrail`] → [`Guardrail`] · 204 |
//! | `GET /v1/approvals` · `POST /v1/approvals/{id}/{approve,deny}` | → `Vec<ApprovalView>` · [`ApprovalView`] |
//! | `POST /v1/approvals/{id}/grant` | [`FromNowOn`] → [`ApprovalView`] |
//! | `GET /v1/audit?…` | [`AuditFilter`] in the query → [`AuditPage`] |
//! | `GET /v1/audit/tail?…` | the same filter → server-sent events, one [`AuditRecord`] each |
//! | `POST /v1/audit/rebuild` | → `Vec<LogView>` |
//! | `GET /v1/audit/export?format=…&…` | the same filter → `jsonl`, `csv`, `ocsf` or `cef`, streamed |
//! | `GET /v1/audit/sinks` · `POST /v1/audit/sinks` · `DELETE /v1/audit/sinks/{name}` | → `Vec<SinkView>` · [`Sink`] → [`Sink`] · 204 |
//! | `GET /v1/nodes` · `POST /v1/nodes` · `DELETE /v1/nodes/{name}` | → `Vec<NodeView>` · [`NodeInvite`] → [`NodeToken`] · 204 |
//! | `GET /v1/audit/{id}` | → [`AuditRecord`] |
//! | `GET /v1/audit/checkpoints` | → `Vec<LogView>` |
//!
//! `POST /v1/claws/{name}/…` and `DELETE` answer when the wish is recorded and durable; the phase follows.

use clawstaff_types::{
    Access, ActionId, ActionPattern, ApprovalId, ClawName, Conditions, ConnectionName, ConnectorId, Decision,
    Digest, Event, GrantId, Guardrail, GuardrailName, MemberId, Mode, NodeName, PoolName, ResourcePattern,
    ResourceRef, Sink,
    spec::{ClawSpec, Connection, Sealed},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    nodes::{CageStats, Cause, Desired, Phase, SinkStatus},
    shapes::{
        ClawSpecShape, ConditionsShape, ConnectionShape, EventShape, GuardrailShape, SealedShape, SinkShape,
    },
};

/// The caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The member's id: `uid-0`.
    pub member: String,
    /// `owner` so far.
    pub role: String,
}

/// The installation as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Version of the control plane.
    pub version: String,
    /// Newest state revision.
    pub revision: u64,
    /// The gateway of the control plane's own host, if it has ever connected.
    pub gateway: Option<GatewayView>,
    /// The runner of the control plane's own host, if it has ever connected.
    pub runner: Option<RunnerView>,
    /// Both audit logs.
    pub logs: Vec<LogStatus>,
}

/// A log: how far it is searchable, and what an entry costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogStatus {
    /// `gateway` or `control`.
    pub name: String,
    /// Entries that are durable, as the log's writer said last.
    pub entries: u64,
    /// Entries that searches see.
    pub indexed: u64,
    /// Entries that searches do not see yet.
    pub behind: u64,
    /// Bytes of the journal for each entry since the log was opened; absent before the first.
    pub bytes_per_entry: Option<u64>,
    /// Microseconds from the queue to the receipts, shared by the entries of a batch; absent before the first.
    pub micros_per_entry: Option<u64>,
}

/// A gateway as the control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayView {
    /// Whether it spoke within the last 30 s.
    pub connected: bool,
    /// State revision in force there.
    pub revision: u64,
    /// Why it refused the newest state, if it did.
    pub refused: Option<String>,
    /// X25519 public key to seal content to, base64.
    pub seal_key: String,
    /// Where inbound events arrive.
    pub ingress: String,
    /// C2SP vkey of its log.
    pub log_vkey: String,
}

/// A runner as the control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunnerView {
    /// Whether it spoke within the last 30 s.
    pub connected: bool,
    /// State revision it works towards.
    pub revision: u64,
    /// `native` or `docker`.
    pub backend: String,
}

/// A node: a host with a gateway and a runner of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its name; `local` is the control plane's own host.
    #[schema(value_type = String)]
    pub name: NodeName,
    /// The pool that it is in.
    #[schema(value_type = Option<String>)]
    pub pool: Option<PoolName>,
    /// When it joined; absent for `local`.
    #[schema(value_type = Option<String>)]
    pub joined: Option<Timestamp>,
    /// When its newest certificate ends.
    #[schema(value_type = Option<String>)]
    pub expires: Option<Timestamp>,
    /// When it was revoked, if it was.
    #[schema(value_type = Option<String>)]
    pub revoked: Option<Timestamp>,
    /// Its gateway, if that has ever connected.
    pub gateway: Option<GatewayView>,
    /// Its runner, if that has ever connected.
    pub runner: Option<RunnerView>,
    /// How many Claws are on it.
    pub claws: usize,
}

/// Let a host join as a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeInvite {
    /// Its name.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// The pool that it is to be in.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub pool: Option<PoolName>,
}

/// What the host joins with: good for one join.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct NodeToken {
    /// The join token.
    pub token: String,
    /// Until when it is good.
    #[schema(value_type = String)]
    pub expires: Timestamp,
}

impl std::fmt::Debug for NodeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeToken")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A whole spec file, contents sealed. Grants have no ids yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The connections.
    #[serde(default)]
    #[schema(value_type = Vec<ConnectionShape>)]
    pub connections: Vec<Connection>,
    /// The guardrails.
    #[serde(default)]
    #[schema(value_type = Vec<GuardrailShape>)]
    pub guardrails: Vec<Guardrail>,
    /// The Claws.
    #[serde(default)]
    pub claws: Vec<ClawInput>,
}

/// A Claw and its grants, as written in a spec file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClawInput {
    /// The Claw.
    #[schema(value_type = ClawSpecShape)]
    pub spec: ClawSpec,
    /// Its grants.
    #[serde(default)]
    pub grants: Vec<GrantInput>,
}

/// A grant as written in a spec file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantInput {
    /// The connection.
    #[schema(value_type = String)]
    pub connection: ConnectionName,
    /// The actions.
    #[schema(value_type = Vec<String>)]
    pub actions: Vec<ActionPattern>,
    /// The resources.
    #[schema(value_type = Vec<String>)]
    pub resources: Vec<ResourcePattern>,
    /// What else must hold.
    #[serde(default)]
    #[schema(value_type = ConditionsShape)]
    pub conditions: Conditions,
    /// Allowed outright, or with a human's consent.
    #[serde(default)]
    #[schema(value_type = String)]
    pub mode: Mode,
    /// After this instant it allows nothing.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

/// Make it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// What should be.
    pub spec: Spec,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Also remove Claws, connections and guardrails that are not in the file.
    #[serde(default)]
    pub prune: bool,
}

/// The difference, and whether it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplyAnswer {
    /// What changes, in order.
    pub changes: Vec<Change>,
    /// Whether it was applied.
    pub applied: bool,
    /// The state revision after it.
    pub revision: u64,
}

/// One line of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// `add`, `change` or `remove`.
    pub verb: ChangeVerb,
    /// `connection slack`, `claw support-triage`, `grant support-triage slack messages.read channel:C0SUPPORT`.
    pub what: String,
    /// What it does to access.
    pub effect: Effect,
    /// More, in words.
    pub detail: String,
}

/// What happens to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeVerb {
    /// It is new.
    Add,
    /// It differs.
    Change,
    /// It goes.
    Remove,
}

/// What a change does to access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// More is allowed than before.
    Widens,
    /// Less is allowed than before.
    Narrows,
    /// What is allowed stays as it is.
    Neutral,
}

/// A Claw as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClawView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: ClawName,
    /// The node that has its cage.
    #[serde(default = "NodeName::local")]
    #[schema(value_type = String)]
    pub node: NodeName,
    /// What it is for.
    pub description: String,
    /// Its phase.
    pub phase: Phase,
    /// Why, where the phase wants a reason.
    pub reason: Option<String>,
    /// The same for programs.
    pub cause: Option<Cause>,
    /// What is wanted: `running`, `paused`, `stopped`.
    #[schema(value_type = String)]
    pub desired: Desired,
    /// The revision asked for.
    pub revision: u32,
    /// The revision that runs, if any.
    pub running_revision: Option<u32>,
    /// Whether its agent says that it is ready.
    pub ready: bool,
    /// Its cage.
    pub cage: String,
    /// Starts of this cage.
    pub starts: u32,
    /// Model, as `connection/name`.
    pub model: Option<String>,
    /// Number of grants.
    pub grants: usize,
    /// Resources, when running.
    pub stats: Option<CageStats>,
}

/// One revision of a Claw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    /// Its number, from 1.
    pub revision: u32,
    /// When it was applied.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Digest of the whole spec of this revision.
    pub digest: String,
}

/// Back to an earlier revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The revision whose spec becomes the newest revision.
    pub revision: u32,
}

/// Say something to a Claw; the text is sealed to the gateway with the label `message`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageRequest {
    /// The text, at most 16 KiB of plaintext.
    #[schema(value_type = SealedShape)]
    pub sealed: Sealed,
}

/// The message is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageAccepted {
    /// Its id, which becomes the cause of what the Claw does with it.
    pub id: String,
}

/// A connector and its actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectorView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ConnectorId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its actions.
    pub actions: Vec<ActionView>,
}

/// One action of a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionView {
    /// Its id: `slack:messages.read`.
    #[schema(value_type = String)]
    pub id: ActionId,
    /// What it does to the world.
    #[schema(value_type = String)]
    pub access: Access,
    /// The kind of resource it touches.
    pub resource: Option<String>,
    /// What it is, in words.
    pub description: String,
    /// The name of its MCP tool, if it has one.
    pub tool: Option<String>,
}

/// Give a Claw one more grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The Claw.
    #[schema(value_type = String)]
    pub claw: ClawName,
    /// The grant.
    pub grant: GrantInput,
}

/// A call that waits for a human: names, ids and a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ApprovalId,
    /// Whose call it is.
    #[schema(value_type = String)]
    pub claw: ClawName,
    /// The connection it is to go through.
    #[schema(value_type = String)]
    pub connection: ConnectionName,
    /// The action.
    #[schema(value_type = String)]
    pub action: ActionId,
    /// The most specific resource, if it touches one.
    #[schema(value_type = Option<String>)]
    pub resource: Option<ResourceRef>,
    /// The grants that ask.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<GrantId>,
    /// The member on whose behalf it is made.
    #[schema(value_type = Option<String>)]
    pub on_behalf_of: Option<MemberId>,
    /// Keyed digest of the call's bytes, as it is in the gateway's log.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// When it was first made.
    #[schema(value_type = String, format = DateTime)]
    pub asked: Timestamp,
    /// From then on silence has denied it.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// `approved`, `granted` or `denied`, where that is on its way to the gateway.
    pub decided: Option<String>,
    /// By whom.
    #[schema(value_type = Option<String>)]
    pub decided_by: Option<MemberId>,
}

/// How long calls like a waiting one are to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FromNowOn {
    /// For so long; as long as the grant that asks if absent.
    #[serde(default)]
    pub for_seconds: Option<u64>,
}

/// Could it?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The Claw.
    #[schema(value_type = String)]
    pub claw: ClawName,
    /// The action.
    #[schema(value_type = String)]
    pub action: ActionId,
    /// The resource; `None` asks whether any resource would do.
    #[schema(value_type = Option<String>)]
    pub resource: Option<ResourceRef>,
}

/// Whether it could, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckAnswer {
    /// The decision.
    #[schema(value_type = String)]
    pub decision: Decision,
    /// The grants that determined it.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<GrantId>,
    /// The guardrails that determined it.
    #[schema(value_type = Vec<String>)]
    pub guardrails: Vec<GuardrailName>,
    /// Why, in words.
    pub reason: String,
}

/// Filters of an audit query; all given ones must hold. In the query string, by these names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditFilter {
    /// Claw's name.
    pub claw: Option<String>,
    /// Actor: `member:uid-0`, `claw:support-triage`, `system:runner`.
    pub actor: Option<String>,
    /// Action; `*` stands for any run of characters.
    pub action: Option<String>,
    /// Resource; `*` stands for any run of characters.
    pub resource: Option<String>,
    /// `allow`, `deny` or `ask`.
    pub decision: Option<String>,
    /// `succeeded`, `failed`, `refused` or `unknown`.
    pub outcome: Option<String>,
    /// Kinds, comma-separated.
    pub kind: Option<String>,
    /// At or after this instant (RFC 3339).
    pub since: Option<String>,
    /// Before this instant (RFC 3339).
    pub until: Option<String>,
    /// The inbound event that caused it.
    pub cause: Option<String>,
    /// Words, in any of the record's texts.
    pub text: Option<String>,
    /// At most this many, 1 to 1,000; 100 if absent.
    pub limit: Option<u32>,
    /// Continue after an earlier page.
    pub cursor: Option<String>,
}

/// A page of records, newest last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The records. An intent and its outcome are one record.
    pub records: Vec<AuditRecord>,
    /// For the next page, if there is one.
    pub cursor: Option<String>,
    /// How far the index has read each log.
    pub watermarks: Vec<LogView>,
}

/// One record: an intent with its outcome, or a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// `<log>:<index of the intent or fact>`, the log as `gateway` or `control`.
    pub id: String,
    /// The log's origin.
    pub log: String,
    /// Index of the intent or fact.
    pub index: u64,
    /// Index of the outcome, once there is one.
    pub outcome_index: Option<u64>,
    /// When the intent or fact was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Number in the stream of its Claw or process.
    pub seq: u64,
    /// The event; the outcome's fields are merged in.
    #[serde(flatten)]
    #[schema(value_type = EventShape)]
    pub event: Event,
}

/// A sink and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SinkView {
    /// The sink.
    #[serde(flatten)]
    #[schema(value_type = SinkShape)]
    pub sink: Sink,
    /// How far it has come, once the gateway has said so.
    pub status: Option<SinkStatus>,
}

/// A log and how far it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// Its origin.
    pub origin: String,
    /// Entries indexed: searches see these.
    pub size: u64,
    /// Entries taken in and checked; more than `size` only while the index is being rebuilt.
    pub known: u64,
    /// The newest cosigned checkpoint.
    pub checkpoint: String,
}
