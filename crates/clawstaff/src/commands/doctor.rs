//! `clawstaff doctor`: what this host can enforce, and what to do about the rest.
//!
//! It changes nothing. Each back end is opened as the runner would open it, the native one with a trial cage in a
//! folder that is removed again, and asked for its capabilities; the rows about the host are there to explain them.

mod host;

use std::{path::Path, sync::Arc};

use clawstaff_cage::{Backend, CageError, Enforcement, Feature, backend::limit_name};
use clawstaff_runner::{BackendChoice, Config};
use serde::Serialize;

use super::{parts::program, up::libexec};
use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{self, Cell, Format},
};

/// Say what this host can enforce, and what to do about the rest
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clawstaff doctor
  clawstaff doctor -o json | jq 'select(.state != \"enforced\")'

Exit code 1 if no back end can make cages here.")]
pub(crate) struct Args {
    /// Docker Engine or Podman socket
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    docker_host: Option<String>,

    /// The engine's runtime for the cages, such as runsc
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    /// `host`, `native` or `docker`.
    part: &'static str,
    /// What it is about.
    what: String,
    /// `enforced`, `missing`, `unavailable`, or for the host what was found.
    state: String,
    /// Why, where something is missing.
    why: Option<String>,
    /// What would help.
    remedy: Option<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    // Trial cages need a place; the installation's own is left alone.
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::failed(format!("cannot make a folder to try things in: {error}")))?;
    let config = config(folder.path(), args)?;
    let mut rows = host::rows();
    let native = opened(clawstaff_runner::native(&config).await);
    let docker = opened(clawstaff_runner::docker(&config).await);
    let works = native.is_ok() || docker.is_ok();
    rows.extend(backend_rows("native", &native));
    rows.extend(backend_rows("docker", &docker));
    print(context.output, &rows)?;
    if works {
        return Ok(());
    }
    let failure = Failure::new(Exit::Failed, "nothing on this host can make cages");
    Err(failure.hint("see the remedies above; either back end will do"))
}

fn config(folder: &Path, args: Args) -> Result<Config, Failure> {
    let programs = libexec()?;
    Ok(Config {
        data: folder.to_owned(),
        backend: BackendChoice::Auto,
        launcher: program(&programs, "clawstaff-launcher")?,
        claw: program(&programs, "claw")?,
        docker_host: args.docker_host,
        runtime: args.runtime,
        keep_cages: true,
        exec: false,
    })
}

type Opened = Result<Arc<dyn Backend>, String>;

fn opened(result: Result<Arc<dyn Backend>, CageError>) -> Opened {
    result.map_err(|error| match error {
        CageError::Unavailable { doing, detail, .. } => format!("cannot {doing}: {detail}"),
        other => other.to_string(),
    })
}

fn backend_rows(part: &'static str, opened: &Opened) -> Vec<Row> {
    let backend = match opened {
        Ok(backend) => backend,
        Err(why) => {
            return vec![Row {
                part,
                what: "cages".to_owned(),
                state: "unavailable".to_owned(),
                why: Some(why.clone()),
                remedy: Some(unavailable_remedy(part).to_owned()),
            }];
        }
    };
    let capabilities = backend.capabilities();
    let limits = capabilities.limits.iter().map(|(limit, enforcement)| {
        let what = format!("limit {}", limit_name(*limit));
        row(part, what, enforcement)
    });
    let features = capabilities
        .features
        .iter()
        .map(|(feature, enforcement)| row(part, feature_name(*feature).to_owned(), enforcement));
    let notes = backend.notes().into_iter().map(|(what, state)| Row {
        part,
        what: what.to_owned(),
        state: output::tame(&state, 200),
        why: None,
        remedy: None,
    });
    notes.chain(limits).chain(features).collect()
}

fn unavailable_remedy(part: &str) -> &'static str {
    if part == "docker" {
        "start Docker or Podman and name its socket with --docker-host; not needed where native works"
    } else {
        "not needed where docker works"
    }
}

fn row(part: &'static str, what: String, enforcement: &Enforcement) -> Row {
    let (state, why, remedy) = match enforcement {
        Enforcement::Enforced => ("enforced", None, None),
        Enforcement::NotEnforced { why, remedy } => ("missing", Some(why.clone()), Some(remedy.clone())),
    };
    Row {
        part,
        what,
        state: state.to_owned(),
        why,
        remedy,
    }
}

const fn feature_name(feature: Feature) -> &'static str {
    match feature {
        Feature::OwnUser => "user of its own",
        Feature::Seccomp => "system calls",
        Feature::Landlock => "Landlock",
        Feature::Freeze => "freezing",
    }
}

fn print(format: Format, rows: &[Row]) -> Result<(), Failure> {
    format.list(rows, &["PART", "WHAT", "STATE"], |row| {
        vec![
            Cell::new(row.part),
            Cell::new(&row.what),
            Cell::tinted(&row.state),
        ]
    })?;
    if format == Format::Json {
        return Ok(());
    }
    for row in rows {
        if let Some(why) = &row.why {
            output::line(&format!(
                "\n{} · {}: {}",
                row.part,
                row.what,
                output::tame(why, 500)
            ))?;
        }
        if let Some(remedy) = &row.remedy {
            output::line(&format!("  what helps: {}", output::tame(remedy, 500)))?;
        }
    }
    Ok(())
}
