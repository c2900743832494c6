//! What an audit record says: who did what to what, why, allowed by which grant, and what came of it.
//!
//! An [`Event`] holds names, ids, counts and digests. It never holds content: no message text, no prompt, no
//! response, no argument value, no secret. Content is committed to by digest under a label in
//! [`Event::digests`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    grant::Decision,
    id::{EventId, GrantId, MemberId},
    name::{ActionId, ClawName, ConnectionName, GuardrailName, NameError, ResourceRef},
};

/// Declares [`EventKind`] and its dotted names from one table.
macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?) => {
        /// The kind of an event, with the dotted name that queries and exports use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl EventKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The dotted name: `tool.call`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

event_kinds! {
    /// A message reached a Claw, or a Claw read messages through a tool.
    MessageRead = "message.read",
    /// A Claw sent a message.
    MessageSent = "message.sent",
    /// A Claw used a tool.
    ToolCall = "tool.call",
    /// A Claw was refused a tool, or the boundary of its cage stopped an act.
    ToolDenied = "tool.denied",
    /// A Claw called its model.
    ModelCall = "model.call",
    /// A Claw tried to reach a host it may not reach.
    EgressDenied = "egress.denied",
    /// A call waits for a human.
    ApprovalRequested = "approval.requested",
    /// A human agreed to a call.
    ApprovalGranted = "approval.granted",
    /// A human refused a call.
    ApprovalDenied = "approval.denied",
    /// Nobody decided in time.
    ApprovalExpired = "approval.expired",
    /// A permission was assigned.
    GrantAdded = "grant.added",
    /// A permission was taken away.
    GrantRevoked = "grant.revoked",
    /// A connection, guardrail or setting changed.
    ConfigChanged = "config.changed",
    /// A Claw was deployed for the first time.
    ClawDeployed = "claw.deployed",
    /// A Claw got a new revision.
    ClawUpdated = "claw.updated",
    /// A cage was started.
    ClawStarted = "claw.started",
    /// A cage was stopped.
    ClawStopped = "claw.stopped",
    /// A cage was paused.
    ClawPaused = "claw.paused",
    /// A cage was resumed.
    ClawResumed = "claw.resumed",
    /// A cage ended by itself or could not be started.
    ClawFailed = "claw.failed",
    /// A Claw, its cage and its storage were removed.
    ClawDestroyed = "claw.destroyed",
    /// An operator ran a command inside a cage.
    CageExec = "cage.exec",
    /// A secret was stored.
    SecretSet = "secret.set",
    /// A secret was replaced.
    SecretRotated = "secret.rotated",
    /// A secret was removed.
    SecretRemoved = "secret.removed",
    /// Somebody logged in.
    AuthLogin = "auth.login",
    /// Somebody failed to log in.
    AuthFailed = "auth.failed",
    /// Somebody logged out.
    AuthLogout = "auth.logout",
    /// The log was exported.
    AuditExport = "audit.export",
    /// A subject's content was erased.
    AuditErase = "audit.erase",
    /// A legal hold was placed or released.
    AuditHold = "audit.hold",
    /// Records may be missing, or an outcome is unknown after a crash.
    AuditGap = "audit.gap",
    /// An incident was opened.
    IncidentOpened = "incident.opened",
    /// An incident was contained.
    IncidentContained = "incident.contained",
    /// An incident was closed.
    IncidentClosed = "incident.closed",
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of event")]
pub struct UnknownKind(pub String);

impl std::str::FromStr for EventKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let found = Self::ALL.iter().find(|kind| kind.as_str() == text);
        found
            .copied()
            .ok_or_else(|| UnknownKind(text.chars().take(40).collect()))
    }
}

/// Who acted. Text form: `member:uid-1000`, `claw:support-triage`, `system:runner`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Actor {
    /// A person or token.
    Member(MemberId),
    /// A Claw.
    Claw(ClawName),
    /// One of our own processes: `gateway`, `runner`, `control-plane`.
    System(String),
}

impl Actor {
    /// Whether `text` is one, without making it.
    pub fn is_one(text: &str) -> bool {
        text.split_once(':').is_some_and(|(kind, name)| match kind {
            "member" => MemberId::is_one(name),
            "claw" => ClawName::is_one(name),
            "system" => !name.is_empty(),
            _ => false,
        })
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(id) => write!(f, "member:{id}"),
            Self::Claw(name) => write!(f, "claw:{name}"),
            Self::System(part) => write!(f, "system:{part}"),
        }
    }
}

impl TryFrom<String> for Actor {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let refuse = || NameError::new("actor", &text, "`member:ID`, `claw:NAME` or `system:PART`");
        let (kind, name) = text.split_once(':').ok_or_else(refuse)?;
        match kind {
            "member" => Ok(Self::Member(name.parse()?)),
            "claw" => Ok(Self::Claw(name.parse()?)),
            "system" if !name.is_empty() => Ok(Self::System(name.to_owned())),
            _ => Err(refuse()),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> Self {
        actor.to_string()
    }
}

/// What led to an event: the inbound event that the Claw was working on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cause(pub EventId);

/// What came of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It happened and the tool said so.
    Succeeded,
    /// The tool refused it or it failed; it may be certain that nothing happened or not, see `facts`.
    Failed,
    /// It was not let through, or the boundary stopped it.
    Refused,
    /// It was under way when a process died or a connection broke: it may have happened.
    Unknown,
}

/// One audit record's meaning. Unknown fields are refused so that a record cannot smuggle content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What kind of event.
    pub kind: EventKind,
    /// Who acted.
    pub actor: Actor,
    /// The Claw concerned, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claw: Option<ClawName>,
    /// The member on whose behalf a Claw acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<MemberId>,
    /// The inbound event that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The Claw's revision in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claw_revision: Option<u32>,
    /// The policy snapshot in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_revision: Option<u64>,
    /// The connection used or aimed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionName>,
    /// The action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionId>,
    /// The resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceRef>,
    /// What policy said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The grants that determined the decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantId>,
    /// The guardrails that determined the decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guardrails: Vec<GuardrailName>,
    /// Why, in our words; never content. At most 300 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What came of it; absent on an intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Digests of content, by label: `request`, `response`, `before`, `after`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, Digest>,
    /// Ids, counts and statuses, by label: `status`, `items`, `bytes`, `tokens_in`. Never content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

impl Event {
    /// An event of `kind` by `actor` with everything else absent.
    pub const fn new(kind: EventKind, actor: Actor) -> Self {
        Self {
            kind,
            actor,
            claw: None,
            on_behalf_of: None,
            cause: None,
            claw_revision: None,
            policy_revision: None,
            connection: None,
            action: None,
            resource: None,
            decision: None,
            grants: Vec::new(),
            guardrails: Vec::new(),
            reason: None,
            outcome: None,
            digests: BTreeMap::new(),
            facts: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_from_its_name() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse::<EventKind>().unwrap(), *kind);
        }
    }

    #[test]
    fn an_event_with_a_field_we_do_not_know_is_refused() {
        let text = r#"{"kind":"tool.call","actor":"claw:a","prompt":"hello"}"#;
        assert!(serde_json::from_str::<Event>(text).is_err());
    }
}
