//! Reads a journal to its last byte, deriving everything again: used to open, to prune and to verify.
//!
//! It begins at the first segment, or at a later one with what a [`State`] says was before.
//!
//! A journal is a row of segment files, `journal/00000000.seg` and on, each full of zero bytes when it is made
//! and overwritten from its start with whole batches: entries, then the checkpoint that closes them. Only a
//! closed batch counts. Anything that is not in its place is [`Damage`] with index, file and offset; the one
//! exception is what a power cut may leave: an unclosed batch at the very end, with nothing later after it.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::Checkpoint,
    disk::Disk,
    record::{self, Kind, Record},
    state::State,
    tree::{CompactRange, Grown, Hash},
};

/// The largest segment that will be read.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// A position is remembered for at least every so many entries.
const MARK_EVERY: u64 = 64;

/// The directory of the segments in a log's directory.
pub(crate) fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("journal")
}

/// The path of a segment.
pub(crate) fn segment_path(dir: &Path, ordinal: u64) -> PathBuf {
    journal_dir(dir).join(format!("{ordinal:08}.seg"))
}

/// The body of a segment's first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opening {
    /// 1.
    pub(crate) v: u32,
    /// The log's origin.
    pub(crate) origin: String,
    /// Which segment it is, from 0.
    pub(crate) segment: u64,
    /// The length of the file.
    pub(crate) bytes: u64,
    /// The index of its first entry.
    pub(crate) first: u64,
    /// The root of the tree before it.
    pub(crate) root: Hash,
}

/// The first thing in a journal that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The entry concerned, or the one that should stand there.
    pub(crate) index: u64,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) text: String,
}

/// Why a journal was not read to its end.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io { path: PathBuf, source: io::Error },
    Damage(Damage),
}

/// Bytes after the last closed batch that no later batch follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) path: PathBuf,
    /// Where the last closed batch ends.
    pub(crate) offset: u64,
    /// From there to the last byte that is not zero.
    pub(crate) bytes: u64,
    /// Where reading failed, and why.
    pub(crate) failed_at: u64,
    pub(crate) text: &'static str,
}

/// A segment that has records.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) ordinal: u64,
    /// Its first index.
    pub(crate) first: u64,
    /// Where some of its batches start: (first index of the batch, offset), ascending.
    pub(crate) marks: Vec<(u64, u64)>,
}

impl Segment {
    /// Remembers that a batch starts there, if the last mark is far enough back.
    pub(crate) fn mark(&mut self, index: u64, offset: u64) {
        if self
            .marks
            .last()
            .is_none_or(|(last, _)| index.saturating_sub(*last) >= MARK_EVERY)
        {
            self.marks.push((index, offset));
        }
    }
}

/// What a journal holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) tree: CompactRange,
    /// The segments with records, in order.
    pub(crate) segments: Vec<Segment>,
    /// Length of the last of them, and where its last batch ends.
    pub(crate) last_bytes: u64,
    pub(crate) end: u64,
    /// Segments without records, ready for use: (ordinal, length).
    pub(crate) spares: Vec<(u64, u64)>,
    pub(crate) torn: Option<Torn>,
    /// The checkpoint that closed the last batch.
    pub(crate) note: Option<String>,
    pub(crate) origin: Option<String>,
    /// The roots at the sizes that were asked for.
    pub(crate) roots: BTreeMap<u64, Hash>,
}

/// An entry of a closed batch.
#[derive(Debug)]
pub(crate) struct Seen<'s> {
    pub(crate) index: u64,
    pub(crate) leaf: &'s [u8],
    pub(crate) hash: Hash,
    /// What it completes in the tree.
    pub(crate) grown: &'s Grown,
}

/// What is done with each entry, in order. An error is a broken rule, in words.
pub(crate) type OnEntry<'a> = &'a mut dyn FnMut(Seen<'_>) -> Result<(), String>;

/// What to read of a journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extent<'a> {
    /// Begin with the segment that this state is of; everything before it is left unread.
    pub(crate) from: State,
    /// The log's name, if it is known.
    pub(crate) origin: Option<String>,
    /// End before this segment.
    pub(crate) until: Option<u64>,
    /// Note the root at these sizes.
    pub(crate) roots_at: &'a [u64],
    /// Somebody may be writing meanwhile.
    pub(crate) in_use: bool,
}

/// Reads the journal in `dir`, or up to the first thing that is not as it must be.
pub(crate) fn scan(
    disk: &dyn Disk,
    dir: &Path,
    extent: Extent<'_>,
    on_entry: OnEntry<'_>,
) -> (Found, Result<(), ScanError>) {
    let Extent {
        from,
        origin,
        until,
        roots_at,
        in_use,
    } = extent;
    let mut scan = Scan {
        found: Found {
            tree: from.tree,
            origin,
            ..Found::default()
        },
        roots_at,
        on_entry,
    };
    let segments = from.segment..until.unwrap_or(u64::MAX);
    let read = scan.journal(disk, dir, segments, in_use);
    (scan.found, read)
}

fn read_segment(disk: &dyn Disk, path: &Path, bytes: &mut Vec<u8>) -> Result<(), ScanError> {
    disk.read_start(path, MAX_SEGMENT_BYTES, bytes)
        .map_err(|source| ScanError::Io {
            path: path.to_owned(),
            source,
        })
}

/// Whether a segment is there and has records, so that the one before it is complete.
fn has_begun(disk: &dyn Disk, path: &Path) -> bool {
    let mut start = Vec::new();
    let read = disk.read_start(path, 4096, &mut start);
    read.is_ok() && !record::is_zero(&start)
}

/// The ordinals of the segment files, ascending.
fn ordinals(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, ScanError> {
    let path = journal_dir(dir);
    let names = match disk.list(&path) {
        Ok(names) => names,
        Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(ScanError::Io { path, source }),
    };
    let mut found: Vec<u64> = ordinals_in(&names).collect();
    found.sort_unstable();
    Ok(found)
}

/// The ordinals of those names that are a segment's.
pub(crate) fn ordinals_in(names: &[String]) -> impl Iterator<Item = u64> {
    names.iter().filter_map(|name| {
        let ordinal: u64 = name.strip_suffix(".seg")?.parse().ok()?;
        (format!("{ordinal:08}.seg") == *name).then_some(ordinal)
    })
}

fn damage_at(index: u64, path: &Path, offset: usize, text: impl Into<String>) -> ScanError {
    ScanError::Damage(Damage {
        index,
        path: path.to_owned(),
        offset: offset as u64,
        text: text.into(),
    })
}

/// A batch as it lies in the file; nothing of it has been judged but its records.
struct Batch<'a> {
    entries: Vec<(usize, Record<'a>)>,
    closing: (usize, &'a [u8]),
    end: usize,
}

/// Why there is no whole batch at a place.
enum NoBatch {
    /// Not even the start of one: zeroes.
    Nothing,
    /// Unreadable from here on.
    Broken { at: usize, text: &'static str },
    /// Readable, but not what can stand here.
    Wrong { at: usize, text: String },
}

struct Scan<'s> {
    found: Found,
    roots_at: &'s [u64],
    on_entry: OnEntry<'s>,
}

impl Scan<'_> {
    fn damage(&self, path: &Path, offset: usize, text: impl Into<String>) -> ScanError {
        damage_at(self.found.tree.size(), path, offset, text)
    }

    fn note_root(&mut self) {
        let size = self.found.tree.size();
        if self.roots_at.contains(&size) {
            self.found.roots.insert(size, self.found.tree.root());
        }
    }

    fn journal(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        segments: Range<u64>,
        in_use: bool,
    ) -> Result<(), ScanError> {
        self.note_root();
        let there = ordinals(disk, dir)?.into_iter();
        let mut bytes = Vec::new();
        for (expected, ordinal) in (segments.start..).zip(there.filter(|ordinal| segments.contains(ordinal)))
        {
            let path = segment_path(dir, ordinal);
            if ordinal != expected {
                let text = format!("segment {expected} is missing, segment {ordinal} is there");
                return Err(self.damage(&path, 0, text));
            }
            // A segment that is still written into is the last one, whatever comes while we read it.
            let is_last = in_use && !has_begun(disk, &segment_path(dir, ordinal + 1));
            read_segment(disk, &path, &mut bytes)?;
            if is_last {
                // One read takes its time, and may have the end of what was written meanwhile without its beginning.
                // Whatever it saw, all before it was there for a second one.
                let seen = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
                read_segment(disk, &path, &mut bytes)?;
                bytes.get_mut(seen..).unwrap_or_default().fill(0);
            }
            self.segment(&path, ordinal, &bytes)?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    fn segment(&mut self, path: &Path, ordinal: u64, bytes: &[u8]) -> Result<(), ScanError> {
        if record::is_zero(bytes) {
            self.found.spares.push((ordinal, bytes.len() as u64));
            return Ok(());
        }
        if let Some(torn) = &self.found.torn {
            let at = usize::try_from(torn.failed_at).unwrap_or_default();
            return Err(self.damage(&torn.path, at, torn.text));
        }
        if let Some((blank, _)) = self.found.spares.first() {
            let at = bytes.iter().position(|b| *b != 0).unwrap_or_default();
            let text = format!("there are bytes here, yet segment {blank} before it is blank");
            return Err(self.damage(path, at, text));
        }
        match self.opening(path, ordinal, bytes)? {
            Some(start) => self.batches(path, ordinal, bytes, start),
            None => Ok(()),
        }
    }

    /// Checks the segment's first record; `None` when it and all after it is torn.
    fn opening(&mut self, path: &Path, ordinal: u64, bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        let (record, end) = match record::decode(bytes) {
            Ok(read) => read,
            Err(text) => {
                self.torn_or_damaged(path, ordinal, bytes, (0, 0), text)?;
                return Ok(None);
            }
        };
        let size = self.found.tree.size();
        let opening: Opening = match record.kind {
            Kind::Opening => serde_json::from_slice(record.body)
                .map_err(|error| self.damage(path, 0, format!("the segment's opening: {error}")))?,
            Kind::Entry | Kind::Checkpoint => {
                return Err(self.damage(path, 0, "the segment does not start with its opening"));
            }
        };
        let origin = self.found.origin.get_or_insert_with(|| opening.origin.clone());
        let expected = Opening {
            v: 1,
            origin: origin.clone(),
            segment: ordinal,
            bytes: bytes.len() as u64,
            first: size,
            root: self.found.tree.root(),
        };
        if opening != expected || record.index != size || record.batch != size {
            let text = format!(
                "the segment says that it is number {} of `{}` with {} bytes and starts at entry {} on root {}; \
                 it should be number {ordinal} of `{}` with {} bytes, starting at entry {size} on root {}",
                opening.segment,
                opening.origin,
                opening.bytes,
                opening.first,
                opening.root,
                expected.origin,
                expected.bytes,
                expected.root,
            );
            return Err(self.damage(path, 0, text));
        }
        Ok(Some(end))
    }

    fn batches(&mut self, path: &Path, ordinal: u64, bytes: &[u8], start: usize) -> Result<(), ScanError> {
        let mut at = start;
        // A segment is opened together with its first batch, so without one its opening is torn too.
        let mut closed = 0;
        loop {
            match self.next_batch(bytes, at) {
                Ok(batch) => {
                    if closed == 0 {
                        let segment = Segment {
                            ordinal,
                            first: self.found.tree.size(),
                            marks: Vec::new(),
                        };
                        self.found.segments.push(segment);
                        self.found.last_bytes = bytes.len() as u64;
                    }
                    self.apply(path, at, &batch)?;
                    (at, closed) = (batch.end, batch.end);
                    self.found.end = closed as u64;
                }
                Err(NoBatch::Nothing) if closed > 0 => return Ok(()),
                Err(NoBatch::Nothing) => {
                    let text = "the segment's first batch is missing";
                    return self.torn_or_damaged(path, ordinal, bytes, (0, at), text);
                }
                Err(NoBatch::Broken { at, text }) => {
                    return self.torn_or_damaged(path, ordinal, bytes, (closed, at), text);
                }
                Err(NoBatch::Wrong { at, text }) => return Err(self.damage(path, at, text)),
            }
        }
    }

    /// The batch at `at`, with its records in their order.
    fn next_batch<'b>(&self, bytes: &'b [u8], at: usize) -> Result<Batch<'b>, NoBatch> {
        let first = self.found.tree.size();
        if record::is_zero(bytes.get(at..).unwrap_or_default()) {
            return Err(NoBatch::Nothing);
        }
        let mut entries = Vec::new();
        let mut here = at;
        loop {
            let rest = bytes.get(here..).unwrap_or_default();
            let (record, length) = record::decode(rest).map_err(|text| NoBatch::Broken { at: here, text })?;
            let next = first + entries.len() as u64;
            if record.batch != first || record.index != next {
                let text = format!(
                    "a record of entry {} (batch {}) stands where entry {next} (batch {first}) belongs",
                    record.index, record.batch
                );
                return Err(NoBatch::Wrong { at: here, text });
            }
            match record.kind {
                Kind::Entry => entries.push((here, record)),
                Kind::Checkpoint if !entries.is_empty() => {
                    return Ok(Batch {
                        entries,
                        closing: (here, record.body),
                        end: here + length,
                    });
                }
                Kind::Checkpoint | Kind::Opening => {
                    let text = format!("entry {next} is missing before this record");
                    return Err(NoBatch::Wrong { at: here, text });
                }
            }
            here += length;
        }
    }

    /// Takes a closed batch into the tree and holds its checkpoint against it.
    fn apply(&mut self, path: &Path, at: usize, batch: &Batch<'_>) -> Result<(), ScanError> {
        let first = self.found.tree.size();
        for (offset, entry) in &batch.entries {
            let grown = self.found.tree.grown(entry.hash);
            let seen = Seen {
                index: entry.index,
                leaf: entry.body,
                hash: entry.hash,
                grown: &grown,
            };
            (self.on_entry)(seen).map_err(|text| {
                damage_at(
                    entry.index,
                    path,
                    *offset,
                    format!("entry {}: {text}", entry.index),
                )
            })?;
            self.found.tree.grow(grown);
            self.note_root();
        }
        let (offset, note) = batch.closing;
        let note = str::from_utf8(note)
            .map_err(|_| self.damage(path, offset, "the batch's checkpoint is not text"))?;
        let stated = Checkpoint::parse(note)
            .map_err(|error| self.damage(path, offset, format!("the batch's checkpoint: {error}")))?;
        let (size, root) = (self.found.tree.size(), self.found.tree.root());
        if stated.size != size || stated.root != root || Some(&stated.origin) != self.found.origin.as_ref() {
            let text = format!(
                "the checkpoint after entries {first} to {} states {} entries with root {} of `{}`, \
                 but those above it give {size} with root {root}",
                size - 1,
                stated.size,
                stated.root,
                stated.origin
            );
            // Some entry of this batch, or one before it, is not what was signed: the first that can be is named.
            return Err(damage_at(first, path, at, text));
        }
        self.found.note = Some(note.to_owned());
        if let Some(segment) = self.found.segments.last_mut() {
            segment.mark(first, at as u64);
        }
        Ok(())
    }

    /// Tells what a power cut left from what somebody broke.
    ///
    /// A batch is written only after the one before it is durable. So if any record of a later batch can be
    /// found after the unreadable place, that place was durable once, and it is damage.
    fn torn_or_damaged(
        &mut self,
        path: &Path,
        ordinal: u64,
        bytes: &[u8],
        (closed, failed_at): (usize, usize),
        text: &'static str,
    ) -> Result<(), ScanError> {
        let batch = self.found.tree.size();
        let later = (failed_at.next_multiple_of(8)..bytes.len())
            .step_by(8)
            .find(|at| {
                let rest = bytes.get(*at..).unwrap_or_default();
                record::may_start(rest) && record::decode(rest).is_ok_and(|(record, _)| record.batch != batch)
            });
        if later.is_some() {
            return Err(self.damage(path, failed_at, text));
        }
        let last = bytes.iter().rposition(|b| *b != 0).map_or(closed, |at| at + 1);
        self.found.torn = Some(Torn {
            path: path.to_owned(),
            offset: closed as u64,
            bytes: last.saturating_sub(closed) as u64,
            failed_at: failed_at as u64,
            text,
        });
        if closed == 0 {
            self.found.spares.push((ordinal, bytes.len() as u64));
        }
        Ok(())
    }
}
