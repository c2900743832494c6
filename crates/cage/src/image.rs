//! Images of other people: from a local engine, a registry, an OCI layout or an archive, unpacked to a directory that
//! the native back end can take, with the digests checked on the way.
//!
//! ```text
//!  reference ─► source ─► layout on disk (blobs) ─► manifest, config ─► layers, one on top of the other ─► directory
//!  `reference`  registry, engine:     `layout`        digests checked        `unpack`                        `store`
//!               downloaded; others                     by `layout`
//!               read in place
//! ```
//!
//! Everything in an image is hostile: it is bounded in size and count, it cannot name a place outside its own
//! directory, and nothing in it is executed here. What the image says about how it wants to run ([`RunConfig`]) is
//! a wish: a user id that is not root's, variables, a directory and a command, inside the boundary of every cage.

mod archive;
mod config;
mod credentials;
mod layout;
mod reference;
mod registry;
mod store;
mod unpack;
mod zstd;

pub use config::RunConfig;
pub use credentials::Credentials;
pub use reference::{BadReference, Reference, RegistryName};
pub use registry::RegistryError;
pub use store::{Images, Unpacked};
pub use unpack::{Bounds, Unpacker};

pub(crate) use config::{Wishes, architecture, id_in};
pub(crate) use layout::{Found, Layout};
pub(crate) use store::fetch;

use clawstaff_types::Digest;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The reference itself.
    #[error(transparent)]
    Reference(#[from] BadReference),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A file.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done, after "cannot".
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// What is in it is not an image, or one that is refused.
    #[error("the image is refused: {0}")]
    Refused(String),
    /// The content is not what its digest says.
    #[error("the image is refused: {what} should be {expected} and is {found}")]
    Digest {
        /// Which part.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
}

impl ImageError {
    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_passing(),
            Self::Io { .. } => true,
            Self::Reference(_) | Self::Refused(_) | Self::Digest { .. } => false,
        }
    }
}

/// Says what was being done with a file when it failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, ImageError>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::Io { doing, source })
    }
}

fn refused(why: impl Into<String>) -> ImageError {
    ImageError::Refused(why.into())
}
