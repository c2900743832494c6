//! Confinement seen from inside: a thread confines itself and tries what it must not.

use std::{fs, io, path::Path, process::Command, thread};

use super::*;

/// Runs `work` in a thread of its own that is confined to `own` first.
fn confined<T: Send + 'static>(own: &Path, work: impl FnOnce(Confinement) -> T + Send + 'static) -> T {
    let plan = Plan {
        own: vec![own.to_owned()],
        readable: Vec::new(),
        may_exec: false,
    };
    thread::spawn(move || work(apply(&plan).unwrap())).join().unwrap()
}

#[test]
fn our_own_files_threads_and_sockets_work_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    let read = confined(dir.path(), move |_| {
        fs::write(&file, "x").unwrap();
        fs::rename(&file, file.with_extension("b")).unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || std::net::TcpStream::connect(address).unwrap())
            .join()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::task::spawn_blocking(move || fs::read_to_string(file.with_extension("b")))
                .await
                .unwrap()
        })
    });
    assert_eq!(read.unwrap(), "x");
}

#[test]
fn no_program_can_be_started() {
    let dir = tempfile::tempdir().unwrap();
    let error = confined(dir.path(), |_| {
        Command::new("/bin/true").status().unwrap_err().kind()
    });
    assert_eq!(error, io::ErrorKind::PermissionDenied);
}

#[test]
fn a_program_can_be_started_where_the_host_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let own = vec![dir.path().to_owned()];
    let started = thread::spawn(move || {
        let plan = Plan {
            own,
            readable: Vec::new(),
            may_exec: true,
        };
        apply(&plan).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::process::Command::new("echo").arg("hello").output().await })
    });
    assert_eq!(started.join().unwrap().unwrap().stdout, b"hello\n");
}

#[test]
fn files_of_others_are_out_of_reach_where_the_kernel_has_landlock() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = other.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let (coverage, read) = confined(dir.path(), {
        let secret = secret.clone();
        move |confinement| {
            assert_eq!(
                confinement.can_read(&secret),
                confinement.landlock == Coverage::Absent
            );
            (confinement.landlock, fs::read(&secret))
        }
    });
    match coverage {
        Coverage::Full | Coverage::Partial => {
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        Coverage::Absent => assert_eq!(read.unwrap(), b"x"),
    }
}

#[test]
fn namespaces_other_processes_and_foreign_sockets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    confined(dir.path(), |_| {
        use rustix::net::{AddressFamily, SocketType, socket};
        let packet = socket(AddressFamily::PACKET, SocketType::RAW, None);
        assert_eq!(packet.unwrap_err(), rustix::io::Errno::PERM);
        let other = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::CONT);
        assert_eq!(other.unwrap_err(), rustix::io::Errno::PERM);
        let keyed = rustix::process::chroot("/");
        assert_eq!(keyed.unwrap_err(), rustix::io::Errno::PERM);
    });
}
