//! What the process is told when it starts, and why it may not start.

use std::{net::SocketAddr, path::PathBuf};

use clawstaff_store::StoreError;

/// Where the control plane keeps its things and whom it serves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data root of the installation; the control plane's own folder is `control` in it, its sockets are in `run`.
    pub data: PathBuf,
    /// Where dashboard and API are served over TCP, if at all. The address that was bound (the port may be 0)
    /// is written to `control/listen`.
    pub listen: Option<SocketAddr>,
    /// Where nodes on other hosts are served, with mutual TLS, if at all. The address that was bound is written to
    /// `control/nodes.listen`.
    pub nodes: Option<SocketAddr>,
    /// Uids of this host that may log in through `run/api.sock`, besides root and the process' own.
    pub login_uids: Vec<u32>,
    /// Lets other processes of the same uid read this one's memory, so that anybody can search it for what must
    /// not be there. Root always can.
    pub inspectable: bool,
}

/// Why the control plane could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file or directory could not be made or read.
    #[error("cannot {doing} `{path}`")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or token file does not hold what it should.
    #[error("`{path}` does not hold {what}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The system gave no randomness, or the cryptographic library failed.
    #[error("cannot make a key")]
    Crypto,
    /// The database.
    #[error("the control plane's database failed")]
    Store(#[source] StoreError),
    /// The own audit log could not be opened, or is not what it was.
    #[error("the control plane's own audit log cannot be used: {0}")]
    OwnLog(String),
    /// The key of the own log is gone.
    #[error(
        "`{key}` is missing, but the log that it signs is in `{log}`: put the key back from a backup, or move the log's folder away to begin another one"
    )]
    KeyMissing {
        /// The key's file.
        key: PathBuf,
        /// The log's folder.
        log: PathBuf,
    },
    /// The own log had failed and its disk can be written again: the process must start anew to go on with it.
    #[error("the audit log had failed ({0}) and can be written again: start the control plane anew")]
    Again(String),
    /// The built-in connectors do not load.
    #[error("the connectors cannot be loaded: {0}")]
    Connectors(String),
    /// An address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A route is served that nobody has said the permission of, or the other way round.
    #[error("the table of permissions does not fit the routes: {0}")]
    Permissions(String),
    /// The process could not be confined.
    #[error("cannot confine the process: {0}")]
    Confinement(String),
    /// The runtime could not be started, or ended unexpectedly.
    #[error("the control plane's runtime failed: {0}")]
    Runtime(String),
    /// Something failed while starting.
    #[error("the control plane cannot start: {0}")]
    Start(String),
}
