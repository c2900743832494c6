//! `clawstaff audit prove`: one entry, with everything that a stranger needs to believe that it is in the log.

use std::path::PathBuf;

use clawstaff_audit::Proof;
use clawstaff_audit::published::TileHashes;

use super::logs::LogFiles;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    output,
};

/// Which entry.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, as `audit query` shows it
    id: String,

    /// Folder of a log, instead of the local installation
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,

    /// Write it to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let (log, index) = find(context, args)?;
    let basis = log.basis(index.saturating_add(1))?;
    let published = log.published();
    let mut leaf = None;
    published
        .leaves(index, basis.size, &mut |_, bytes| {
            leaf = Some(bytes.to_vec());
            false
        })
        .map_err(|error| Failure::failed(format!("entry {index} cannot be read: {error}")))?;
    let leaf = leaf.ok_or_else(|| {
        let message = format!(
            "the {} log has {} entries, none with index {index}",
            log.name, basis.size
        );
        Failure::new(Exit::NotFound, message).hint("a new entry is published within a second")
    })?;
    let hashes = TileHashes::new(&published, basis.size);
    let proof = Proof::make(&hashes, index, &leaf, &basis.checkpoint)
        .map_err(|error| Failure::failed(format!("entry {index} cannot be proved: {error}")))?;
    let policy = clawstaff_audit::Policy::parse(&basis.policy).map_err(Failure::failed)?;
    proof.verify(&leaf, &policy).map_err(|error| {
        Failure::new(Exit::Verification, error).hint("see what is wrong with `clawstaff audit verify`")
    })?;
    let text = proof.to_string();
    match &args.out {
        None => output::raw(text.as_bytes()),
        Some(path) => std::fs::write(path, text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display()))),
    }
}

/// The log and the index that an id names.
fn find(context: &Context, args: &Args) -> Result<(LogFiles, u64), Failure> {
    let bad = || {
        Failure::usage(format!("`{}` is not the id of an entry", args.id))
            .hint("ids look like gateway:4711; `clawstaff audit query` shows them")
    };
    let (name, index) = match args.id.rsplit_once(':') {
        Some((name, index)) => (Some(name), index),
        None => (None, args.id.as_str()),
    };
    let index: u64 = index.parse().map_err(|_| bad())?;
    if let Some(folder) = &args.log {
        return Ok((LogFiles::in_folder(folder.clone()), index));
    }
    let name = name.ok_or_else(bad)?;
    let logs = LogFiles::of(&context.place()?);
    let log = logs.into_iter().find(|log| log.name == name);
    log.map(|log| (log, index)).ok_or_else(bad)
}
