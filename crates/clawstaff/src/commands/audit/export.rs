//! `clawstaff audit export`: records in another format, to a file or to standard output.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::filter::Filter;
use crate::{
    client::{self, Client},
    context::Context,
    failure::Failure,
    output,
};

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// One OCSF event a line
    Ocsf,
    /// `ArcSight` Common Event Format
    Cef,
}

/// What to export, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format of the records
    #[arg(long, value_enum)]
    format: Format,
    /// Version of OCSF, 1.1 to 1.9; the newest by default
    #[arg(long, value_name = "VERSION")]
    ocsf_version: Option<String>,
    /// Go on as records come
    #[arg(short, long)]
    follow: bool,
    /// Write to this file, which must not exist yet, instead of standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
}

impl Args {
    fn path(&self) -> Result<String, Failure> {
        let format = match self.format {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Ocsf => "ocsf",
            Format::Cef => "cef",
        };
        let own = client::query(&[
            ("format", Some(format.to_owned())),
            ("ocsf_version", self.ocsf_version.clone()),
            ("follow", self.follow.then(|| "true".to_owned())),
        ]);
        let filter = self.filter.query(None, None)?;
        Ok(format!("/v1/audit/export{own}{}", filter.replacen('?', "&", 1)))
    }
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let client = context.api()?;
    let path = args.path()?;
    match &args.to {
        None => copy(&client, &path, &mut |piece| output::raw(piece)).await?,
        Some(file) if args.follow => {
            let mut out = create(file)?;
            copy(&client, &path, &mut |piece| written(file, out.write_all(piece))).await?;
        }
        Some(file) => whole(&client, &path, file).await?,
    }
    if args.follow {
        return Err(
            Failure::unavailable("the stream of records ended").hint("the control plane may have stopped")
        );
    }
    Ok(())
}

/// Gives the answer to `take`, piece by piece.
async fn copy(
    client: &Client,
    path: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut pieces = client.pieces(path).await?;
    while let Some(piece) = pieces.next().await? {
        take(&piece)?;
    }
    Ok(())
}

/// A file that is there is whole: until then it is called `FILE.part`, and it is removed if the export breaks.
async fn whole(client: &Client, path: &str, file: &Path) -> Result<(), Failure> {
    if file.exists() {
        return Err(exists(file));
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let mut out = create(&part)?;
    let copied = copy(client, path, &mut |piece| written(&part, out.write_all(piece))).await;
    let kept = copied
        .and_then(|()| written(&part, out.sync_all()))
        .and_then(|()| written(file, std::fs::rename(&part, file)));
    if kept.is_err() {
        // It is ours and incomplete; the failure itself is what is reported.
        drop(std::fs::remove_file(&part));
    }
    kept
}

/// A new file that only its owner can read.
fn create(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        other => written(path, other),
    }
}

fn exists(path: &Path) -> Failure {
    Failure::usage(format!("{} is there already", path.display())).hint("name a file that does not exist yet")
}

fn written<T>(path: &Path, result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}
