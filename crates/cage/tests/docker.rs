//! The Docker back end against a real engine: the same conformance suite.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

#[path = "support/common.rs"]
#[expect(dead_code, reason = "the native tests use the rest")]
mod common;

use std::path::Path;

use clawstaff_cage::{
    Backend, CageError, CageId, CageSpec, Image, Observed,
    conformance::{self, Setup},
    docker::{Docker, DockerConfig},
};

const HINT: &str = "run `scripts/docker-engine.sh` as root, and set DOCKER_HOST for an engine elsewhere";

async fn docker(dir: &Path) -> Docker {
    let host =
        std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///run/clawstaff-test/docker.sock".to_owned());
    let config = DockerConfig {
        host: Some(host),
        claw: common::program("claw"),
    };
    match Docker::connect(config).await {
        Ok(docker) => docker.storing_at(dir.join("storage")),
        Err(error) => panic!("{error}; {HINT}"),
    }
}

fn spec(dir: &Path, backend: &dyn Backend) -> CageSpec {
    let id: CageId = "check-spec-00000001".parse().unwrap();
    let mut limits = Setup::limits();
    limits.accept_unenforced = common::unenforced(backend);
    CageSpec {
        claw: id.claw().clone(),
        id,
        revision: 1,
        image: Image::Builtin,
        door_dir: common::door(dir),
        limits,
        command: ["/sbin/claw", "probe", "actor", "idle"]
            .map(str::to_owned)
            .to_vec(),
    }
}

#[tokio::test]
async fn the_docker_back_end_conforms() {
    let dir = common::directory();
    let backend = docker(dir.path()).await;
    let limits = spec(dir.path(), &backend).limits;
    let setup = Setup {
        image: Image::Builtin,
        door_dir: common::door(dir.path()),
        limits,
        searched: vec![dir.path().to_owned()],
    };
    let findings = conformance::run(&backend, &setup).await;
    common::report(&findings);
    common::matrix("docker", &findings);
}

#[tokio::test]
async fn names_are_resolved_by_the_cage_itself() {
    let dir = common::directory();
    let backend = docker(dir.path()).await;
    let spec = spec(dir.path(), &backend);
    backend.create(&spec).await.unwrap();
    backend.start(&spec.id).await.unwrap();
    let read = ["/sbin/claw", "probe", "actor", "read", "/etc/resolv.conf"].map(str::to_owned);
    let output = backend
        .exec(&spec.id, &read, std::time::Duration::from_secs(20))
        .await
        .unwrap();
    backend.destroy(&spec.id).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver "))
        .collect();
    assert_eq!(servers, ["127.0.0.1"], "{text}");
}

#[tokio::test]
async fn installations_on_one_engine_do_not_see_each_others_cages() {
    let (one, two) = (common::directory(), common::directory());
    let (mine, theirs) = (docker(one.path()).await, docker(two.path()).await);
    let spec = spec(one.path(), &mine);
    mine.create(&spec).await.unwrap();
    let (seen, listed) = (
        theirs.observe(&spec.id).await.unwrap(),
        theirs.list().await.unwrap(),
    );
    mine.destroy(&spec.id).await.unwrap();
    assert_eq!((seen, listed), (Observed::Absent, vec![]));
}

#[tokio::test]
async fn an_image_of_another_back_end_is_refused() {
    let dir = common::directory();
    let backend = docker(dir.path()).await;
    let spec = CageSpec {
        image: Image::Directory("/".into()),
        ..spec(dir.path(), &backend)
    };
    assert!(matches!(
        backend.create(&spec).await,
        Err(CageError::Refused { .. })
    ));
}
