//! The authority that tells nodes and control plane to each other: its certificate, theirs, and TLS with both.
//!
//! A node trusts this authority and no other, and looks for [`SERVER_NAME`] whatever address it dials. A node's
//! certificate says nothing that is believed: who it is for is looked up by its digest in the store, where it can be
//! revoked at once. The private keys of nodes are made on the nodes and never come here.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clawstaff_api::join::{Identity, SERVER_NAME};
use clawstaff_types::{Digest, NodeName};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};

use crate::{RunError, app::problem::Problem, keys};

/// How long a node's certificate is good, in days. A node asks for the next one after a third of it.
const NODE_DAYS: i64 = 30;
/// How long the control plane's own certificate is good, in days, and when a new one is made.
const SERVER_DAYS: i64 = 90;
const SERVER_AGE: Duration = Duration::from_hours(24 * 30);
const AUTHORITY_DAYS: i64 = 3650;
/// An uncompressed P-256 point: 0x04, x, y.
const POINT_BYTES: usize = 65;

/// The authority and what it has issued to the control plane itself.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    server: Mutex<Option<(Arc<ServerConfig>, Instant)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl Authority {
    /// Reads the authority's key and certificate, or makes them.
    pub(crate) fn open(path: &Path) -> Result<Self, RunError> {
        let wrong = || RunError::Key {
            path: path.to_owned(),
            what: "the key and certificate of the nodes' authority",
        };
        let both = keys::read_or_make(path, || make().map_err(|_| RunError::Crypto))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&both).map_err(|_| wrong())?;
        let certificate = CertificateDer::from_pem_slice(&both).map_err(|_| wrong())?;
        let key = KeyPair::try_from(&key).map_err(|_| wrong())?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(authority_params(), key),
            server: Mutex::default(),
        })
    }

    /// The certificate that nodes trust, DER in base64.
    pub(crate) fn for_token(&self) -> String {
        STANDARD.encode(&self.certificate)
    }

    /// A certificate for a node's public key, and the digest by which it is recognised.
    pub(crate) fn issue(&self, node: &NodeName, public_key: &str) -> Result<(Identity, Digest), Problem> {
        let point = Point::parse(public_key)
            .ok_or_else(|| Problem::invalid("`public_key` is not an uncompressed P-256 point in base64"))?;
        let (params, expires) = leaf(node.as_str(), NODE_DAYS, ExtendedKeyUsagePurpose::ClientAuth);
        let certificate = params
            .signed_by(&point, &self.issuer)
            .map_err(|error| Problem::internal(&error))?;
        let identity = Identity {
            certificate: STANDARD.encode(certificate.der()),
            expires,
        };
        Ok((identity, Digest::of(certificate.der())))
    }

    /// What the control plane presents, and whom it listens to: holders of certificates of this authority, and
    /// strangers, who may only join.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, Unusable> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, made)) = &*server
            && made.elapsed() < SERVER_AGE
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make_server()?);
        *server = Some((Arc::clone(&config), Instant::now()));
        Ok(config)
    }

    fn make_server(&self) -> Result<ServerConfig, Unusable> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (mut params, _) = leaf(
            "clawstaff control plane",
            SERVER_DAYS,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        params.subject_alt_names = CertificateParams::new(vec![SERVER_NAME.to_owned()])?.subject_alt_names;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection is a handshake of its own: nothing about who a node is outlives a connection.
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("configuring TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("configuring TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

fn make() -> Result<Vec<u8>, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = authority_params().self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes())
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("clawstaff nodes");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    valid_for(&mut params, AUTHORITY_DAYS);
    params
}

fn leaf(name: &str, days: i64, usage: ExtendedKeyUsagePurpose) -> (CertificateParams, Timestamp) {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let expires = valid_for(&mut params, days);
    (params, expires)
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// From yesterday (clocks differ) until the beginning of the day in `days` days, which is returned.
fn valid_for(params: &mut CertificateParams, days: i64) -> Timestamp {
    let then = |offset: i64| Timestamp::now() + SignedDuration::from_hours(24 * offset);
    let day = |offset: i64| {
        let date = then(offset).to_zoned(TimeZone::UTC).date();
        let month = date.month().unsigned_abs();
        rcgen::date_time_ymd(i32::from(date.year()), month, date.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(days);
    Timestamp::from_second(params.not_after.unix_timestamp()).unwrap_or_else(|_| then(days))
}

/// A node's public key.
struct Point([u8; POINT_BYTES]);

impl Point {
    fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; POINT_BYTES] = STANDARD.decode(text).ok()?.try_into().ok()?;
        (bytes.first() == Some(&4)).then_some(Self(bytes))
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_a_restart_and_issues_for_points_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes.ca");
        let first = Authority::open(&path).unwrap();
        let again = Authority::open(&path).unwrap();
        assert_eq!(first.for_token(), again.for_token());
        assert!(again.server().is_ok());
        let node: NodeName = "berlin".parse().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (identity, digest) = again
            .issue(&node, &STANDARD.encode(key.public_key_raw()))
            .unwrap();
        assert_eq!(
            digest,
            Digest::of(&STANDARD.decode(identity.certificate).unwrap())
        );
        assert!(identity.expires > Timestamp::now() + SignedDuration::from_hours(24 * 28));
        for bad in ["", "AAAA", "!"] {
            assert!(again.issue(&node, bad).is_err(), "{bad}");
        }
    }
}
