//! A human's yes to one held call: the one way from `Held` to `Permit`.
//!
//! An [`Approval`] says for which call it was given by the digest of the call's canonical bytes, so that it opens
//! nothing else; it cannot be copied, and [`Held::approve`](crate::Held::approve) takes it by value. Whoever makes
//! one has checked where it comes from and has seen to it that it is not made twice; that is the caller's part.

use clawstaff_types::{ApprovalId, ClawName, Digest, MemberId};
use jiff::Timestamp;

/// A human agreed to one call.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an approval that is dropped is used up"]
pub struct Approval {
    /// Its id, which was the request's.
    pub id: ApprovalId,
    /// The Claw that may make the call.
    pub claw: ClawName,
    /// Digest of the call's canonical bytes.
    pub digest: Digest,
    /// Who agreed.
    pub by: MemberId,
    /// From this instant on it allows nothing.
    pub expires: Timestamp,
}

/// What remains of an approval in the permit: for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// The approval's id.
    pub id: ApprovalId,
    /// Who agreed.
    pub by: MemberId,
}

/// Why an approval does not open a held call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    /// It is another Claw's.
    #[error("the approval is for another Claw")]
    OtherClaw,
    /// It is for other bytes.
    #[error("the approval is for another call than this one")]
    OtherCall,
    /// It came too late.
    #[error("the approval has expired")]
    Expired,
}

impl Approval {
    /// Whether it is for this call now, and what to remember of it.
    pub(crate) fn for_call(
        self,
        claw: &ClawName,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<Approved, NotApproved> {
        if self.claw != *claw {
            return Err(NotApproved::OtherClaw);
        }
        if self.digest != *digest {
            return Err(NotApproved::OtherCall);
        }
        if now >= self.expires {
            return Err(NotApproved::Expired);
        }
        Ok(Approved {
            id: self.id,
            by: self.by,
        })
    }
}
