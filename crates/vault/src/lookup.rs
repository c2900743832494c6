//! Stores of secrets that are not ours: what the vault asks of whoever can reach them, and how that can fail.
//!
//! The gateway implements [`Lookup`], since it has the way out and this crate knows nothing of HTTP.

use std::{future::Future, pin::Pin};

use clawstaff_types::{Secret, StoreName, StoredAt};

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// OpenBao or Vault, the KV secrets engine in version 2.
    Bao,
    /// The Secrets of a Kubernetes cluster.
    Kubernetes,
}

impl Store {
    /// The scheme of its references.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Bao => "bao",
            Self::Kubernetes => "k8s",
        }
    }
}

/// A value that will be there, or the reason why not.
pub type Found<'a> = Pin<Box<dyn Future<Output = Result<Secret<Vec<u8>>, LookupError>> + Send + 'a>>;

/// Whoever can look values up in other stores.
///
/// An implementation MUST ask only stores that the gateway's own host configured, and there only for entries that it allowed; MUST
/// verify the store's certificate; MUST bound answer and time; MAY keep a value for as long as that configuration says, and
/// no longer. It does not retry: the caller's next use does.
pub trait Lookup: std::fmt::Debug + Send + Sync {
    /// The value at `place` of a store of the kind `store`.
    fn look_up<'a>(&'a self, store: Store, place: &'a StoredAt) -> Found<'a>;
}

/// A host without other stores.
#[derive(Debug, Clone, Copy)]
pub struct NoStores;

impl Lookup for NoStores {
    fn look_up<'a>(&'a self, store: Store, place: &'a StoredAt) -> Found<'a> {
        let error = LookupError::NoStore {
            scheme: store.scheme(),
            store: place.store().clone(),
        };
        Box::pin(std::future::ready(Err(error)))
    }
}

/// Why a value could not be had from a store. It names store and place, never a value or a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// This host has no such store.
    #[error(
        "this host has no store `{store}` for `{scheme}:`: describe it in `stores.toml` in the gateway's directory and restart the gateway"
    )]
    NoStore {
        /// The scheme of the reference.
        scheme: &'static str,
        /// The store.
        store: StoreName,
    },
    /// This host does not let the gateway ask for this entry.
    #[error(
        "this host does not let the gateway read `{path}` in the store `{store}`: add it to `allow` in `stores.toml` in the gateway's directory and restart the gateway"
    )]
    NotAllowed {
        /// The store.
        store: StoreName,
        /// The entry.
        path: String,
    },
    /// The token for the store cannot be read.
    #[error("cannot read the token for the store `{store}`: {why}")]
    Token {
        /// The store.
        store: StoreName,
        /// Why.
        why: String,
    },
    /// The store cannot be reached, or is not who it should be.
    #[error("cannot reach the store `{store}`: {why}")]
    Unreachable {
        /// The store.
        store: StoreName,
        /// Why.
        why: String,
    },
    /// No whole answer in time.
    #[error("the store `{store}` did not answer within {seconds} seconds")]
    Slow {
        /// The store.
        store: StoreName,
        /// The bound.
        seconds: u64,
    },
    /// The store does not know the token, or does not let it read the entry.
    #[error("the store `{store}` does not let this token read `{path}` (HTTP {status})")]
    Denied {
        /// The store.
        store: StoreName,
        /// The entry.
        path: String,
        /// 401 or 403.
        status: u16,
    },
    /// There is no such entry.
    #[error("the store `{store}` has no entry `{path}`")]
    Missing {
        /// The store.
        store: StoreName,
        /// The entry.
        path: String,
    },
    /// The newest version of the entry was deleted.
    #[error("the newest version of `{path}` in the store `{store}` was {}", if *.destroyed { "destroyed" } else { "deleted" })]
    Deleted {
        /// The store.
        store: StoreName,
        /// The entry.
        path: String,
        /// Whether it cannot come back.
        destroyed: bool,
    },
    /// The entry has no such field.
    #[error("`{path}` in the store `{store}` has no field `{field}`")]
    NoField {
        /// The store.
        store: StoreName,
        /// The entry.
        path: String,
        /// The field.
        field: String,
    },
    /// The field is no text.
    #[error("the field `{field}` of `{path}` in the store `{store}` is not text")]
    NotText {
        /// The store.
        store: StoreName,
        /// The entry.
        path: String,
        /// The field.
        field: String,
    },
    /// The store is sealed, or not initialised, or in maintenance.
    #[error("the store `{store}` is sealed or not in service (HTTP 503)")]
    Sealed {
        /// The store.
        store: StoreName,
    },
    /// Another status.
    #[error("the store `{store}` answered HTTP {status}")]
    Status {
        /// The store.
        store: StoreName,
        /// The status.
        status: u16,
    },
    /// The answer is longer than what is read of one.
    #[error("the answer of the store `{store}` is longer than {limit} bytes")]
    TooLong {
        /// The store.
        store: StoreName,
        /// The bound in bytes.
        limit: usize,
    },
    /// The answer is not what such a store says.
    #[error("the answer of the store `{store}` is not one of {expected}")]
    Malformed {
        /// The store.
        store: StoreName,
        /// What it should have been.
        expected: &'static str,
    },
}
