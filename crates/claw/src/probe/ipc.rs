//! Probes of what processes share without a file: System V and POSIX objects, abstract sockets.
//!
//! The suite's neighbour and its host hold an object of every kind ([`hold`] is the neighbour's part), all under
//! the name that the probe is told. Finding one of them, or being heard at one, is the way out.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use super::{Findings, Verdict, kernel};

/// The key of the neighbour's System V objects.
const KEY: i64 = 0x434C_4157;
/// How a search ends without a find: nothing there, or no such search.
const NOT_THERE: i32 = 2;
const REFUSED: i32 = 1;

/// What the neighbour keeps as long as it lives.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not used")]
pub(super) struct Held(UnixListener, TcpListener);

/// Makes an object of every kind that can be made: shared memory, semaphores, an abstract socket, a TCP port.
pub(super) fn hold(name: &str, port: u16) -> io::Result<Held> {
    fs::write(format!("/dev/shm/{name}"), "canary")?;
    for error in [kernel::make_shared_memory(KEY), kernel::make_semaphore(KEY)] {
        if !matches!(error, 0 | REFUSED) {
            return Err(io::Error::from_raw_os_error(error));
        }
    }
    Ok(Held(
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?,
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))?,
    ))
}

pub(super) fn ipc_separate(args: &[String]) -> Verdict {
    let name = args.first().map_or("clawstaff-nobody", String::as_str);
    let mut findings = Findings::default();
    let shared = File::open(format!("/dev/shm/{name}"));
    findings.expect(shared.is_err(), || {
        "foreign shared memory can be opened".to_owned()
    });
    let heard = SocketAddr::from_abstract_name(name).and_then(|address| UnixStream::connect_addr(&address));
    findings.expect(heard.is_err(), || {
        "a foreign abstract socket can be connected to".to_owned()
    });
    for (what, error) in [
        ("shared memory", kernel::find_shared_memory(KEY)),
        ("a semaphore", kernel::find_semaphore(KEY)),
    ] {
        findings.expect(matches!(error, NOT_THERE | REFUSED), || {
            format!("{what} of the System V kind was found: error {error}")
        });
    }
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    findings.expect(!sockets.contains(&format!("@{name}")), || {
        "a foreign abstract socket is listed".to_owned()
    });
    findings.verdict("kinds of shared object looked for, none of them foreign")
}

pub(super) fn no_message_queues(_: &[String]) -> Verdict {
    kernel::refused(&[
        ("msgget", 68, 186),
        ("msgsnd", 69, 189),
        ("msgrcv", 70, 188),
        ("msgctl", 71, 187),
        ("mq_open", 240, 180),
        ("mq_unlink", 241, 181),
    ])
}
