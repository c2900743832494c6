//! The shim: ordinary network software on one side, the cage's one door on the other.
//!
//! ```text
//! getaddrinfo("api.github.com") ──► dns     127.64.0.7, remembered in names
//! connect(127.64.0.7:443)       ──► pipe    "CLAW/1 name api.github.com 443\n", then bytes both ways
//! connect(127.0.0.1:7070)       ──► pipe    "CLAW/1 doors\n"
//! connect(127.0.0.1:3128)       ──► pipe    "CLAW/1 proxy\n"
//! ```
//!
//! Nothing is decided here and nothing is resolved for real: the gateway at the other end of the door decides.

pub(crate) mod dns;
pub(crate) mod names;
mod pipe;
mod serve_dns;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
};

use names::NameTable;
use pipe::{Door, Entrance};

/// The name table, shared by the DNS responder that fills it and the listeners that read it.
pub(crate) type Names = Arc<Mutex<NameTable>>;

/// Connections through the door at one time; more are closed as soon as they are accepted.
const MAX_CONNECTIONS: usize = 512;

/// Where the shim listens.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// DNS, UDP and TCP.
    pub(crate) dns: SocketAddr,
    /// The fixed HTTP doors.
    pub(crate) doors: SocketAddr,
    /// The HTTP proxy.
    pub(crate) proxy: SocketAddr,
    /// Plain HTTP to names.
    pub(crate) http: SocketAddr,
    /// TLS to names.
    pub(crate) https: SocketAddr,
}

impl Addresses {
    /// The addresses of the contract, with the doors and the proxy where the caller wants them.
    pub(crate) fn contract(doors: SocketAddr, proxy: SocketAddr) -> Self {
        let any = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        Self {
            dns: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53),
            doors,
            proxy,
            http: any(80),
            https: any(443),
        }
    }

    /// The same ports on the IPv6 loopback, for software that tries it first.
    fn on_ipv6(&self) -> Self {
        let there = |address: SocketAddr| SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port());
        Self {
            dns: there(self.dns),
            doors: there(self.doors),
            proxy: there(self.proxy),
            http: there(self.http),
            https: there(self.https),
        }
    }
}

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address} for {what}: {source}{}", hint(source))]
pub(crate) struct BindError {
    what: &'static str,
    address: SocketAddr,
    source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => " (is net.ipv4.ip_unprivileged_port_start 0 in this cage?)",
        io::ErrorKind::AddrNotAvailable => " (is the loopback interface up?)",
        _ => "",
    }
}

/// All listeners, open; nothing is served yet.
#[derive(Debug)]
pub(crate) struct Shim {
    dns_udp: Vec<UdpSocket>,
    dns_tcp: Vec<TcpListener>,
    streams: Vec<(TcpListener, Entrance)>,
}

impl Shim {
    /// Opens every listener on IPv4, and on the IPv6 loopback where there is one.
    ///
    /// # Errors
    /// When an IPv4 listener cannot be opened.
    pub(crate) async fn bind(addresses: &Addresses) -> Result<Self, BindError> {
        let mut shim = Self {
            dns_udp: Vec::new(),
            dns_tcp: Vec::new(),
            streams: Vec::new(),
        };
        shim.add(addresses).await?;
        if addresses.dns.port() != 0 {
            // A cage without IPv6, or a wildcard that already covers it, is as good.
            let _absent = shim.add(&addresses.on_ipv6()).await;
        }
        Ok(shim)
    }

    async fn add(&mut self, addresses: &Addresses) -> Result<(), BindError> {
        let udp = UdpSocket::bind(addresses.dns).await.map_err(|source| BindError {
            what: "DNS over UDP",
            address: addresses.dns,
            source,
        })?;
        self.dns_udp.push(udp);
        self.dns_tcp.push(listen("DNS over TCP", addresses.dns).await?);
        let entrances = [
            ("the doors", addresses.doors, Entrance::Doors),
            ("the proxy", addresses.proxy, Entrance::Proxy),
            ("HTTP", addresses.http, Entrance::Names { port: 80 }),
            ("HTTPS", addresses.https, Entrance::Names { port: 443 }),
        ];
        for (what, address, entrance) in entrances {
            self.streams.push((listen(what, address).await?, entrance));
        }
        Ok(())
    }

    /// Serves every listener from now on, until the set is dropped.
    pub(crate) fn serve(self, door: PathBuf) -> JoinSet<()> {
        let names: Names = Arc::new(Mutex::new(NameTable::default()));
        let door = Arc::new(Door::new(door, Arc::new(Semaphore::new(MAX_CONNECTIONS))));
        let mut tasks = JoinSet::new();
        for socket in self.dns_udp {
            tasks.spawn(serve_dns::udp(socket, Arc::clone(&names)));
        }
        for listener in self.dns_tcp {
            tasks.spawn(serve_dns::tcp(listener, Arc::clone(&names)));
        }
        for (listener, entrance) in self.streams {
            tasks.spawn(pipe::serve(
                listener,
                entrance,
                Arc::clone(&door),
                Arc::clone(&names),
            ));
        }
        tasks
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError {
        what,
        address,
        source,
    })
}

#[cfg(test)]
mod tests;
