//! The command line, used as a user uses it: this very program as a child process.

use std::{path::PathBuf, process::Stdio};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// This program against one installation.
#[derive(Debug, Clone)]
pub(super) struct Cli {
    /// This executable.
    pub(super) program: PathBuf,
    /// The installation.
    pub(super) data: PathBuf,
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Ran {
    /// Its exit code; 128 when a signal ended it.
    pub(super) code: i32,
    /// Its standard output.
    pub(super) out: String,
    /// Its standard error.
    pub(super) err: String,
}

impl Cli {
    /// Runs a command to its end.
    pub(super) async fn run(&self, args: &[&str], input: Option<&str>) -> anyhow::Result<Ran> {
        let mut child = Command::new(&self.program)
            .args(args)
            .env("CLAWSTAFF_DATA", &self.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run `clawstaff {}`", args.join(" ")))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin
                .write_all(input.as_bytes())
                .await
                .context("cannot write to the command")?;
        }
        let output = child
            .wait_with_output()
            .await
            .context("the command cannot be waited for")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran {
            code: output.status.code().unwrap_or(128),
            out: text(output.stdout),
            err: text(output.stderr),
        })
    }

    /// Runs a command that must succeed.
    pub(super) async fn must(&self, args: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let ran = self.run(args, input).await?;
        anyhow::ensure!(
            ran.code == 0,
            "`clawstaff {}` failed with {}: {}",
            args.join(" "),
            ran.code,
            ran.err.trim()
        );
        Ok(ran.out)
    }

    /// Runs a command with `-o json`: one object a line.
    pub(super) async fn json(&self, args: &[&str]) -> anyhow::Result<Vec<Value>> {
        let with_output = [args, &["-o", "json"]].concat();
        let out = self.must(&with_output, None).await?;
        let lines = out.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
            .collect()
    }
}

/// A text field of a JSON object, empty if absent.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
