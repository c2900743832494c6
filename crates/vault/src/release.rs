//! The one way a credential leaves the vault: for a permitted call whose record is durable, toward the
//! connection's own hosts.
//!
//! Called by the gateway's `inject` step and nothing else. If we crash here nothing was sent: the intent in the
//! log has no outcome and is surfaced as unknown.

use clawstaff_audit::Receipt;
use clawstaff_policy::Permit;
use clawstaff_types::{
    ConnectionName, Secret, SecretName, Sink,
    spec::{Connection, CredentialRef},
};

use crate::{
    reference::ResolveError,
    store::{StoreError, Vault},
};

/// Why a credential was not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The record is of another call than the permit.
    #[error("the receipt is for another call than the one permitted")]
    OtherCall,
    /// The permit is for another connection.
    #[error("the permit is for the connection `{permitted}`, not for `{asked}`")]
    OtherConnection {
        /// The permit's.
        permitted: ConnectionName,
        /// The one asked for.
        asked: ConnectionName,
    },
    /// The host is not the connection's own.
    #[error("`{host}` is not a host of the connection `{connection}`, so its credential does not go there")]
    ForeignHost {
        /// The host.
        host: String,
        /// The connection.
        connection: ConnectionName,
    },
    /// It could not be read from where it is kept.
    #[error("cannot get the credential of the connection `{connection}`")]
    Unresolved {
        /// The connection.
        connection: ConnectionName,
        /// The cause.
        source: ResolveError,
    },
}

/// What the names of secrets for sinks begin with.
pub const SINK_PREFIX: &str = "sink-";

/// Why a sink does not get its secret.
#[derive(Debug, thiserror::Error)]
pub enum SinkSecretError {
    /// The record is of something else.
    #[error("the receipt is not of this sink coming into force")]
    OtherSink,
    /// It is a secret for something else.
    #[error("the secret `{0}` is not this sink's: its name has to begin with `{SINK_PREFIX}`")]
    NotForSinks(SecretName),
    /// It could not be read.
    #[error("cannot read the secret `{name}` from the vault")]
    Unread {
        /// The secret.
        name: SecretName,
        /// The cause.
        source: StoreError,
    },
}

impl Vault {
    /// The credential of `connection` for the call that `permit` allows and `receipt` proves recorded, to be
    /// sent to `host`.
    ///
    /// `own_hosts` are the connection's own: each an exact host, or `*.` and a domain for every host below it.
    ///
    /// # Errors
    /// When permit, receipt, connection and host do not belong together, or the value cannot be resolved.
    pub async fn release<H: AsRef<str> + Sync>(
        &self,
        permit: &Permit,
        receipt: &Receipt,
        connection: &Connection,
        host: &str,
        own_hosts: &[H],
    ) -> Result<Secret<String>, ReleaseError> {
        if permit.digest() != receipt.call() {
            return Err(ReleaseError::OtherCall);
        }
        if permit.connection() != &connection.name {
            return Err(ReleaseError::OtherConnection {
                permitted: permit.connection().clone(),
                asked: connection.name.clone(),
            });
        }
        if !own_hosts.iter().any(|own| is_own(own.as_ref(), host)) {
            return Err(ReleaseError::ForeignHost {
                host: host.chars().take(253).collect(),
                connection: connection.name.clone(),
            });
        }
        self.resolve(&connection.credential)
            .await
            .map_err(|source| ReleaseError::Unresolved {
                connection: connection.name.clone(),
                source,
            })
    }

    /// The secret `name` of a sink, for one whose coming into force `receipt` proves recorded.
    ///
    /// Only secrets whose name begins with [`SINK_PREFIX`] are for sinks, so that whoever can say where records go
    /// cannot have the credential of a tool sent there.
    ///
    /// # Errors
    /// When receipt, sink and name do not belong together, or the value cannot be read.
    pub fn sink_secret(
        &self,
        receipt: &Receipt,
        sink: &Sink,
        name: &SecretName,
    ) -> Result<Secret<String>, SinkSecretError> {
        if receipt.call() != &sink.digest() {
            return Err(SinkSecretError::OtherSink);
        }
        let named = matches!(&sink.credential, Some(CredentialRef::Vault(own)) if own == name);
        if !named || !name.as_str().starts_with(SINK_PREFIX) {
            return Err(SinkSecretError::NotForSinks(name.clone()));
        }
        self.read(name).map_err(|source| SinkSecretError::Unread {
            name: name.clone(),
            source,
        })
    }

    /// The secret that signs inbound events, for checking their signatures. It is never sent anywhere.
    ///
    /// # Errors
    /// When it cannot be resolved.
    pub async fn signing_secret(&self, reference: &CredentialRef) -> Result<Secret<String>, ResolveError> {
        self.resolve(reference).await
    }
}

/// Whether `host` is the one that `own` names, or below it where `own` starts with `*.`. Host names compare
/// without regard to ASCII case (RFC 4343).
fn is_own(own: &str, host: &str) -> bool {
    match own.strip_prefix("*.") {
        Some(domain) if !domain.is_empty() => {
            let below = host
                .len()
                .checked_sub(domain.len() + 1)
                .and_then(|at| host.split_at_checked(at));
            below.is_some_and(|(label, rest)| {
                !label.is_empty()
                    && rest
                        .strip_prefix('.')
                        .is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
            })
        }
        Some(_) => false,
        None => !own.is_empty() && own.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn a_credential_goes_to_exactly_the_hosts_that_are_named() {
        for (own, host, expected) in [
            ("slack.com", "slack.com", true),
            ("slack.com", "SLACK.com", true),
            ("slack.com", "files.slack.com", false),
            ("slack.com", "evilslack.com", false),
            ("*.slack.com", "files.slack.com", true),
            ("*.slack.com", "a.b.slack.com", true),
            ("*.slack.com", "slack.com", false),
            ("*.slack.com", ".slack.com", false),
            ("*.slack.com", "evilslack.com", false),
            ("*.slack.com", "files.slack.com.evil.io", false),
            ("*.", "a.", false),
            ("*", "slack.com", false),
            ("", "", false),
            ("*.com", "é.com", true),
        ] {
            assert_eq!(is_own(own, host), expected, "{own} {host}");
        }
    }
}
