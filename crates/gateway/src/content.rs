//! Content: what Claws sent and received, if the operator keeps it: on this host only, encrypted, erasable.
//!
//! ```text
//!   keys/subjects.key            wraps the keys of all subjects
//!   keys/subjects/CLAW~MEMBER    one subject's key and salt, wrapped: the Claw, and the member it acted for
//!   content/000000000007.parts   encrypted parts of the records 7 × 4096 and on
//!   holds.json                   legal holds, and erasures that wait for a second member
//! ```
//!
//! The log holds commitments under a subject's salt, and never content. Destroying a subject's file erases it: the
//! parts cannot be decrypted and the commitments cannot be guessed any more, while every proof over the log's leaves
//! stays what it was. Nothing in here decides who may read or erase; `local/evidence.rs` does.

mod custody;
mod keyring;
mod parts;

use std::{path::Path, sync::Arc};

pub(crate) use custody::{Custody, CustodyError, Erasure, Ruling};
pub(crate) use keyring::{KeyringError, SubjectKey, Subjects, Whose};
use parts::Parts;
pub(crate) use parts::{Kept, PartsError};

/// The longest part that is kept, in bytes; a longer one is not, and its record says so.
pub(crate) const MAX_PART: usize = 32 << 20;

/// What a part is; its name is also the label of its commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// What a Claw sent to a tool or its model.
    Request,
    /// What came back.
    Response,
    /// What somebody said to a Claw.
    Message,
}

impl Label {
    pub(crate) const ALL: [Self; 3] = [Self::Request, Self::Response, Self::Message];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Message => "message",
        }
    }
}

/// The content that is kept; nothing at all unless the operator asked for it.
#[derive(Debug)]
pub(crate) struct Content {
    parts: Option<Arc<Parts>>,
}

impl Content {
    /// Keeps parts in `dir` if `keep`; parts kept earlier stay readable either way.
    pub(crate) fn new(dir: &Path, keep: bool) -> Self {
        let parts = (keep || dir.exists()).then(|| Arc::new(Parts::new(dir, keep)));
        Self { parts }
    }

    /// Whether new parts are kept.
    pub(crate) fn keeps(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.keeps())
    }

    /// Keeps a part of the record at `index`, durably; does nothing unless the operator asked for it.
    ///
    /// # Errors
    /// When it is too long or the disk refuses.
    pub(crate) async fn keep(
        &self,
        index: u64,
        label: Label,
        (whose, key): (&Whose, &Arc<SubjectKey>),
        plaintext: Vec<u8>,
    ) -> Result<(), PartsError> {
        let Some(parts) = self.parts.as_ref().filter(|parts| parts.keeps()) else {
            return Ok(());
        };
        let (parts, whose, key) = (Arc::clone(parts), whose.clone(), Arc::clone(key));
        let kept = tokio::task::spawn_blocking(move || parts.put(index, label, &whose, &key, plaintext));
        kept.await.unwrap_or(Err(PartsError::Ended))
    }

    /// Removes the parts of records before `first`, but for those in one file with later ones.
    pub(crate) fn forget_before(&self, first: u64) {
        if let Some(parts) = &self.parts
            && let Err(error) = parts.forget_before(first)
        {
            tracing::error!(
                error = crate::settle::chain(&error),
                "content of pruned records was left; it is tried again"
            );
        }
    }

    /// The parts of the record at `index` as they lie on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn of(&self, index: u64) -> Result<Vec<Kept>, PartsError> {
        self.parts
            .as_ref()
            .map_or_else(|| Ok(Vec::new()), |parts| parts.of(index))
    }
}

/// Several byte strings as one, so that they cannot be shifted into each other; what is committed to and kept.
pub(crate) fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The byte strings that [`framed`] put together.
pub(crate) fn unframed(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn framed_parts_come_apart_as_they_were(parts in prop::collection::vec(any::<Vec<u8>>(), 0..6)) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let bytes = framed(&slices);
            prop_assert_eq!(unframed(&bytes), Some(slices));
        }

        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes in any::<Vec<u8>>()) {
            if let Some(parts) = unframed(&bytes) {
                prop_assert_eq!(framed(&parts), bytes);
            }
        }
    }
}
