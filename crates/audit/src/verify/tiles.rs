//! Compares every tile and entry bundle on disk with what the journal gives.
//!
//! Walks along with the journal: each tile is compared when it is complete, the last ones at the end, and
//! whatever is then left in the tile directory should not be there.

use std::{
    collections::HashSet,
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Problem, ProblemKind};
use crate::{
    disk::{Disk as _, RealDisk},
    tile::{self, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, TileBuilder, TileKind},
    tree::Hash,
};

/// More problems than this are not listed one by one.
const MAX_PROBLEMS: usize = 100;

pub(super) struct TileCheck {
    builder: TileBuilder,
    files: Files,
}

impl TileCheck {
    /// `published` is the size of the published checkpoint: tiles up to there must exist.
    pub(super) fn new(dir: &Path, published: u64, in_use: bool) -> Self {
        Self {
            builder: TileBuilder::default(),
            files: Files {
                dir: dir.to_owned(),
                published,
                in_use,
                seen: HashSet::new(),
                problems: Vec::new(),
            },
        }
    }

    /// The next leaf of the journal.
    pub(super) fn take(&mut self, leaf: &[u8], hash: Hash) {
        let files = &mut self.files;
        let pushed: Result<(), Infallible> = self.builder.push(leaf, hash, &mut |tile, bytes| {
            files.compare(tile, bytes);
            Ok(())
        });
        let Ok(()) = pushed;
    }

    /// There are no more leaves.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (tile, bytes) in self.builder.edge() {
            self.files.compare(tile, &bytes);
        }
        let top = self.files.dir.join("tile");
        self.files.leftovers(&top);
        self.files.problems
    }
}

struct Files {
    dir: PathBuf,
    published: u64,
    in_use: bool,
    seen: HashSet<PathBuf>,
    problems: Vec<Problem>,
}

impl Files {
    fn problem(&mut self, index: u64, path: PathBuf, offset: Option<u64>, text: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem {
                kind: ProblemKind::Tile,
                index: Some(index),
                path,
                offset,
                text: text.to_owned(),
            });
        }
    }

    /// Compares all that is on disk of one tile, full or partial, with `bytes`, which has all that is known.
    fn compare(&mut self, tile: Tile, bytes: &[u8]) {
        let full = Tile {
            width: TILE_WIDTH,
            ..tile
        };
        let has_full = self.compare_file(full, tile.width, bytes);
        let partial_dir = self.dir.join(format!("{}.p", tile.full_path()));
        let mut widths = Vec::new();
        for name in names(&partial_dir) {
            let path = format!("{}.p/{name}", tile.full_path());
            if let Ok(partial) = path.parse::<Tile>() {
                self.compare_file(partial, tile.width, bytes);
                widths.push(partial.width);
            }
        }
        let needed = needed_width(self.published, tile);
        let missing = Tile {
            width: needed,
            ..tile
        };
        if needed > 0 && !has_full && !(needed < TILE_WIDTH && widths.contains(&needed)) {
            let path = self.dir.join(missing.to_string());
            let text = "the published checkpoint needs this file, and it is not there";
            self.problem(first_entry(tile, 0), path, None, text);
        }
    }

    /// Whether the file is there.
    fn compare_file(&mut self, file: Tile, known_width: u16, known: &[u8]) -> bool {
        let path = self.dir.join(file.to_string());
        let found = match RealDisk.read(&path, MAX_BUNDLE_BYTES) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => {
                let text = format!("it cannot be read: {error}");
                self.problem(first_entry(file, 0), path, None, &text);
                return true;
            }
        };
        self.seen.insert(path.clone());
        let expected = tile::prefix(file.kind, known, file.width);
        if file.width > known_width {
            // While the log is in use it may have grown since; then what is known must be its start.
            if !(self.in_use && found.starts_with(expected)) {
                let text = "it has more than the journal has";
                self.problem(first_entry(file, usize::from(known_width)), path, None, text);
            }
        } else if found != expected {
            let at = expected
                .iter()
                .zip(&found)
                .position(|(a, b)| a != b)
                .unwrap_or(expected.len().min(found.len()));
            let place = first_entry(file, place_of(file.kind, expected, at));
            let text = "it is not what the journal gives";
            self.problem(place, path, Some(at as u64), text);
        }
        true
    }

    /// Reports the files that belong to no tile of the journal.
    fn leftovers(&mut self, dir: &Path) {
        for name in names(dir) {
            let path = dir.join(&name);
            if path.is_dir() {
                self.leftovers(&path);
            } else if !self.seen.contains(&path) && !self.in_use {
                let relative = path.strip_prefix(&self.dir).unwrap_or(&path);
                let place = relative.to_string_lossy().parse::<Tile>();
                let index = place.map_or(0, |tile| first_entry(tile, 0));
                let text = "this file belongs to no entry of the journal";
                self.problem(index, path, None, text);
            }
        }
    }
}

/// The names in a directory, in order; none if there is no such directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// How many levels of eight the tile's hashes stand above the leaves.
fn level(tile: Tile) -> u32 {
    match tile.kind {
        TileKind::Entries => 0,
        TileKind::Hashes(level) => u32::from(level),
    }
}

/// How wide the tile must be in a tree of `size` leaves; 0 if it has none.
fn needed_width(size: u64, tile: Tile) -> u16 {
    let have = size.checked_shr(8 * level(tile)).unwrap_or_default();
    let left = have.saturating_sub(tile.index.saturating_mul(u64::from(TILE_WIDTH)));
    u16::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH)
}

/// The first entry under the hash (or the entry) at `place` in the tile.
fn first_entry(tile: Tile, place: usize) -> u64 {
    let row = tile
        .index
        .saturating_mul(u64::from(TILE_WIDTH))
        .saturating_add(place as u64);
    row.checked_shl(8 * level(tile)).unwrap_or(u64::MAX)
}

/// Which hash or entry of the tile the byte at `offset` is in.
fn place_of(kind: TileKind, bytes: &[u8], offset: usize) -> usize {
    match kind {
        TileKind::Hashes(_) => offset / 32,
        TileKind::Entries => {
            let mut end = 0;
            tile::entries(bytes)
                .into_iter()
                .flatten()
                .take_while(|entry| {
                    end += entry.len() + 2;
                    end <= offset
                })
                .count()
        }
    }
}
