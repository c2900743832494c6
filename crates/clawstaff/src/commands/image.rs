//! `clawstaff image`: the built-in image as a file, for whoever wants to look at it or to build on it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use clawstaff_cage::builtin::Builtin;
use clawstaff_types::Digest;

use super::{parts::program, up::libexec};
use crate::{context::Context, failure::Failure, output};

/// The image of the built-in agent
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(BuildArgs),
}

/// Write the built-in image to a file, the same bytes every time
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  clawstaff image build claw.tar && docker load < claw.tar

The file is an OCI image layout that every engine loads; as an agent's image it is `oci-archive:/…/claw.tar`.")]
pub(crate) struct BuildArgs {
    /// Where to write it; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(_: &Context, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Build(args) => build(args),
    }
}

fn build(args: &BuildArgs) -> Result<(), Failure> {
    let claw = program(&libexec()?, "claw")?;
    let failed = |error: std::io::Error| Failure::failed(format!("cannot assemble the image: {error}"));
    let image = Builtin::new(&claw).map_err(failed)?;
    let archive = image.archive().map_err(failed)?;
    let written = if args.file == Path::new("-") {
        std::io::stdout().write_all(&archive)
    } else {
        write_whole(&args.file, &archive)
    };
    let place = args.file.display();
    written.map_err(|error| Failure::failed(format!("cannot write {place}: {error}")))?;
    output::note(&format!(
        "{}, {} bytes, {}",
        image.reference(),
        archive.len(),
        Digest::of(&archive)
    ));
    Ok(())
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}
