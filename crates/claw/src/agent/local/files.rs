//! Reading, writing and listing, with the cage's own powers.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use clawstaff_cage_contract::CageAct;
use rustix::fs::OFlags;

use super::{Done, happened, prevented};
use crate::{
    agent::tool::{MAX_RESULT, ToolOutcome},
    errno,
};

/// Entries of a directory that are listed.
const MAX_ENTRIES: usize = 500;

/// Reads a file.
pub(super) fn read(path: &Path) -> Done {
    done(CageAct::ReadFile, path, read_start(path))
}

/// One byte more than is shown is read, so that cut text is known to be cut. A pipe without a writer does not hold
/// the agent up: it is opened without waiting.
fn read_start(path: &Path) -> io::Result<String> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_RESULT).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a file, and makes the directories above it.
pub(super) fn write(path: &Path, content: &str) -> Done {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, content))
        .map(|()| format!("wrote {} bytes to {}", content.len(), path.display()));
    done(CageAct::WriteFile, path, written)
}

/// Lists a directory; directories end in `/`, links in `@`.
pub(super) fn list(path: &Path) -> Done {
    done(CageAct::ReadFile, path, names(path))
}

fn names(path: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)?.take(MAX_ENTRIES + 1) {
        let entry = entry?;
        let mark = match entry.file_type() {
            Ok(kind) if kind.is_dir() => "/",
            Ok(kind) if kind.is_symlink() => "@",
            Ok(_) | Err(_) => "",
        };
        names.push(format!("{}{mark}", entry.file_name().to_string_lossy()));
    }
    let more = names.len() > MAX_ENTRIES;
    names.truncate(MAX_ENTRIES);
    names.sort();
    if more {
        names.push("[more, not listed]".to_owned());
    }
    Ok(names.join("\n"))
}

fn done(act: CageAct, path: &Path, result: io::Result<String>) -> Done {
    let target = path.to_string_lossy();
    match result {
        Ok(text) => (ToolOutcome::happened(&text), vec![happened(act, &target)]),
        Err(error) => {
            let text = format!("{target}: {error}");
            let act = prevented(act, &target, errno::io_name(&error));
            (ToolOutcome::refused(&text), vec![act])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tool::Verdict;

    #[test]
    fn what_is_written_is_read_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes/today.txt");
        assert_eq!(write(&path, "hello").0.verdict, Verdict::Happened);
        assert_eq!(read(&path).0.text, "hello");
        assert_eq!(list(dir.path()).0.text, "notes/");
    }

    #[test]
    fn what_fails_is_reported_by_its_error() {
        let (outcome, acts) = read(Path::new("/nonexistent/secret"));
        assert_eq!(outcome.verdict, Verdict::Refused);
        assert_eq!(
            acts,
            [prevented(
                CageAct::ReadFile,
                "/nonexistent/secret",
                "ENOENT".into()
            )]
        );
        let (_, acts) = write(Path::new("/proc/nope/a"), "x");
        assert!(!acts[0].happened && !acts[0].error.is_empty());
    }

    #[test]
    fn endless_files_are_cut_and_pipes_do_not_hold_it_up() {
        assert!(read(Path::new("/dev/zero")).0.text.len() <= MAX_RESULT);
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(read(&pipe).0.text, "");
    }
}
