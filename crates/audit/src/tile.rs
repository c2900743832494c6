//! Tiles and entry bundles (C2SP tlog-tiles, height 8): the form in which other people's tools read a log.
//!
//! [`Tile`] is a name with its path, [`TileBuilder`] turns a row of leaves into the tiles they complete, and
//! [`TileReader`] looks up tree hashes in a directory of tiles, for proofs. Tiles are derived: the journal is
//! the truth, and every tile can be made again from it.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{self, Disk, RealDisk},
    tree::{self, CompactRange, Hash, Hashes},
};

/// Hashes (or entries) in a full tile.
pub const TILE_WIDTH: u16 = 256;
/// Longest bundle: 256 entries of 65,535 bytes with their lengths.
pub(crate) const MAX_BUNDLE_BYTES: u64 = 256 * (65_535 + 2);

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileKind {
    /// Entries, each after its length in two bytes, big endian.
    Entries,
    /// Tree hashes of level `8 * n`.
    Hashes(u8),
}

/// A tile's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Which one of its level, from 0.
    pub index: u64,
    /// How many hashes or entries: 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The first entry under it.
    pub(crate) fn first_entry(self) -> u64 {
        self.entry_at(0)
    }

    /// The first entry under the hash (or the entry) at `place` in it.
    pub(crate) fn entry_at(self, place: usize) -> u64 {
        let level = match self.kind {
            TileKind::Entries => 0,
            TileKind::Hashes(level) => u32::from(level),
        };
        let row = self
            .index
            .saturating_mul(u64::from(TILE_WIDTH))
            .saturating_add(place as u64);
        row.checked_shl(8 * level).unwrap_or(u64::MAX)
    }

    /// The path of the full tile, whatever the width.
    pub fn full_path(&self) -> String {
        let mut path = match self.kind {
            TileKind::Entries => "tile/entries".to_owned(),
            TileKind::Hashes(level) => format!("tile/{level}"),
        };
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        for group in groups.iter().rev() {
            path.push('/');
            path.push_str(group);
        }
        path
    }
}

impl fmt::Display for Tile {
    /// The path below the log's directory: `tile/0/x001/234`, `tile/entries/000.p/7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full_path())?;
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// The path is not that of a tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct TileError;

impl FromStr for Tile {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/").ok_or(TileError)?;
        let (level, rest) = rest.split_once('/').ok_or(TileError)?;
        let kind = match level {
            "entries" => TileKind::Entries,
            number => TileKind::Hashes(number.parse().ok().filter(|l| *l < 64).ok_or(TileError)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                let width = width.parse().ok().filter(|w| (1..TILE_WIDTH).contains(w));
                (number, width.ok_or(TileError)?)
            }
            None => (rest, TILE_WIDTH),
        };
        let mut index: u64 = 0;
        for group in number.split('/') {
            let digits: u64 = group.trim_start_matches('x').parse().map_err(|_| TileError)?;
            index = index
                .checked_mul(1000)
                .and_then(|i| i.checked_add(digits))
                .ok_or(TileError)?;
        }
        let tile = Self { kind, index, width };
        // One name for each tile: whatever else parsed (signs, zeroes, missing `x`) does not print back.
        if tile.to_string() == path {
            Ok(tile)
        } else {
            Err(TileError)
        }
    }
}

/// The entries of a bundle, or `None` if its lengths do not add up.
pub fn entries(bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        found.push(entry);
        rest = after;
    }
    Some(found)
}

/// The widest that there is of the tile with this index, as its width and bytes; nothing if there is none.
pub(crate) fn widest(
    disk: &dyn Disk,
    dir: &Path,
    kind: TileKind,
    index: u64,
) -> io::Result<Option<(u16, Vec<u8>)>> {
    let full = Tile {
        kind,
        index,
        width: TILE_WIDTH,
    };
    let read = |tile: Tile| disk::read_if_present(disk, &dir.join(tile.to_string()), MAX_BUNDLE_BYTES);
    let names = disk.list(&dir.join(format!("{}.p", full.full_path())));
    let widths = names.unwrap_or_default().into_iter().filter_map(|name| {
        let width = name
            .parse()
            .ok()
            .filter(|width| (1..TILE_WIDTH).contains(width))?;
        Some(Tile { width, ..full })
    });
    // A partial tile goes when its full one has come.
    for tile in [Some(full), widths.max(), Some(full)].into_iter().flatten() {
        if let Some(bytes) = read(tile)? {
            return Ok(Some((tile.width, bytes)));
        }
    }
    Ok(None)
}

/// The part of a tile's bytes that the narrower tile of `width` has.
pub(crate) fn prefix(kind: TileKind, known: &[u8], width: u16) -> &[u8] {
    let bytes = match kind {
        TileKind::Hashes(_) => usize::from(width) * 32,
        TileKind::Entries => entries(known)
            .into_iter()
            .flatten()
            .take(usize::from(width))
            .map(|entry| entry.len() + 2)
            .sum(),
    };
    known.get(..bytes).unwrap_or(known)
}

/// One level's tile that is being filled.
#[derive(Debug, Clone, Default)]
struct Filling {
    index: u64,
    hashes: Vec<Hash>,
}

impl Filling {
    fn bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(Hash::as_bytes).copied().collect()
    }
}

/// Where a [`TileBuilder`] can begin again: a multiple of 256 leaves, and for each level of tiles above the
/// lowest the hashes of the one that is not full.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Frontier {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl Frontier {
    /// How many leaves are behind it.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }
}

/// What is done with a tile that is full.
pub(crate) type OnFull<'a, E> = &'a mut dyn FnMut(Tile, &[u8]) -> Result<(), E>;

/// Turns leaves, one after the other, into tiles.
#[derive(Debug, Default)]
pub(crate) struct TileBuilder {
    size: u64,
    bundle: Vec<u8>,
    levels: Vec<Filling>,
}

impl TileBuilder {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Where to begin again for the tiles that are not full yet.
    pub(crate) fn frontier(&self) -> Frontier {
        Frontier {
            size: self.size - self.size % u64::from(TILE_WIDTH),
            levels: self
                .levels
                .iter()
                .skip(1)
                .map(|level| level.hashes.clone())
                .collect(),
        }
    }

    /// Begins again there; `None` when it is no place where a builder can have been.
    pub(crate) fn restore(frontier: &Frontier) -> Option<Self> {
        let size = frontier.size;
        let filling = |level: u32, hashes: &[Hash]| {
            let hashes_of_level = size.checked_shr(8 * level).unwrap_or_default();
            let width = u64::from(TILE_WIDTH);
            (hashes.len() as u64 == hashes_of_level % width).then(|| Filling {
                index: hashes_of_level / width,
                hashes: hashes.to_vec(),
            })
        };
        let mut levels = Vec::new();
        if size > 0 {
            levels.push(filling(0, &[])?);
        }
        for (level, hashes) in (1..).zip(&frontier.levels) {
            levels.push(filling(level, hashes)?);
        }
        let deeper = u32::try_from(levels.len()).ok()?;
        let complete = size.checked_shr(8 * deeper).unwrap_or_default() == 0;
        complete.then_some(Self {
            size,
            bundle: Vec::new(),
            levels,
        })
    }

    /// The tree over all leaves so far.
    pub(crate) fn tree(&self) -> Option<CompactRange> {
        let mut peaks = Vec::new();
        for level in self.levels.iter().rev() {
            let mut rest = &*level.hashes;
            for bit in (0..8).rev().filter(|bit| level.hashes.len() >> bit & 1 == 1) {
                let (block, after) = rest.split_at_checked(1 << bit)?;
                peaks.push(fold(block));
                rest = after;
            }
        }
        CompactRange::from_peaks(self.size, peaks)
    }

    /// Takes the next leaf (at most 65,535 bytes), and gives each tile that it completes to `full`.
    pub(crate) fn push<E>(&mut self, leaf: &[u8], hash: Hash, full: OnFull<'_, E>) -> Result<(), E> {
        self.push_known(leaf, hash, &[], full)
    }

    /// [`TileBuilder::push`], when the roots of the subtrees of 256, 256² … leaves that end with this one are known.
    pub(crate) fn push_known<E>(
        &mut self,
        leaf: &[u8],
        hash: Hash,
        rows: &[Hash],
        full: OnFull<'_, E>,
    ) -> Result<(), E> {
        let length = u16::try_from(leaf.len()).unwrap_or(u16::MAX);
        self.bundle.extend_from_slice(&length.to_be_bytes());
        self.bundle.extend_from_slice(leaf);
        if (self.size + 1).is_multiple_of(u64::from(TILE_WIDTH)) {
            let tile = Tile {
                kind: TileKind::Entries,
                index: self.size / u64::from(TILE_WIDTH),
                width: TILE_WIDTH,
            };
            full(tile, &self.bundle)?;
            self.bundle.clear();
        }
        self.push_row(hash, rows, full)
    }

    /// [`TileBuilder::push`] for a leaf that is gone: its bundle is not made.
    pub(crate) fn push_hash<E>(&mut self, hash: Hash, full: OnFull<'_, E>) -> Result<(), E> {
        self.push_row(hash, &[], full)
    }

    /// Goes on with the bundle of the tile being filled, of which this is the beginning; its leaves so far came by
    /// [`TileBuilder::push_row`].
    pub(crate) fn take_up_bundle(&mut self, start: &[u8]) {
        self.bundle.clear();
        self.bundle.extend_from_slice(start);
    }

    /// [`TileBuilder::push_known`] for a leaf whose bundle somebody else looks after.
    pub(crate) fn push_row<E>(&mut self, hash: Hash, rows: &[Hash], full: OnFull<'_, E>) -> Result<(), E> {
        self.size += 1;
        let mut rows = rows.iter();
        let mut carried = Some(hash);
        for level in 0_u8..8 {
            let Some(hash) = carried.take() else { break };
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Filling::default());
            }
            let Some(filling) = self.levels.get_mut(usize::from(level)) else {
                break;
            };
            filling.hashes.push(hash);
            if filling.hashes.len() == usize::from(TILE_WIDTH) {
                let tile = Tile {
                    kind: TileKind::Hashes(level),
                    index: filling.index,
                    width: TILE_WIDTH,
                };
                full(tile, &filling.bytes())?;
                carried = Some(rows.next().copied().unwrap_or_else(|| fold(&filling.hashes)));
                filling.hashes.clear();
                filling.index += 1;
            }
        }
        Ok(())
    }

    /// The tiles at the right edge, which are not full, but those of which index and width are `known`.
    pub(crate) fn edge(&self, known: &HashMap<TileKind, (u64, u16)>) -> Vec<(Tile, Vec<u8>)> {
        let mut tiles = Vec::new();
        let mut add = |kind, index, width: u64, bytes: &dyn Fn() -> Vec<u8>| {
            if let Ok(width @ 1..) = u16::try_from(width)
                && known.get(&kind) != Some(&(index, width))
            {
                tiles.push((Tile { kind, index, width }, bytes()));
            }
        };
        let width = u64::from(TILE_WIDTH);
        let bundle = || self.bundle.clone();
        add(TileKind::Entries, self.size / width, self.size % width, &bundle);
        for (level, filling) in (0_u8..).zip(&self.levels) {
            let kind = TileKind::Hashes(level);
            add(kind, filling.index, filling.hashes.len() as u64, &|| {
                filling.bytes()
            });
        }
        tiles
    }
}

/// The root over a power of two of neighbouring hashes.
pub(crate) fn fold(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(tree::node_hash(left, right)),
                [one] => Some(*one),
                _ => None,
            })
            .collect();
    }
    row.first().copied().unwrap_or_else(tree::empty_root)
}

/// Why a hash was not found in a directory of tiles.
#[derive(Debug, thiserror::Error)]
pub enum TileReadError {
    /// The file could not be read.
    #[error("reading {path} failed")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is too short or the tree has no such hash.
    #[error("{path} does not have the hash that it should")]
    Short {
        /// Which file.
        path: PathBuf,
    },
}

/// Tree hashes out of the tiles of a log of `size` entries. Nothing it returns is trusted: proofs built from
/// it are worth what their verification says.
#[derive(Debug)]
pub struct TileReader {
    dir: PathBuf,
    size: u64,
}

impl TileReader {
    /// Reads tiles below `dir` as of the checkpoint of `size` entries.
    pub fn new(dir: &Path, size: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            size,
        }
    }

    fn tile(&self, level: u8, index: u64) -> Result<(PathBuf, Vec<u8>), TileReadError> {
        let have = self.size.checked_shr(8 * u32::from(level)).unwrap_or_default();
        let left = have.saturating_sub(index.saturating_mul(u64::from(TILE_WIDTH)));
        let width = u16::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
        let tile = Tile {
            kind: TileKind::Hashes(level),
            index,
            width,
        };
        let limit = u64::from(TILE_WIDTH) * 32;
        let path = self.dir.join(tile.to_string());
        // A partial tile goes when its full one has come.
        let full = self.dir.join(tile.full_path());
        match RealDisk.read(&path, limit) {
            Ok(bytes) => Ok((path, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => RealDisk
                .read(&full, limit)
                .map(|bytes| (full.clone(), bytes))
                .map_err(|source| TileReadError::Read { path: full, source }),
            Err(source) => Err(TileReadError::Read { path, source }),
        }
    }
}

impl Hashes for TileReader {
    type Error = TileReadError;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, TileReadError> {
        let width = u64::from(TILE_WIDTH);
        let tile_level = u8::try_from(level / 8).unwrap_or(u8::MAX);
        let first = index << (level % 8);
        let (path, bytes) = self.tile(tile_level, first / width)?;
        let skip = usize::try_from(first % width).unwrap_or_default();
        let (rows, _) = bytes.as_chunks::<32>();
        let hashes: Vec<Hash> = rows
            .iter()
            .skip(skip)
            .take(1 << (level % 8))
            .map(|row| Hash::from_bytes(*row))
            .collect();
        if hashes.len() == 1 << (level % 8) {
            Ok(fold(&hashes))
        } else {
            Err(TileReadError::Short { path })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        convert::Infallible,
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_standard() {
        let tile = |kind, index, width| Tile { kind, index, width }.to_string();
        assert_eq!(tile(TileKind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile(TileKind::Hashes(3), 0, 17), "tile/3/000.p/17");
        assert_eq!(tile(TileKind::Entries, 1000, 256), "tile/entries/x001/000");
        for bad in [
            "tile/0/0",
            "tile/00/000",
            "tile/64/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/+12",
            "checkpoint",
            "tile/entries/999999999/999",
        ] {
            assert!(bad.parse::<Tile>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_that_the_standard_counts() {
        let mut builder = TileBuilder::default();
        let mut full: BTreeMap<TileKind, u64> = BTreeMap::new();
        for i in 0..70_000_u32 {
            let leaf = i.to_be_bytes();
            builder
                .push(&leaf, tree::leaf_hash(&leaf), &mut |tile, bytes| {
                    *full.entry(tile.kind).or_default() += 1;
                    assert!(tile.kind == TileKind::Entries || bytes.len() == 8192);
                    Ok::<_, Infallible>(())
                })
                .unwrap();
        }
        assert_eq!(full[&TileKind::Hashes(0)], 273);
        assert_eq!(full[&TileKind::Hashes(1)], 1);
        let edge: Vec<String> = builder
            .edge(&HashMap::new())
            .iter()
            .map(|(tile, _)| tile.to_string())
            .collect();
        assert_eq!(
            edge,
            [
                "tile/entries/273.p/112",
                "tile/0/273.p/112",
                "tile/1/001.p/17",
                "tile/2/000.p/1"
            ]
        );
    }

    #[test]
    fn a_builder_goes_on_from_its_frontier_and_knows_its_tree() {
        let (mut builder, mut tree) = (TileBuilder::default(), CompactRange::new());
        let mut restored = TileBuilder::restore(&builder.frontier()).unwrap();
        for i in 0..140_000_u32 {
            let leaf = i.to_be_bytes();
            let hash = tree::leaf_hash(&leaf);
            let keep = &mut |_: Tile, _: &[u8]| Ok::<_, Infallible>(());
            builder.push(&leaf, hash, keep).unwrap();
            restored.push(&leaf, hash, keep).unwrap();
            tree.push(hash);
            let size = builder.size();
            if size % 9_999 == 0 || size == 65_536 || size == 131_072 {
                assert_eq!(builder.tree().unwrap(), tree, "{size}");
            }
            if size.is_multiple_of(256 * 37) || size == 65_536 {
                restored = TileBuilder::restore(&builder.frontier()).unwrap();
            }
        }
        let known = HashMap::new();
        assert_eq!(restored.edge(&known), builder.edge(&known));
    }

    #[test]
    fn a_frontier_that_does_not_add_up_is_refused() {
        let level = |n| vec![tree::empty_root(); n];
        for (size, levels) in [
            (256, vec![]),
            (256, vec![level(2)]),
            (65_536, vec![level(0)]),
            (65_536, vec![level(1), level(1)]),
            (100, vec![]),
        ] {
            assert!(
                TileBuilder::restore(&Frontier { size, levels }).is_none(),
                "{size}"
            );
        }
        let levels = vec![level(0), level(1)];
        assert!(TileBuilder::restore(&Frontier { size: 65_536, levels }).is_some());
    }

    proptest! {
        #[test]
        fn tile_paths_read_back(level in 0_u8..64, index in any::<u64>(), width in 1_u16..=256, entries in any::<bool>()) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
            let tile = Tile { kind, index, width };
            prop_assert_eq!(tile.to_string().parse::<Tile>().unwrap(), tile);
        }

        #[test]
        fn any_path_and_bundle_is_read_or_refused_without_panic(path in "tile/[0-9a-z]{0,7}/[x0-9./p]{0,20}", bundle in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = path.parse::<Tile>();
            let _ = entries(&bundle);
        }
    }
}
