//! What can go wrong with the state, in the caller's terms.

use std::path::PathBuf;

/// An operation on the state failed. Nothing of a [`Change`](crate::Change) that failed is kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database file could not be opened.
    #[error("cannot open the database `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the schema of the database `{path}` up to date")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("cannot {doing}")]
    Query {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A stored row is not what this version writes.
    #[error("cannot read the stored {what}: {text}")]
    Malformed {
        /// What kind of thing.
        what: &'static str,
        /// Why not.
        text: String,
    },
}

/// Turns a driver's error into ours, for `.map_err(doing("…"))`.
pub(crate) const fn doing(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { doing: what, source }
}

/// Says that a stored thing cannot be understood, for `.map_err(malformed("…"))`.
pub(crate) fn malformed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::Malformed {
        what,
        text: error.to_string(),
    }
}
