//! The cage's network: loopback, up, and every port open to its one user. There is no other interface to set up,
//! which is the point.

#![expect(unsafe_code, reason = "the interface flags are an ioctl with a union")]

use std::{fs, os::fd::AsRawFd, path::Path};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::fault::{During, Result, last_error};

/// Brings `lo` up in the current network namespace.
pub(crate) fn raise_loopback() -> Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).during("open a socket")?;
    // SAFETY: an all-zero `ifreq` is a valid one: a byte array and a union of plain integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: `request` is an `ifreq` that lives across the call, as SIOCSIFFLAGS wants.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if done < 0 { Err(last_error()) } else { Ok(()) }.during("bring the loopback interface up")
}

/// Lets an ordinary user listen on ports below 1024, so that the shim can be at 53, 80 and 443 without a
/// capability. `proc` is a proc file system that shows the current network namespace.
pub(crate) fn open_low_ports(proc: &Path) -> Result<()> {
    fs::write(proc.join("sys/net/ipv4/ip_unprivileged_port_start"), "0")
        .during("let the cage listen on low ports")
}
