//! Connectors: what can be done with a tool, said once, as data.
//!
//! A connector is a TOML manifest (`connectors/*.toml` at the root of the repository; the format is in
//! `docs/connectors.md`). The same manifest serves both doors of the gateway:
//!
//! ```text
//!   an SDK's HTTP request ──recognise──► action, resources, arguments     or a refusal that says why
//!   an MCP tool's arguments ──build────► HTTP request, which recognise() maps to the tool's own action
//!   an HTTP response ──────summarise───► succeeded?, how many, which ids, tokens; never content
//! ```
//!
//! Recognition is strict: a request that could be read in two ways is refused, because the tool might read it
//! in the other one. Everything here is pure. This crate knows no socket, no credential and no decision.

mod action;
mod build;
mod catalogue;
mod git;
mod graphql;
mod json;
mod load;
mod manifest;
mod mcp;
mod pointer;
mod queries;
mod recognise;
mod request;
mod summary;
mod template;
mod value;

pub use action::{Action, Auth, AuthScheme, Connector, HostPattern, Protocol, RecordKind, Tool};
pub use build::{ArgumentError, Built};
pub use catalogue::Catalogue;
pub use manifest::ManifestError;
pub use mcp::{MCP, is_tool_action, tool_action};
pub use recognise::{Mapped, Unmapped};
pub use request::RequestView;
pub use summary::Summary;
