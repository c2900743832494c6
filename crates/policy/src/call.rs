//! The question that policy is asked: one Claw wants to do one action to one resource.
//!
//! Everything the decision depends on is in here; there is no clock and no lookup behind it. Several resources
//! that are touched by one request are several questions, asked one by one by the caller.

use std::collections::BTreeMap;

use clawstaff_types::{Access, ActionId, ClawName, ConnectionName, Digest, MemberId, ResourceRef};
use jiff::Timestamp;

/// One question to policy.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who asks. From the socket the call arrived on, never from what it says.
    pub claw: &'a ClawName,
    /// The connection it wants to use.
    pub connection: &'a ConnectionName,
    /// What it wants to do, as recognised by the connector.
    pub action: &'a ActionId,
    /// What that does to the world.
    pub access: Access,
    /// What it is done to: the most specific resource first, then its parents as far as they are known.
    /// Empty for an action that touches no resource; only the scope `*` covers such an action.
    pub resources: &'a [ResourceRef],
    /// The arguments that conditions may speak of, by the connector's names.
    pub arguments: &'a BTreeMap<String, String>,
    /// The member on whose behalf the Claw acts, if any.
    pub on_behalf_of: Option<&'a MemberId>,
    /// The time of the call.
    pub now: Timestamp,
    /// Digest of the call's canonical bytes; a [`Permit`](crate::Permit) is good for these bytes only.
    pub digest: Digest,
}
