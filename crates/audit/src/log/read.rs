//! Reading durable entries back out of the segments, while others are written.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    disk::Disk,
    entry::MAX_LEAF_BYTES,
    record::{self, Kind},
    scan::{self, Segment},
    tree::Hash,
};

/// What one call reads at most, about.
const MAX_READ_BYTES: usize = 8 << 20;
/// Read at a time; at least two records fit.
const CHUNK_BYTES: usize = 4 * record::span(MAX_LEAF_BYTES);

/// Why entries were not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They were pruned.
    #[error("entry {index} was pruned from the audit log, which begins at entry {first}")]
    Pruned {
        /// The entry asked for.
        index: u64,
        /// The first that is there.
        first: u64,
    },
    /// The file could not be read.
    #[error("reading segment {path} failed")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("segment {path} is damaged at byte {offset}, where entry {index} belongs: {why}")]
    Damaged {
        /// The entry that should be there.
        index: u64,
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// In words.
        why: &'static str,
    },
}

/// Where to look for an entry.
struct Place {
    ordinal: u64,
    /// Of a batch at or before it, if that is known.
    offset: Option<u64>,
    /// The index after the segment.
    end: u64,
}

/// Knows which segment an entry is in, and roughly where.
#[derive(Debug)]
pub(super) struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: RwLock<Vec<Segment>>,
}

impl Reader {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segments: Vec<Segment>) -> Self {
        Self {
            disk,
            dir,
            segments: RwLock::new(segments),
        }
    }

    /// Takes note of a durable batch. A segment's first batch starts the segment.
    pub(super) fn note_batch(&self, ordinal: u64, first: u64, offset: u64) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if segments.last().is_none_or(|last| last.ordinal != ordinal) {
            segments.push(Segment {
                ordinal,
                first,
                marks: Vec::new(),
            });
        }
        if let Some(last) = segments.last_mut() {
            last.mark(first, offset);
        }
    }

    /// Lets go of the segments before `ordinal`.
    pub(super) fn forget_before(&self, ordinal: u64) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.retain(|segment| segment.ordinal >= ordinal);
    }

    /// The first index of each segment, ascending.
    pub(super) fn firsts(&self) -> Vec<u64> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().map(|segment| segment.first).collect()
    }

    /// The segment that holds `index`, and the index it starts with.
    pub(super) fn segment_of(&self, index: u64) -> Option<(u64, u64)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.first <= index);
        let segment = segments.get(after.checked_sub(1)?)?;
        Some((segment.ordinal, segment.first))
    }

    fn find(&self, index: u64) -> Result<Option<Place>, ReadError> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.first <= index);
        let Some(segment) = after.checked_sub(1).and_then(|at| segments.get(at)) else {
            return segments.first().map_or(Ok(None), |segment| {
                let first = segment.first;
                Err(ReadError::Pruned { index, first })
            });
        };
        let mark = segment.marks.partition_point(|(first, _)| *first <= index);
        let offset = mark.checked_sub(1).and_then(|mark| segment.marks.get(mark));
        Ok(Some(Place {
            ordinal: segment.ordinal,
            offset: offset.map(|(_, offset)| *offset),
            end: segments.get(after).map_or(u64::MAX, |next| next.first),
        }))
    }

    /// Finds the batches of a segment that opening did not read, by the records' headers; once.
    fn mark(&self, ordinal: u64) -> Result<(), ReadError> {
        let path = scan::segment_path(&self.dir, ordinal);
        let mut bytes = Vec::new();
        self.disk
            .read_start(&path, scan::MAX_SEGMENT_BYTES, &mut bytes)
            .map_err(|source| ReadError::Read { path, source })?;
        let mut found = Segment {
            ordinal,
            first: 0,
            marks: Vec::new(),
        };
        let mut at = 0;
        while let Some((kind, batch, length)) = bytes.get(at..).and_then(record::peek) {
            if kind == Kind::Entry {
                found.mark(batch, at as u64);
            }
            at += length;
        }
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = segments.iter_mut().find(|segment| segment.ordinal == ordinal) {
            segment.marks = found.marks;
        }
        Ok(())
    }

    /// Gives the entries `from..to` to `take`, in order; fewer when they are many bytes. `to` must be durable.
    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        take: &mut dyn FnMut(u64, &[u8], Hash),
    ) -> Result<u64, ReadError> {
        let mut next = from;
        let mut budget = MAX_READ_BYTES;
        while next < to && budget > 0 {
            let Some(place) = self.find(next)? else {
                break;
            };
            let Some(offset) = place.offset else {
                self.mark(place.ordinal)?;
                if self.find(next)?.is_none_or(|place| place.offset.is_none()) {
                    break;
                }
                continue;
            };
            let before = next;
            let end = to.min(place.end);
            self.read_segment(place.ordinal, offset, &mut next, end, &mut budget, take)?;
            if next == before {
                break;
            }
        }
        Ok(next)
    }

    fn read_segment(
        &self,
        ordinal: u64,
        mut offset: u64,
        next: &mut u64,
        to: u64,
        budget: &mut usize,
        take: &mut dyn FnMut(u64, &[u8], Hash),
    ) -> Result<(), ReadError> {
        let path = scan::segment_path(&self.dir, ordinal);
        let failed = |source| ReadError::Read {
            path: path.clone(),
            source,
        };
        let file = self.disk.open(&path).map_err(failed)?;
        let mut buffer = vec![0; CHUNK_BYTES];
        while *next < to && *budget > 0 {
            let n = file.read_at(&mut buffer, offset).map_err(failed)?;
            let chunk = buffer.get(..n).unwrap_or_default();
            let mut at = 0;
            // Stop while a whole record still fits, unless this is the end of the file.
            while *next < to && *budget > 0 && (n < CHUNK_BYTES || n - at >= record::span(MAX_LEAF_BYTES)) {
                let rest = chunk.get(at..).unwrap_or_default();
                let (record, length) = record::decode(rest).map_err(|why| ReadError::Damaged {
                    index: *next,
                    path: path.clone(),
                    offset: offset + at as u64,
                    why,
                })?;
                if record.kind == Kind::Entry && record.index == *next {
                    take(record.index, record.body, record.hash);
                    *budget = budget.saturating_sub(record.body.len());
                    *next += 1;
                }
                at += length;
            }
            offset += at as u64;
        }
        Ok(())
    }
}
