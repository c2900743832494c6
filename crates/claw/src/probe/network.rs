//! Probes of the network: there must be none but loopback, and finding out must take no time.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use super::{Findings, Verdict, kernel};

/// Longer than this is a hang to the software in the cage.
const AT_ONCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);

/// Tunnel devices that some kernels put into every network namespace; they are down and lead nowhere.
const FALLBACKS: [&str; 9] = [
    "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0",
];

pub(super) fn loopback_only(_: &[String]) -> Verdict {
    let devices =
        fs::read_to_string("/proc/net/dev").map_err(|error| format!("no /proc/net/dev: {error}"))?;
    let mut findings = Findings::default();
    for name in devices
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(str::trim)
    {
        findings.expect(name == "lo" || FALLBACKS.contains(&name), || {
            format!("there is an interface {name}")
        });
    }
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let count = routes.lines().skip(1).count();
    findings.expect(count == 0, || format!("there are {count} IPv4 routes"));
    findings.verdict("checks; loopback is alone")
}

fn unreachable(address: IpAddr, port: u16) -> Verdict {
    let (address, start) = (SocketAddr::new(address, port), Instant::now());
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => Err(format!("connected to {address}")),
        Err(error) if start.elapsed() > AT_ONCE => Err(format!(
            "{address} failed only after {} ms: {error}",
            start.elapsed().as_millis()
        )),
        Err(error) => Ok(format!("{address}: {error}")),
    }
}

/// The arguments are ports on which the host, and a neighbour, listen at their own loopback.
pub(super) fn host_loopback_unreachable(ports: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for port in ports.iter().filter_map(|port| port.parse::<u16>().ok()) {
        for address in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(Ipv4Addr::new(127, 64, 0, 1)),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ] {
            let reached = unreachable(address, port);
            let why = reached.as_ref().err().cloned();
            findings.expect(reached.is_ok(), || why.unwrap_or_default());
        }
    }
    findings.expect(!ports.is_empty(), || "no port was named to try".to_owned());
    findings.verdict("attempts; the loopback of others is not this cage's")
}

pub(super) fn no_metadata_service(_: &[String]) -> Verdict {
    unreachable(Ipv4Addr::new(169, 254, 169, 254).into(), 80)?;
    unreachable(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254).into(), 80)
}

pub(super) fn no_private_network(_: &[String]) -> Verdict {
    for address in [
        Ipv4Addr::new(192, 168, 0, 1),
        Ipv4Addr::new(172, 17, 0, 1),
        Ipv4Addr::new(100, 64, 0, 1),
    ] {
        unreachable(address.into(), 80)?;
    }
    unreachable(Ipv4Addr::new(10, 0, 0, 1).into(), 80)
}

pub(super) fn no_internet(_: &[String]) -> Verdict {
    unreachable(Ipv4Addr::new(1, 1, 1, 1).into(), 443)
}

pub(super) fn no_internet_v6(_: &[String]) -> Verdict {
    unreachable(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 1).into(), 443)
}

pub(super) fn no_datagrams(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for target in [
        "8.8.8.8:53",
        "255.255.255.255:67",
        "224.0.0.251:5353",
        "10.0.0.1:53",
    ] {
        let sent = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            // Allowed to everybody; without it a broadcast fails for another reason.
            socket.set_broadcast(true)?;
            socket.send_to(b"probe", target)
        });
        findings.expect(sent.is_err(), || format!("a datagram left for {target}"));
    }
    findings.verdict("datagrams had nowhere to go")
}

pub(super) fn no_special_sockets(_: &[String]) -> Verdict {
    const STREAM: i32 = 1;
    const DGRAM: i32 = 2;
    const RAW: i32 = 3;
    const SEQPACKET: i32 = 5;
    let mut findings = Findings::default();
    for (name, family, kind, protocol) in [
        ("packet", 17, RAW, 0),
        ("packet (datagram)", 17, DGRAM, 0),
        ("raw ICMP", 2, RAW, 1),
        ("raw TCP", 2, RAW, 6),
        ("raw IPv6", 10, RAW, 58),
        ("ping", 2, DGRAM, 1),
        ("SCTP", 2, STREAM, 132),
        ("vsock", 40, STREAM, 0),
        ("crypto (ALG)", 38, SEQPACKET, 0),
        ("key management", 15, RAW, 2),
        ("bluetooth", 31, RAW, 1),
        ("SMC", 43, STREAM, 0),
        ("XDP", 44, RAW, 0),
        ("TIPC", 30, STREAM, 0),
        ("netfilter netlink", 16, RAW, 12),
        ("audit netlink", 16, RAW, 9),
        ("kobject netlink", 16, RAW, 15),
    ] {
        let error = kernel::socket(family, kind, protocol);
        findings.expect(error == 1, || format!("{name} socket: error {error}"));
    }
    findings.verdict("kinds of socket refused")
}
