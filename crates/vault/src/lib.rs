//! The customer-side store of secrets: sealed at rest, released against a permit and a receipt.
//!
//! Used by the gateway alone (and [`seal`] by whoever must seal content to it). Knows nothing of HTTP, of
//! connectors or of what a secret is for: it hands a value out only when somebody shows that policy allowed
//! the very call ([`Permit`]) and that its record is durable ([`Receipt`]).
//!
//! ```text
//!   file           what it is
//!   master.key     age identity (X25519), 0600, made on first use; a key others can read is refused
//!   <name>.age     one secret, sealed to that identity; its name is inside the seal too, so that a renamed
//!                  or swapped file opens nothing
//! ```
//!
//! [`Permit`]: clawstaff_policy::Permit
//! [`Receipt`]: clawstaff_audit::Receipt

mod files;
mod reference;
mod release;
pub mod seal;
mod store;

pub use files::PrivateFileError;
pub use reference::ResolveError;
pub use release::{ReleaseError, SINK_PREFIX, SinkSecretError};
pub use store::{MAX_SECRET, OpenError, SecretInfo, SetOutcome, StoreError, Vault};
