//! Syslog sinks: messages over TLS (RFC 5425), one connection for as long as it holds.
//!
//! The protocol has no acknowledgement: that a message was written says nothing of its arrival. So the cursor stays one
//! batch behind what was written, and when the connection breaks, that batch is sent again. What a receiver loses of
//! what it has already taken from the connection cannot be seen from here.

use std::{path::Path, sync::Arc, time::Duration};

use clawstaff_export::{
    ocsf::Version,
    syslog::{DEFAULT_MAX_BYTES, framed, message},
};
use clawstaff_types::Secret;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    channel::{Opening, host},
    http::{Identity, tls},
    job::Failed,
    source::Batch,
};
use crate::forward::dial::Dialer;

/// Connecting, and writing one batch.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a receiver.
#[derive(Debug)]
pub(super) struct Syslog {
    stream: TlsStream<TcpStream>,
    version: Version,
    host: String,
    /// Where the last batch that was written begins.
    written: Option<u64>,
}

impl Syslog {
    pub(super) async fn open(
        receiver: &str,
        port: u16,
        version: Version,
        opening: Opening<'_>,
    ) -> Result<Self, Failed> {
        let identity = opening.secret.as_ref().map(identity).transpose()?;
        let config = Arc::new(config(&opening, identity)?);
        let connecting = async {
            let address = receiver.trim_matches(['[', ']']);
            let stream = Dialer::new(Arc::clone(&config), true)
                .connect(address, port)
                .await?;
            let name = ServerName::try_from(address.to_owned())?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            Ok::<_, Failed>(stream?)
        };
        let stream = tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(|_| late())??;
        Ok(Self {
            stream,
            version,
            host: host(),
            written: None,
        })
    }

    /// Writes the batch; the one before it is taken for delivered.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<u64, Failed> {
        let mut frames = Vec::new();
        for item in &batch.items {
            frames.extend(framed(&message(
                item,
                &self.host,
                self.version,
                DEFAULT_MAX_BYTES,
            )));
        }
        let writing = async {
            self.stream.write_all(&frames).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(PATIENCE, writing)
            .await
            .map_err(|_| late())??;
        self.written = Some(batch.first);
        Ok(batch.first)
    }

    /// Resolves when the receiver has closed the connection. It never has anything to say.
    pub(super) async fn gone(&mut self) -> Failed {
        let mut byte = [0; 64];
        loop {
            match self.stream.read(&mut byte).await {
                Ok(0) => return Failed("the receiver closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => return Failed(format!("the connection broke: {error}")),
            }
        }
    }
}

fn config(opening: &Opening<'_>, identity: Option<Identity>) -> Result<rustls::ClientConfig, Failed> {
    let extra: Option<&Path> = opening.extra_ca;
    tls(opening.sink.ca.as_deref(), extra, identity)
}

fn late() -> Failed {
    Failed(format!(
        "the receiver did not take it within {} seconds",
        PATIENCE.as_secs()
    ))
}

/// Certificate chain and key from one PEM text.
fn identity(secret: &Secret<String>) -> Result<Identity, Failed> {
    let pem = secret.expose_secret().as_bytes();
    let bad = |_| Failed("the secret of a syslog sink is the client's certificate and key as PEM".to_owned());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    Ok(Identity {
        chain: chain.map_err(bad)?,
        key: PrivateKeyDer::from_pem_slice(pem).map_err(bad)?,
    })
}
