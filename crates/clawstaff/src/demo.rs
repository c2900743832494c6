//! `clawstaff demo`: the whole story on this machine, offline, told as it happens.
//!
//! Everything runs for real: three confined processes, three cages, signed Slack deliveries over HTTP, a
//! durable log. Only the services outside are stand-ins, processes of their own that speak the vendors'
//! protocols. Each step *observes*, from outside, what it claims; the exit code is 0 only if every
//! observation held. The demo drives the installation through the command line, as a user would.

mod audit;
mod byok;
mod canary;
mod cli;
mod hijack;
mod lifecycle;
mod memory;
mod stage;
mod story;
mod web;
mod work;

use std::path::PathBuf;

use self::{stage::Stage, story::Story};
use crate::failure::{Exit, Failure};

/// Tell the whole story on this machine, offline; succeeds only if every step was observed to hold
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff demo --keep")]
pub(crate) struct DemoArgs {
    /// Leave everything running at the end and say what to try next.
    #[arg(long)]
    keep: bool,
    /// Which kind of cage.
    #[arg(long, default_value = "auto", value_parser = ["auto", "docker", "native"])]
    cage: String,
    /// Where to put the installation; a fresh directory under the system's temporary directory if absent.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// Tells the story.
pub(crate) async fn run(args: &DemoArgs) -> Result<(), Failure> {
    let mut story = Story::begin();
    let outcome = tell(args, &mut story).await;
    if let Err(error) = outcome {
        story.broke_off(&error);
    }
    story.end()
}

/// Search all that the control plane has for keys, prompts and responses; succeeds only if there are none
///
/// A fresh installation with stand-in services runs the same job as the demo with canaries for all of them. Nothing
/// of an installation that is in use is touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff verify-byok")]
pub(crate) struct VerifyArgs {
    /// Which kind of cage.
    #[arg(long, default_value = "auto", value_parser = ["auto", "docker", "native"])]
    cage: String,
    /// Where to put the installation; a fresh directory under the system's temporary directory if absent.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// Does the demo's job and searches for its canaries.
pub(crate) async fn verify_byok(args: &VerifyArgs) -> Result<(), Failure> {
    let mut story = Story::begin();
    if let Err(error) = verified(args, &mut story).await {
        story.broke_off(&error);
    }
    story
        .end()
        .map_err(|_| Failure::new(Exit::Verification, "not everything was observed to hold"))
}

async fn verified(args: &VerifyArgs, story: &mut Story) -> anyhow::Result<()> {
    let mut stage = Stage::set(story, args.directory.clone(), &args.cage).await?;
    let told = canaries_flown(story, &mut stage).await;
    stage.strike(story).await;
    told
}

async fn canaries_flown(story: &mut Story, stage: &mut Stage) -> anyhow::Result<()> {
    stage.start_processes(story).await?;
    work::deploy(story, stage).await?;
    work::tickets(story, stage).await?;
    byok::searched(story, stage).await
}

async fn tell(args: &DemoArgs, story: &mut Story) -> anyhow::Result<()> {
    let mut stage = Stage::set(story, args.directory.clone(), &args.cage).await?;
    let told = chapters(story, &mut stage).await;
    if args.keep && told.is_ok() {
        stage.keep(story);
    } else {
        stage.strike(story).await;
    }
    told
}

async fn chapters(story: &mut Story, stage: &mut Stage) -> anyhow::Result<()> {
    stage.start_processes(story).await?;
    work::deploy(story, stage).await?;
    work::tickets(story, stage).await?;
    hijack::refused(story, stage).await?;
    lifecycle::independent(story, stage).await?;
    audit::answers(story, stage).await?;
    audit::tampering(story, stage).await?;
    byok::searched(story, stage).await
}
