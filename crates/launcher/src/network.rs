//! The cage's network: loopback, up, and every port open to its one user. There is no other interface to set up,
//! which is the point.

#![expect(unsafe_code, reason = "an interface is set up with ioctls and a union")]

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::fault::{During, Result, last_error};

/// A second address of loopback, in network byte order: 127.0.0.2. The C library does not count 127.0.0.1 as having
/// IPv4, and tells a program that asks for IPv4 "where this machine has it" (`AI_ADDRCONFIG`) that no name exists;
/// any other address will do.
const SECOND: u32 = u32::from_ne_bytes([127, 0, 0, 2]);

/// Brings `lo` up in the current network namespace, with a second address.
pub(crate) fn raise_loopback() -> Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).during("open a socket")?;
    let mut up = request(b"lo\0");
    up.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap_or(1);
    ask(&socket, libc::SIOCSIFFLAGS, up).during("bring the loopback interface up")?;
    let mut second = request(b"lo:2\0");
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET.cast_unsigned().try_into().unwrap_or_default(),
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: SECOND },
        sin_zero: [0; 8],
    };
    // SAFETY: `sockaddr_in` and `sockaddr` are the same 16 bytes in two readings, without padding.
    second.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
    ask(&socket, libc::SIOCSIFADDR, second).during("give the loopback interface a second address")
}

/// A request about the interface of that name.
fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: an all-zero `ifreq` is a valid one: a byte array and a union of plain integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    request
}

fn ask(socket: &OwnedFd, what: libc::c_ulong, mut request: libc::ifreq) -> std::io::Result<()> {
    // SAFETY: `request` is an `ifreq` that lives across the call, as both requests of this file want.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) };
    if done < 0 { Err(last_error()) } else { Ok(()) }
}

/// Lets an ordinary user listen on ports below 1024, so that the shim can be at 53, 80 and 443 without a
/// capability. `proc` is a proc file system that shows the current network namespace.
pub(crate) fn open_low_ports(proc: &Path) -> Result<()> {
    fs::write(proc.join("sys/net/ipv4/ip_unprivileged_port_start"), "0")
        .during("let the cage listen on low ports")
}
