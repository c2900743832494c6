//! A second cage behind a Claw's own door, with curl from this host in it: what any program there would see.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clawstaff_cage::{
    Backend as _, CageId, CageSpec, Image,
    native::{Native, NativeConfig},
};
use clawstaff_types::{ClawName, spec::Limits};

use crate::installation::Installation;

/// A cage with curl in it.
#[derive(Debug)]
pub(crate) struct Visitor {
    runtime: tokio::runtime::Runtime,
    backend: Native,
    id: CageId,
    _directory: tempfile::TempDir,
}

impl Visitor {
    /// Makes and starts it. Its init is the real one, so that names and ports work as in every cage.
    pub(crate) fn enter(installation: &Installation, claw: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), passable).unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_clawstaff"));
        let backend = Native::new(NativeConfig {
            state_dir: directory.path().join("state"),
            launcher: programs.with_file_name("clawstaff-launcher"),
            claw: programs.with_file_name("claw"),
        });
        let backend = backend.expect("run `cargo build --workspace --bins` first");
        let claw: ClawName = claw.parse().unwrap();
        let spec = CageSpec {
            id: CageId::new(&claw, 1),
            image: Image::Directory(root_with_curl(directory.path(), programs)),
            door_dir: installation.data.join("doors").join(claw.as_str()),
            limits: Limits::default(),
            command: CageSpec::init(),
            revision: 1,
            claw,
        };
        runtime.block_on(backend.create(&spec)).unwrap();
        runtime.block_on(backend.start(&spec.id)).unwrap();
        Self {
            runtime,
            backend,
            id: spec.id,
            _directory: directory,
        }
    }

    /// What curl prints for `url`: the body, a space and the status. It trusts the cage's own authority only.
    pub(crate) fn curl(&self, url: &str) -> String {
        let words = [
            "/usr/bin/curl",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--retry",
            "20",
            "--retry-connrefused",
            "--retry-delay",
            "1",
            "--cacert",
            "/claw/ca.pem",
            "--write-out",
            " %{http_code}",
            url,
        ];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let ran = self
            .runtime
            .block_on(self.backend.exec(&self.id, &words, Duration::from_mins(1)))
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(ran.code, Some(0), "{}{}", text(&ran.stdout), text(&ran.stderr));
        text(&ran.stdout)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        drop(self.runtime.block_on(self.backend.destroy(&self.id)));
    }
}

/// A root file system with the in-cage program, this host's curl and the libraries that it is linked with.
fn root_with_curl(directory: &Path, programs: &Path) -> PathBuf {
    let root = directory.join("root");
    for folder in ["sbin", "etc", "proc", "dev", "sys", "tmp", "data", "claw"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy(programs.with_file_name("claw"), root.join("sbin/claw")).unwrap();
    std::fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
    let linked = Command::new("ldd")
        .arg("/usr/bin/curl")
        .output()
        .expect("curl is missing: run scripts/setup.sh");
    let linked = String::from_utf8(linked.stdout).unwrap();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    let resolver = [
        "/lib/x86_64-linux-gnu/libnss_dns.so.2",
        "/lib/x86_64-linux-gnu/libnss_files.so.2",
    ];
    for file in libraries
        .chain(["/usr/bin/curl"])
        .chain(resolver.into_iter().filter(|path| Path::new(path).exists()))
    {
        let target = root.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, &target).unwrap();
    }
    root
}
