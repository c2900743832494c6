//! From an accepted TCP connection to the door: connect, say what it is, copy both ways.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use clawstaff_cage_contract::Opening;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
};

use super::Names;

/// Bytes of buffer for each direction of a connection.
const BUFFER: usize = 16 * 1024;
/// How long to leave a socket alone that could not be served.
const PAUSE: Duration = Duration::from_millis(50);

/// What a listener is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entrance {
    /// The fixed doors.
    Doors,
    /// The HTTP proxy.
    Proxy,
    /// Connections to names and addresses, as software meant them.
    Names {
        /// The port that was dialled.
        port: u16,
    },
}

/// The door and how many may be on their way through it.
#[derive(Debug)]
pub(super) struct Door {
    path: PathBuf,
    slots: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(path: PathBuf, slots: Arc<Semaphore>) -> Self {
        Self { path, slots }
    }
}

/// Accepts for ever. A connection over the bound, or while the door is not there, is closed at once.
pub(super) async fn serve(listener: TcpListener, entrance: Entrance, door: Arc<Door>, names: Names) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(slot) = Arc::clone(&door.slots).try_acquire_owned() else {
                    continue;
                };
                let Some(opening) = opening(entrance, &stream, &names) else {
                    continue;
                };
                let door = Arc::clone(&door);
                tokio::spawn(async move {
                    let _slot = slot;
                    // A broken connection is the business of its two ends: both see it close.
                    let _closed = carry(stream, &opening, &door).await;
                });
            }
            Err(error) => pause_after("accepting a connection", &error).await,
        }
    }
}

fn opening(entrance: Entrance, stream: &TcpStream, names: &Names) -> Option<Opening> {
    match entrance {
        Entrance::Doors => Some(Opening::Doors),
        Entrance::Proxy => Some(Opening::Proxy),
        Entrance::Names { port } => {
            let host = dialled(stream.local_addr().ok()?, names);
            Some(Opening::Name { host, port })
        }
    }
}

/// The name that stands behind the dialled address, or the address itself.
fn dialled(address: SocketAddr, names: &Names) -> String {
    let ip = address.ip().to_canonical();
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    match ip {
        IpAddr::V4(v4) => names
            .name_at(v4)
            .map_or_else(|| v4.to_string(), |name| name.as_str().to_owned()),
        IpAddr::V6(v6) => v6.to_string(),
    }
}

async fn carry(mut inside: TcpStream, opening: &Opening, door: &Door) -> io::Result<()> {
    let mut outside = UnixStream::connect(&door.path).await?;
    inside.set_nodelay(true)?;
    outside.write_all(opening.to_line().as_bytes()).await?;
    copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await?;
    Ok(())
}

/// Serving fails for a moment when descriptors or memory run out: spinning would take the cage's CPU as well.
pub(super) async fn pause_after(what: &str, error: &io::Error) {
    eprintln!("claw: {what}: {error}");
    tokio::time::sleep(PAUSE).await;
}
