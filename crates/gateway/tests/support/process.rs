//! The gateway as a process of a test's own installation.

use std::path::Path;

use clawstaff_gateway::{Config, CustodyPolicy};

/// On the only node, with a free port for events and nothing else of its own.
pub(crate) fn config(data: &Path) -> Config {
    Config {
        data: data.to_owned(),
        node: clawstaff_types::NodeName::local(),
        ingress: "127.0.0.1:0".parse().unwrap(),
        extra_ca: None,
        local_uids: Vec::new(),
        custody: CustodyPolicy::default(),
    }
}
