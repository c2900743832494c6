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

    /// The segment that holds `index`, the offset of a batch at or before it, and the index after the segment.
    fn find(&self, index: u64) -> Option<(u64, u64, u64)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let at = segments
            .partition_point(|segment| segment.first <= index)
            .checked_sub(1)?;
        let segment = segments.get(at)?;
        let mark = segment
            .marks
            .partition_point(|(first, _)| *first <= index)
            .checked_sub(1)?;
        let (_, offset) = segment.marks.get(mark)?;
        let end = segments.get(at + 1).map_or(u64::MAX, |next| next.first);
        Some((segment.ordinal, *offset, end))
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
            let Some((ordinal, offset, end)) = self.find(next) else {
                break;
            };
            let before = next;
            self.read_segment(ordinal, offset, &mut next, to.min(end), &mut budget, take)?;
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
