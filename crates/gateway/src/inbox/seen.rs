//! Ids that were dealt with in the last 7 days: one file per UTC day, one id a line, appended and flushed.
//!
//! If we crash while a line is written, the line has no end; it is cut off when the file is opened, and the
//! item it was about is still there to be handed out again.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clawstaff_types::EventId;
use jiff::Timestamp;

use super::{InboxError, files};

/// Days an id is remembered, today not counted.
const DAYS: i64 = 7;
/// Ids remembered per Claw; beyond it nothing new is taken in until a day has passed.
pub(super) const MAX_IDS: usize = 100_000;
/// The longest id and its line break, times [`MAX_IDS`].
const MAX_FILE: u64 = 65 * MAX_IDS as u64;

#[derive(Debug)]
struct Day {
    ids: HashSet<EventId>,
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    len: u64,
}

/// The ids of the last days.
#[derive(Debug)]
pub(super) struct Seen {
    dir: PathBuf,
    days: BTreeMap<i64, Day>,
}

impl Seen {
    pub(super) fn open(dir: &Path, now: Timestamp) -> Result<Self, InboxError> {
        files::make_dir(dir)?;
        let mut seen = Self {
            dir: dir.to_owned(),
            days: BTreeMap::new(),
        };
        for name in files::names_in(dir)? {
            if let Ok(day) = name.parse() {
                let loaded = Day::open(&dir.join(&name)).map_err(InboxError::io("read", &dir.join(&name)))?;
                seen.days.insert(day, loaded);
            }
        }
        seen.prune(now)?;
        Ok(seen)
    }

    pub(super) fn contains(&self, id: &EventId) -> bool {
        self.days.values().any(|day| day.ids.contains(id))
    }

    pub(super) fn is_full(&self) -> bool {
        self.days.values().map(|day| day.ids.len()).sum::<usize>() >= MAX_IDS
    }

    /// Notes an id, durably.
    pub(super) fn note(&mut self, id: &EventId, now: Timestamp) -> Result<(), InboxError> {
        if self.contains(id) {
            return Ok(());
        }
        let today = day_of(now);
        if !self.days.contains_key(&today) {
            self.prune(now)?;
            let path = self.dir.join(today.to_string());
            let day = Day::open(&path).map_err(InboxError::io("make", &path))?;
            files::sync_dir(&self.dir).map_err(InboxError::io("flush the directory", &self.dir))?;
            self.days.insert(today, day);
        }
        match self.days.get_mut(&today) {
            Some(day) => day.append(id).map_err(InboxError::io("write", &day.path)),
            None => Ok(()),
        }
    }

    /// Forgets days that are more than [`DAYS`] old.
    pub(super) fn prune(&mut self, now: Timestamp) -> Result<(), InboxError> {
        let oldest = day_of(now) - DAYS;
        while let Some(day) = self.days.first_entry().filter(|day| *day.key() < oldest) {
            files::remove(&day.get().path)?;
            day.remove();
        }
        Ok(())
    }
}

impl Day {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let content = files::read_bounded(path, MAX_FILE)?;
        let whole = content
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let len = whole as u64;
        if fs::metadata(path)?.len() != len {
            file.set_len(len)?;
            file.sync_all()?;
        }
        let lines = content
            .get(..whole)
            .unwrap_or_default()
            .split(|byte| *byte == b'\n');
        let ids = lines
            .filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok())
            .collect();
        Ok(Self {
            ids,
            file,
            path: path.to_owned(),
            len,
        })
    }

    fn append(&mut self, id: &EventId) -> io::Result<()> {
        let line = format!("{id}\n");
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            // Half a line must not become the beginning of the next one.
            self.file.set_len(self.len)?;
            return Err(e);
        }
        self.len += line.len() as u64;
        self.ids.insert(id.clone());
        Ok(())
    }
}

fn day_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(86_400)
}
