//! A host user id for every cage, so that even a process that escaped its namespaces would find nothing of another
//! cage, and nothing of the host, that is its own.
//!
//! Ids are counted from a base far above people's, and taken by creating a file of that number, which works across
//! processes and crashes.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::id::CageId;

/// First id tried; systemd leaves the range to local use.
const BASE: u32 = 0x6000_0000;
const MOST: u32 = 60_000;

/// Takes a free id for the cage.
pub(super) fn take(directory: &Path, id: &CageId) -> io::Result<u32> {
    fs::create_dir_all(directory)?;
    let base = base(&fs::read_to_string("/proc/self/uid_map")?)
        .ok_or_else(|| io::Error::other("this user namespace has no user ids to spare for cages"))?;
    for number in base..base.saturating_add(MOST) {
        match File::create_new(directory.join(number.to_string())) {
            Ok(mut file) => {
                file.write_all(id.as_str().as_bytes())?;
                return Ok(number);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("every user id for cages is taken"))
}

/// Gives the cage's id back.
pub(super) fn give_back(directory: &Path, number: u32) -> io::Result<()> {
    match fs::remove_file(directory.join(number.to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes back ids that were taken for a cage that a crash kept from writing its id down. `held` says which id a cage
/// has.
pub(super) fn sweep(directory: &Path, held: impl Fn(&CageId) -> Option<u32>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    for entry in entries.flatten() {
        let number: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let id = fs::read_to_string(entry.path())
            .ok()
            .and_then(|text| text.parse().ok());
        if number.is_none() || id.and_then(|id| held(&id)) != number {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The first id to try in a user namespace with this map: [`BASE`], or the upper half of its largest range.
fn base(map: &str) -> Option<u32> {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        Some((first, count))
    });
    let (first, count) = ranges.max_by_key(|(_, count)| *count)?;
    let end = u64::from(first) + u64::from(count);
    if u64::from(BASE) + u64::from(MOST) <= end {
        Some(BASE)
    } else {
        (count > 4096).then_some(first + count / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cages_get_different_ids_and_give_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let id = "a-00000000".parse().unwrap();
        let (one, two) = (take(dir.path(), &id).unwrap(), take(dir.path(), &id).unwrap());
        assert_ne!(one, two);
        give_back(dir.path(), one).unwrap();
        give_back(dir.path(), one).unwrap();
        assert_eq!(take(dir.path(), &id).unwrap(), one);
    }

    #[test]
    fn an_id_that_no_cage_has_written_down_is_free_again_after_a_sweep() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = ("a-00000000".parse().unwrap(), "b-00000000".parse().unwrap());
        let (kept, lost) = (take(dir.path(), &one).unwrap(), take(dir.path(), &two).unwrap());
        // Killed between taking the id and saying for whom.
        File::create(dir.path().join((lost + 1).to_string())).unwrap();
        sweep(dir.path(), |id| (*id == one).then_some(kept)).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, [kept.to_string().as_str()]);
    }

    #[test]
    fn a_small_user_namespace_offers_its_upper_half_or_nothing() {
        assert_eq!(base("         0          0 4294967295\n"), Some(BASE));
        assert_eq!(base("0 100000 65536\n"), Some(32768));
        assert_eq!(base("0 1000 1\n"), None);
        assert_eq!(base(""), None);
    }
}
