//! The Docker back end at Podman's socket: a cage's life, and every probe that disturbs nobody.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

#[path = "support/common.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod common;
#[path = "support/server.rs"]
mod server;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clawstaff_cage::{
    Backend, CageId, CageSpec, ExitReason, Image, Observed,
    conformance::{self, Outcome, Setup},
    docker::{Docker, DockerConfig},
};

/// What Podman does not give a cage where cgroups are of the old kind: a cgroup namespace, so that the names of its own
/// groups are in sight.
const NO_CGROUP_NAMESPACE: [&str; 2] = ["no-release-agent", "namespaces-of-its-own"];

/// Podman's service with state of its own.
struct Podman {
    service: Child,
    dir: PathBuf,
}

impl Podman {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new("podman");
        for place in ["root", "runroot"] {
            command.arg(format!("--{place}")).arg(dir.join(place));
        }
        let child = command
            .args([
                "--log-level=info",
                "--runtime=runc",
                "--cgroup-manager=cgroupfs",
                "--events-backend=file",
            ])
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", dir.join("podman.sock").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("podman: {error}; run `scripts/setup.sh`"));
        server::until_it_says(&mut child, "API service listening on");
        Self {
            service: child,
            dir: dir.to_owned(),
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
        // It leaves its store mounted on itself.
        let overlay = self.dir.join("root/overlay");
        let _ = Command::new("umount").arg(overlay).output();
    }
}

#[tokio::test]
async fn a_cage_at_podmans_socket_lives_and_holds() {
    let (dir, engine) = (common::directory(), common::directory());
    let _podman = Podman::start(engine.path());
    let config = DockerConfig {
        host: Some(format!("unix://{}", engine.path().join("podman.sock").display())),
        claw: common::program("claw"),
    };
    let backend = Docker::connect(config)
        .await
        .unwrap()
        .storing_at(dir.path().join("storage"));
    let id: CageId = "check-podman-00000001".parse().unwrap();
    let mut limits = Setup::limits();
    limits.accept_unenforced = common::unenforced(&backend);
    let spec = CageSpec {
        claw: id.claw().clone(),
        id: id.clone(),
        revision: 1,
        image: Image::Builtin,
        door_dir: common::door(dir.path()),
        limits,
        command: ["/sbin/claw", "probe", "actor", "idle"]
            .map(str::to_owned)
            .to_vec(),
    };
    backend.create(&spec).await.unwrap();
    backend.start(&id).await.unwrap();
    let findings = conformance::selftest(&backend, &id, &spec.limits).await.unwrap();
    backend.pause(&id).await.unwrap();
    assert_eq!(backend.observe(&id).await.unwrap(), Observed::Paused);
    backend.resume(&id).await.unwrap();
    backend.stop(&id, Duration::from_secs(10)).await.unwrap();
    let Observed::Exited(exit) = backend.observe(&id).await.unwrap() else {
        panic!("it runs")
    };
    backend.destroy(&id).await.unwrap();
    assert_eq!(backend.list().await.unwrap(), []);
    assert_eq!(exit.reason, ExitReason::Code(0));

    let old = !Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let excused = |check: &str| old && NO_CGROUP_NAMESPACE.contains(&check);
    let broken: Vec<_> = findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::Broken && !excused(finding.check))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let held = findings.iter().filter(|finding| finding.outcome == Outcome::Held);
    assert!(held.count() > 35, "{findings:#?}");
}
