//! The answers that policy gives, and the one value that proves a yes.
//!
//! A [`Permit`] cannot be made, copied or changed outside this crate. Whoever must hold one before acting
//! (the vault, the gateway's injecting step) is thereby sure that a decision was made about exactly these bytes.

use clawstaff_types::{
    ActionId, ClawName, ConnectionName, Decision, Digest, GrantId, GuardrailName, ResourceRef,
};
use jiff::Timestamp;

use crate::{
    approval::{Approval, Approved, NotApproved},
    call::Call,
};

/// What policy says to a [`Call`].
#[derive(Debug)]
pub enum Verdict {
    /// A grant allows it and no guardrail forbids it.
    Allow(Permit),
    /// A grant allows it once a human agrees; no guardrail forbids it.
    Ask(Held),
    /// Everything else.
    Deny(Denial),
}

impl Verdict {
    /// The decision as a record names it.
    pub const fn decision(&self) -> Decision {
        match self {
            Self::Allow(_) => Decision::Allow,
            Self::Ask(_) => Decision::Ask,
            Self::Deny(_) => Decision::Deny,
        }
    }

    /// The grants that determined it, in the order of their ids.
    pub fn grants(&self) -> &[GrantId] {
        match self {
            Self::Allow(permit) => permit.grants(),
            Self::Ask(held) => held.grants(),
            Self::Deny(denial) => &denial.grants,
        }
    }

    /// The guardrails that determined it, in the order of their names; empty unless it is a denial.
    pub fn guardrails(&self) -> &[GuardrailName] {
        match self {
            Self::Allow(_) | Self::Ask(_) => &[],
            Self::Deny(denial) => &denial.guardrails,
        }
    }
}

/// What a positive answer was about.
#[derive(Debug)]
struct Subject {
    claw: ClawName,
    connection: ConnectionName,
    action: ActionId,
    resource: Option<ResourceRef>,
    digest: Digest,
    grants: Vec<GrantId>,
    policy_version: u64,
}

impl Subject {
    fn of(call: &Call<'_>, grants: Vec<GrantId>, policy_version: u64) -> Self {
        Self {
            claw: call.claw.clone(),
            connection: call.connection.clone(),
            action: call.action.clone(),
            resource: call.resources.first().cloned(),
            digest: call.digest,
            grants,
            policy_version,
        }
    }
}

/// Gives a wrapper of [`Subject`] its getters.
macro_rules! getters {
    ($name:ident { $($field:ident: $value:expr)? }) => {
        impl $name {
            pub(crate) fn new(call: &Call<'_>, grants: Vec<GrantId>, policy_version: u64) -> Self {
                Self { subject: Subject::of(call, grants, policy_version), $($field: $value)? }
            }

            /// The Claw that asked.
            pub const fn claw(&self) -> &ClawName {
                &self.subject.claw
            }

            /// The connection it may use.
            pub const fn connection(&self) -> &ConnectionName {
                &self.subject.connection
            }

            /// The action.
            pub const fn action(&self) -> &ActionId {
                &self.subject.action
            }

            /// The most specific resource, if the action touches one.
            pub const fn resource(&self) -> Option<&ResourceRef> {
                self.subject.resource.as_ref()
            }

            /// Digest of the call's canonical bytes. It is about these bytes and no others.
            pub const fn digest(&self) -> &Digest {
                &self.subject.digest
            }

            /// The grants that determined it, in the order of their ids; never empty.
            pub fn grants(&self) -> &[GrantId] {
                &self.subject.grants
            }

            /// The version of the policy that was asked.
            pub const fn policy_version(&self) -> u64 {
                self.subject.policy_version
            }
        }
    };
}

/// Proof that policy allowed one call.
///
/// It has one constructor, which is private to this crate, and it cannot be copied:
///
/// ```compile_fail,E0451
/// let forged = clawstaff_policy::Permit { subject: todo!(), approved: None };
/// ```
///
/// ```compile_fail,E0599
/// fn twice(permit: &clawstaff_policy::Permit) -> clawstaff_policy::Permit {
///     clawstaff_policy::Permit::clone(permit)
/// }
/// ```
///
/// ```compile_fail,E0624
/// fn forge(call: &clawstaff_policy::Call<'_>) -> clawstaff_policy::Permit {
///     clawstaff_policy::Permit::new(call, Vec::new(), 0)
/// }
/// ```
///
/// ```compile_fail,E0616
/// fn promote(held: clawstaff_policy::Held) -> clawstaff_policy::Permit {
///     clawstaff_policy::Permit { subject: held.subject, approved: None }
/// }
/// ```
#[derive(Debug)]
#[must_use = "a permit that is dropped permits nothing"]
pub struct Permit {
    subject: Subject,
    approved: Option<Approved>,
}
getters!(Permit { approved: None });

impl Permit {
    /// Who agreed, where a human had to.
    pub const fn approved(&self) -> Option<&Approved> {
        self.approved.as_ref()
    }
}

/// A call that waits for a human. The only way from here to a [`Permit`] is [`Held::approve`].
#[derive(Debug)]
pub struct Held {
    subject: Subject,
}
getters!(Held {});

impl Held {
    /// Turns a held call into a permitted one by the approval that a human gave for exactly this call. The
    /// approval is used up, whatever comes of it.
    ///
    /// # Errors
    /// When the approval is another Claw's, for other bytes, or not in force any more at `now`.
    pub fn approve(self, approval: Approval, now: Timestamp) -> Result<Permit, NotApproved> {
        let approved = approval.for_call(&self.subject.claw, &self.subject.digest, now)?;
        Ok(Permit {
            subject: self.subject,
            approved: Some(approved),
        })
    }
}

/// Why policy said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialReason {
    /// No grant of this Claw speaks of the action on the resource.
    NoGrant,
    /// A grant would have allowed it, but it has expired.
    Expired,
    /// A grant would have allowed it, but a condition of the grant does not hold.
    Condition,
    /// A guardrail forbids it.
    Guardrail,
    /// The policy holds no grant of a Claw of this name.
    UnknownClaw,
}

impl DenialReason {
    /// The reason as records and scripts read it: `no_grant`, `expired`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoGrant => "no_grant",
            Self::Expired => "expired",
            Self::Condition => "condition",
            Self::Guardrail => "guardrail",
            Self::UnknownClaw => "unknown_claw",
        }
    }
}

/// A no, and what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
    /// The grants that came nearest: expired ones, or those whose condition does not hold. In the order of their ids.
    pub grants: Vec<GrantId>,
    /// The guardrails that forbid it, in the order of their names.
    pub guardrails: Vec<GuardrailName>,
    /// Why, in words that may be shown to the agent: names and ids, never argument values. At most 300 characters.
    pub text: String,
}
