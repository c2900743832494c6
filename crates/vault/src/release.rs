//! The one way a credential leaves the vault: for a permitted call whose record is durable, to where its seal says
//! it may go.
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
    binding::{Destination, Misuse},
    lookup::Store,
    record::Body,
    reference::ResolveError,
    store::{StoreError, UseError, Vault},
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
    /// A credential that is not sealed goes to the connector's own hosts only.
    #[error(
        "a credential from `{scheme}:` goes to the connector's own hosts only, and `{host}` is none of them: seal the reference for it with `clawstaff secret ref NAME {scheme}:… --host {host}` on the gateway's host, and let the connection `{connection}` name `vault:NAME`"
    )]
    ForeignHost {
        /// The kind of reference.
        scheme: &'static str,
        /// The host.
        host: String,
        /// The connection.
        connection: ConnectionName,
    },
    /// The secret is sealed for another use.
    #[error(transparent)]
    Misuse(#[from] Misuse),
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
    /// It is a reference to a value elsewhere.
    #[error(
        "the secret `{0}` is a reference, and a sink's has to be a value: run `clawstaff secret set {0}`"
    )]
    Referred(SecretName),
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
    /// sent to `to`.
    ///
    /// # Errors
    /// When permit, receipt, connection, seal and destination do not belong together, or the value cannot be
    /// resolved.
    pub async fn release(
        &self,
        permit: &Permit,
        receipt: &Receipt,
        connection: &Connection,
        to: Destination<'_>,
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
        self.credential(connection, to).await
    }

    /// The credential of `connection` for asking the server at `to` what it offers, once `receipt` proves that
    /// this is recorded. No Claw is behind it, so there is no permit; where it may go its seal says as ever.
    ///
    /// # Errors
    /// When receipt, connection, seal and destination do not belong together, or the value cannot be resolved.
    pub async fn survey_secret(
        &self,
        receipt: &Receipt,
        connection: &Connection,
        to: Destination<'_>,
    ) -> Result<Secret<String>, ReleaseError> {
        if receipt.call() != &connection.digest() {
            return Err(ReleaseError::OtherCall);
        }
        self.credential(connection, to).await
    }

    async fn credential(
        &self,
        connection: &Connection,
        to: Destination<'_>,
    ) -> Result<Secret<String>, ReleaseError> {
        let unresolved = |source| ReleaseError::Unresolved {
            connection: connection.name.clone(),
            source,
        };
        let scheme = match &connection.credential {
            CredentialRef::Vault(name) => {
                let record = match self.for_use(name, &connection.name, &to) {
                    Ok(record) => record,
                    Err(UseError::Misuse(misuse)) => return Err(misuse.into()),
                    Err(UseError::Store(source)) => {
                        let name = name.clone();
                        return Err(unresolved(ResolveError::Vault { name, source }));
                    }
                };
                return match &record.body {
                    Body::Value(value) => Ok(value.clone()),
                    Body::Reference(reference) => self.resolve(reference).await.map_err(unresolved),
                };
            }
            CredentialRef::Env(_) => "env",
            CredentialRef::File(_) => "file",
            CredentialRef::Exec(_) => "exec",
            CredentialRef::Bao(_) => Store::Bao.scheme(),
            CredentialRef::Kubernetes(_) => Store::Kubernetes.scheme(),
        };
        if !to.is_public() {
            return Err(ReleaseError::ForeignHost {
                scheme,
                host: to.host.chars().take(253).collect(),
                connection: connection.name.clone(),
            });
        }
        self.resolve(&connection.credential).await.map_err(unresolved)
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
        let record = self.record(name).map_err(|source| SinkSecretError::Unread {
            name: name.clone(),
            source,
        })?;
        match &record.body {
            Body::Value(value) => Ok(value.clone()),
            Body::Reference(_) => Err(SinkSecretError::Referred(name.clone())),
        }
    }

    /// The secret that signs inbound events, for checking their signatures. It is never sent anywhere.
    ///
    /// # Errors
    /// When it cannot be resolved.
    pub async fn signing_secret(&self, reference: &CredentialRef) -> Result<Secret<String>, ResolveError> {
        self.resolve(reference).await
    }

    /// Looks a reference up once, to say now and not at the first use that it leads nowhere.
    ///
    /// # Errors
    /// When it cannot be resolved.
    pub async fn check_reference(&self, reference: &CredentialRef) -> Result<(), ResolveError> {
        self.resolve(reference).await.map(drop)
    }
}
