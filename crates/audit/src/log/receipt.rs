//! The receipt: a value that exists only when its entry is durable.

use std::sync::Arc;

use clawstaff_types::Digest;

use crate::{segment::Durable, tree::Hash};

/// Proof, within this process, that an entry is on stable storage.
///
/// There is no way to make one but [`Log::append`](super::Log::append), and no way to have it twice:
///
/// ```compile_fail
/// let receipt = clawstaff_audit::Receipt {};
/// ```
///
/// ```compile_fail
/// fn twice(receipt: clawstaff_audit::Receipt) -> (clawstaff_audit::Receipt, clawstaff_audit::Receipt) {
///     (receipt.clone(), receipt)
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    origin: Arc<str>,
    index: u64,
    leaf_hash: Hash,
    call: Digest,
}

impl Receipt {
    /// The one constructor. It asks for proof that the batch with the entry in it is durable.
    pub(super) fn issue(_: &Durable, origin: Arc<str>, index: u64, leaf_hash: Hash, call: Digest) -> Self {
        Self {
            origin,
            index,
            leaf_hash,
            call,
        }
    }

    /// The entry's index in its log.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The RFC 6962 hash of the entry's leaf.
    pub const fn leaf_hash(&self) -> &Hash {
        &self.leaf_hash
    }

    /// The digest of the call that the entry records.
    pub const fn call(&self) -> &Digest {
        &self.call
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}
