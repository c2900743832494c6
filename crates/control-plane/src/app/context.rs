//! What every rule needs at hand: the store, the own log, the catalogue, and the channels that say what is new.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex as StdMutex},
};

use clawstaff_audit::{Log, note::SigningKey};
use clawstaff_connectors::Catalogue;
use clawstaff_store::Store;
use clawstaff_types::NodeName;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::{
    publish::{Published, StateSigner},
    record::Recorder,
};
use crate::authority::Authority;

/// The short name of our own log in ids.
pub(crate) const CONTROL_LOG: &str = "control";

/// The short name of the log of a node's gateway: `gateway` on the control plane's own host, else `gateway-NODE`.
pub(crate) fn log_of(node: &NodeName) -> String {
    if node.is_local() {
        "gateway".to_owned()
    } else {
        format!("gateway-{node}")
    }
}

/// The control plane's application layer.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    /// The control plane's own log, for reading.
    pub(crate) log: Log,
    /// The way into it.
    pub(crate) recorder: Recorder,
    /// Signs that log's checkpoints; also cosigns the gateway's.
    pub(crate) log_key: SigningKey,
    pub(crate) catalogue: Catalogue,
    pub(crate) signer: StateSigner,
    /// Who tells nodes and control plane to each other, if other hosts may join.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Where the newest cosigned checkpoint of each gateway's log is kept in a file.
    pub(crate) home: PathBuf,
    /// The own log's directory.
    pub(crate) own_log: PathBuf,
    /// The newest checkpoint of the own log that the gateway has cosigned.
    pub(crate) own_cosigned: Mutex<Option<String>>,
    /// The state that the nodes are given.
    pub(crate) published: watch::Sender<Arc<Published>>,
    /// The newest change of the audit index.
    pub(crate) indexed: watch::Sender<u64>,
    /// How many entries of the own log are indexed.
    pub(crate) own_indexed: watch::Sender<u64>,
    /// Held while entries of the own log are indexed.
    pub(crate) indexing: Mutex<()>,
    /// Held while desired state changes.
    pub(crate) changing: Mutex<()>,
    /// The newest complaint about a log, so that one that is repeated does not fill ours.
    pub(crate) last_gap: Mutex<Option<String>>,
    /// Up to where records of entries that the gateway pruned were taken out of the index.
    pub(crate) forgotten: StdMutex<BTreeMap<String, u64>>,
    /// Held while entries of the gateway's log are taken in.
    pub(crate) taking: Mutex<()>,
    /// Ends what would never end by itself: long polls, tails, background work.
    pub(crate) shutdown: CancellationToken,
}
