//! Searching files and the memory of a process for texts.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use anyhow::Context as _;

use super::canary::Canaries;

/// Searches every regular file below `directory`. Answers which canaries were found.
///
/// # Errors
/// When a file that is there cannot be read: an unread file is not a searched one.
pub(super) fn search_files(directory: &Path, canaries: &Canaries) -> anyhow::Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let entries = std::fs::read_dir(&directory)
            .with_context(|| format!("cannot read `{}`", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path())
                    .with_context(|| format!("cannot read `{}`", entry.path().display()))?;
                canaries.search(&bytes, &mut found);
            }
        }
    }
    Ok(found)
}

/// Searches all writable memory of a process. Answers which canaries were found and the bytes searched.
///
/// # Errors
/// When the memory cannot be opened: that takes root, or the same user and a process that allows it.
pub(super) fn search_process(pid: i32, canaries: &Canaries) -> anyhow::Result<(BTreeSet<usize>, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).context("cannot list its memory")?;
    let mut memory = File::open(format!("/proc/{pid}/mem")).context("cannot open its memory")?;
    let (mut found, mut searched) = (BTreeSet::new(), 0);
    for (start, end) in maps.lines().filter_map(writable_range) {
        let mut bytes = vec![0; usize::try_from(end - start)?];
        memory.seek(SeekFrom::Start(start))?;
        if memory.read_exact(&mut bytes).is_ok() {
            searched += end - start;
            canaries.search(&bytes, &mut found);
        }
    }
    anyhow::ensure!(searched > 0, "none of its memory could be read");
    Ok((found, searched))
}

/// `7f00-7f10 rw-p …` as a range; the kernel's own pages are left out.
fn writable_range(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let writable =
        words.next()?.starts_with("rw") && !line.ends_with("[vvar]") && !line.ends_with("[vsyscall]");
    let range = (
        u64::from_str_radix(start, 16).ok()?,
        u64::from_str_radix(end, 16).ok()?,
    );
    writable.then_some(range)
}

#[cfg(test)]
mod tests {
    use super::{super::canary::Kind, *};

    #[test]
    fn a_text_in_this_process_is_found() {
        let secret = format!("canary-{}", std::process::id());
        let canaries = Canaries::of([(Kind::Key, secret.clone().into_bytes())]).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let (found, searched) = search_process(pid, &canaries).unwrap();
        assert!(found.contains(&0) && searched > 0, "{secret}");
    }
}
