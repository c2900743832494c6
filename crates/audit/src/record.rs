//! How one record lies in a segment file. Pure.
//!
//! ```text
//!   0   4   kind: "cs1s" opens a segment, "cs1e" is an entry, "cs1c" a checkpoint that closes a batch
//!   4   4   length of the body, little endian
//!   8   8   entry: its index; checkpoint: the size it states; opening: the first index of the segment
//!  16   8   index of the first entry of the batch that the record belongs to
//!  24   8   first 8 bytes of SHA-256(bytes 0..24 || leaf hash of the body)
//!  32   n   body, then zero bytes up to a multiple of 8
//! ```
//!
//! The checksum recognises a write that the power cut tore; it is no defence against a person, who can
//! recompute it. That is the tree's work.

use clawstaff_types::Digest;

use crate::tree::{self, Hash};

/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 32;
/// Longest body: a leaf at most, or a checkpoint note or an opening, which are far shorter.
const MAX_BODY_BYTES: usize = crate::entry::MAX_LEAF_BYTES;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first of a segment: which segment of which log it is, and the root before it.
    Opening,
    /// A leaf.
    Entry,
    /// A signed checkpoint, the last of a batch: without it the batch does not count.
    Checkpoint,
}

impl Kind {
    const fn magic(self) -> [u8; 4] {
        match self {
            Self::Opening => *b"cs1s",
            Self::Entry => *b"cs1e",
            Self::Checkpoint => *b"cs1c",
        }
    }

    fn from_magic(magic: [u8; 4]) -> Option<Self> {
        [Self::Opening, Self::Entry, Self::Checkpoint]
            .into_iter()
            .find(|kind| kind.magic() == magic)
    }
}

/// A record as it was read; `hash` is the leaf hash of its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) batch: u64,
    pub(crate) body: &'a [u8],
    pub(crate) hash: Hash,
}

/// Bytes that `body_bytes` of body take, all told.
pub(crate) const fn span(body_bytes: usize) -> usize {
    HEADER_BYTES + body_bytes.next_multiple_of(8)
}

/// Makes room for a record's header in `out`. Its body is appended next, then [`finish`]: nothing is copied.
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    start
}

/// Completes the record that began at `start` and whose body is all that follows; gives its leaf hash.
pub(crate) fn finish(out: &mut Vec<u8>, start: usize, kind: Kind, index: u64, batch: u64) -> Hash {
    let body = start + HEADER_BYTES;
    // The header's last byte is still zero, and a leaf hash is over a zero byte and the leaf.
    let hash = Digest::of(out.get(body - 1..).unwrap_or_default());
    let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_BYTES];
    let (head, sum) = header.split_at_mut(24);
    let (words, numbers) = head.split_at_mut(8);
    let (magic, bytes) = words.split_at_mut(4);
    magic.copy_from_slice(&kind.magic());
    bytes.copy_from_slice(&length.to_le_bytes());
    let (first, second) = numbers.split_at_mut(8);
    first.copy_from_slice(&index.to_le_bytes());
    second.copy_from_slice(&batch.to_le_bytes());
    sum.copy_from_slice(&checksum(head, &hash));
    if let Some(room) = out.get_mut(start..body) {
        room.copy_from_slice(&header);
    }
    out.resize(out.len().next_multiple_of(8), 0);
    hash
}

/// Appends a whole record to `out`; gives the leaf hash of `body`.
pub(crate) fn encode(out: &mut Vec<u8>, kind: Kind, index: u64, batch: u64, body: &[u8]) -> Hash {
    let start = begin(out);
    out.extend_from_slice(body);
    finish(out, start, kind, index, batch)
}

fn checksum(head: &[u8], hash: &Hash) -> [u8; 8] {
    let digest = Digest::of_parts(&[head, hash.as_bytes()]);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Reads the record at the start of `bytes`; also how many bytes it takes.
///
/// # Errors
/// In words, when there is none.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), &'static str> {
    let head = bytes.get(..24).ok_or("the file ends inside a record")?;
    let sum = bytes
        .get(24..HEADER_BYTES)
        .ok_or("the file ends inside a record")?;
    let kind = head
        .first_chunk()
        .copied()
        .and_then(Kind::from_magic)
        .ok_or("the bytes are not the start of a record")?;
    let length = usize::try_from(number(head.get(4..8))).unwrap_or(usize::MAX);
    if length > MAX_BODY_BYTES {
        return Err("the record's length is not possible");
    }
    let end = span(length);
    let body = bytes
        .get(HEADER_BYTES..HEADER_BYTES + length)
        .ok_or("the file ends inside a record")?;
    let padding = bytes
        .get(HEADER_BYTES + length..end)
        .ok_or("the file ends inside a record")?;
    let hash = tree::leaf_hash(body);
    if sum != checksum(head, &hash) {
        return Err("the record's checksum does not fit its bytes");
    }
    if padding.iter().any(|b| *b != 0) {
        return Err("the bytes after the record's end are not zero");
    }
    let record = Record {
        kind,
        index: number(head.get(8..16)),
        batch: number(head.get(16..24)),
        body,
        hash,
    };
    Ok((record, end))
}

/// What the header at the start of `bytes` says, unchecked: kind, batch, and how many bytes the record takes.
pub(crate) fn peek(bytes: &[u8]) -> Option<(Kind, u64, usize)> {
    let kind = bytes.first_chunk().copied().and_then(Kind::from_magic)?;
    let length = usize::try_from(number(bytes.get(4..8))).ok()?;
    (length <= MAX_BODY_BYTES).then(|| (kind, number(bytes.get(16..24)), span(length)))
}

/// Whether a record could start here: cheap, to be followed by [`decode`].
pub(crate) fn may_start(bytes: &[u8]) -> bool {
    bytes.first_chunk().copied().and_then(Kind::from_magic).is_some()
}

/// The number in the first eight of `bytes`, or fewer.
fn number(bytes: Option<&[u8]>) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.unwrap_or_default()) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Whether all of `bytes` are zero; by blocks, because segments are long.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZERO: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZERO.len())
        .all(|chunk| ZERO.get(..chunk.len()) == Some(chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(encode(&mut out, Kind::Entry, 5, 3, body), tree::leaf_hash(body));
        out
    }

    proptest! {
        #[test]
        fn records_read_back(body in prop::collection::vec(any::<u8>(), 0..500), tail in any::<[u8; 9]>()) {
            let mut bytes = encoded(&body);
            let length = bytes.len();
            bytes.extend_from_slice(&tail);
            let (record, end) = decode(&bytes).unwrap();
            prop_assert_eq!((record.kind, record.index, record.batch), (Kind::Entry, 5, 3));
            prop_assert_eq!(record.body, &body[..]);
            prop_assert_eq!(end, length);
        }

        #[test]
        fn a_record_with_any_bit_flipped_is_none(body in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>()) {
            let mut bytes = encoded(&body);
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut led = b"cs1e".to_vec();
            led.extend_from_slice(&bytes);
            let _ = decode(&led);
            let _ = decode(&bytes);
        }
    }
}
