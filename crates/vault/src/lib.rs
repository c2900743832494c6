//! The customer-side store of secrets: sealed at rest, released against a permit and a receipt.
//!
//! Used by the gateway alone (and [`seal`] by whoever must seal content to it). Knows nothing of HTTP, of
//! connectors or of what a secret is for: it hands a value out only when somebody shows that policy allowed
//! the very call ([`Permit`]) and that its record is durable ([`Receipt`]).
//!
//! ```text
//!   file           what it is
//!   master.key     age identity (X25519), 0600, made on first use; a key others can read is refused
//!   <name>.age     one secret, sealed to that identity; inside the seal are also its name and the connections
//!                  and hosts it is for, so that a renamed or swapped file, or a connection that was sent
//!                  elsewhere, opens nothing
//! ```
//!
//! [`Permit`]: clawstaff_policy::Permit
//! [`Receipt`]: clawstaff_audit::Receipt

mod backup;
mod binding;
mod files;
mod lookup;
mod record;
mod reference;
mod release;
pub mod seal;
mod store;
mod unlock;

pub use backup::{BackupError, Contents, MAX_BACKUP};
pub use binding::{Binding, Destination, HostRule, HostRuleError, Misuse};
pub use files::PrivateFileError;
pub use lookup::{Found, Lookup, LookupError, NoStores, Store};
pub use reference::{ResolveError, read_token};
pub use release::{ReleaseError, SINK_PREFIX, SinkSecretError};
pub use store::{MAX_SECRET, OpenError, SealedInfo, SecretInfo, SetOutcome, StoreError, Terms, Vault};
pub use unlock::Unlock;
