//! The committer goes before other work: under load the scheduler, not the disk, makes the slow tail.
//!
//! It sleeps in nearly every moment of its life, and a batch is bounded, so it cannot keep a core to itself.

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Where realtime priority is not allowed.
const NICE: i32 = -10;

/// How the committer stands against other work on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// `SCHED_FIFO`: it runs as soon as it can.
    Realtime,
    /// A lower nice value.
    Raised,
    /// Neither was allowed: under load, acknowledgements wait for other work.
    Ordinary,
}

/// Raises the calling thread's priority as far as is allowed.
pub(super) fn raise() -> Priority {
    let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let lowest = ThreadPriority::Crossplatform(
        1_u8.try_into()
            .unwrap_or(thread_priority::ThreadPriorityValue::MIN),
    );
    let raised = if set_thread_priority_and_policy(thread_native_id(), lowest, fifo).is_ok() {
        Priority::Realtime
    } else if rustix::process::setpriority_process(None, NICE).is_ok() {
        Priority::Raised
    } else {
        Priority::Ordinary
    };
    tracing::info!(?raised, "the priority of the audit log's committer");
    raised
}
