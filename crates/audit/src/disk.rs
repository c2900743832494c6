//! The file operations that the log makes, so that tests can fail, tear and forget every one of them.
//!
//! [`Disk`] is the contract, [`RealDisk`] the file system. Nothing else in the crate writes.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::fd::OwnedFd,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

/// Zeroes written at a time.
const FILL_BLOCK: usize = 1 << 20;

/// The file system as the log needs it.
///
/// * Trusted to keep what a sync has confirmed, and for nothing else: whatever it returns is checked again by
///   `verify`. Somebody who owns it can stop the log, and can destroy it, but not change it unseen.
/// * An error from an operation does not say that it had no effect.
/// * What was written is durable only after [`DiskFile::sync_data`]; a name only after [`Disk::sync_dir`].
///   Before that, any part of it may survive a power cut, in any order.
/// * Calls come from several threads at once, never two writers of one file.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a directory with its parents, for this user alone. Durable when it returns.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a file, empty even if there was one, readable and writable for this user alone.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A whole file, but an error (`FileTooLarge`) if it is longer than `limit`.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
    /// The first `limit` bytes of a file, or all that it has, in place of what `buffer` held.
    fn read_start(&self, path: &Path, limit: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        *buffer = self.read(path, u64::MAX)?;
        buffer.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(())
    }
    /// Gives a file another name in one step, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything durable that was written or named below a directory before the call.
    fn sync_below(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on a file, making it if need be; `None` when somebody else has it. The lock
    /// ends with the guard, and with the process.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>>;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length.
    fn size(&self) -> io::Result<u64>;
    /// Reads at `offset`; fewer bytes than asked only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`; may write fewer bytes than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reserves space for `bytes` bytes, or says that there is none. Doing nothing is allowed.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Fills the empty file with `bytes` zero bytes, a multiple of 4096. Not durable before a sync.
    fn fill(&self, bytes: u64) -> io::Result<()> {
        fill_by_writing(self, bytes)
    }
    /// Makes the content (and the length) durable.
    fn sync_data(&self) -> io::Result<()>;
}

fn fill_by_writing<F: DiskFile + ?Sized>(file: &F, bytes: u64) -> io::Result<()> {
    let zeroes = vec![0; FILL_BLOCK];
    let mut at = 0;
    while at < bytes {
        let n = usize::try_from(bytes - at).unwrap_or(FILL_BLOCK).min(FILL_BLOCK);
        write_all(file, zeroes.get(..n).unwrap_or_default(), at)?;
        at += n as u64;
    }
    Ok(())
}

/// A held lock.
pub trait Guard: fmt::Debug + Send + Sync {}

/// Writes all of `bytes`. Goes on after a short write, never after an error.
pub(crate) fn write_all<F: DiskFile + ?Sized>(file: &F, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = match file.write_at(bytes, offset) {
            // Nothing was written yet; this is not a failure.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(n..).unwrap_or_default();
        offset += n as u64;
    }
    Ok(())
}

/// Puts `bytes` at `path` in one durable step: readers and crashes see the old file or the new one.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = disk.create(&temporary)?;
    write_all(&*file, bytes, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}

/// Reads a file that may be absent.
pub(crate) fn read_if_present(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match disk.read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // A parent that may be entered but not read (another user's) cannot be synced by us; it is theirs.
        match parent.map_or(Ok(()), |parent| self.sync_dir(parent)) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        // Not `fs::read_dir`, which panics when closing the directory fails.
        let dir = rustix::fs::Dir::new(OwnedFd::from(File::open(path)?))?;
        let mut names = Vec::new();
        for entry in dir {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(RealFile(options.mode(0o600).open(path)?)))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        if fs::metadata(path)?.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fs::read(path)
    }

    fn read_start(&self, path: &Path, limit: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        let file = File::open(path)?;
        buffer.reserve(usize::try_from(file.metadata()?.len().min(limit)).unwrap_or_default());
        file.take(limit).read_to_end(buffer).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_below(&self, path: &Path) -> io::Result<()> {
        // The whole file system: more than is asked for, but one call for thousands of small files.
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealGuard { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealGuard {
    _file: File,
}

impl Guard for RealGuard {}

impl RealFile {
    /// Writes from aligned memory with `O_DIRECT`; `InvalidInput` or `Unsupported` where the file system
    /// has no such thing.
    fn fill_directly(&self, bytes: u64) -> io::Result<()> {
        const ALIGN: usize = 4096;
        let flags = rustix::fs::fcntl_getfl(&self.0)?;
        rustix::fs::fcntl_setfl(&self.0, flags | OFlags::DIRECT)?;
        let zeroes = vec![0_u8; FILL_BLOCK + ALIGN];
        let start = zeroes.as_ptr().align_offset(ALIGN);
        let mut at = 0;
        let mut filled = Ok(());
        while at < bytes && filled.is_ok() {
            let n = usize::try_from(bytes - at).unwrap_or(FILL_BLOCK).min(FILL_BLOCK);
            let block = zeroes.get(start..start + n).unwrap_or_default();
            filled = self.0.write_all_at(block, at);
            at += n as u64;
        }
        rustix::fs::fcntl_setfl(&self.0, flags)?;
        filled
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = buffer.get_mut(filled..).unwrap_or_default();
            match self.0.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        use rustix::{fs::FallocateFlags, io::Errno};
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&self, bytes: u64) -> io::Result<()> {
        // Past the page cache: nobody reads these zeroes, and copying them takes a processor from those who work.
        match self.fill_directly(bytes) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                fill_by_writing(self, bytes)
            }
            filled => filled,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
