//! `clawstaff uplink`: on a host that joined a control plane, what stands for it.
//!
//! ```text
//!   gateway, runner ── run/nodes.sock ──► uplink ══ mutual TLS ══► control plane
//! ```
//!
//! Bytes go through as they are: the uplink parses nothing and holds nothing but the node's own key. Gateway and
//! runner speak to it exactly as they speak to a control plane on their own host, so neither has a second way to talk,
//! and the runner, which is privileged, no TLS. It dials out and listens on no network. Certificates are renewed long
//! before they end; every connection uses the newest one.

mod confine;
pub(crate) mod identity;
mod wire;

use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clawstaff_api::{ApiProblem, Code};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use self::identity::Identity;
use crate::{failure::Failure, place::Place};

pub(crate) use confine::confine;
pub(crate) use wire::{Wire, join};

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// How often it is looked whether the certificate should be renewed.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// A certificate that ends sooner than this is renewed.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(24 * 20);

/// Serves until `shutdown`.
pub(crate) async fn run(
    place: Place,
    key_log: Option<PathBuf>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let identity = Identity::load(&place)?;
    let callers = callers(&place)?;
    let socket = place.nodes_socket();
    let listener = listen(&socket)?;
    tracing::info!(node = %identity.node, control_plane = identity.address, "the uplink is up");
    let wire = Wire::new(place, key_log.as_deref())?;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let renewing = tokio::spawn(keep_fresh(wire.clone(), shutdown.clone()));
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let known = stream.peer_cred().is_ok_and(|peer| callers.contains(&peer.uid()));
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        if known {
            let wire = wire.clone();
            tokio::spawn(async move {
                relay(&wire, stream).await;
                drop(slot);
            });
        }
    }
    renewing.abort();
    drop(std::fs::remove_file(&socket));
    Ok(())
}

/// Who may speak through the uplink: those who own the gateway's and the runner's folders, and root.
fn callers(place: &Place) -> Result<BTreeSet<u32>, Failure> {
    let mut callers = BTreeSet::from([0]);
    for folder in [place.gateway(), place.runner()] {
        let meta = std::fs::metadata(&folder)
            .map_err(|error| Failure::failed(format!("cannot look at {}: {error}", folder.display())))?;
        callers.insert(meta.uid());
    }
    Ok(callers)
}

fn listen(socket: &std::path::Path) -> Result<UnixListener, Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("cannot listen on {}: {error}", socket.display()));
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    // Anybody may connect; the kernel says who it is, and only gateway and runner are heard.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// One connection of gateway or runner, as one of its own to the control plane.
async fn relay(wire: &Wire, mut stream: UnixStream) {
    match wire.connect().await {
        Ok(mut upstream) => {
            // Either end may go whenever it likes; the other hears of it by the end of its stream.
            let _bytes = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
        }
        Err(failure) => {
            tracing::debug!(%failure, "no control plane");
            let _sent = stream.write_all(&unavailable(&failure)).await;
        }
    }
}

/// The answer to any request while the control plane cannot be reached.
fn unavailable(failure: &Failure) -> Vec<u8> {
    let problem = ApiProblem::new(Code::Unavailable, failure.message());
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Renews the certificate in time, for as long as the control plane lets it.
async fn keep_fresh(wire: Wire, shutdown: CancellationToken) {
    let keeping = async {
        loop {
            match wire.identity() {
                Ok(identity) if identity.expires.duration_since(Timestamp::now()) < RENEW_BEFORE => {
                    match wire.renew().await {
                        Ok(expires) => tracing::info!(%expires, "the node has a new certificate"),
                        Err(failure) => tracing::warn!(%failure, "the certificate could not be renewed yet"),
                    }
                }
                Ok(_) => {}
                Err(failure) => tracing::error!(%failure, "the node's identity cannot be read"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    shutdown.run_until_cancelled(keeping).await;
}
