//! `clawstaff claw snapshot` and `restore`: copies of a Claw's `/data`, kept on the runner's host beside its cage.

use clawstaff_runner::{
    local::cage_path,
    snapshots::{SnapshotAnswer, SnapshotRequest},
};
use clawstaff_types::ClawName;

use super::live::PATIENCE;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Cell},
};

#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArgs {
    /// The Claw
    name: ClawName,
    /// List the snapshots, and take none
    #[arg(long, conflicts_with = "remove")]
    list: bool,
    /// Remove this snapshot, and take none
    #[arg(long, value_name = "SNAPSHOT")]
    remove: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The Claw; it must be stopped
    name: ClawName,
    /// The snapshot, as `snapshot --list` names it
    snapshot: String,
}

pub(super) async fn snapshot(context: &Context, args: SnapshotArgs) -> Result<(), Failure> {
    let runner = context.runner()?.patient(PATIENCE);
    let path = cage_path(&args.name, "snapshots");
    if let Some(snapshot) = args.remove {
        let path = cage_path(&args.name, "snapshots/remove");
        return runner.post(&path, &SnapshotRequest { snapshot }).await;
    }
    if args.list {
        let found: Vec<SnapshotAnswer> = runner.get(&path).await?;
        return context.output.list(&found, &["SNAPSHOT", "BYTES"], |one| {
            vec![Cell::new(&one.snapshot), Cell::new(one.bytes)]
        });
    }
    let taken: SnapshotAnswer = runner.post_empty(&path).await?;
    context.output.one(&taken, |taken| {
        vec![
            ("snapshot", taken.snapshot.clone()),
            ("bytes", taken.bytes.to_string()),
        ]
    })
}

pub(super) async fn restore(context: &Context, args: RestoreArgs) -> Result<(), Failure> {
    let runner = context.runner()?.patient(PATIENCE);
    let request = SnapshotRequest {
        snapshot: args.snapshot,
    };
    let path = cage_path(&args.name, "snapshots/restore");
    let () = runner.post(&path, &request).await?;
    output::note(&format!(
        "/data of `{}` is as it was; `clawstaff claw start` runs it",
        args.name
    ));
    Ok(())
}
