//! The control plane: what Claws there are, what they may do, what happened; for people and for nodes.
//!
//! ```text
//! people ── api.sock (the peer's uid is the login) ─┐                       ┌─► store   state, audit index
//! people ── TCP (token): dashboard and API ─────────┤─► http ─► app (rules) ┤
//! nodes  ── nodes.sock (node tokens), or TCP with ──┘                       └─► own audit log
//!           mutual TLS from other hosts
//! ```
//!
//! What is never here: a key, a prompt, a response, the text of a message (they pass sealed, or not at all);
//! a call into a cage; agent traffic. Everything between this and the nodes is level-triggered: they ask for
//! state newer than theirs and report, and nothing dials them.
//!
//! `run.rs` is the table of contents.

mod app;
mod authority;
mod config;
mod confine;
mod dashboard;
#[cfg(test)]
mod faults;
mod frontier;
mod http;
mod keys;
mod openapi;
mod run;
mod serve;

pub use config::{Config, RunError};
pub use http::table::{Leaves, permission_matrix, records_of_routes};
pub use openapi::openapi;
pub use run::{confine_process, run};
