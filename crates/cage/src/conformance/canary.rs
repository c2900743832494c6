//! What the suite plants on the host: everything that a cage which got out would find, change or call.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use super::stage::{Verdict, ensure, text};

const CONTENT: &str = "as it was";
/// Settings of the kernel that a cage would want to change.
const SETTINGS: [&str; 5] = [
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/sysrq",
];
/// A clock that moved more than this beside the other was set.
const DRIFT: Duration = Duration::from_secs(5);

/// The canaries. Dropped, they are gone.
#[derive(Debug)]
pub(super) struct Canaries {
    /// The name of every one of them.
    pub(super) name: String,
    /// A file that everybody may read and write: the boundary alone protects it.
    pub(super) file: PathBuf,
    /// A port at the host's loopback.
    pub(super) port: u16,
    shared: PathBuf,
    tcp: TcpListener,
    socket: UnixListener,
    settings: Vec<Option<String>>,
    began: (Instant, SystemTime),
}

impl Canaries {
    pub(super) fn plant() -> Result<Self, String> {
        let name = format!("clawstaff-mark-{}", std::process::id());
        let (file, shared) = (
            std::env::temp_dir().join(&name),
            PathBuf::from("/dev/shm").join(&name),
        );
        for path in [&file, &shared] {
            fs::write(path, CONTENT).map_err(text)?;
            fs::set_permissions(path, PermissionsExt::from_mode(0o666)).map_err(text)?;
        }
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        let address = SocketAddr::from_abstract_name(&name).map_err(text)?;
        let socket = UnixListener::bind_addr(&address).map_err(text)?;
        tcp.set_nonblocking(true).map_err(text)?;
        socket.set_nonblocking(true).map_err(text)?;
        Ok(Self {
            port: tcp.local_addr().map_err(text)?.port(),
            name,
            file,
            shared,
            tcp,
            socket,
            settings: settings(),
            began: (Instant::now(), SystemTime::now()),
        })
    }

    /// Whether nobody touched them.
    pub(super) fn untouched(&self) -> Verdict {
        for path in [&self.file, &self.shared] {
            let found = fs::read_to_string(path).map_err(text)?;
            ensure(found == CONTENT, || format!("{} was changed", path.display()))?;
        }
        let silent = |result: std::io::Result<()>, what: &str| match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(format!("{what} is broken: {error}")),
            Ok(()) => Err(format!("somebody called {what}")),
        };
        silent(self.tcp.accept().map(drop), "the host's port")?;
        silent(self.socket.accept().map(drop), "the host's abstract socket")?;
        for (name, (before, after)) in SETTINGS.iter().zip(self.settings.iter().zip(settings())) {
            ensure(*before == after, || {
                format!("{name} was {before:?}, is {after:?}")
            })?;
        }
        let passed = self.began.1.elapsed().map_err(text)?;
        let drift = passed.abs_diff(self.began.0.elapsed());
        ensure(drift < DRIFT, || format!("the clock was set, by {drift:?}"))?;
        Ok("files, sockets, settings and clock are as they were".to_owned())
    }
}

fn settings() -> Vec<Option<String>> {
    SETTINGS
        .iter()
        .map(|path| fs::read_to_string(path).ok())
        .collect()
}

impl Drop for Canaries {
    fn drop(&mut self) {
        for path in [&self.file, &self.shared] {
            // What cannot be removed is the temporary directory's to clear.
            let _ = fs::remove_file(path);
        }
    }
}
