//! Grants and guardrails: who may do what to which resource, and what nobody may.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    id::{GrantId, MemberId},
    name::{ActionPattern, ClawName, ConnectionName, GuardrailName, ResourcePattern},
    spec::Budget,
    window::Window,
};

/// What an action does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only reads.
    Read,
    /// Adds or changes.
    Write,
    /// Deletes, or changes what cannot be changed back.
    Destructive,
    /// Reaches people or systems outside the organization.
    External,
}

/// What policy answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// A grant allows it and no guardrail forbids it.
    Allow,
    /// No grant allows it, or a guardrail forbids it.
    Deny,
    /// A grant allows it once a human agrees; silence denies.
    Ask,
}

/// Whether a grant allows by itself or with a human's consent to each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Allowed.
    #[default]
    Allow,
    /// Held until a human decides.
    Ask,
}

/// Further conditions of a grant. All present ones must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Only on behalf of one of these members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<MemberId>,
    /// An argument (as the connector names it) must have one of these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<ArgumentIs>,
    /// Only within one of these windows of the week.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Window>,
    /// What may be spent under the grant, by all calls that it lets through together.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
}

/// One argument of the call must have one of the listed values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgumentIs {
    /// The argument's name in the connector.
    pub name: String,
    /// The values allowed, as text.
    pub one_of: Vec<String>,
}

/// One explicit permission of one Claw.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its id, named in every decision it determines.
    pub id: GrantId,
    /// The Claw that holds it.
    pub claw: ClawName,
    /// The connection it is about.
    pub connection: ConnectionName,
    /// The actions it allows; never empty.
    pub actions: Vec<ActionPattern>,
    /// The resources it reaches; never empty.
    pub resources: Vec<ResourcePattern>,
    /// What else must hold.
    #[serde(default)]
    pub conditions: Conditions,
    /// Allowed outright, or with a human's consent.
    #[serde(default)]
    pub mode: Mode,
    /// After this instant it allows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Who assigned it.
    pub granted_by: MemberId,
}

/// An organization-wide `forbid` that no grant overrides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guardrail {
    /// Its name, given in every decision it determines.
    pub name: GuardrailName,
    /// The actions it forbids; never empty.
    pub actions: Vec<ActionPattern>,
    /// The resources on which it forbids them; never empty.
    pub resources: Vec<ResourcePattern>,
}
