//! The wire contract of the control plane: what people, gateways and runners say to it and hear from it.
//!
//! Only shapes and paths live here: no implementation, no rule. People's API: [`people`]. The API for gateways
//! and runners: [`nodes`], and how their host joins: [`join`]. The gateway's own API for its host: [`local`]. Errors everywhere: [`ApiProblem`].
//! [`shapes`] describes types of the `types` crate for OpenAPI.

pub mod join;
pub mod local;
pub mod nodes;
pub mod people;
pub mod problem;
pub mod shapes;

pub use problem::{ApiProblem, Code};
