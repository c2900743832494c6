//! Stand-ins for the services that the demo and the tests cannot reach: Slack, Notion, GitHub and two model APIs.
//!
//! Each speaks the real protocol as its vendor documents it: shapes, authentication, pagination, rate limits
//! and errors. Each is a process of its own (`clawstaff-standins`), knows nothing of ClawStaff, and keeps a
//! [`journal`] of what reached it, so that a test can see from outside what was really done. Nothing of this
//! is linked into a released program.

pub mod brain;
pub mod faults;
pub mod github;
pub mod journal;
pub mod model;
pub mod notion;
pub mod server;
pub mod slack;
