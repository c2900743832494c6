//! The commands, one file per noun.

pub(crate) mod apply;
pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod claw;
pub(crate) mod connection;
pub(crate) mod connector;
pub(crate) mod doctor;
mod gateways;
pub(crate) mod get;
pub(crate) mod grant;
pub(crate) mod guardrail;
pub(crate) mod image;
pub(crate) mod node;
pub(crate) mod parts;
pub(crate) mod secret;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod up;
mod wait;
