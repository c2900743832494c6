//! An archive of a layout, read in place: where each member begins, and nothing unpacked.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use tar::{Archive, EntryType};

use super::{Doing, ImageError, refused};

/// The most members. An image has one for each layer and a few more.
const MOST_MEMBERS: usize = 4096;

/// The members of an archive.
#[derive(Debug)]
pub(crate) struct Members {
    file: File,
    places: HashMap<String, (u64, u64)>,
}

impl Members {
    pub(super) fn of(path: &Path) -> Result<Self, ImageError> {
        let file = File::open(path).doing("open the image's archive")?;
        let mut places = HashMap::new();
        // Raw: names in such archives are short, and long ones are nobody's blob.
        let mut archive = Archive::new(&file);
        for entry in archive
            .entries_with_seek()
            .doing("read the image's archive")?
            .raw(true)
        {
            let entry = entry.doing("read the image's archive")?;
            if places.len() >= MOST_MEMBERS {
                return Err(refused("its archive has too many members"));
            }
            if !matches!(
                entry.header().entry_type(),
                EntryType::Regular | EntryType::Continuous
            ) {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.header().path_bytes()).into_owned();
            let size = entry.header().entry_size().doing("read the image's archive")?;
            places.insert(
                name.trim_start_matches("./").to_owned(),
                (entry.raw_file_position(), size),
            );
        }
        Ok(Self { file, places })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(super) fn open(&self, name: &str) -> Result<Box<dyn Read + '_>, ImageError> {
        let found = self.places.get(name);
        let (at, left) = *found.ok_or_else(|| refused(format!("`{name}` is missing in its archive")))?;
        Ok(Box::new(Member {
            file: &self.file,
            at,
            left,
        }))
    }
}

/// One member as a reader.
struct Member<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Member<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self
            .file
            .read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
