//! An operator's command in a live cage: the launcher's `exec`, with its output and its time bounded.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

use super::launch::Line;
use crate::{
    backend::{CageError, During},
    id::CageId,
    observed::ExecOutput,
};

/// The launcher and its arguments up to the command.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) launcher: PathBuf,
    pub(super) line: Line,
}

pub(super) async fn run(
    id: &CageId,
    ready: Ready,
    command: &[String],
    timeout: Duration,
) -> Result<ExecOutput, CageError> {
    let doing = "run a command in it";
    let mut child = Command::new(ready.launcher)
        .args(ready.line.command(command))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .during(id, doing)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(child.wait(), bounded(stdout), bounded(stderr)) };
    let ended = tokio::time::timeout(timeout, all).await;
    let Ok((status, stdout, stderr)) = ended else {
        // The command dies with its parent, the launcher; whatever it had said is lost with it.
        child.kill().await.during(id, doing)?;
        return Ok(ExecOutput {
            code: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
        });
    };
    Ok(ExecOutput {
        code: status.during(id, doing)?.code(),
        stdout,
        stderr,
    })
}

/// Reads a stream to its end and keeps its beginning.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut stream) = stream else {
        return Vec::new();
    };
    let mut kept = Vec::new();
    let most = ExecOutput::MAX_BYTES as u64;
    // A stream that breaks has ended.
    let _ = (&mut stream).take(most).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    kept
}
