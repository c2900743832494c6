//! decide: ask policy about the resource that a call touches. No opinion is added here.
//!
//! What needs a human comes back as held; `line/human.rs` waits for one.

use std::sync::Arc;

use clawstaff_connectors::Mapped;
use clawstaff_policy::{Denial, Held, Permit, Verdict};
use clawstaff_types::{ClawName, Digest, MemberId, ResourceRef};
use jiff::Timestamp;

use crate::state::{Link, State};

/// What policy is asked about: kept for the length of a call, so that it can be asked again.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) claw: ClawName,
    pub(crate) on_behalf_of: Option<MemberId>,
    pub(crate) link: Arc<Link>,
    pub(crate) mapped: Arc<Mapped>,
    pub(crate) digest: Digest,
    /// A human has agreed to this very call.
    pub(crate) approved: bool,
}

/// Policy did not say yes.
#[derive(Debug)]
pub(crate) enum NotAllowed {
    /// It said no.
    Denied {
        /// Why.
        denial: Box<Denial>,
        /// The resource it said no to.
        resource: Option<ResourceRef>,
    },
    /// It said that a human must agree.
    NeedsHuman(Box<Held>),
}

/// Asks policy about the resource that the call touches; its known parents stand behind it in the list.
///
/// # Errors
/// When policy does not allow it.
pub(crate) fn decide(state: &State, question: &Question, now: Timestamp) -> Result<Permit, NotAllowed> {
    let resources = &question.mapped.resources;
    let call = clawstaff_policy::Call {
        claw: &question.claw,
        connection: question.link.name(),
        action: &question.mapped.action,
        access: question.mapped.access,
        resources,
        arguments: &question.mapped.arguments,
        on_behalf_of: question.on_behalf_of.as_ref(),
        now,
        digest: question.digest,
    };
    match state.policy().decide(&call) {
        Verdict::Allow(permit) => Ok(permit),
        Verdict::Ask(held) => Err(NotAllowed::NeedsHuman(Box::new(held))),
        Verdict::Deny(denial) => Err(NotAllowed::Denied {
            denial: Box::new(denial),
            resource: resources.first().cloned(),
        }),
    }
}

/// Whether a call that was let through still may go on: allowed, or asked about and agreed to.
pub(crate) fn still_allowed(state: &State, question: &Question, now: Timestamp) -> bool {
    match decide(state, question, now) {
        Ok(_permit) => true,
        Err(NotAllowed::NeedsHuman(_)) => question.approved,
        Err(NotAllowed::Denied { .. }) => false,
    }
}
