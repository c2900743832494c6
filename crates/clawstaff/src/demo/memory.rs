//! Searching files and the memory of a process for texts.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use anyhow::Context as _;

/// Which of `needles` occur in a run of bytes.
fn found_in(bytes: &[u8], needles: &[Vec<u8>], found: &mut BTreeSet<usize>) {
    for (index, needle) in needles.iter().enumerate() {
        if !found.contains(&index) && memchr::memmem::find(bytes, needle).is_some() {
            found.insert(index);
        }
    }
}

/// Searches every regular file below `directory`. Answers the indexes of the needles found.
///
/// # Errors
/// When a file that is there cannot be read: an unread file is not a searched one.
pub(super) fn search_files(directory: &Path, needles: &[Vec<u8>]) -> anyhow::Result<BTreeSet<usize>> {
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
                found_in(&bytes, needles, &mut found);
            }
        }
    }
    Ok(found)
}

/// Searches all writable memory of a process. Answers the indexes of the needles found and the bytes searched.
///
/// # Errors
/// When the memory cannot be opened: that takes root, or the same user and a process that allows it.
pub(super) fn search_process(pid: i32, needles: &[Vec<u8>]) -> anyhow::Result<(BTreeSet<usize>, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).context("cannot list its memory")?;
    let mut memory = File::open(format!("/proc/{pid}/mem")).context("cannot open its memory")?;
    let (mut found, mut searched) = (BTreeSet::new(), 0);
    for (start, end) in maps.lines().filter_map(writable_range) {
        let mut bytes = vec![0; usize::try_from(end - start)?];
        memory.seek(SeekFrom::Start(start))?;
        if memory.read_exact(&mut bytes).is_ok() {
            searched += end - start;
            found_in(&bytes, needles, &mut found);
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
    use super::*;

    #[test]
    fn a_text_in_this_process_is_found_and_one_that_is_not_is_not() {
        let secret = format!("canary-{}", std::process::id());
        let reversed: String = secret.chars().rev().collect();
        let needles = vec![
            secret.clone().into_bytes(),
            reversed.chars().map(|c| c as u8 ^ 0x55).collect(),
        ];
        let mut absent = needles.clone();
        absent[1][0] ^= 0xff;
        drop(needles);
        let pid = i32::try_from(std::process::id()).unwrap();
        let (found, searched) = search_process(pid, &absent).unwrap();
        assert!(found.contains(&0) && searched > 0, "{secret}");
    }
}
