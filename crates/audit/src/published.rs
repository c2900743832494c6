//! A log by its published form, as it was at one size: tree hashes and leaves out of tiles, wherever those are.
//!
//! [`TileHashes`] makes proofs from anything that has tiles and remembers which ones it needed; [`Published`] is
//! a log's directory, in which a tile may have grown since. Nothing read here is trusted: proofs are worth what
//! their verification says.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{Disk as _, RealDisk},
    tile::{self, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, TileKind},
    tree::{Hash, Hashes},
};

/// Where tiles come from.
pub trait TileSource {
    /// The tile's bytes, exactly so wide.
    ///
    /// # Errors
    /// When there is no such tile.
    fn tile(&self, tile: Tile) -> Result<Vec<u8>, TileMissing>;
}

/// A tile cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tile} {why}")]
pub struct TileMissing {
    /// Which.
    pub tile: Tile,
    /// In words.
    pub why: String,
}

/// The tile of this kind and index in a log of `size` entries; `None` if there is none.
pub(crate) fn tile_at(kind: TileKind, index: u64, size: u64) -> Option<Tile> {
    let have = match kind {
        TileKind::Entries => size,
        TileKind::Hashes(level) => size.checked_shr(8 * u32::from(level)).unwrap_or_default(),
    };
    let left = have.saturating_sub(index.saturating_mul(u64::from(TILE_WIDTH)));
    let width = u16::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
    (width > 0).then_some(Tile { kind, index, width })
}

/// The tree hashes of a log at one size.
#[derive(Debug)]
pub struct TileHashes<'a, S> {
    source: &'a S,
    size: u64,
    used: RefCell<BTreeMap<Tile, Vec<u8>>>,
}

impl<'a, S: TileSource> TileHashes<'a, S> {
    /// Hashes of the tree of `size` leaves.
    pub const fn new(source: &'a S, size: u64) -> Self {
        Self {
            source,
            size,
            used: RefCell::new(BTreeMap::new()),
        }
    }

    /// The tiles that were needed so far.
    pub fn into_used(self) -> BTreeMap<Tile, Vec<u8>> {
        self.used.into_inner()
    }
}

impl<S: TileSource> Hashes for TileHashes<'_, S> {
    type Error = TileMissing;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, TileMissing> {
        let width = u64::from(TILE_WIDTH);
        let kind = TileKind::Hashes(u8::try_from(level / 8).unwrap_or(u8::MAX));
        let first = index << (level % 8);
        let tile = tile_at(kind, first / width, self.size).ok_or_else(|| TileMissing {
            tile: Tile {
                kind,
                index: first / width,
                width: TILE_WIDTH,
            },
            why: format!("is beyond a log of {} entries", self.size),
        })?;
        let mut used = self.used.borrow_mut();
        let bytes = match used.get(&tile) {
            Some(bytes) => bytes,
            None => used.entry(tile).or_insert(self.source.tile(tile)?),
        };
        let (rows, _) = bytes.as_chunks::<32>();
        let skip = usize::try_from(first % width).unwrap_or_default();
        let hashes: Vec<Hash> = rows
            .iter()
            .skip(skip)
            .take(1 << (level % 8))
            .map(|row| Hash::from_bytes(*row))
            .collect();
        if hashes.len() == 1 << (level % 8) {
            return Ok(tile::fold(&hashes));
        }
        Err(TileMissing {
            tile,
            why: "is too short".to_owned(),
        })
    }
}

/// A log's directory.
#[derive(Debug, Clone)]
pub struct Published(PathBuf);

impl Published {
    /// The log in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Gives every leaf in `from..size` to `take`, in order, until it says that it has enough (`false`).
    ///
    /// # Errors
    /// When a bundle of entries is missing or is not one.
    pub fn leaves(
        &self,
        from: u64,
        size: u64,
        take: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), TileMissing> {
        let width = u64::from(TILE_WIDTH);
        let mut next = from;
        while let Some(tile) = tile_at(TileKind::Entries, next / width, size).filter(|_| next < size) {
            let bytes = self.tile(tile)?;
            let entries = tile::entries(&bytes).filter(|entries| entries.len() == usize::from(tile.width));
            let entries = entries.ok_or_else(|| TileMissing {
                tile,
                why: "does not hold the entries that it should".to_owned(),
            })?;
            let skip = usize::try_from(next % width).unwrap_or_default();
            for leaf in entries.iter().skip(skip) {
                if !take(next, leaf) {
                    return Ok(());
                }
                next += 1;
            }
        }
        Ok(())
    }

    /// The first entry that is still there: the log may have been pruned.
    pub fn first(&self) -> u64 {
        let entries = self.0.join("tile/entries");
        let first = lowest(&entries).and_then(|path| {
            let name = path.strip_prefix(&self.0).ok()?.to_str()?.to_owned();
            name.trim_end_matches(".p").parse::<Tile>().ok()
        });
        first.map_or(0, |tile| tile.index * u64::from(TILE_WIDTH))
    }

    /// The narrowest version of a tile that is there and at least as wide; else the full one.
    fn wider(&self, tile: Tile) -> Tile {
        let partial = self.0.join(format!("{}.p", tile.full_path()));
        let names = fs::read_dir(partial).into_iter().flatten().flatten();
        let widths = names.filter_map(|name| name.file_name().to_str()?.parse::<u16>().ok());
        let width = widths
            .filter(|width| (tile.width..TILE_WIDTH).contains(width))
            .min();
        Tile {
            width: width.unwrap_or(TILE_WIDTH),
            ..tile
        }
    }
}

/// The lowest bundle below a directory. Names sort as their numbers do, but groups that others follow come last.
fn lowest(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let first = names.min_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_os_string();
        (name.to_string_lossy().starts_with('x'), name)
    })?;
    let name = first.file_name()?.to_string_lossy().into_owned();
    if name.starts_with('x') {
        lowest(&first)
    } else {
        Some(first)
    }
}

impl TileSource for Published {
    fn tile(&self, tile: Tile) -> Result<Vec<u8>, TileMissing> {
        let missing = |why: String| TileMissing { tile, why };
        let read = |tile: Tile| RealDisk.read(&self.0.join(tile.to_string()), MAX_BUNDLE_BYTES);
        let bytes = match read(tile) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => read(self.wider(tile)),
            result => result,
        };
        let bytes = bytes.map_err(|error| missing(format!("cannot be read: {error}")))?;
        Ok(tile::prefix(tile.kind, &bytes, tile.width).to_vec())
    }
}
