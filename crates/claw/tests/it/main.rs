//! The real `claw` program against a gateway made by the test: the agent's loop over TCP, and the init as pid 1 of
//! namespaces of its own, where its ports are free and its signals reach nobody else.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

mod agent;
mod gateway;
mod init;
