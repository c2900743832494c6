//! The network of a live cage as unmodified software finds it: curl, Python and Node reach names, by IPv4 however they
//! ask for it, and nothing else; what leads nowhere fails at once.
//!
//! Needs root, for the root file system with that software in it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

#[path = "support/common.rs"]
#[expect(dead_code, reason = "the back ends' tests use the rest")]
mod common;
#[path = "support/software.rs"]
mod software;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use clawstaff_cage::{
    Backend, CageId, CageSpec, Image,
    conformance::Setup,
    native::{Native, NativeConfig},
};
use clawstaff_types::ByteSize;

/// A door whose other end answers each connection to a name with that name, as plain HTTP.
fn echoing_door(dir: &Path) -> PathBuf {
    let door = common::door(dir);
    let file = r#"{"contract": 1, "claw": "client", "revision": 1, "env": {}, "model": null,
        "command": ["/bin/sleep", "600"]}"#;
    fs::write(door.join("claw.json"), file).unwrap();
    let socket = door.join("door.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let opening = lines.next().unwrap().unwrap();
                for line in lines.map_while(Result::ok) {
                    if line.is_empty() {
                        break;
                    }
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{opening}",
                    opening.len()
                );
                let _ = (&stream).write_all(answer.as_bytes());
            });
        }
    });
    door
}

struct Cage {
    backend: Native,
    spec: CageSpec,
}

impl Cage {
    async fn start(dir: &Path, root: &Path) -> Self {
        let backend = Native::new(NativeConfig {
            state_dir: dir.join("state"),
            launcher: common::program("clawstaff-launcher"),
            claw: common::program("claw"),
        })
        .unwrap();
        let mut limits = Setup::limits();
        limits.memory = ByteSize::mib(512);
        limits.milli_cpus = 2000;
        limits.pids = 128;
        let claw: clawstaff_types::ClawName = "client".parse().unwrap();
        let spec = CageSpec {
            id: CageId::new(&claw, std::process::id()),
            claw,
            revision: 1,
            image: Image::Directory(root.to_owned()),
            door_dir: echoing_door(dir),
            limits,
            command: CageSpec::init(),
        };
        backend.create(&spec).await.unwrap();
        backend.start(&spec.id).await.unwrap();
        let cage = Self { backend, spec };
        // The init opens the listeners in its first moments; the first name waits for that.
        let ready = "until curl -s -o /dev/null http://127.0.0.1/; do sleep 0.05; done";
        cage.says(&["/bin/sh", "-c", ready]).await;
        cage
    }

    async fn says(&self, command: &[&str]) -> String {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let patience = Duration::from_secs(30);
        let output = self.backend.exec(&self.spec.id, &words, patience).await.unwrap();
        let (said, wrong) = (
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        );
        assert_eq!(output.code, Some(0), "{command:?}: {said} {wrong}");
        said
    }

    async fn python(&self, program: &str) -> String {
        self.says(&["/usr/bin/python3", "-c", program]).await
    }
}

const NAMES: &str = r#"
import socket, urllib.request
from socket import AF_INET, AF_INET6, AF_UNSPEC, AI_ADDRCONFIG, SOCK_STREAM
def ask(family, flags):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo("api.example.com", 80, family, SOCK_STREAM, 0, flags)})
    except socket.gaierror as error:
        return error.args[1]
print(ask(AF_INET, AI_ADDRCONFIG) == ask(AF_INET, 0) == ask(AF_UNSPEC, AI_ADDRCONFIG) == ask(AF_UNSPEC, 0))
print(ask(AF_INET, 0)[0].startswith("127."), isinstance(ask(AF_INET6, 0), str))
print(urllib.request.urlopen("http://api.example.com/").read().decode())
"#;

const DEAD_ENDS: &str = r#"
import errno, socket, time
for target in [("1.1.1.1", 443), ("169.254.169.254", 80), ("10.0.0.1", 53), ("2606:4700::1111", 443), ("fd00::1", 80),
               ("api.example.com", 22), ("api.example.com", 8443), ("::1", 5432)]:
    start = time.monotonic()
    try:
        socket.create_connection(target, 5).close()
        print(target, "connected")
    except OSError as error:
        late = time.monotonic() - start > 0.5
        known = error.errno in (errno.ENETUNREACH, errno.ECONNREFUSED, errno.EADDRNOTAVAIL)
        if late or not known: print(target, error, late)
"#;

const HOSTILE_QUESTIONS: &str = r#"
import os, socket
header = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
question = lambda name, kind: header + b"".join(bytes([len(l)]) + l for l in name.split(b".")) + b"\0" + kind.to_bytes(2, "big") + b"\0\1"
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ask.settimeout(2)
def answer(message):
    ask.sendto(message, ("127.0.0.1", 53))
    try: return ask.recv(65535)
    except TimeoutError: return None
# A pointer to itself, one past the end, half a label, a header that promises more, and noise.
for message in [header + b"\xc0\x0c\0\1\0\1", header + b"\xff\xff\0\1\0\1", header + b"\x3fab", header, os.urandom(900)]:
    found = answer(message)
    if found is not None and len(found) > 512: print("long", len(found))
for kind in [28, 64, 65, 16, 255, 65280]:
    found = answer(question(b"api.example.com", kind))
    if found[3] & 15 or found[6:8] != b"\0\0": print("type", kind, found)
if answer(question(b"x" * 63 + b"." + b"y" * 63 + b"." + b"z" * 63 + b"." + b"w" * 62, 1)) is None: print("long name")
print(answer(question(b"api.example.com", 1))[-4])
"#;

#[tokio::test]
async fn unmodified_software_reaches_names_and_nothing_else() {
    assert!(
        common::is_root(),
        "software is bound into the cage: run the tests as root"
    );
    let dir = common::directory();
    let software = software::Root::make(dir.path());
    let cage = Cage::start(dir.path(), &software.path).await;

    let heard = cage
        .says(&["/usr/bin/curl", "-sS", "http://api.example.com/"])
        .await;
    assert_eq!(heard, "CLAW/1 name api.example.com 80");
    let node = "require('http').get({ host: 'api.example.com', family: 4, hints: require('dns').ADDRCONFIG }, \
                answer => answer.pipe(process.stdout))";
    assert_eq!(
        cage.says(&["/usr/bin/node", "-e", node]).await,
        "CLAW/1 name api.example.com 80"
    );
    assert_eq!(
        cage.python(NAMES).await,
        "True\nTrue True\nCLAW/1 name api.example.com 80"
    );
    assert_eq!(cage.python(DEAD_ENDS).await, "");
    assert_eq!(cage.python(HOSTILE_QUESTIONS).await, "127");

    cage.backend.destroy(&cage.spec.id).await.unwrap();
}
