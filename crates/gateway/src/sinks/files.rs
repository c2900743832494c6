//! File sinks: one record a line in `$DATA/gateway/exports/SINK`, synced batch by batch and rotated.
//!
//! A file is named after the first record in it and is never written again once the next one is begun; the oldest go
//! when there are too many, so that an export never fills the disk on which the log has to live.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use clawstaff_export::Format;

use super::{channel::Opening, job::Failed, source::Batch};

/// A file is left when it has as many bytes.
const ROTATE_AT: u64 = 16 << 20;
/// So many are kept of each log.
const KEEP: usize = 64;

/// The files of one sink and log.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    log: &'static str,
    format: Format,
    rotate_at: u64,
    current: Option<(PathBuf, File, u64)>,
}

impl Files {
    pub(super) fn open(format: Format, opening: &Opening<'_>) -> Result<Self, Failed> {
        let dir = opening.exports.join(opening.sink.name.as_str());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)?;
        let mut files = Self {
            dir,
            log: opening.log,
            format,
            rotate_at: ROTATE_AT,
            current: None,
        };
        if let Some(last) = files.names()?.pop() {
            files.current = Some(reopened(last)?);
        }
        Ok(files)
    }

    pub(super) fn send(&mut self, batch: &Batch) -> Result<(), Failed> {
        if self
            .current
            .as_ref()
            .is_none_or(|(_, _, size)| *size >= self.rotate_at)
        {
            self.begin(batch.first)?;
        }
        let lines: String = batch.items.iter().map(|item| self.format.line(item)).collect();
        let Some((_, file, size)) = &mut self.current else {
            return Err(Failed("there is no file to write to".to_owned()));
        };
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        *size += lines.len() as u64;
        Ok(())
    }

    /// Begins the next file and removes the oldest.
    fn begin(&mut self, first: u64) -> io::Result<()> {
        let path = self
            .dir
            .join(format!("{}-{first:020}.{}", self.log, self.format.extension()));
        let mut file = OpenOptions::new()
            .append(true)
            .read(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(self.format.head().as_bytes())?;
        }
        File::open(&self.dir)?.sync_all()?;
        let size = file.metadata()?.len();
        self.current = Some((path, file, size));
        let names = self.names()?;
        let old = names.len().saturating_sub(KEEP);
        names.iter().take(old).try_for_each(std::fs::remove_file)
    }

    /// The files of this log, oldest first.
    fn names(&self) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let ours = |name: &str| {
                let number = name
                    .strip_prefix(self.log)
                    .and_then(|rest| rest.strip_prefix('-'));
                let number = number.and_then(|rest| rest.strip_suffix(self.format.extension()));
                number.is_some_and(|number| number.len() == 21 && number.ends_with('.'))
            };
            if path.file_name().and_then(|name| name.to_str()).is_some_and(ours) {
                names.push(path);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// A file to go on with, without a last line that a crash cut short.
fn reopened(path: PathBuf) -> io::Result<(PathBuf, File, u64)> {
    let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
    let whole = end_of_last_line(&mut file)?;
    file.set_len(whole)?;
    file.seek(SeekFrom::End(0))?;
    Ok((path, file, whole))
}

fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; 64 << 10];
    while end > 0 {
        let from = end.saturating_sub(chunk.len() as u64);
        let length = usize::try_from(end - from).unwrap_or(chunk.len());
        let part = chunk.get_mut(..length).unwrap_or_default();
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clawstaff_audit::Stored;
    use clawstaff_export::Item;
    use clawstaff_types::{Sink, SinkKind};

    use super::*;

    fn batch(range: std::ops::Range<u64>) -> Batch {
        let item = |index| {
            Item::of(
                "gateway",
                "o",
                Stored {
                    index,
                    leaf: b"x".to_vec(),
                },
                None,
            )
        };
        Batch {
            origin: "o".into(),
            size: range.end,
            first: range.start,
            items: range.map(item).collect(),
        }
    }

    fn open(exports: &Path, format: Format) -> Files {
        let sink = Sink {
            name: "files".parse().unwrap(),
            kind: SinkKind::File,
            address: String::new(),
            format: None,
            ca: None,
            credential: None,
        };
        let opening = Opening {
            sink: &sink,
            log: "gateway",
            secret: None,
            exports,
            extra_ca: None,
        };
        let Ok(files) = Files::open(format, &opening) else {
            panic!("the files open")
        };
        files
    }

    fn indexes(dir: &Path) -> Vec<Vec<u64>> {
        let mut names: Vec<PathBuf> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        let index = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["index"]
                .as_u64()
                .unwrap()
        };
        names
            .iter()
            .map(|path| {
                std::fs::read_to_string(path)
                    .unwrap()
                    .lines()
                    .map(index)
                    .collect()
            })
            .collect()
    }

    #[test]
    fn files_rotate_and_go_on_after_a_crash_in_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = open(dir.path(), Format::Jsonl);
        files.rotate_at = 1000;
        files.send(&batch(0..3)).ok().unwrap();
        files.send(&batch(3..5)).ok().unwrap();
        drop(files);
        let last = dir.path().join("files").join(format!("gateway-{:020}.jsonl", 3));
        let mut file = OpenOptions::new().append(true).open(last).unwrap();
        file.write_all(b"{\"index\":5,\"torn").unwrap();
        open(dir.path(), Format::Jsonl).send(&batch(5..7)).ok().unwrap();
        assert_eq!(
            indexes(&dir.path().join("files")),
            [vec![0, 1, 2], vec![3, 4, 5, 6]]
        );
    }

    #[test]
    fn the_oldest_files_go_and_a_header_begins_each() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = open(dir.path(), Format::Csv);
        files.rotate_at = 1;
        for index in 0..70 {
            files.send(&batch(index..index + 1)).ok().unwrap();
        }
        let names = files.names().unwrap();
        assert_eq!(names.len(), KEEP);
        assert!(names[0].ends_with(format!("gateway-{:020}.csv", 6)));
        assert!(std::fs::read_to_string(&names[0]).unwrap().starts_with("\"id\","));
    }
}
