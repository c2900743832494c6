//! Removes a directory that a cage has filled, whatever it has put there.
//!
//! `remove_dir_all` follows the tree down and holds a descriptor for each level: a tree deeper than a process may have
//! files open, or a directory that its owner has shut, stops it. Here no level is below another: every directory is
//! opened up, and what it contains is removed or moved to the top. Links are removed and never followed.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};

/// Most names read of a directory at one time.
const BATCH: usize = 1024;

/// Removes `path` and everything below it; one that is not there is removed already.
pub(crate) fn raze(path: &Path) -> io::Result<()> {
    let top = match open(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0_u64;
    loop {
        let found = names(&top)?;
        if found.is_empty() {
            return fs::remove_dir(path);
        }
        for name in found {
            if !unlinked(&top, &name)? {
                flatten(&top, &name, &mut moved)?;
            }
        }
    }
}

/// Removes the directory `name` of `top`, with its files; its directories become neighbours of it.
fn flatten(top: &OwnedFd, name: &CString, moved: &mut u64) -> io::Result<()> {
    let dir = open(top.as_fd(), name)?;
    loop {
        let found = names(&dir)?;
        if found.is_empty() {
            return Ok(unlinkat(top, name, AtFlags::REMOVEDIR)?);
        }
        for inner in found {
            if !unlinked(&dir, &inner)? {
                // A directory that is moved must be open to its owner: its way up changes.
                drop(open(dir.as_fd(), &inner)?);
                move_up(&dir, &inner, top, moved)?;
            }
        }
    }
}

/// Moves a directory to the top, under a name that nothing bears which is worth keeping.
fn move_up(from: &OwnedFd, name: &CString, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match renameat(from, name, top, format!("razed-{moved}")) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            done => return Ok(done?),
        }
    }
}

/// Removes anything but a directory; says whether it was such.
fn unlinked(dir: &OwnedFd, name: &CString) -> io::Result<bool> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory itself, never what a link of its name leads to, and lets its owner in.
fn open(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = openat(at, name, flags | OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    // By way of the descriptor: this directory and no other.
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::chmod(&itself, Mode::RWXU)?;
    openat(CWD, itself, flags, Mode::empty())
}

fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push(entry.file_name().to_owned());
        }
        if found.len() >= BATCH {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn nothing_that_a_cage_can_put_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("shut/inner/razed-1")).unwrap();
        fs::create_dir_all(top.join("razed-1/full")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        symlink(&outside, top.join("shut/link")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        fs::write(top.join("shut/inner/razed-1/file"), "").unwrap();
        for shut in ["shut/inner", "shut"] {
            fs::set_permissions(top.join(shut), fs::Permissions::from_mode(0o000)).unwrap();
        }
        raze(&top).unwrap();
        assert!(!top.exists());
        assert!(outside.join("kept").exists());
        raze(&top).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_a_process_may_have_files_open_goes() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut place = open(CWD, &top).unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&place, "deeper", Mode::RWXU).unwrap();
            place = open(place.as_fd(), "deeper").unwrap();
        }
        raze(&top).unwrap();
        assert!(!top.exists());
    }
}
