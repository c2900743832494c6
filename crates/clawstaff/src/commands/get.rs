//! `clawstaff get`: the spec file back, as it stands.

use std::path::PathBuf;

use clawstaff_api::people::Spec;

use crate::{
    context::Context,
    failure::Failure,
    output::{self, Format},
    spec,
};

/// Print everything that is applied as a spec file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clawstaff get -f                  to standard output
  clawstaff get -f staff.toml       into a file
  clawstaff get -o json | jq .claws

Instructions come back sealed (`instructions_sealed`); applying them again changes nothing.")]
pub(crate) struct Args {
    /// Where to write it; `-` or nothing means standard output
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    file: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let spec: Spec = context.api()?.get("/v1/spec").await?;
    let text = match context.output {
        Format::Table => spec::to_toml(&spec),
        Format::Json => serde_json::to_string(&spec)
            .map(|text| text + "\n")
            .map_err(|error| Failure::failed(format!("cannot write the spec as JSON: {error}")))?,
    };
    match args.file.filter(|path| path.as_os_str() != "-") {
        None => output::raw(text.as_bytes()),
        Some(path) => std::fs::write(&path, text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display()))),
    }
}
