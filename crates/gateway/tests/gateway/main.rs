//! The gateway from outside: a cage on one side, a service on the other, the log beside them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod approvals;
#[path = "../support/authority.rs"]
mod authority;
mod bounds;
mod bytes;
mod conformance;
mod content;
mod disk;
mod doors;
mod failures;
mod faults;
mod git;
mod honeytoken;
mod interception;
mod line;
mod mcp;
mod models;
mod servers;
mod upstream;
mod ways;
mod world;
