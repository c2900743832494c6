//! Which control plane is believed: the one whose key was seen first, for ever.
//!
//! The key signs desired states with Ed25519 (RFC 8032) over `"clawstaff/state/v1\n"` and the payload's bytes.

use std::{
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use clawstaff_api::nodes::{GatewayState, Signed};
use clawstaff_types::Digest;

const CONTEXT: &str = "clawstaff/state/v1\n";

/// Why a control plane or what it sent is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error("this control plane's key {offered} is not the one that was pinned, {pinned}: if it was replaced on purpose, remove `{}` and restart the gateway", path.display())]
    OtherKey {
        offered: Digest,
        pinned: Digest,
        path: PathBuf,
    },
    #[error("the state key is not the base64 of 32 bytes")]
    MalformedKey,
    #[error("cannot keep the pinned key `{}`: {source}", path.display())]
    Pin { path: PathBuf, source: io::Error },
    #[error("the state is not signed by the pinned key")]
    BadSignature,
    #[error("the signed state cannot be understood: {0}")]
    MalformedState(String),
}

/// A control plane's verification key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateKey([u8; 32]);

impl StateKey {
    pub(super) fn parse(text: &str) -> Result<Self, Distrust> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| Distrust::MalformedKey)?;
        bytes.try_into().map(Self).map_err(|_| Distrust::MalformedKey)
    }

    /// The pinned key, if one is pinned.
    pub(super) fn pinned(path: &Path) -> Result<Option<Self>, Distrust> {
        match crate::inbox::read_bounded(path, 256) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes)).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Distrust::Pin {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// This key, if it is the pinned one or the first.
    pub(super) fn pin(self, path: &Path) -> Result<Self, Distrust> {
        match Self::pinned(path)? {
            Some(pinned) if pinned == self => Ok(self),
            Some(pinned) => {
                let (offered, pinned) = (Digest::of(&self.0), Digest::of(&pinned.0));
                Err(Distrust::OtherKey {
                    offered,
                    pinned,
                    path: path.to_owned(),
                })
            }
            None => {
                let text = format!("{}\n", BASE64.encode(self.0));
                crate::inbox::replace(path, text.as_bytes()).map_err(|source| Distrust::Pin {
                    path: path.to_owned(),
                    source,
                })?;
                Ok(self)
            }
        }
    }

    /// The state in `signed`, if this key signed it.
    pub(super) fn open(&self, signed: &Signed) -> Result<GatewayState, Distrust> {
        let signature = BASE64
            .decode(&signed.signature)
            .map_err(|_| Distrust::BadSignature)?;
        let message = [CONTEXT.as_bytes(), signed.payload.as_bytes()].concat();
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&message, &signature)
            .map_err(|_| Distrust::BadSignature)?;
        serde_json::from_str(&signed.payload).map_err(|e| Distrust::MalformedState(e.to_string()))
    }
}
