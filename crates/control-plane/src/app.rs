//! The rules: what a request means, whether it may be, what it changes. Between `http` (thin) and the store.
//!
//! Nothing in here knows HTTP, and nothing in here knows SQL. The thinking is in pure functions over a
//! [`Snapshot`](clawstaff_store::Snapshot) (`plan`, `validate`, `phase`, `merge`); the doing is in `change`,
//! which is the only road by which desired state changes, and which records before and after it does.

pub(crate) mod apply;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod catalogue;
pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod claws;
pub(crate) mod context;
pub(crate) mod cosigned;
pub(crate) mod diff;
pub(crate) mod effect;
pub(crate) mod event;
pub(crate) mod export;
pub(crate) mod grants;
pub(crate) mod guardrails;
pub(crate) mod intake;
pub(crate) mod joining;
pub(crate) mod merge;
pub(crate) mod messages;
pub(crate) mod mint;
pub(crate) mod nearest;
pub(crate) mod nodes;
pub(crate) mod ownlog;
pub(crate) mod permission;
pub(crate) mod phase;
pub(crate) mod plan;
pub(crate) mod problem;
pub(crate) mod publish;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod sinks;
pub(crate) mod spec;
pub(crate) mod status;
pub(crate) mod validate;
pub(crate) mod watch;
