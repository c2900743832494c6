//! Copies of a cage's `/data`, kept beside it until they are removed or the cage is destroyed.
//!
//! Both back ends of this host keep `/data` as one thing in a cage's directory: an ext4 image, or a directory where an
//! ordinary user cannot have an image. The back end sees to it that nothing writes there meanwhile; this module
//! copies, so that a crash leaves either the old state or the new one, and a snapshot that is listed is whole.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::SystemTime,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{raze::raze, storage};

/// The most snapshots that a cage has at a time.
pub const MOST: usize = 4;
const SHELF: &str = "snapshots";

/// A snapshot's name: when it was taken, in UTC, `20260131T235959.123Z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName(String);

/// Why a text names no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot is named by its time, like `20260131T235959.123Z`")]
pub struct BadSnapshotName;

impl FromStr for SnapshotName {
    type Err = BadSnapshotName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = "00000000T000000.000Z";
        let fits = |(found, wanted): (u8, u8)| match wanted {
            b'0' => found.is_ascii_digit(),
            other => found == other,
        };
        if text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadSnapshotName)
        }
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One copy of a cage's `/data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// Disk space that it takes, in bytes.
    pub bytes: u64,
}

/// Where `/data` is on the host.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// An ext4 image, which is copied as a whole and checked.
    Image(&'a Path),
    /// A directory, all of whose entries are its user's.
    Directory(&'a Path),
}

impl Source<'_> {
    const fn path(&self) -> &Path {
        match self {
            Self::Image(path) | Self::Directory(path) => path,
        }
    }
}

/// The snapshots of one cage, in its own directory.
#[derive(Debug)]
pub(crate) struct Shelf(PathBuf);

impl Shelf {
    pub(crate) fn of(cage: &Path) -> Self {
        Self(cage.join(SHELF))
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> io::Result<Vec<Snapshot>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            // What is unfinished has another name.
            if let Some(Ok(name)) = entry.file_name().to_str().map(SnapshotName::from_str) {
                let bytes = storage::disk_bytes(&entry.path());
                found.push(Snapshot { name, bytes });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Copies `source`, to which nobody may write meanwhile.
    pub(crate) fn take(&self, source: Source<'_>, now: SystemTime) -> io::Result<Snapshot> {
        let known = self.list()?;
        if known.len() >= MOST {
            return Err(io::Error::other(format!(
                "it has {MOST} snapshots, which is the most; remove one first"
            )));
        }
        fs::create_dir_all(&self.0)?;
        let name = name_at(now)?;
        let (unfinished, place) = (self.0.join("unfinished"), self.0.join(&name.0));
        remove(&unfinished)?;
        copy(source, &unfinished)?;
        if let Source::Image(_) = source {
            check(&unfinished)?;
        }
        // Two within a millisecond are one too many, not one that replaces the other.
        renameat_with(CWD, &unfinished, CWD, &place, RenameFlags::NOREPLACE)?;
        fs::File::open(&self.0)?.sync_all()?;
        let bytes = storage::disk_bytes(&place);
        Ok(Snapshot { name, bytes })
    }

    /// Makes `target`, which nobody may have open, what the snapshot is. The snapshot stays.
    pub(crate) fn put_back(&self, name: &SnapshotName, target: Source<'_>) -> io::Result<()> {
        let from = self.0.join(&name.0);
        let from = match target {
            Source::Image(_) => Source::Image(&from),
            Source::Directory(_) => Source::Directory(&from),
        };
        if !from.path().exists() {
            return Err(io::Error::other(format!("there is no snapshot `{name}`")));
        }
        let next = target.path().with_extension("restored");
        remove(&next)?;
        copy(from, &next)?;
        match target {
            Source::Image(image) => fs::rename(&next, image)?,
            // We die here: the old directory is still in place. After it: the new one is.
            Source::Directory(directory) => {
                renameat_with(CWD, &next, CWD, directory, RenameFlags::EXCHANGE)?;
                raze(&next)?;
            }
        }
        Ok(())
    }

    /// Removes one; one that is not there is removed already.
    pub(crate) fn remove(&self, name: &SnapshotName) -> io::Result<()> {
        remove(&self.0.join(&name.0))
    }
}

fn name_at(now: SystemTime) -> io::Result<SnapshotName> {
    let time = jiff::Timestamp::try_from(now).map_err(io::Error::other)?;
    let text = time.strftime("%Y%m%dT%H%M%S.%3fZ").to_string();
    text.parse().map_err(io::Error::other)
}

fn copy(from: Source<'_>, to: &Path) -> io::Result<()> {
    match from {
        Source::Image(image) => storage::copy_sparse(image, to),
        // Links are copied as links. What is deeper than a path can be long is an error.
        Source::Directory(directory) => run(
            "cp",
            &["--archive", "--sparse=always", "--one-file-system", "-T", "--"],
            &[directory, to],
            0,
        ),
    }
}

/// Replays the journal of a copied file system and looks at all of it: what was copied must be whole.
fn check(image: &Path) -> io::Result<()> {
    // 1: replayed or mended, and whole.
    run("e2fsck", &["-f", "-p"], &[image], 1)
}

fn run(program: &str, flags: &[&str], paths: &[&Path], highest: i32) -> io::Result<()> {
    let found = storage::host_program(program)
        .ok_or_else(|| io::Error::other(format!("the program `{program}` is not installed")))?;
    let output = Command::new(found)
        .args(flags)
        .args(paths)
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    if output.status.code().is_some_and(|code| code <= highest) {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = crate::tail::lines(&said);
    Err(io::Error::other(format!("{program}: {said}")))
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => raze(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;

    #[test]
    fn only_times_name_snapshots() {
        assert!("20260131T235959.123Z".parse::<SnapshotName>().is_ok());
        for text in [
            "",
            "../../../etc/passwd",
            "20260131T235959.123",
            "unfinished",
            "20260131T235959.12ZZ",
        ] {
            assert!(text.parse::<SnapshotName>().is_err(), "{text}");
        }
        let name = name_at(UNIX_EPOCH + Duration::from_millis(1_500)).unwrap();
        assert_eq!(name.to_string(), "19700101T000001.500Z");
    }

    #[test]
    fn a_directory_comes_back_as_it_was_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (data, shelf) = (dir.path().join("data"), Shelf::of(dir.path()));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("file"), "before").unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        let taken = shelf.take(Source::Directory(&data), SystemTime::now()).unwrap();
        fs::write(data.join("file"), "after").unwrap();
        fs::write(data.join("more"), "x").unwrap();
        fs::remove_file(data.join("link")).unwrap();
        shelf.put_back(&taken.name, Source::Directory(&data)).unwrap();
        assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "before");
        assert!(!data.join("more").exists());
        assert_eq!(
            fs::read_link(data.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(shelf.list().unwrap(), vec![taken.clone()]);
        shelf.remove(&taken.name).unwrap();
        assert!(shelf.list().unwrap().is_empty());
        let gone = shelf.put_back(&taken.name, Source::Directory(&data)).unwrap_err();
        assert!(gone.to_string().contains("no snapshot"), "{gone}");
    }

    #[test]
    fn a_copy_that_is_no_whole_file_system_is_no_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let (image, shelf) = (dir.path().join("storage.img"), Shelf::of(dir.path()));
        fs::write(&image, vec![7; 1 << 20]).unwrap();
        assert!(shelf.take(Source::Image(&image), SystemTime::now()).is_err());
        assert!(shelf.list().unwrap().is_empty());
    }

    #[test]
    fn there_are_only_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let (data, shelf) = (dir.path().join("data"), Shelf::of(dir.path()));
        fs::create_dir(&data).unwrap();
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        for second in 0..MOST as u64 {
            shelf.take(Source::Directory(&data), at(second)).unwrap();
        }
        let refused = shelf.take(Source::Directory(&data), at(99)).unwrap_err();
        assert!(refused.to_string().contains("remove one"), "{refused}");
    }
}
