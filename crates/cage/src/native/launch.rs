//! The launcher's command lines.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::record::Process;
use crate::{TMP_BYTES, image::RunConfig, spec::CageSpec};

/// Size of each of the two log files of a cage, in bytes.
const LOG_BYTES: u64 = 1 << 20;

/// All that the launcher must be told to make a cage.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) launcher: &'a Path,
    pub(super) spec: &'a CageSpec,
    pub(super) dir: &'a Path,
    pub(super) image: &'a Path,
    pub(super) etc: &'a Path,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) oom: Option<PathBuf>,
    /// How the image wants to run.
    pub(super) run: &'a RunConfig,
}

impl Launch<'_> {
    /// Runs the launcher until the cage's program runs.
    pub(super) fn run(&self) -> Result<(), String> {
        let output = Command::new(self.launcher)
            .args(self.arguments())
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.trim().trim_start_matches("clawstaff-launcher: ").to_owned())
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut line = Line::new("run");
        line.flag("--state", self.dir)
            .flag("--hostname", self.spec.claw.as_str());
        line.flag("--image", self.image)
            .flag("--door", &self.spec.door_dir)
            .flag("--etc", self.etc);
        let image = self.dir.join("storage.img");
        if image.exists() {
            line.flag("--data-image", image);
        } else {
            line.flag("--data", self.dir.join("data"));
        }
        line.flag("--uid", self.run.uid().to_string());
        line.flag("--host-uid", self.user.to_string())
            .flag("--host-gid", self.group.to_string());
        line.cgroups(&self.cgroups);
        if let Some(oom) = &self.oom {
            line.flag("--oom", oom);
        }
        line.flag("--pids", self.spec.limits.pids.to_string());
        line.flag("--tmp-bytes", TMP_BYTES.to_string())
            .flag("--log-bytes", LOG_BYTES.to_string());
        for variable in &self.run.env {
            line.flag("--env", variable);
        }
        if let Some(directory) = &self.run.directory {
            line.flag("--directory", directory);
        }
        line.command(&self.spec.command_with(&self.run.command))
    }
}

/// The arguments of `exec` for a live cage, up to its command.
pub(super) fn exec(init: Process, uid: u32, cgroups: &[PathBuf], pids: u32) -> Line {
    let mut line = Line::new("exec");
    line.flag("--pid", init.pid.to_string())
        .flag("--started", init.started.to_string());
    line.flag("--uid", uid.to_string())
        .flag("--pids", pids.to_string());
    line.cgroups(cgroups);
    line
}

/// A command line in the making.
#[derive(Debug)]
pub(super) struct Line(Vec<OsString>);

impl Line {
    fn new(verb: &str) -> Self {
        Self(vec![verb.into()])
    }

    fn flag(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.into());
        self
    }

    fn cgroups(&mut self, cgroups: &[PathBuf]) {
        for cgroup in cgroups {
            self.flag("--cgroup", cgroup);
        }
    }

    /// Ends the line with the command to run.
    pub(super) fn command(mut self, command: &[String]) -> Vec<OsString> {
        self.0.push("--".into());
        self.0.extend(command.iter().map(OsString::from));
        self.0
    }
}
