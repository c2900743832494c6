//! TLS with a cage: every cage has a certificate authority of its own, which only that cage trusts.
//!
//! The authority's key is 0600 on the gateway's host; certificates for names are made on demand and kept in
//! memory. What is inside TLS is none of this file's business.

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clawstaff_types::ClawName;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::commit::{private_dir, write_private};

/// Certificates kept per cage.
const MAX_LEAVES: usize = 256;
/// When a certificate is made anew; it is valid for longer.
const LEAF_AGE: Duration = Duration::from_hours(24);
/// The longest handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// The authorities of all cages, made on first use.
#[derive(Debug)]
pub(crate) struct Authorities {
    dir: PathBuf,
    known: Mutex<HashMap<ClawName, Arc<Authority>>>,
}

/// One cage's certificate authority.
pub(crate) struct Authority {
    /// Its certificate: what software in the cage trusts.
    pub(crate) pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    leaves: Mutex<HashMap<String, (Arc<ServerConfig>, Instant)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

/// TLS with a cage failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The authority's files.
    #[error("certificate authority at `{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// rustls did not take it.
    #[error("configuring TLS: {0}")]
    Config(#[from] rustls::Error),
    /// The handshake failed.
    #[error("handshake: {0}")]
    Handshake(io::Error),
    /// The handshake took too long.
    #[error("no handshake within {} seconds", HANDSHAKE_WAIT.as_secs())]
    Slow,
}

/// A connection whose TLS ended here.
pub(crate) struct Accepted<IO> {
    pub(crate) stream: TlsStream<IO>,
    /// The name that the client asked for, in lower case.
    pub(crate) sni: Option<String>,
    /// Whether HTTP/2 was negotiated.
    pub(crate) h2: bool,
}

impl Authorities {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            known: Mutex::default(),
        }
    }

    /// The authority of `claw`: from memory, from its file, or fresh and stored.
    pub(crate) fn of(&self, claw: &ClawName) -> Result<Arc<Authority>, TlsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = known.get(claw) {
            return Ok(Arc::clone(authority));
        }
        let path = self.dir.join(format!("{claw}.pem"));
        let authority = match fs::read_to_string(&path) {
            Ok(pem) => Authority::read(claw, &pem)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (authority, pem) = Authority::make(claw)?;
                private_dir(&self.dir)
                    .and_then(|()| write_private(&path, pem.as_bytes()))
                    .map_err(|source| TlsError::File { path, source })?;
                authority
            }
            Err(source) => return Err(TlsError::File { path, source }),
        };
        let authority = Arc::new(authority);
        known.insert(claw.clone(), Arc::clone(&authority));
        Ok(authority)
    }

    /// Forgets the authority of a Claw that is gone, and its key.
    pub(crate) fn forget(&self, claw: &ClawName) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(claw);
        let path = self.dir.join(format!("{claw}.pem"));
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%claw, %error, "removing a certificate authority");
        }
    }
}

impl Authority {
    fn make(claw: &ClawName) -> Result<(Self, String), TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = authority_params(claw);
        let certificate = params.self_signed(&key)?;
        let both = format!("{}{}", key.serialize_pem(), certificate.pem());
        let authority = Self::assemble(certificate.pem(), certificate.der().clone(), params, key);
        Ok((authority, both))
    }

    fn read(claw: &ClawName, both: &str) -> Result<Self, TlsError> {
        let broken = || rcgen::Error::CouldNotParseCertificate;
        let at = both.find("-----BEGIN CERTIFICATE-----").ok_or_else(broken)?;
        let (key, pem) = both.split_at(at);
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| broken())?;
        let key = KeyPair::from_pem(key)?;
        Ok(Self::assemble(
            pem.to_owned(),
            certificate,
            authority_params(claw),
            key,
        ))
    }

    fn assemble(
        pem: String,
        certificate: CertificateDer<'static>,
        params: CertificateParams,
        key: KeyPair,
    ) -> Self {
        Self {
            pem,
            certificate,
            issuer: Issuer::new(params, key),
            leaves: Mutex::default(),
        }
    }

    /// What a server called `name` presents.
    fn leaf(&self, name: &str) -> Result<Arc<ServerConfig>, TlsError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, made)) = leaves.get(name)
            && made.elapsed() < LEAF_AGE
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make_leaf(name)?);
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        leaves.insert(name.to_owned(), (Arc::clone(&config), Instant::now()));
        Ok(config)
    }

    fn make_leaf(&self, name: &str) -> Result<ServerConfig, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, 7);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn authority_params(claw: &ClawName) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("ClawStaff cage {claw}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, 3650);
    params
}

/// From yesterday (clocks differ) until `days` from now.
fn valid_for(params: &mut CertificateParams, days: i64) {
    let day = |offset: i64| {
        let then = Timestamp::now() + SignedDuration::from_hours(24 * offset);
        let date = then.to_zoned(TimeZone::UTC).date();
        let month = date.month().unsigned_abs();
        rcgen::date_time_ymd(i32::from(date.year()), month, date.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(days);
}

/// Ends TLS with a client that dialled `dialled`.
pub(crate) async fn accept<IO>(authority: &Authority, io: IO, dialled: &str) -> Result<Accepted<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = tokio::time::timeout(HANDSHAKE_WAIT, handshake(authority, io, dialled));
    handshake.await.unwrap_or(Err(TlsError::Slow))
}

async fn handshake<IO>(authority: &Authority, io: IO, dialled: &str) -> Result<Accepted<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
    let begun = begun.await.map_err(TlsError::Handshake)?;
    let sni = begun.client_hello().server_name().map(str::to_ascii_lowercase);
    let config = authority.leaf(sni.as_deref().unwrap_or(dialled))?;
    let stream = begun.into_stream(config).await.map_err(TlsError::Handshake)?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Accepted { stream, sni, h2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_a_restart_and_signs_names() {
        let dir = tempfile::tempdir().unwrap();
        let claw: ClawName = "a".parse().unwrap();
        let first = Authorities::new(dir.path().join("ca")).of(&claw).unwrap();
        let again = Authorities::new(dir.path().join("ca")).of(&claw).unwrap();
        assert_eq!(first.pem, again.pem);
        assert!(again.leaf("slack.com").is_ok());
        assert!(again.leaf("127.0.0.1").is_ok());
    }
}
