//! Layers of an image, one on top of the other, into one directory: the OCI image layer format, version 1.
//!
//! A layer is a hostile archive. The kernel resolves every name below the directory (`openat2`, `RESOLVE_IN_ROOT`),
//! so that a link in the image leads at most to the image's own root, as it will in the cage; the last part of a
//! name is never followed. What has no business in an image is refused: names with `..` or from the root, device
//! nodes, sparse files, more bytes or entries than the bounds allow. Set-user-id bits are dropped, and everything is
//! made readable for the one user that a cage has: an image has no secrets from its own agent.

use std::{
    borrow::Cow,
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fchmod, futimens, linkat,
        mkdirat, openat, openat2, renameat, statat, symlinkat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::{Doing, ImageError, refused};

/// A name that begins like this takes something of a lower layer away.
const WHITEOUT: &[u8] = b".wh.";
/// This one takes away everything that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The longest name, and the longest extended header, in bytes.
const LONGEST_NAME: u64 = 4096;
const LONGEST_HEADER: u64 = 64 << 10;
/// The most directories on the way to a file.
const DEEPEST: usize = 128;

/// How much an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files of all layers.
    pub bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
}

impl Default for Bounds {
    /// 16 GiB in a million entries.
    fn default() -> Self {
        Self {
            bytes: 16 << 30,
            entries: 1_000_000,
        }
    }
}

/// Unpacks the layers of one image.
#[derive(Debug)]
pub struct Unpacker {
    root: OwnedFd,
    /// What a later layer takes away goes here at once and is removed at the end.
    trash: OwnedFd,
    trashed: u64,
    left: Bounds,
}

/// What an entry is, with all its headers read.
struct Item {
    path: PathBuf,
    link: Option<Vec<u8>>,
    kind: EntryType,
    mode: u32,
    size: u64,
    mtime: i64,
}

impl Unpacker {
    /// Unpacks into `dir`, which has nothing in it yet.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn new(dir: &Path, bounds: Bounds) -> Result<Self, ImageError> {
        let (root, trash) = (dir.join("root"), dir.join("trash"));
        for place in [&root, &trash] {
            fs::create_dir(place).doing("make a directory for an image")?;
        }
        let open = |place: &Path| {
            openat(CWD, place, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(io::Error::from)
                .doing("open a directory for an image")
        };
        let root = open(&root)?;
        fchmod(&root, Mode::from_raw_mode(0o755))
            .map_err(io::Error::from)
            .doing("open an image to its cages")?;
        Ok(Self {
            trash: open(&trash)?,
            root,
            trashed: 0,
            left: bounds,
        })
    }

    /// Puts one layer, an uncompressed tar, on top of those before it.
    ///
    /// # Errors
    /// When the layer is refused, is not a tar, or cannot be written.
    pub fn layer(&mut self, layer: impl Read) -> Result<(), ImageError> {
        let mut made = HashSet::new();
        let mut headers = Headers::default();
        let mut archive = Archive::new(layer);
        let entries = archive.entries().doing("read a layer")?.raw(true);
        for entry in entries {
            let mut entry = entry.doing("read a layer")?;
            self.left.entries = spend(self.left.entries, 1, "entries")?;
            if headers.take(&mut entry)? {
                continue;
            }
            let item = std::mem::take(&mut headers).item(&entry)?;
            self.left.bytes = spend(self.left.bytes, item.size, "bytes")?;
            self.put(&item, &mut entry, &mut made)
                .map_err(|error| within(error, &item.path))?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        item: &Item,
        content: &mut impl Read,
        made: &mut HashSet<PathBuf>,
    ) -> Result<(), ImageError> {
        let Some(name) = item.path.file_name() else {
            // The root itself.
            return Ok(());
        };
        let parent_path = item.path.parent().unwrap_or(Path::new(""));
        let parent = self.directory(parent_path)?;
        if name.as_bytes() == OPAQUE {
            return self.clear(&parent, parent_path, made);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.hide(&parent, hidden);
        }
        match item.kind {
            EntryType::Directory => self.put_directory(&parent, name, item)?,
            EntryType::Regular | EntryType::Continuous => self.put_file(&parent, name, item, content)?,
            EntryType::Symlink => self.put_symlink(&parent, name, item)?,
            EntryType::Link => self.put_hard_link(&parent, name, item)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo if item.path.starts_with("dev") => {
                // Every cage has a `/dev` of its own, whatever the image's was.
                return Ok(());
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(refused(
                    "it is a device node or a pipe, which an image may have below `dev` only",
                ));
            }
            other => {
                return Err(refused(format!(
                    "it is of a kind that an image has no use for ({other:?})"
                )));
            }
        }
        made.insert(item.path.clone());
        Ok(())
    }

    /// The directory of this name, made with those above it where they are missing.
    fn directory(&self, path: &Path) -> Result<OwnedFd, ImageError> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            found => return found.map_err(io::Error::from).doing("walk to a directory"),
        }
        let mut at = self
            .open(Path::new(""))
            .map_err(io::Error::from)
            .doing("open the image")?;
        let mut walked = PathBuf::new();
        for part in path.components() {
            walked.push(part);
            at = match self.open(&walked) {
                Err(Errno::NOENT) => {
                    make_directory(&at, part.as_os_str(), 0o755)?;
                    self.open(&walked)
                }
                found => found,
            }
            .map_err(io::Error::from)
            .doing("walk to a directory")?;
        }
        Ok(at)
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    fn put_directory(&mut self, parent: &OwnedFd, name: &OsStr, item: &Item) -> Result<(), ImageError> {
        if kind_of(parent, name)? != Some(FileType::Directory) {
            self.discard(parent, name)?;
            make_directory(parent, name, 0o755)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, name, flags, Mode::empty())
            .map_err(io::Error::from)
            .doing("open a directory")?;
        let mode = Mode::from_raw_mode(for_everybody(item.mode, 0o755));
        fchmod(&made, mode).map_err(io::Error::from).doing("set a mode")
    }

    fn put_file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        item: &Item,
        content: &mut impl Read,
    ) -> Result<(), ImageError> {
        self.discard(parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(io::Error::from)
            .doing("make a file")?;
        let mut file = File::from(made);
        let copied = io::copy(&mut content.take(item.size), &mut file).doing("write a file")?;
        if copied != item.size {
            return Err(refused("the layer ends in the middle of it"));
        }
        let mode = Mode::from_raw_mode(for_everybody(item.mode, 0o600));
        fchmod(&file, mode).map_err(io::Error::from).doing("set a mode")?;
        // Python and make go by it.
        let time = Timespec {
            tv_sec: item.mtime,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        futimens(&file, &times)
            .map_err(io::Error::from)
            .doing("set a time")
    }

    fn put_symlink(&mut self, parent: &OwnedFd, name: &OsStr, item: &Item) -> Result<(), ImageError> {
        let target = item.link.as_deref().unwrap_or_default();
        self.discard(parent, name)?;
        symlinkat(target, parent, name)
            .map_err(io::Error::from)
            .doing("make a link")
    }

    /// A second name of a file of this image; links are not followed, on the last part of either name.
    fn put_hard_link(&mut self, parent: &OwnedFd, name: &OsStr, item: &Item) -> Result<(), ImageError> {
        let target = plain(item.link.as_deref().unwrap_or_default())?;
        let target_name = target
            .file_name()
            .ok_or_else(|| refused("it is a link to the root"))?;
        let target_parent = self
            .open(target.parent().unwrap_or(Path::new("")))
            .map_err(io::Error::from)
            .doing("find what it is a link to")?;
        if target == item.path {
            return Err(refused("it is a link to itself"));
        }
        match kind_of(&target_parent, target_name)? {
            Some(FileType::RegularFile | FileType::Symlink) => {}
            _ => return Err(refused("it is a link to something that is no file of the image")),
        }
        self.discard(parent, name)?;
        linkat(&target_parent, target_name, parent, name, AtFlags::empty())
            .map_err(io::Error::from)
            .doing("make a hard link")
    }

    /// Takes away what lower layers have under this name.
    fn hide(&mut self, parent: &OwnedFd, hidden: &[u8]) -> Result<(), ImageError> {
        if hidden.is_empty() || matches!(hidden, b"." | b"..") {
            return Err(refused("it hides something that has no name"));
        }
        self.discard(parent, OsStr::from_bytes(hidden))
    }

    /// Takes away what lower layers have in this directory.
    fn clear(&mut self, dir: &OwnedFd, path: &Path, made: &HashSet<PathBuf>) -> Result<(), ImageError> {
        let reading = openat(dir, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)
            .doing("read a directory")?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(reading)
            .map_err(io::Error::from)
            .doing("read a directory")?
        {
            let entry = entry.map_err(io::Error::from).doing("read a directory")?;
            names.push(entry.file_name().to_bytes().to_vec());
        }
        for name in names {
            let name = OsStr::from_bytes(&name);
            if name != "." && name != ".." && !made.contains(&path.join(name)) {
                self.discard(dir, name)?;
            }
        }
        Ok(())
    }

    /// Moves whatever is there out of the way.
    fn discard(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<(), ImageError> {
        let place = self.trashed.to_string();
        match renameat(parent, name, &self.trash, &place) {
            Ok(()) => {
                self.trashed += 1;
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(io::Error::from(error)).doing("take something of a lower layer away"),
        }
    }
}

/// The extended headers before an entry.
#[derive(Default)]
struct Headers {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Headers {
    /// Takes an extended header; says whether the entry was one.
    fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, ImageError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(text(entry, LONGEST_NAME)?),
            EntryType::GNULongLink => self.link = Some(text(entry, LONGEST_NAME)?),
            EntryType::XHeader => self.extended(&text(entry, LONGEST_HEADER)?)?,
            // Comments and defaults for all entries; images have none that matter.
            EntryType::XGlobalHeader => drop(text(entry, LONGEST_HEADER)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn extended(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        for field in PaxExtensions::new(bytes) {
            let field = field.doing("read an extended header")?;
            match field.key_bytes() {
                b"path" => self.path = Some(field.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(field.value_bytes().to_vec()),
                b"size" => return Err(refused("a file is larger than 8 GiB")),
                key if key.starts_with(b"GNU.sparse") => return Err(refused("a file is sparse")),
                _ => {}
            }
        }
        Ok(())
    }

    fn item(self, entry: &Entry<'_, impl Read>) -> Result<Item, ImageError> {
        let header = entry.header();
        let path = self.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = header.entry_type();
        let size = match kind {
            EntryType::Regular | EntryType::Continuous => header.entry_size().doing("read a header")?,
            _ => 0,
        };
        Ok(Item {
            path: plain(&path)?,
            link: self
                .link
                .or_else(|| header.link_name_bytes().map(Cow::into_owned)),
            kind,
            mode: header.mode().unwrap_or(0o644),
            size,
            mtime: header
                .mtime()
                .ok()
                .and_then(|time| i64::try_from(time).ok())
                .unwrap_or_default(),
        })
    }
}

/// The text of an extended header, without the zero that may end it.
fn text(entry: &mut Entry<'_, impl Read>, most: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    entry
        .take(most + 1)
        .read_to_end(&mut bytes)
        .doing("read a header")?;
    if bytes.len() as u64 > most {
        return Err(refused("a name or a header is too long"));
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// A name of a layer as a path below the root, or a refusal.
fn plain(name: &[u8]) -> Result<PathBuf, ImageError> {
    let shown = || String::from_utf8_lossy(name.get(..80.min(name.len())).unwrap_or_default()).into_owned();
    if name.len() as u64 > LONGEST_NAME || name.contains(&0) {
        return Err(refused(format!(
            "`{}`: the name is too long or has a zero in it",
            shown()
        )));
    }
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refused(format!("`{}` leads out of the image", shown())));
            }
        }
    }
    if path.components().count() > DEEPEST {
        return Err(refused(format!(
            "`{}`: there are too many directories in each other",
            shown()
        )));
    }
    Ok(path)
}

fn spend(left: u64, used: u64, what: &str) -> Result<u64, ImageError> {
    left.checked_sub(used)
        .ok_or_else(|| refused(format!("it has more {what} than an image may have")))
}

/// Says where in the image something was refused.
fn within(error: ImageError, path: &Path) -> ImageError {
    match error {
        ImageError::Refused(why) => refused(format!("`{}`: {why}", path.display())),
        other => other,
    }
}

fn make_directory(parent: impl AsFd, name: &OsStr, mode: u32) -> Result<(), ImageError> {
    match mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) => Err(refused("a link on the way to it leads nowhere")),
        made => made.map_err(io::Error::from).doing("make a directory"),
    }
}

fn kind_of(parent: &OwnedFd, name: &OsStr) -> Result<Option<FileType>, ImageError> {
    let parent: BorrowedFd<'_> = parent.as_fd();
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(io::Error::from(error)).doing("look at a file"),
    }
}

/// The mode without the bits that lend rights, readable for all, and with `least` for us.
const fn for_everybody(mode: u32, least: u32) -> u32 {
    let mode = mode & 0o777 | least;
    mode | (mode >> 6 & 0o5) | (mode >> 3 & 0o50)
}

#[cfg(test)]
mod tests;
