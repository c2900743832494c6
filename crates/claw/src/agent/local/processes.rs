//! Processes as the cage sees them, and signals to them, for real.

use std::{fs, io};

use clawstaff_cage_contract::CageAct;
use rustix::{
    io::Errno,
    process::{
        Pid, Signal, kill_current_process_group, kill_process, kill_process_group,
        test_kill_current_process_group, test_kill_process, test_kill_process_group,
    },
};

use super::{Done, happened, prevented};
use crate::{agent::tool::ToolOutcome, errno};

/// Processes that are listed.
const MAX_PROCESSES: usize = 256;
/// Characters of a command line that are shown.
const MAX_COMMAND: usize = 200;

/// Lists the processes in `/proc`: id and command line, or the name in brackets where there is none.
pub(super) fn list() -> Done {
    match lines() {
        Ok(lines) => (ToolOutcome::happened(&lines.join("\n")), Vec::new()),
        Err(error) => (ToolOutcome::refused(&format!("/proc: {error}")), Vec::new()),
    }
}

fn lines() -> io::Result<Vec<String>> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.truncate(MAX_PROCESSES);
    Ok(pids
        .into_iter()
        .map(|pid| format!("{pid} {}", command(pid)))
        .collect())
}

fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&line).replace('\0', " ");
    if words.trim().is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        return format!("[{}]", name.trim());
    }
    words.trim().chars().take(MAX_COMMAND).collect()
}

/// Sends `signal` to `pid`, with the meaning that `kill(2)` gives to 0 and to negative numbers.
pub(super) fn signal(pid: i32, signal: Option<Signal>) -> Done {
    let target = pid.to_string();
    let number = signal.map_or(0, Signal::as_raw);
    match send(pid, signal) {
        Ok(()) if survived(pid, signal) => {
            let text = format!("signal {number} to pid 1 was ignored: it is the init of this cage");
            (
                ToolOutcome::refused(&text),
                vec![prevented(CageAct::Signal, &target, "IGNORED".to_owned())],
            )
        }
        Ok(()) => (
            ToolOutcome::happened(&format!("sent signal {number} to pid {pid}")),
            vec![happened(CageAct::Signal, &target)],
        ),
        Err(error) => {
            let name = errno::name(error);
            (
                ToolOutcome::refused(&format!("sending signal {number} to pid {pid}: {name}")),
                vec![prevented(CageAct::Signal, &target, name)],
            )
        }
    }
}

/// Whether the kernel took the signal and did nothing: it does not let a process of the cage kill or stop the
/// cage's init, and says nothing about it. Had it worked, nobody would be here to ask.
fn survived(pid: i32, signal: Option<Signal>) -> bool {
    pid == 1 && (signal == Some(Signal::KILL) || signal == Some(Signal::STOP))
}

fn send(pid: i32, signal: Option<Signal>) -> Result<(), Errno> {
    // `Pid` holds positive numbers; groups are named by theirs. Group 1 is how `kill(-1, …)` is spelled.
    let target = Pid::from_raw(pid.checked_abs().ok_or(Errno::INVAL)?);
    match (target, signal) {
        (None, Some(signal)) => kill_current_process_group(signal),
        (None, None) => test_kill_current_process_group(),
        (Some(group), Some(signal)) if pid < 0 => kill_process_group(group, signal),
        (Some(group), None) if pid < 0 => test_kill_process_group(group),
        (Some(process), Some(signal)) => kill_process(process, signal),
        (Some(process), None) => test_kill_process(process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tool::Verdict;
    use std::process::Command;

    #[test]
    fn a_process_is_listed_and_ended_for_real() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = child.id();
        assert!(
            list()
                .0
                .text
                .lines()
                .any(|line| line.starts_with(&format!("{id} ")))
        );
        let (outcome, acts) = signal(i32::try_from(id).unwrap(), Some(Signal::KILL));
        assert_eq!(outcome.verdict, Verdict::Happened);
        assert_eq!(acts, [happened(CageAct::Signal, &id.to_string())]);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_process_that_does_not_exist_is_reported_so() {
        let (outcome, acts) = signal(i32::MAX, None);
        assert_eq!(outcome.verdict, Verdict::Refused);
        assert_eq!(acts[0].error, "ESRCH");
    }
}
