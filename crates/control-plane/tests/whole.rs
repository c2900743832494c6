//! The control plane as its neighbours see it: a real process' worth of it in a folder of its own, spoken to over
//! its sockets, with a real database and a real log.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails here has failed"
)]

mod whole {
    pub(super) mod apply;
    pub(super) mod approvals;
    pub(super) mod bench;
    pub(super) mod cosigned;
    pub(super) mod dashboard;
    pub(super) mod export;
    pub(super) mod intake;
    pub(super) mod joining;
    pub(super) mod lives;
    pub(super) mod login;
    pub(super) mod query;
    pub(super) mod records;
}
