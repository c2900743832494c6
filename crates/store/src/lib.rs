//! Control-plane state, and the only SQL in the tree.
//!
//! The control plane's application layer calls this; nothing else does. It keeps what it is told and gives it
//! back: it decides nothing, knows no permission, and never sees a key, a prompt or a response (instructions
//! and messages are [`Sealed`](clawstaff_types::spec::Sealed) when they get here).
//!
//! ```text
//! Store ── snapshot(), search(), … ──► readers   (WAL: never blocked by the writer)
//!       └─ begin() ─► Change ── put_…, raise_revision() ── commit() ──► the one writer, synchronous = FULL
//! ```
//!
//! One file per noun. SQLite today; the tests in `tests/conformance.rs` use public methods only, so that a
//! second database has to pass the same ones (`docs/adr/0002-sql-layer.md`).

mod approvals;
mod change;
mod claws;
mod codec;
mod connections;
mod error;
mod grants;
mod guardrails;
mod logs;
mod messages;
mod nodes;
mod open;
mod records;
mod reports;
mod search;
mod sinks;
mod snapshot;

pub use change::Change;
pub use claws::{ClawRow, NewClaw, RevisionRow};
pub use error::StoreError;
pub use grants::{GrantOrigin, GrantRow};
pub use logs::LogRow;
pub use nodes::{Invited, NodeRow};
pub use open::Store;
pub use reports::{GatewayRow, RunnerRow};
pub use search::{Found, Place, Search};
pub use snapshot::Snapshot;
