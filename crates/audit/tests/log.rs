//! The audit log from outside: what callers, crashes, full disks and forgers get to see.
//!
//! One binary, because each one is linked statically.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set itself up has failed"
)]

#[path = "log/append.rs"]
mod append;
#[path = "log/at.rs"]
mod at;
#[path = "log/corpus.rs"]
mod corpus;
#[path = "log/crashes.rs"]
mod crashes;
#[path = "log/differential.rs"]
mod differential;
#[path = "log/evidence.rs"]
mod evidence;
#[path = "log/faults.rs"]
mod faults;
#[path = "log/history.rs"]
mod history;
#[path = "log/kill.rs"]
mod kill;
#[path = "log/sim.rs"]
mod sim;
#[path = "log/slow.rs"]
mod slow;
#[path = "log/strace.rs"]
mod strace;
#[path = "log/support.rs"]
mod support;
#[path = "log/tamper.rs"]
mod tamper;
