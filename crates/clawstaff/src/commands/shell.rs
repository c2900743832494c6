//! `clawstaff completion` and `clawstaff man`: what packagers install beside the program.

use std::path::{Path, PathBuf};

use clap_complete::Shell;

use crate::{failure::Failure, output};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff completion bash > /etc/bash_completion.d/clawstaff")]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Print the manual page, or write all of them into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  clawstaff man | man -l -\n  clawstaff man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Folder to write one page per command into
    folder: Option<PathBuf>,
}

pub(crate) fn completion(mut command: clap::Command, args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "clawstaff", &mut script);
    output::raw(&script)
}

pub(crate) fn man(command: clap::Command, args: &ManArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write the manual: {error}"));
    if let Some(folder) = &args.folder {
        return write_pages(command, folder).map_err(failed);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(failed)?;
    output::raw(&page)
}

fn write_pages(command: clap::Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}
