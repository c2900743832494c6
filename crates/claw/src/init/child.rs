//! The agent as a child process, and everybody else's children that end up with pid 1.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use clawstaff_cage_contract::ClawFile;
use rustix::process::{Pid, WaitOptions, wait};

use super::{InitError, environment};
use crate::options::Options;

/// This program itself, whatever it is called in the image.
const MYSELF: &str = "/proc/self/exe";

/// Starts the Claw's command, or its image's, or the built-in agent when there is neither, in a process group of its
/// own.
///
/// # Errors
/// When the program cannot be started.
pub(super) fn start(file: &ClawFile, options: &Options) -> Result<Pid, InitError> {
    let inherited = std::env::vars_os().collect();
    let mut command = program(file, options);
    command
        .env_clear()
        .envs(environment::of_agent(inherited, file, options))
        .stdin(Stdio::null())
        .process_group(0);
    if let Some(home) = working_directory(options) {
        command.current_dir(home);
    }
    let child = command.spawn().map_err(|source| InitError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    Ok(Pid::from_child(&child))
}

fn program(file: &ClawFile, options: &Options) -> Command {
    let own = [&file.command, &options.image_command];
    if let Some((program, args)) = own.into_iter().find_map(|command| command.split_first()) {
        let mut command = Command::new(program);
        command.args(args);
        return command;
    }
    let mut command = Command::new(MYSELF);
    command
        .arg0("claw")
        .args(["agent", "--claw-dir"])
        .arg(&options.claw_dir)
        .arg("--data")
        .arg(&options.data_dir)
        .args(["--doors", &options.doors.to_string()])
        .args(["--proxy", &options.proxy.to_string()]);
    command
}

/// The Claw's storage, unless the image has chosen a working directory.
fn working_directory(options: &Options) -> Option<&Path> {
    let unchosen = std::env::current_dir().is_ok_and(|dir| dir == Path::new("/"));
    (unchosen && options.data_dir.is_dir()).then_some(options.data_dir.as_path())
}

/// Collects every child that has ended; the agent's exit code once the agent is among them. A process that a
/// signal ended has 128 and the signal's number, as in a shell.
pub(super) fn reap(agent: Pid) -> Option<u8> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == agent {
            let code = status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            ended = code.map(|code| u8::try_from(code).unwrap_or(u8::MAX));
        }
    }
    ended
}
