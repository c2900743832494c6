//! The launcher's `state` file: what its shim last said about the cage, and whether that still holds.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::observed::ExitReason;

const SIGKILL: i32 = 9;

/// What the shim last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// The cage never ran.
    None,
    /// The init runs.
    Running(Running),
    /// It ended.
    Exited(ExitReason),
}

/// The two processes of a running cage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) init: Process,
    pub(super) shim: Process,
    pub(super) since: SystemTime,
    boot: String,
}

/// A process by id and start time, which together are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Clock ticks since boot.
    pub(super) started: u64,
}

impl Process {
    /// Whether it exists and is not merely waiting to be reaped.
    pub(super) fn lives(self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else {
            return false;
        };
        // The program's name, in brackets, may hold anything.
        let mut fields = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace();
        let state = fields.next();
        let started = fields.nth(18).and_then(|text| text.parse().ok());
        state.is_some_and(|state| state != "Z" && state != "X") && started == Some(self.started)
    }
}

impl Running {
    /// Whether the record is of this boot; of an earlier one it means nothing.
    pub(super) fn is_of_this_boot(&self) -> bool {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").is_ok_and(|boot| boot.trim_end() == self.boot)
    }
}

/// Reads the state file in the cage's directory.
pub(super) fn read(dir: &Path) -> io::Result<Record> {
    match fs::read_to_string(dir.join("state")) {
        Ok(text) => parse(&text).ok_or_else(|| io::Error::other("the launcher's state file is not readable")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::None),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Option<Record> {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let number = |key: &str| fields.get(key)?.parse::<i32>().ok();
    let count = |key: &str| fields.get(key)?.parse::<u64>().ok();
    match *fields.get("phase")? {
        "running" => Some(Record::Running(Running {
            init: Process {
                pid: number("pid")?,
                started: count("started")?,
            },
            shim: Process {
                pid: number("shim")?,
                started: count("shim_started")?,
            },
            since: SystemTime::UNIX_EPOCH + Duration::from_millis(count("since")?),
            boot: (*fields.get("boot")?).to_owned(),
        })),
        "exited" => Some(Record::Exited(reason(
            number("code"),
            number("signal"),
            count("oom_kills").unwrap_or(0),
        ))),
        _ => None,
    }
}

/// A cage that failed after the kernel killed in it for lack of memory failed for that.
fn reason(code: Option<i32>, signal: Option<i32>, oom_kills: u64) -> ExitReason {
    match (code, signal) {
        (_, Some(SIGKILL)) | (Some(1..), _) if oom_kills > 0 => ExitReason::OutOfMemory,
        (Some(code), _) => ExitReason::Code(code),
        (None, Some(signal)) => ExitReason::Signal(signal),
        (None, None) => ExitReason::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exits_are_told_apart() {
        for (text, expected) in [
            ("phase=exited\ncode=0\noom_kills=1\n", ExitReason::Code(0)),
            ("phase=exited\ncode=3\noom_kills=0\n", ExitReason::Code(3)),
            ("phase=exited\ncode=137\noom_kills=1\n", ExitReason::OutOfMemory),
            ("phase=exited\nsignal=9\noom_kills=2\n", ExitReason::OutOfMemory),
            ("phase=exited\nsignal=9\noom_kills=0\n", ExitReason::Signal(9)),
            ("phase=exited\n", ExitReason::Unknown),
        ] {
            assert_eq!(parse(text), Some(Record::Exited(expected)), "{text}");
        }
    }

    #[test]
    fn a_process_is_known_by_more_than_its_id() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let started = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .nth(19)
            .unwrap()
            .parse()
            .unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(Process { pid, started }.lives());
        assert!(
            !Process {
                pid,
                started: started + 1
            }
            .lives()
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_read(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
