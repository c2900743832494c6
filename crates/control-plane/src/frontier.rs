//! The right edge of a log's Merkle tree, restored from what the store keeps.
//!
//! The audit crate's own range starts empty and grows with its log. The intake starts where the last push ended,
//! so it needs the same arithmetic (RFC 6962 section 2.1) over stored peaks. Pure.

use clawstaff_audit::tree::{Hash, empty_root, node_hash};
use clawstaff_store::LogRow;

/// The roots of the perfect subtrees that cover the leaves so far, left to right: one per one-bit of the size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Where the log is indexed to, which is as far as it is known unless the index is being rebuilt; the empty tree
    /// for an unknown one.
    pub(crate) fn restore(known: Option<&LogRow>) -> Self {
        known.map_or_else(Self::default, |log| Self {
            size: log.indexed,
            peaks: log.index_frontier.clone(),
        })
    }

    /// The log's row once it is read up to here, with these checkpoints. What is known of a log never shrinks: while
    /// its index is rebuilt only that grows.
    pub(crate) fn row(&self, known: Option<LogRow>, name: &str, origin: &str, notes: [String; 2]) -> LogRow {
        let (indexed, index_frontier) = (self.size, self.peaks.clone());
        if let Some(known) = known.filter(|known| known.size > indexed) {
            return LogRow {
                indexed,
                index_frontier,
                ..known
            };
        }
        let [checkpoint, cosigned] = notes;
        LogRow {
            name: name.to_owned(),
            origin: origin.to_owned(),
            size: indexed,
            frontier: index_frontier.clone(),
            checkpoint,
            cosigned,
            indexed,
            index_frontier,
        }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf: every trailing one-bit of the size is a left sibling that is complete now.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// How far the index is, and the hashes that cover it.
    pub(crate) fn into_index(self) -> (u64, Vec<Hash>) {
        (self.size, self.peaks)
    }

    /// The root over all leaves.
    pub(crate) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use clawstaff_audit::tree::{CompactRange, leaf_hash};

    use super::Frontier;

    #[test]
    fn a_restored_frontier_grows_to_the_same_roots_as_the_logs_own_range() {
        let (mut whole, mut frontier) = (CompactRange::new(), Frontier::default());
        for leaf in 0_u32..130 {
            let hash = leaf_hash(&leaf.to_be_bytes());
            whole.push(hash);
            frontier = Frontier {
                size: frontier.size(),
                peaks: frontier.peaks.clone(),
            };
            frontier.push(hash);
            assert_eq!(frontier.root(), whole.root(), "size {}", leaf + 1);
        }
    }
}
