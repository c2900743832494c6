//! `clawstaff audit bundle`: a selection of entries as a folder or a tar file that verifies with nothing else.
//!
//! The content is `clawstaff_audit::bundle`'s; here are only its two forms on disk. A tar file is written in one
//! way, so that reading can insist on every byte of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use clawstaff_audit::{
    Entry, Phase, Stream,
    bundle::{Bundler, Files, MAX_BYTES, MAX_FILES, MakeBundleError},
};
use clawstaff_types::{ClawName, EventKind};
use jiff::Timestamp;
use serde::Serialize;

use super::{filter, logs::LogFiles};
use crate::{
    context::Context,
    failure::{Exit, Failure},
};

/// Which entries, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File (`….tar`) or new folder to write
    #[arg(long, value_name = "FILE|FOLDER")]
    out: PathBuf,

    /// Folder of a log, instead of the local installation
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,

    /// Only of this Claw
    #[arg(long, help_heading = "Filters")]
    claw: Option<ClawName>,

    /// Only these kinds, separated by commas
    #[arg(long, value_delimiter = ',', help_heading = "Filters")]
    kind: Vec<EventKind>,

    /// Not before: RFC 3339, a date, or how long ago (`90s`, `30m`, `24h`, `7d`)
    #[arg(long, value_name = "WHEN", help_heading = "Filters")]
    since: Option<String>,

    /// Before: RFC 3339, a date, or how long ago
    #[arg(long, value_name = "WHEN", help_heading = "Filters")]
    until: Option<String>,

    /// Only what this inbound event or message led to
    #[arg(long, value_name = "EVENT", help_heading = "Filters")]
    cause: Option<String>,
}

/// The filters, read.
struct Selection {
    claw: Option<ClawName>,
    kind: Vec<EventKind>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    cause: Option<String>,
}

impl Selection {
    fn of(args: &Args) -> Result<Self, Failure> {
        let instant = |option, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| filter::instant_of(option, text)).transpose()
        };
        Ok(Self {
            claw: args.claw.clone(),
            kind: args.kind.clone(),
            since: instant("since", &args.since)?,
            until: instant("until", &args.until)?,
            cause: args.cause.clone(),
        })
    }

    fn takes(&self, entry: &Entry) -> bool {
        let event = &entry.event;
        let of_claw =
            |claw: &ClawName| event.claw.as_ref() == Some(claw) || entry.stream == Stream::Claw(claw.clone());
        self.claw.as_ref().is_none_or(of_claw)
            && (self.kind.is_empty() || self.kind.contains(&event.kind))
            && self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
            && self.cause.as_ref().is_none_or(|cause| {
                event
                    .cause
                    .as_ref()
                    .is_some_and(|found| found.0.as_str() == cause)
            })
    }

    /// For people, in the bundle's manifest.
    fn words(&self) -> BTreeMap<String, String> {
        let kinds: Vec<&str> = self.kind.iter().map(|kind| kind.as_str()).collect();
        let words = [
            ("claw", self.claw.as_ref().map(ToString::to_string)),
            ("kind", (!kinds.is_empty()).then(|| kinds.join(","))),
            ("since", self.since.map(|instant| instant.to_string())),
            ("until", self.until.map(|instant| instant.to_string())),
            ("cause", self.cause.clone()),
        ];
        let given = words.into_iter();
        given
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    path: String,
    /// SHA-256 of the bundle's `SHA256SUMS`: names its content, whatever form it is kept in.
    digest: String,
    entries: BTreeMap<String, u64>,
    files: usize,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let selection = Selection::of(args)?;
    let logs = match &args.log {
        Some(folder) => vec![LogFiles::in_folder(folder.clone())],
        None => LogFiles::of(&context.place()?).into(),
    };
    if args.out.exists() {
        return Err(Failure::usage(format!("{} is there already", args.out.display()))
            .hint("name a file or folder that does not exist yet"));
    }
    let mut bundler = Bundler::default();
    let mut entries = BTreeMap::new();
    for log in &logs {
        let basis = log.basis(0)?;
        // An outcome goes with its intent, whatever it says itself.
        let mut intents = BTreeSet::new();
        let mut select = |index: u64, entry: &Entry| match entry.phase {
            Phase::Outcome { of } => intents.contains(&of) || selection.takes(entry),
            Phase::Intent => {
                let takes = selection.takes(entry);
                takes && intents.insert(index)
            }
            Phase::Fact => selection.takes(entry),
        };
        let selected = bundler
            .add_log(
                &log.name,
                &log.published(),
                &basis.checkpoint,
                &basis.policy,
                &mut select,
            )
            .map_err(|error| refused(&error))?;
        entries.insert(log.name.clone(), selected.entries as u64);
    }
    let files = bundler
        .finish(selection.words())
        .map_err(|error| refused(&error))?;
    write(&args.out, &files)?;
    let sums = files.get("SHA256SUMS").map(Vec::as_slice).unwrap_or_default();
    let written = Written {
        path: args.out.display().to_string(),
        digest: clawstaff_types::Digest::of(sums).to_string(),
        entries,
        files: files.len(),
    };
    context.output.sentence(&written, |written| {
        let counts: Vec<String> = written
            .entries
            .iter()
            .map(|(log, count)| format!("{count} of the {log} log"))
            .collect();
        format!("{}: {} ({})", written.path, counts.join(", "), written.digest)
    })
}

fn refused(error: &MakeBundleError) -> Failure {
    match error {
        MakeBundleError::Nothing => Failure::new(Exit::NotFound, error).hint("ask for more with the filters"),
        MakeBundleError::TooMany => Failure::usage(error),
        MakeBundleError::Checkpoint(_) | MakeBundleError::Proof { .. } | MakeBundleError::Entry { .. } => {
            Failure::new(Exit::Verification, error).hint("see what is wrong with `clawstaff audit verify`")
        }
        MakeBundleError::Name(_) | MakeBundleError::Policy(_) | MakeBundleError::Tiles(_) => {
            Failure::failed(error)
        }
    }
}

/// Writes beside the target and renames, so that there is a whole bundle or none.
fn write(out: &Path, files: &Files) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", out.display()));
    let home = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let home = home.unwrap_or(Path::new("."));
    let work = tempfile::Builder::new()
        .prefix(".bundle-")
        .tempdir_in(home)
        .map_err(failed)?;
    let made = work.path().join("made");
    if is_tar(out) {
        fs::write(&made, tar(files).map_err(failed)?).map_err(failed)?;
    } else {
        for (path, bytes) in files {
            let path = made.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&made)).map_err(failed)?;
            fs::write(path, bytes).map_err(failed)?;
        }
    }
    fs::rename(&made, out).map_err(failed)
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// The one tar file that holds these files.
fn tar(files: &Files) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, bytes.as_slice())?;
    }
    builder.into_inner()
}

/// Reads a bundle, if that is what lies at `path`: a folder with `SHA256SUMS`, or a tar file.
pub(super) fn read(path: &Path) -> Result<Option<Files>, Failure> {
    if path.join("SHA256SUMS").is_file() {
        let mut files = Files::new();
        let mut left = MAX_BYTES;
        walk(path, path, &mut files, &mut left)?;
        return Ok(Some(files));
    }
    if path.is_file() && is_tar(path) {
        return read_tar(path).map(Some);
    }
    Ok(None)
}

fn walk(root: &Path, dir: &Path, files: &mut Files, left: &mut u64) -> Result<(), Failure> {
    let failed = |error: std::io::Error| super::verify::unreadable(dir, &error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            walk(root, &path, files, left)?;
            continue;
        }
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        let name = name.filter(|_| kind.is_file() && files.len() < MAX_FILES);
        let name = name.ok_or_else(|| bad(root, &format!("{} cannot be part of one", path.display())))?;
        let bytes = read_bounded(&path, left).map_err(failed)?;
        files.insert(name.to_owned(), bytes);
    }
    Ok(())
}

fn read_bounded(path: &Path, left: &mut u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path)?.take(*left + 1).read_to_end(&mut bytes)?;
    *left = left
        .checked_sub(read as u64)
        .ok_or(std::io::ErrorKind::FileTooLarge)?;
    Ok(bytes)
}

fn read_tar(path: &Path) -> Result<Files, Failure> {
    let failed = |error: std::io::Error| bad(path, &error.to_string());
    let bytes =
        read_bounded(path, &mut { MAX_BYTES }).map_err(|error| super::verify::unreadable(path, &error))?;
    let mut files = Files::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).ok();
        let name = name.filter(|_| files.len() < MAX_FILES);
        let name = name.ok_or_else(|| bad(path, "a name in it is not text, or there are too many"))?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(failed)?;
        files.insert(name, content);
    }
    // Owners, times, padding: whatever the format has room for must be as it was written.
    if tar(&files).map_err(failed)? == bytes {
        return Ok(files);
    }
    Err(bad(path, "the tar file was changed outside of the files in it"))
}

fn bad(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Verification,
        format!("{} is not a bundle: {why}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files::from([
            ("SHA256SUMS".to_owned(), b"x".to_vec()),
            (format!("log/{}", "p".repeat(90)), vec![7; 700]),
        ])
    }

    #[test]
    fn a_tar_file_reads_back_and_no_changed_byte_of_it_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.tar");
        write(&path, &files()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(files()));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_err_or_other(&files()), "byte {at}");
        }
        fs::write(&path, &good[..good.len() - 512]).unwrap();
        assert!(read(&path).is_err());
    }

    trait IsErrOrOther {
        fn is_err_or_other(&self, than: &Files) -> bool;
    }

    impl IsErrOrOther for Result<Option<Files>, Failure> {
        /// Content that changed is for the bundle's own checks to find.
        fn is_err_or_other(&self, than: &Files) -> bool {
            self.as_ref().map_or(true, |read| read.as_ref() != Some(than))
        }
    }

    #[test]
    fn a_folder_reads_back_and_links_in_it_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        write(&path, &files()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(files()));
        std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap();
        assert!(read(&path).is_err());
    }
}
