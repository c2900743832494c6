//! What a cage is, as seen from outside, now.

use std::time::SystemTime;

use crate::reached::Counts;

/// The state of a cage at the moment of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// There is no such cage.
    Absent,
    /// It has storage and has not run since it was created.
    Created,
    /// It runs.
    Running {
        /// The host's process id of its init.
        pid: u32,
        /// When it was started.
        started: SystemTime,
    },
    /// It is frozen: its processes exist and do not run.
    Paused,
    /// It ran and ended; storage and logs are there.
    Exited(Exit),
}

/// How a cage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: ExitReason,
    /// The end of its output, at most 20 lines and 2 KiB. Content: what the agent printed.
    pub last_lines: String,
}

/// Why a cage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// The init ended with this code.
    Code(i32),
    /// The init was ended by this signal.
    Signal(i32),
    /// The kernel killed in this cage because its memory limit was reached.
    OutOfMemory,
    /// Nobody was there to see it: the machine restarted, or the cage's parent was killed.
    Unknown,
}

/// What a cage uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Memory charged to the cage, page cache and tmpfs included, in bytes.
    pub memory_bytes: u64,
    /// CPU time used since its last start, in microseconds.
    pub cpu_micros: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes in use on `/data`.
    pub storage_bytes: u64,
    /// What is counted of it against its limits.
    pub counts: Counts,
}

/// What an operator's command in a cage said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code, 128 plus the number for a signal; `None` when it was stopped for taking too long.
    pub code: Option<i32>,
    /// Standard output, at most [`ExecOutput::MAX_BYTES`].
    pub stdout: Vec<u8>,
    /// Standard error, at most [`ExecOutput::MAX_BYTES`].
    pub stderr: Vec<u8>,
}

impl ExecOutput {
    /// The most that is kept of each stream, in bytes; the rest is read and dropped.
    pub const MAX_BYTES: usize = 1 << 20;
}
