//! The words of ClawStaff as types: names, ids, digests, units, grants, events and the masking [`Secret`].
//!
//! Every other crate may use this one; it uses none of them. There is no IO, no clock, no randomness and no
//! rule in here: a value of one of these types is well-formed because its constructor refused anything else,
//! and that is all it says.

pub mod digest;
pub mod event;
pub mod grant;
pub mod id;
pub mod name;
pub mod secret;
pub mod sink;
pub mod spec;
pub mod stored;
pub mod unit;
pub mod window;

pub use digest::Digest;
pub use event::{Actor, Cause, Event, EventKind, Outcome};
pub use grant::{Access, Conditions, Decision, Grant, Guardrail, Mode};
pub use id::{ApprovalId, EventId, GrantId, MemberId};
pub use name::{
    ActionId, ActionPattern, ClawName, ConnectionName, ConnectorId, GuardrailName, NameError, NodeName,
    PoolName, ResourceKind, ResourcePattern, ResourceRef, SecretName, SinkName, StoreName,
};
pub use secret::Secret;
pub use sink::{Sink, SinkKind};
pub use stored::StoredAt;
pub use unit::ByteSize;
pub use window::Window;
