//! Files that only their owner may read: written whole or not at all, refused when others can read them.
//!
//! Below `store`, `seal` and `reference`; knows nothing of what is in the files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use clawstaff_types::Secret;

/// Why a file with a secret in it could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Others than its owner may read it.
    #[error("`{}` can be read by others than its owner (mode {mode:o}): run `chmod {want} {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permissions that would do.
        want: &'static str,
    },
    /// It is larger than what it is for.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// It is a directory, a pipe or a device.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl PrivateFileError {
    /// Whether the file simply does not exist.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Exposed { .. } | Self::TooLarge { .. } | Self::NotAFile { .. } => false,
        }
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    let path = path.to_owned();
    move |source| PrivateFileError::Io { doing, path, source }
}

/// Who may read a file besides its owner.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Readers {
    /// Nobody.
    OwnerOnly,
    /// Its group, as secret mounts and credential stores set it up.
    Group,
}

impl Readers {
    const fn forbidden(self) -> (u32, &'static str) {
        match self {
            Self::OwnerOnly => (0o077, "600"),
            Self::Group => (0o007, "640"),
        }
    }
}

/// Which file it was, and in which state: any write, change of mode or replacement gives another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of what is at `path` now.
    pub(crate) fn of(path: &Path) -> Result<Self, PrivateFileError> {
        fs::metadata(path)
            .map(|meta| Self::from(&meta))
            .map_err(io_error("examine", path))
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// Reads a regular file of at most `limit` bytes that nobody but `readers` can read.
pub(crate) fn read_private(
    path: &Path,
    limit: u64,
    readers: Readers,
) -> Result<Secret<Vec<u8>>, PrivateFileError> {
    read_stamped(path, limit, readers).map(|(content, _)| content)
}

/// [`read_private`], with the stamp of the file as it was before it was read. The buffer is allocated once, so
/// that no copy of the content is left behind by growth.
pub(crate) fn read_stamped(
    path: &Path,
    limit: u64,
    readers: Readers,
) -> Result<(Secret<Vec<u8>>, Stamp), PrivateFileError> {
    // O_NONBLOCK: opening a pipe must not hang; it is refused below.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(io_error("open", path))?;
    let meta = file.metadata().map_err(io_error("examine", path))?;
    if !meta.is_file() {
        return Err(PrivateFileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let (forbidden, want) = readers.forbidden();
    let mode = meta.mode() & 0o7777;
    if mode & forbidden != 0 {
        let path = path.to_owned();
        return Err(PrivateFileError::Exposed { path, mode, want });
    }
    let capacity = usize::try_from(limit.min(meta.size())).unwrap_or(0) + 1;
    let mut content = Vec::with_capacity(capacity);
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(io_error("read", path))?;
    let content = Secret::new(content);
    if content.expose_secret().len() as u64 > limit {
        return Err(PrivateFileError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok((content, Stamp::from(&meta)))
}

/// Writes `content` so that after a crash the file is either the old or the new one, whole, with mode 0600.
/// Durable when it returns.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut temporary = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(dir)
        .map_err(io_error("create a file beside", path))?;
    temporary.write_all(content).map_err(io_error("write", path))?;
    temporary.as_file().sync_all().map_err(io_error("flush", path))?;
    temporary
        .persist(path)
        .map_err(|e| io_error("put in place", path)(e.error))?;
    sync_dir(dir)
}

/// Removes a file, durably. Gives whether it was there.
pub(crate) fn remove(path: &Path) -> Result<bool, PrivateFileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("/"))).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error("remove", path)(e)),
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), PrivateFileError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(io_error("flush the directory", dir))
}
