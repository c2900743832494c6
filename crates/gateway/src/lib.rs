//! The policy enforcement point: the other end of every cage's socket.
//!
//! Every entrance (a tool call over MCP, an HTTP request of an SDK, a model call) becomes the same thing and
//! walks the same line; the files are named after its steps:
//!
//! ```text
//!  bytes ─accept─► which cage          the socket says, never a header
//!        ─parse──► request             bounded, strict, canonical
//!        ─map────► action + resources  by the connector; unknown = denied
//!        ─decide─► Permit | Held | Denial
//!        ─record─► Receipt             intent durable; cannot record = refuse
//!        ─inject─► credentialed        needs Permit and Receipt
//!        ─forward► response            pooled, streamed
//!        ─settle─► outcome             every path ends here
//! ```
//!
//! The gateway has no opinion of its own (it asks `policy`), does not know the control plane's database and
//! believes nothing that a cage says of itself.

// the line, in order
pub mod accept;
pub mod decide;
pub mod forward;
pub mod inject;
pub mod line;
pub mod map;
pub mod parse;
pub mod record;
pub mod settle;

// what the line needs
pub mod approvals;
pub mod base;
mod body;
mod budget;
mod commit;
mod content;
mod honeytoken;
mod limits;
mod mask;
pub mod problem;
pub mod shared;
pub mod state;
mod toolbox;
pub mod waits;

// the entrances of a cage
mod claw_api;
pub mod doors;
mod egress;
mod front;
mod mcp;
mod model;
mod tls;

// the world around: inbound events, the host, the control plane, where records are sent
pub mod confine;
mod expiry;
pub mod inbox;
pub mod ingress;
pub mod local;
pub mod node;
mod retention;
pub mod run;
pub mod sinks;
pub mod stores;
mod witnesses;

pub use budget::PricesError;
pub use run::{Config, RunError, confine_process, run};
pub use shared::{CustodyPolicy, Gateway, Parts};
pub use state::{State, StateError};
pub use witnesses::WitnessesError;
