//! Storage of a hard size: an ext4 file system in a sparse file.
//!
//! Making a file system takes longer than making the whole cage, so one empty file system of each size is kept as a
//! template and copied: only its few written blocks take space or time.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::{SeekFrom, seek};

/// The smallest size that an ext4 file system with a journal is of use in, in bytes.
pub(crate) const SMALLEST: u64 = 8 << 20;

/// Most entries looked at to size a directory that a cage fills.
const MOST_ENTRIES: usize = 100_000;

const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// A host program by its name, looked for where system programs are and nowhere else.
pub(crate) fn host_program(name: &str) -> Option<PathBuf> {
    PLACES
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file())
}

/// Makes `image` a file system of exactly `bytes`, from the template in `templates`.
pub(crate) fn make_image(templates: &Path, image: &Path, bytes: u64) -> io::Result<()> {
    let template = templates.join(format!("ext4-{bytes}.img"));
    if !template.exists() {
        fs::create_dir_all(templates)?;
        make_template(&template, bytes)?;
    }
    copy_sparse(&template, image)
}

fn make_template(template: &Path, bytes: u64) -> io::Result<()> {
    let mkfs = host_program("mkfs.ext4")
        .ok_or_else(|| io::Error::other("mkfs.ext4 is not installed (Debian: apt-get install e2fsprogs)"))?;
    let mut unfinished = OsString::from(template);
    unfinished.push(format!(
        ".{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    File::create(&unfinished)?.set_len(bytes)?;
    // Without lazy initialisation the image stays as sparse as it is made.
    let output = Command::new(mkfs)
        .args([
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=1",
        ])
        .arg(&unfinished)
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let _ = fs::remove_file(&unfinished);
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    fs::rename(unfinished, template)
}

/// Copies the written parts of a file and leaves its holes.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::create(to)?);
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    while let Some(start) = next(&source, SeekFrom::Data(at))? {
        let end = next(&source, SeekFrom::Hole(start))?.unwrap_or(size);
        copy_range(&source, &target, start, end)?;
        at = end;
    }
    target.sync_all()
}

/// Disk space of a file, or of a directory and what is in it; links are not followed.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut seen, mut todo) = (0, 0, vec![path.to_owned()]);
    while let Some(path) = todo.pop() {
        seen += 1;
        if seen > MOST_ENTRIES {
            return bytes;
        }
        // Of the link itself, never of what it points to.
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        bytes += found.blocks() * 512;
        if found.is_dir() {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            todo.extend(entries.map(|entry| entry.path()).take(MOST_ENTRIES));
        }
    }
    bytes
}

fn next(file: &File, from: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, from) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn copy_range(source: &File, target: &File, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = source.read_at(buffer.get_mut(..most).unwrap_or_default(), at)?;
        if count == 0 {
            break;
        }
        target.write_all_at(buffer.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_image_has_exactly_its_size_and_takes_little_space() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        for _ in 0..2 {
            make_image(&dir.path().join("templates"), &image, 64 << 20).unwrap();
            let found = image.metadata().unwrap();
            assert_eq!(found.len(), 64 << 20);
            assert!(found.blocks() * 512 < 16 << 20, "{} bytes", found.blocks() * 512);
        }
        let check = Command::new(host_program("e2fsck").unwrap())
            .args(["-fn"])
            .arg(&image)
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
    }
}
