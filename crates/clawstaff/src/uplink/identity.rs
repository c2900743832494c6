//! Who a node is: one file with its key and its certificate, replaced as a whole.

use std::{fmt, io::Read as _, os::unix::fs::MetadataExt as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawstaff_types::{NodeName, Secret};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};

use crate::{
    commands::up::{self, Owner},
    failure::Failure,
    place::Place,
};

/// It is far shorter.
const MAX_FILE: u64 = 64 * 1024;

/// A node's identity, `control/identity.json`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The node.
    pub(crate) node: NodeName,
    /// `host:port` of the control plane.
    pub(crate) address: String,
    /// Certificate of the control plane's authority, DER in base64.
    pub(crate) authority: String,
    /// The node's certificate, DER in base64.
    pub(crate) certificate: String,
    /// Its private key, PKCS #8 in base64.
    key: String,
    /// When the certificate ends.
    pub(crate) expires: Timestamp,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Identity");
        shown
            .field("node", &self.node)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // Wiped by being taken into custody.
        drop(Secret::new(std::mem::take(&mut self.key)));
    }
}

/// A fresh key of a node.
pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn generate() -> Result<Self, Failure> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        pair.map(Self)
            .map_err(|error| Failure::failed(format!("cannot make a key: {error}")))
    }

    /// The public half, as the control plane takes it.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode(self.0.public_key_raw())
    }
}

impl Identity {
    /// What a node is once the control plane has certified `key`.
    pub(crate) fn new(
        (node, address, authority): (NodeName, String, String),
        key: &Key,
        issued: clawstaff_api::join::Identity,
    ) -> Self {
        Self {
            node,
            address,
            authority,
            certificate: issued.certificate,
            key: STANDARD.encode(key.0.serialize_der()),
            expires: issued.expires,
        }
    }

    /// The identity of the node at this place.
    pub(crate) fn load(place: &Place) -> Result<Self, Failure> {
        let path = place.identity();
        let cannot =
            |why: &dyn fmt::Display| Failure::failed(format!("cannot use {}: {why}", path.display()));
        let file = std::fs::File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::usage(format!("there is no node at {}", place.root().display()))
                    .hint("join a control plane first: `clawstaff node join ADDRESS`")
            }
            _ => cannot(&error),
        })?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE).read_to_end(&mut bytes);
        let text = Secret::new(bytes);
        read.map_err(|error| cannot(&error))?;
        // Not the parser's words: they may quote the file.
        serde_json::from_slice(text.expose_secret()).map_err(|_| cannot(&"it is not an identity"))
    }

    /// Puts it in the place of what is there; it belongs to whom the folder belongs.
    pub(crate) fn keep(&self, place: &Place) -> Result<(), Failure> {
        let folder = place.control();
        let meta = std::fs::metadata(&folder)
            .map_err(|error| Failure::failed(format!("cannot look at {}: {error}", folder.display())))?;
        let owner = Owner {
            uid: meta.uid(),
            gid: meta.gid(),
        };
        let text = serde_json::to_vec(self).map(Secret::new);
        let text = text.map_err(|error| Failure::failed(format!("cannot write the identity: {error}")))?;
        up::put(&place.identity(), text.expose_secret(), owner)
    }

    /// The private key, PKCS #8.
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.key).ok()
    }
}
