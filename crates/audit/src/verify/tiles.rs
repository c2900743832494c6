//! Compares every tile and entry bundle on disk with what the journal gives.
//!
//! Walks along with the journal: each tile is compared when it is complete, the last ones at the end, and
//! whatever is then left in the tile directory should not be there.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    fs, io, iter,
    path::{Path, PathBuf},
};

use super::{Problem, ProblemKind};
use crate::{
    disk::{Disk as _, RealDisk},
    scan::Seen,
    state::State,
    tile::{self, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, TileBuilder, TileKind, TileReader},
    tree::{self, Hash},
};

/// More problems than this are not listed one by one.
const MAX_PROBLEMS: usize = 100;

pub(super) struct TileCheck {
    /// Nothing, if the tiles of pruned entries are not as they should be: then the rest cannot be made again.
    builder: Option<TileBuilder>,
    files: Files,
    /// The whole bundle on disk that the entries are held against one by one, as long as they are what it has.
    bundle: Matched,
}

/// A bundle's file, and up to where the journal's entries were found in it.
#[derive(Default)]
struct Matched {
    bytes: Vec<u8>,
    at: usize,
    /// Whether there is such a file and it fits so far.
    fits: bool,
}

impl Matched {
    /// Whether the next entry of the bundle is this one.
    fn has(&mut self, leaf: &[u8]) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = u16::try_from(leaf.len()).unwrap_or(u16::MAX).to_be_bytes();
        let fits = rest
            .strip_prefix(&length)
            .is_some_and(|rest| rest.starts_with(leaf));
        if fits {
            self.at += length.len() + leaf.len();
        }
        fits
    }
}

impl TileCheck {
    /// `published` is the size of the published checkpoint: tiles up to there must exist.
    pub(super) fn new(dir: &Path, published: u64, in_use: bool) -> Self {
        Self {
            builder: Some(TileBuilder::default()),
            files: Files {
                dir: dir.to_owned(),
                published,
                in_use,
                seen: HashSet::new(),
                problems: Vec::new(),
                buffer: Vec::new(),
            },
            bundle: Matched::default(),
        }
    }

    /// The entries before `base` were pruned. Their hash tiles must still give the tree that the log had there.
    pub(super) fn begin(&mut self, base: &State) {
        let mut builder = TileBuilder::default();
        match self.files.pruned(&mut builder, base) {
            Ok(()) if builder.tree().as_ref() == Some(&base.tree) => self.builder = Some(builder),
            Ok(()) => {
                let path = self.files.dir.join("tile");
                let text = "the tiles of the pruned entries do not give the tree that the log signed";
                self.files.problem(0, path, None, text);
                self.builder = None;
            }
            Err(problem) => {
                self.files.problems.push(problem);
                self.builder = None;
            }
        }
    }

    /// The root at a size at which the entries are gone, out of the tiles.
    pub(super) fn root_of(&self, size: u64) -> Option<Hash> {
        self.builder.as_ref()?;
        tree::root_of(&TileReader::new(&self.files.dir, size), size).ok()
    }

    /// The next leaf of the journal.
    pub(super) fn take(&mut self, seen: &Seen<'_>) {
        let (files, bundle) = (&mut self.files, &mut self.bundle);
        let Some(builder) = &mut self.builder else { return };
        let width = u64::from(TILE_WIDTH);
        if seen.index.is_multiple_of(width) {
            (bundle.at, bundle.fits) = (0, files.read_bundle(seen.index / width, &mut bundle.bytes));
        }
        if bundle.fits && bundle.has(seen.leaf) {
            if (seen.index + 1).is_multiple_of(width) {
                files.compare_matched(seen.index / width, bundle);
            }
            let pushed: Result<(), Infallible> =
                builder.push_row(seen.hash, seen.grown.rows(), &mut |tile, bytes| {
                    files.compare(tile, bytes);
                    Ok(())
                });
            let Ok(()) = pushed;
            return;
        }
        if std::mem::take(&mut bundle.fits) {
            builder.take_up_bundle(bundle.bytes.get(..bundle.at).unwrap_or_default());
        }
        let pushed: Result<(), Infallible> =
            builder.push_known(seen.leaf, seen.hash, seen.grown.rows(), &mut |tile, bytes| {
                files.compare(tile, bytes);
                Ok(())
            });
        let Ok(()) = pushed;
    }

    /// There are no more leaves.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let Some(builder) = &mut self.builder else {
            return self.files.problems;
        };
        if self.bundle.fits {
            builder.take_up_bundle(self.bundle.bytes.get(..self.bundle.at).unwrap_or_default());
        }
        for (tile, bytes) in builder.edge(&HashMap::new()) {
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
    /// The file being compared.
    buffer: Vec<u8>,
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

    /// Takes the pruned entries into the builder, by the hashes that are left of them.
    fn pruned(&mut self, builder: &mut TileBuilder, base: &State) -> Result<(), Problem> {
        let width = u64::from(TILE_WIDTH);
        let size = base.tree.size();
        for index in 0..size.div_ceil(width) {
            let known = usize::try_from(size - index * width).unwrap_or(usize::MAX);
            let hashes = self.hashes(index, known.min(usize::from(TILE_WIDTH)))?;
            let leaves = self.leaves(index, &hashes)?;
            for (place, hash) in hashes.iter().enumerate() {
                let mut compare = |tile: Tile, bytes: &[u8]| {
                    if tile.kind != TileKind::Entries {
                        self.compare(tile, bytes);
                    }
                    Ok::<_, Infallible>(())
                };
                // Whole bundles are gone or about to be; the one that the journal begins in is compared.
                let leaf = leaves
                    .get(place)
                    .filter(|_| hashes.len() < usize::from(TILE_WIDTH));
                let Ok(()) = match leaf {
                    Some(leaf) => builder.push(leaf, *hash, &mut compare),
                    None => builder.push_hash(*hash, &mut compare),
                };
            }
        }
        Ok(())
    }

    /// The first `known` leaf hashes of the tile with this index.
    fn hashes(&self, index: u64, known: usize) -> Result<Vec<Hash>, Problem> {
        let kind = TileKind::Hashes(0);
        let found = tile::widest(&RealDisk, &self.dir, kind, index).ok().flatten();
        let (_, bytes) = found.unwrap_or_default();
        let hashes: Vec<Hash> = bytes
            .as_chunks::<32>()
            .0
            .iter()
            .take(known)
            .map(|row| Hash::from_bytes(*row))
            .collect();
        if hashes.len() == known {
            return Ok(hashes);
        }
        let tile = Tile {
            kind,
            index,
            width: TILE_WIDTH,
        };
        Err(Problem {
            kind: ProblemKind::Tile,
            index: Some(tile.first_entry()),
            path: self.dir.join(tile.to_string()),
            offset: None,
            text: "the hashes of pruned entries are needed, and are not all there".to_owned(),
        })
    }

    /// What is left of the bundle with this index, held against the hashes.
    fn leaves(&mut self, index: u64, hashes: &[Hash]) -> Result<Vec<Vec<u8>>, Problem> {
        let kind = TileKind::Entries;
        let found = tile::widest(&RealDisk, &self.dir, kind, index).ok().flatten();
        let Some((width, bytes)) = found else {
            return Ok(Vec::new());
        };
        let path = self.dir.join(Tile { kind, index, width }.to_string());
        let leaves = tile::entries(&bytes).unwrap_or_default();
        let differs = hashes
            .iter()
            .zip(
                leaves
                    .iter()
                    .map(|leaf| Some(tree::leaf_hash(leaf)))
                    .chain(iter::repeat(None)),
            )
            .position(|(hash, leaf)| leaf != Some(*hash));
        if let Some(place) = differs {
            return Err(Problem {
                kind: ProblemKind::Tile,
                index: Some(Tile { kind, index, width }.entry_at(place)),
                path,
                offset: None,
                text: "an entry of the bundle is not the one that its hash is of".to_owned(),
            });
        }
        if hashes.len() == usize::from(TILE_WIDTH) {
            self.seen.insert(path);
        }
        Ok(leaves
            .into_iter()
            .take(hashes.len())
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// Reads a whole bundle of entries; whether there is one.
    fn read_bundle(&self, index: u64, bytes: &mut Vec<u8>) -> bool {
        let tile = whole_bundle(index);
        let path = self.dir.join(tile.to_string());
        RealDisk.read_start(&path, MAX_BUNDLE_BYTES + 1, bytes).is_ok()
    }

    /// All entries of a whole bundle were found in its file: what is left to look at is behind them and beside it.
    fn compare_matched(&mut self, index: u64, bundle: &Matched) {
        let tile = whole_bundle(index);
        let (known, behind) = bundle.bytes.split_at_checked(bundle.at).unwrap_or_default();
        if behind.is_empty() {
            self.seen.insert(self.dir.join(tile.to_string()));
            self.compare_partial(tile, known, true);
        } else {
            self.compare(tile, known);
        }
    }

    /// Compares all that is on disk of one tile, full or partial, with `bytes`, which has all that is known.
    fn compare(&mut self, tile: Tile, bytes: &[u8]) {
        let full = Tile {
            width: TILE_WIDTH,
            ..tile
        };
        let has_full = self.compare_file(full, tile.width, bytes);
        self.compare_partial(tile, bytes, has_full);
    }

    fn compare_partial(&mut self, tile: Tile, bytes: &[u8], has_full: bool) {
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
            self.problem(tile.first_entry(), path, None, text);
        }
    }

    /// Whether the file is there.
    fn compare_file(&mut self, file: Tile, known_width: u16, known: &[u8]) -> bool {
        let path = self.dir.join(file.to_string());
        match RealDisk.read_start(&path, MAX_BUNDLE_BYTES + 1, &mut self.buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => {
                let text = format!("it cannot be read: {error}");
                self.problem(file.first_entry(), path, None, &text);
                return true;
            }
        }
        let found = &self.buffer;
        self.seen.insert(path.clone());
        let expected = tile::prefix(file.kind, known, file.width);
        if file.width > known_width {
            // While the log is in use it may have grown since; then what is known must be its start.
            if !(self.in_use && found.starts_with(expected)) {
                let text = "it has more than the journal has";
                self.problem(file.entry_at(usize::from(known_width)), path, None, text);
            }
        } else if found != expected {
            let at = expected
                .iter()
                .zip(found)
                .position(|(a, b)| a != b)
                .unwrap_or(expected.len().min(found.len()));
            let place = file.entry_at(place_of(file.kind, expected, at));
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
                let index = place.map_or(0, Tile::first_entry);
                let text = "this file belongs to no entry of the journal";
                self.problem(index, path, None, text);
            }
        }
    }
}

fn whole_bundle(index: u64) -> Tile {
    Tile {
        kind: TileKind::Entries,
        index,
        width: TILE_WIDTH,
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
