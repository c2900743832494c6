//! The Merkle tree of RFC 6962 section 2.1 over SHA-256: hashes, a growing tree, and both kinds of proof.
//!
//! Pure: no files, no clock. The log appends through [`CompactRange`], proofs are built from anything that can
//! look up the hash of a complete subtree ([`Hashes`]), and are checked by the algorithms of RFC 9162
//! sections 2.1.3.2 and 2.1.4.2, which need nothing but the proof. It must not know what a leaf means.

use clawstaff_types::Digest;

/// A node of the tree. The same 32 bytes as any SHA-256 digest.
pub type Hash = Digest;

/// The hash of a leaf: `SHA-256(0x00 || leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Digest::of_parts(&[&[0], leaf])
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Digest::of_parts(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of the tree without leaves: `SHA-256("")`.
pub fn empty_root() -> Hash {
    Digest::of(b"")
}

/// The complete subtrees that end with a leaf about to be appended.
#[derive(Debug)]
pub(crate) struct Grown {
    /// The largest.
    node: Hash,
    /// Those of 256, 256² … leaves, as far as there are any: what the rows of tiles are made of.
    rows: Vec<Hash>,
}

impl Grown {
    /// The roots of those of 256, 256² … leaves.
    pub(crate) fn rows(&self) -> &[Hash] {
        &self.rows
    }
}

/// A tree that grows at its right edge, kept as the roots of its complete subtrees, largest first.
///
/// Its memory is one hash per one-bit of its size: at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactRange {
    size: u64,
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// The tree without leaves.
    pub const fn new() -> Self {
        Self {
            size: 0,
            peaks: Vec::new(),
        }
    }

    /// A tree of `size` leaves from the roots of its complete subtrees; `None` when they are not as many as it has.
    pub(crate) fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == usize::try_from(size.count_ones()).ok()?).then_some(Self { size, peaks })
    }

    /// The roots of its complete subtrees, largest first.
    pub(crate) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// How many leaves it has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash. Amortised one node hash.
    pub fn push(&mut self, leaf: Hash) {
        let grown = self.grown(leaf);
        self.grow(grown);
    }

    /// What a leaf completes, if it is appended.
    pub(crate) fn grown(&self, leaf: Hash) -> Grown {
        let mut grown = Grown {
            node: leaf,
            rows: Vec::new(),
        };
        // Every trailing one-bit of the size is a complete left sibling that now gets its right one.
        let siblings = self.peaks.iter().rev();
        for (level, left) in (1_u32..=self.size.trailing_ones()).zip(siblings) {
            grown.node = node_hash(left, &grown.node);
            if level.is_multiple_of(8) {
                grown.rows.push(grown.node);
            }
        }
        grown
    }

    /// Appends the leaf of which this is what it completes.
    pub(crate) fn grow(&mut self, grown: Grown) {
        let siblings = usize::try_from(self.size.trailing_ones()).unwrap_or_default();
        self.peaks.truncate(self.peaks.len().saturating_sub(siblings));
        self.peaks.push(grown.node);
        self.size += 1;
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// Where the hashes of complete subtrees come from: tiles, memory, a file.
pub trait Hashes {
    /// Why a hash could not be had.
    type Error;

    /// The hash of the complete subtree over the `1 << level` leaves that start at leaf `index << level`.
    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two that is smaller than `n`, for `n >= 2`.
const fn split(n: u64) -> u64 {
    1 << (u64::BITS - 1 - (n - 1).leading_zeros())
}

/// The root over the `n >= 1` leaves from `first` on; `first` is a multiple of the next power of two.
fn range_root<H: Hashes + ?Sized>(hashes: &H, first: u64, n: u64) -> Result<Hash, H::Error> {
    if n.is_power_of_two() {
        return hashes.subtree(n.trailing_zeros(), first / n);
    }
    let k = split(n);
    let left = hashes.subtree(k.trailing_zeros(), first / k)?;
    Ok(node_hash(&left, &range_root(hashes, first + k, n - k)?))
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// When a hash cannot be had.
pub fn root_of<H: Hashes + ?Sized>(hashes: &H, size: u64) -> Result<Hash, H::Error> {
    match size {
        0 => Ok(empty_root()),
        n => range_root(hashes, 0, n),
    }
}

/// The proof that leaf `index` is in the tree of `size` leaves (RFC 6962 section 2.1.1), lowest sibling first.
/// `None` when `index` is not below `size`.
///
/// # Errors
/// When a hash cannot be had.
pub fn inclusion_proof<H: Hashes + ?Sized>(
    hashes: &H,
    index: u64,
    size: u64,
) -> Result<Option<Vec<Hash>>, H::Error> {
    if index >= size {
        return Ok(None);
    }
    let (mut first, mut n) = (0, size);
    let mut proof = Vec::new();
    // From the root down, so the siblings come highest first.
    while n > 1 {
        let k = split(n);
        if index - first < k {
            proof.push(range_root(hashes, first + k, n - k)?);
            n = k;
        } else {
            proof.push(range_root(hashes, first, k)?);
            (first, n) = (first + k, n - k);
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// The proof that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 6962 section 2.1.2).
/// Empty when the sizes are equal or `old` is 0; `None` when `old` exceeds `new`.
///
/// # Errors
/// When a hash cannot be had.
pub fn consistency_proof<H: Hashes + ?Sized>(
    hashes: &H,
    old: u64,
    new: u64,
) -> Result<Option<Vec<Hash>>, H::Error> {
    if old > new {
        return Ok(None);
    }
    if old == 0 || old == new {
        return Ok(Some(Vec::new()));
    }
    let (mut first, mut n) = (0, new);
    let mut proof = Vec::new();
    while first + n != old {
        let k = split(n);
        if old - first <= k {
            proof.push(range_root(hashes, first + k, n - k)?);
            n = k;
        } else {
            proof.push(range_root(hashes, first, k)?);
            (first, n) = (first + k, n - k);
        }
    }
    // The verifier knows this hash already when the old tree is itself one complete subtree from 0 on.
    if first != 0 {
        proof.push(range_root(hashes, first, n)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether `proof` shows that `leaf` is leaf `index` of the tree of `size` leaves with this `root`.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            climb_to_right_child(&mut node, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `old` leaves with `old_root` is a prefix of that of `new` leaves
/// with `new_root`.
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old > new {
        return false;
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (seed, rest) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        match proof.split_first() {
            Some(found) => found,
            None => return false,
        }
    };
    let (mut from_old, mut from_new) = (*seed, *seed);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            climb_to_right_child(&mut node, &mut last);
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}

/// A node without a right sibling is its own parent: go up until it is a right child (or the root).
const fn climb_to_right_child(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let mut k = 1;
                while k * 2 < many.len() {
                    k *= 2;
                }
                node_hash(&mth(&many[..k]), &mth(&many[k..]))
            }
        }
    }

    /// RFC 6962 section 2.1.1, word for word.
    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let mut k = 1;
        while k * 2 < leaves.len() {
            k *= 2;
        }
        let (left, right) = leaves.split_at(k);
        let (mut proof, sibling) = if m < k {
            (path(m, left), mth(right))
        } else {
            (path(m - k, right), mth(left))
        };
        proof.push(sibling);
        proof
    }

    /// RFC 6962 section 2.1.2, word for word.
    fn subproof(m: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if known { Vec::new() } else { vec![mth(leaves)] };
        }
        let mut k = 1;
        while k * 2 < leaves.len() {
            k *= 2;
        }
        let (left, right) = leaves.split_at(k);
        let (mut proof, sibling) = if m <= k {
            (subproof(m, left, known), mth(right))
        } else {
            (subproof(m - k, right, false), mth(left))
        };
        proof.push(sibling);
        proof
    }

    struct Memory(Vec<Hash>);

    impl Hashes for Memory {
        type Error = Infallible;

        fn subtree(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
            let first = usize::try_from(index << level).unwrap();
            Ok(mth(&self.0[first..first + (1 << level)]))
        }
    }

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n)
            .map(|i| leaf_hash(format!("leaf {i}").as_bytes()))
            .collect()
    }

    #[test]
    fn published_roots_of_the_reference_tree_are_met() {
        // The eight leaves and roots that the certificate-transparency reference code tests with.
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = CompactRange::new();
        for (input, root) in inputs.iter().zip(roots) {
            tree.push(leaf_hash(&hex::decode(input).unwrap()));
            assert_eq!(tree.root().to_string(), format!("sha256:{root}"));
        }
    }

    #[test]
    fn the_growing_tree_has_the_root_of_the_definition_at_every_size() {
        let all = leaves(300);
        let mut tree = CompactRange::new();
        for n in 0..=all.len() {
            assert_eq!(tree.root(), mth(&all[..n]), "size {n}");
            assert_eq!(root_of(&Memory(all.clone()), n as u64).unwrap(), tree.root());
            if let Some(leaf) = all.get(n) {
                tree.push(*leaf);
            }
        }
    }

    #[test]
    fn inclusion_proofs_are_those_of_the_definition_and_verify() {
        let all = leaves(70);
        for n in 1..=all.len() {
            let memory = Memory(all[..n].to_vec());
            let root = mth(&all[..n]);
            for (m, leaf) in all[..n].iter().enumerate() {
                let proof = inclusion_proof(&memory, m as u64, n as u64).unwrap().unwrap();
                assert_eq!(proof, path(m, &all[..n]), "leaf {m} of {n}");
                assert!(verify_inclusion(leaf, m as u64, n as u64, &proof, &root));
                assert!(!verify_inclusion(leaf, m as u64 + 1, n as u64, &proof, &root) || n == 1);
            }
            assert!(inclusion_proof(&memory, n as u64, n as u64).unwrap().is_none());
        }
    }

    #[test]
    fn consistency_proofs_are_those_of_the_definition_and_verify() {
        let all = leaves(70);
        for n in 1..=all.len() {
            let memory = Memory(all[..n].to_vec());
            let root = mth(&all[..n]);
            for m in 1..=n {
                let proof = consistency_proof(&memory, m as u64, n as u64).unwrap().unwrap();
                assert_eq!(proof, subproof(m, &all[..n], true), "{m} in {n}");
                assert!(verify_consistency(
                    m as u64,
                    n as u64,
                    &mth(&all[..m]),
                    &root,
                    &proof
                ));
            }
        }
    }

    proptest! {
        #[test]
        fn proofs_of_any_size_below_300_verify_and_break_when_anything_is_changed(
            n in 1_usize..300, seed in any::<prop::sample::Index>(), old in any::<prop::sample::Index>(),
            victim in any::<prop::sample::Index>(), bit in 0_usize..256,
        ) {
            let all = leaves(n);
            let (m, old) = (seed.index(n), old.index(n) + 1);
            let root = mth(&all);
            let memory = Memory(all.clone());
            let inclusion = inclusion_proof(&memory, m as u64, n as u64).unwrap().unwrap();
            let consistency = consistency_proof(&memory, old as u64, n as u64).unwrap().unwrap();
            let old_root = mth(&all[..old]);
            prop_assert!(verify_inclusion(&all[m], m as u64, n as u64, &inclusion, &root));
            prop_assert!(verify_consistency(old as u64, n as u64, &old_root, &root, &consistency));

            let flip = |hash: &Hash| {
                let mut bytes = *hash.as_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                Hash::from_bytes(bytes)
            };
            prop_assert!(!verify_inclusion(&flip(&all[m]), m as u64, n as u64, &inclusion, &root));
            prop_assert!(!verify_inclusion(&all[m], m as u64, n as u64, &inclusion, &flip(&root)));
            prop_assert!(!verify_consistency(old as u64, n as u64, &flip(&old_root), &root, &consistency));
            prop_assert!(!verify_consistency(old as u64, n as u64, &old_root, &flip(&root), &consistency));
            for proof in [&inclusion, &consistency] {
                if proof.is_empty() { continue; }
                let mut changed = proof.clone();
                let at = victim.index(changed.len());
                changed[at] = flip(&changed[at]);
                let mut shorter = proof.clone();
                shorter.pop();
                let mut longer = proof.clone();
                longer.push(root);
                for bad in [&changed, &shorter, &longer] {
                    if proof == &inclusion {
                        prop_assert!(!verify_inclusion(&all[m], m as u64, n as u64, bad, &root));
                    }
                    if proof == &consistency {
                        prop_assert!(!verify_consistency(old as u64, n as u64, &old_root, &root, bad));
                    }
                }
            }
        }
    }
}
