//! The few file operations of the inbox and of the last good state, each durable when it returns.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::InboxError;

/// Makes a private directory (0700), its parents included.
pub(super) fn make_dir(dir: &Path) -> Result<(), InboxError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(InboxError::io("make the directory", dir))
}

/// The names in a directory that are UTF-8, sorted; ours all are.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>, InboxError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(InboxError::io("list", dir))? {
        let entry = entry.map_err(InboxError::io("list", dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Writes a file that does not exist yet, mode 0600, content durable; its directory entry only after
/// [`sync_dir`] or a rename with one.
pub(super) fn write_unlinked(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Puts `content` in the place of `path`, mode 0600: after a crash the file is the old or the new one, whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    write_unlinked(&temporary, content)?;
    fs::rename(&temporary, path)?;
    sync_dir(dir)
}

/// Renames within one file system, durably.
pub(super) fn move_file(from: &Path, to: &Path) -> Result<(), InboxError> {
    fs::rename(from, to).map_err(InboxError::io("move", from))?;
    for dir in [to.parent(), from.parent()].into_iter().flatten() {
        sync_dir(dir).map_err(InboxError::io("flush the directory", dir))?;
    }
    Ok(())
}

/// Removes a file; that it is gone already is no error.
pub(super) fn remove(path: &Path) -> Result<(), InboxError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(InboxError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Reads a file of at most `limit` bytes; of a longer one nothing (`FileTooLarge`).
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

/// [`read_bounded`] of a file that may be absent.
pub(crate) fn read_if_present(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match read_bounded(path, limit) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether group or others may read the file.
pub(super) fn is_exposed(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.mode() & 0o077 != 0)
}

/// Makes a directory's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
