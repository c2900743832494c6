//! Commands and output: both are streams of a length that the cage chooses, and both are bounded here.

use std::{collections::VecDeque, time::Duration};

use bollard::{
    container::LogOutput,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
    query_parameters::LogsOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    backend::{CageError, During},
    id::CageId,
    observed::ExecOutput,
};

/// Runs a command in a running container.
pub(super) async fn run(
    engine: &bollard::Docker,
    id: &CageId,
    name: &str,
    command: &[String],
    timeout: Duration,
) -> Result<ExecOutput, CageError> {
    let doing = "run a command in it";
    let config = ExecConfig {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        privileged: Some(false),
        ..ExecConfig::default()
    };
    let exec = engine.create_exec(name, config).await.during(id, doing)?.id;
    let started = engine
        .start_exec(&exec, None::<StartExecOptions>)
        .await
        .during(id, doing)?;
    let StartExecResults::Attached { output, .. } = started else {
        return Err("the engine did not attach to it").during(id, doing);
    };
    let mut said = ExecOutput {
        code: None,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let collected = tokio::time::timeout(timeout, collect(output, &mut said)).await;
    let found = engine.inspect_exec(&exec).await.during(id, doing)?;
    match collected {
        Ok(result) => {
            result.during(id, doing)?;
            said.code = found.exit_code.and_then(|code| i32::try_from(code).ok());
        }
        // The engine has no way to end a command; on this machine we have.
        Err(_elapsed) => kill(found.running, found.pid),
    }
    Ok(said)
}

async fn collect<E>(
    output: impl futures_util::Stream<Item = Result<LogOutput, E>>,
    said: &mut ExecOutput,
) -> Result<(), E> {
    let mut output = std::pin::pin!(output);
    while let Some(piece) = output.next().await.transpose()? {
        let (kept, bytes) = match piece {
            LogOutput::StdErr { message } => (&mut said.stderr, message),
            LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                (&mut said.stdout, message)
            }
        };
        let room = ExecOutput::MAX_BYTES.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
    }
    Ok(())
}

/// Ends a command that took too long. Where the engine is elsewhere, or not ours to signal, it lives on until its
/// cage stops.
fn kill(running: Option<bool>, pid: Option<i64>) {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .filter(|pid| *pid > 1)
        .and_then(Pid::from_raw);
    if let (Some(true), Some(pid)) = (running, pid)
        && let Err(error) = kill_process(pid, Signal::KILL)
    {
        let pid = pid.as_raw_nonzero().get();
        tracing::warn!(pid, %error, "a command that took too long lives on in its cage");
    }
}

/// The last bytes of a container's output.
pub(super) async fn logs(
    engine: &bollard::Docker,
    id: &CageId,
    name: &str,
    tail_bytes: u64,
) -> Result<Vec<u8>, CageError> {
    let most = usize::try_from(tail_bytes).unwrap_or(usize::MAX);
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .tail("all")
        .build();
    let pieces = engine.logs(name, Some(options));
    let kept = pieces
        .try_fold(VecDeque::new(), |mut kept, piece| async move {
            kept.extend(piece.into_bytes());
            kept.drain(..kept.len().saturating_sub(most));
            Ok(kept)
        })
        .await;
    kept.map(Vec::from).during(id, "read its log")
}
