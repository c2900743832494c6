//! What needs the runner's own host: output of a cage, and a command in it.
//!
//! These go to the runner's socket and not through the control plane, because what a cage prints is content.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use clawstaff_runner::local::{ExecAnswer, ExecRequest, cage_path};
use clawstaff_types::ClawName;
use http::Method;

use crate::{client::Client, context::Context, failure::Failure, output};

/// How long a command in a cage, or all probes together, may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// The Claw
    name: ClawName,
    /// How much of the end, in KiB
    #[arg(long, value_name = "KIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    tail: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// The Claw
    name: ClawName,
    /// Stop the command after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) async fn logs(context: &Context, args: LogsArgs) -> Result<(), Failure> {
    let path = format!("{}?tail={}", cage_path(&args.name, "logs"), args.tail * 1024);
    let bytes = context.runner()?.bytes(Method::GET, &path, Bytes::new()).await?;
    // A cage is hostile: nothing of its output may steer the terminal.
    let text: String = String::from_utf8_lossy(&bytes)
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '�'
            } else {
                c
            }
        })
        .collect();
    if text.is_empty() {
        return Ok(());
    }
    output::line(&text)
}

pub(super) async fn exec(context: &Context, args: ExecArgs) -> Result<(), Failure> {
    let answer = run_in(
        &context.runner()?.patient(PATIENCE),
        &args.name,
        args.command,
        args.timeout,
    )
    .await?;
    output::raw(&decode(&answer.stdout)?)?;
    for line in String::from_utf8_lossy(&decode(&answer.stderr)?).lines() {
        output::note(&output::tame(line, 4096));
    }
    match answer.code {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::failed(format!("the command ended with code {code}"))),
        None => Err(Failure::failed(format!(
            "the command was ended after {} s",
            args.timeout
        ))),
    }
}

async fn run_in(
    runner: &Client,
    claw: &ClawName,
    argv: Vec<String>,
    timeout_secs: u64,
) -> Result<ExecAnswer, Failure> {
    let request = ExecRequest { argv, timeout_secs };
    runner.post(&cage_path(claw, "exec"), &request).await
}

fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    BASE64
        .decode(text)
        .map_err(|error| Failure::failed(format!("cannot understand the runner's answer: {error}")))
}
