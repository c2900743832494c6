//! Nothing is left behind: after many lives, after many at once, and after a back end that was killed in the middle.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

#[path = "support/census.rs"]
mod census;
#[path = "support/common.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clawstaff_cage::{
    Backend, CageId, CageSpec, Image,
    conformance::Setup,
    docker::{Docker, DockerConfig},
    native::{Native, NativeConfig},
};
use futures_util::{StreamExt as _, stream};

use crate::census::Census;

/// Lives of native cages, and of containers, which take longer.
const LIVES: u32 = 500;
const CONTAINERS: u32 = 8;
/// Where the back end that is killed works.
const VICTIM: &str = "CLAWSTAFF_TEST_VICTIM";

fn native(dir: &Path) -> Native {
    let config = NativeConfig {
        state_dir: dir.join("state"),
        launcher: common::program("clawstaff-launcher"),
        claw: common::program("claw"),
    };
    Native::new(config).unwrap()
}

fn spec(dir: &Path, backend: &dyn Backend, name: &str, number: u32) -> CageSpec {
    let mut limits = Setup::limits();
    limits.accept_unenforced = common::unenforced(backend);
    let claw: clawstaff_types::ClawName = name.parse().unwrap();
    CageSpec {
        id: CageId::new(&claw, number),
        claw,
        revision: 1,
        image: Image::Builtin,
        door_dir: common::door(dir),
        limits,
        command: ["/sbin/claw", "probe", "actor", "idle"]
            .map(str::to_owned)
            .to_vec(),
    }
}

async fn live(backend: &dyn Backend, spec: &CageSpec) {
    let id = &spec.id;
    for done in [
        backend.create(spec).await,
        backend.start(id).await,
        backend.destroy(id).await,
    ] {
        done.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}

#[tokio::test]
async fn five_hundred_native_lives_leave_nothing() {
    let dir = common::directory();
    let backend = native(dir.path());
    live(&backend, &spec(dir.path(), &backend, "leak-first", 0)).await;
    let before = Census::take("leak-many", dir.path());
    let lives = stream::iter(1..=LIVES).map(|number| {
        let (backend, spec) = (&backend, spec(dir.path(), &backend, "leak-many", number));
        async move { live(backend, &spec).await }
    });
    lives.buffer_unordered(4).collect::<Vec<()>>().await;
    assert_eq!(Census::take("leak-many", dir.path()), before);
    assert!(
        before.files.is_empty() && before.processes.is_empty(),
        "{before:?}"
    );
}

#[tokio::test]
async fn containers_leave_nothing() {
    let dir = common::directory();
    let host =
        std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///run/clawstaff-test/docker.sock".to_owned());
    let config = DockerConfig {
        host: Some(host),
        claw: common::program("claw"),
    };
    let backend = Docker::connect(config).await;
    let backend = backend.unwrap_or_else(|error| panic!("{error}; run `scripts/docker-engine.sh` as root"));
    let backend = backend.storing_at(dir.path().join("storage"));
    live(&backend, &spec(dir.path(), &backend, "leak-first", 0)).await;
    let before = Census::take("leak-docker", dir.path());
    let lives = stream::iter(1..=CONTAINERS).map(|number| {
        let (backend, spec) = (&backend, spec(dir.path(), &backend, "leak-docker", number));
        async move { live(backend, &spec).await }
    });
    lives.buffer_unordered(2).collect::<Vec<()>>().await;
    assert_eq!(backend.list().await.unwrap(), vec![]);
    let after = Census::take("leak-docker", dir.path());
    // The connections to the engine are kept for the next call.
    assert_eq!(
        Census {
            descriptors: 0,
            ..after
        },
        Census {
            descriptors: 0,
            ..before
        }
    );
}

#[tokio::test]
async fn many_cages_start_at_once() {
    let dir = common::directory();
    let backend = native(dir.path());
    let specs: Vec<CageSpec> = (0..32)
        .map(|number| spec(dir.path(), &backend, "leak-crowd", number))
        .collect();
    let starts = specs.iter().map(|spec| async {
        backend.create(spec).await?;
        backend.start(&spec.id).await
    });
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
    assert_eq!(backend.list().await.unwrap().len(), specs.len());
    for spec in &specs {
        backend.destroy(&spec.id).await.unwrap();
    }
    let after = Census::take("leak-crowd", dir.path());
    assert!(
        after.files.is_empty() && after.processes.is_empty() && after.cgroups.is_empty(),
        "{after:?}"
    );
}

#[tokio::test]
async fn what_a_cage_wrote_is_in_no_file_once_it_is_destroyed() {
    const CANARY: &str = "canary-0b5fe2c1-of-a-cage-that-is-gone";
    let dir = common::directory();
    let backend = native(dir.path());
    let spec = spec(dir.path(), &backend, "leak-canary", 1);
    let id = &spec.id;
    backend.create(&spec).await.unwrap();
    backend.start(id).await.unwrap();
    let write = ["/sbin/claw", "probe", "actor", "write", "/data/kept", CANARY].map(str::to_owned);
    let written = backend.exec(id, &write, Duration::from_secs(20)).await.unwrap();
    assert_eq!(written.code, Some(0));
    backend.stop(id, Duration::from_secs(10)).await.unwrap();
    assert!(
        holds(dir.path(), CANARY.as_bytes()),
        "the search finds nothing that is there"
    );
    backend.destroy(id).await.unwrap();
    assert!(!holds(dir.path(), CANARY.as_bytes()));
}

/// Whether any file below `dir` has these bytes in it.
fn holds(dir: &Path, words: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds(&entry.path(), words);
        }
        let bytes = if kind.is_file() {
            std::fs::read(entry.path()).unwrap()
        } else {
            Vec::new()
        };
        bytes.windows(words.len()).any(|window| window == words)
    })
}

/// A back end in a process of its own is killed at one moment after another of a cage's life; the next one finds
/// whatever there is, can do everything with it, and leaves nothing.
#[tokio::test]
async fn a_back_end_that_is_killed_at_any_moment_leaves_what_the_next_one_can_clear() {
    let test = "a_back_end_that_is_killed_at_any_moment_leaves_what_the_next_one_can_clear";
    if let Some(dir) = std::env::var_os(VICTIM) {
        return suffer(Path::new(&dir)).await;
    }
    let dir = common::directory();
    let mut states = std::collections::BTreeSet::new();
    // A life takes about a tenth of a second, most of it at its beginning.
    for round in 0..32_u64 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = dir.path().join("begun");
        let end = Instant::now() + Duration::from_secs(20);
        while !begun.exists() {
            assert!(Instant::now() < end, "the victim does not begin");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(4_000 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        std::fs::remove_file(&begun).unwrap();
        states.insert(recover(dir.path()).await);
    }
    assert!(
        states.len() > 2,
        "the kills all fell into the same state: {states:?}"
    );
}

/// Walks a cage through its life, over and over, until somebody puts an end to it.
async fn suffer(dir: &Path) {
    let backend = native(dir);
    let spec = spec(dir, &backend, "leak-victim", 1);
    let id = &spec.id;
    std::fs::write(dir.join("begun"), "").unwrap();
    loop {
        backend.create(&spec).await.unwrap();
        backend.start(id).await.unwrap();
        backend.pause(id).await.unwrap();
        backend.resume(id).await.unwrap();
        backend.stop(id, Duration::from_secs(5)).await.unwrap();
        backend.start(id).await.unwrap();
        backend.destroy(id).await.unwrap();
    }
}

/// What the next back end sees; afterwards there is nothing.
async fn recover(dir: &Path) -> String {
    let backend = native(dir);
    let spec = spec(dir, &backend, "leak-victim", 1);
    let seen = match backend.list().await.unwrap().first() {
        Some(id) => format!("{:?}", backend.observe(id).await.unwrap()),
        None => "nothing".to_owned(),
    };
    backend.create(&spec).await.unwrap();
    backend.start(&spec.id).await.unwrap();
    backend.destroy(&spec.id).await.unwrap();
    let left = Census::take("leak-victim", dir);
    let nothing = left.files.is_empty() && left.processes.is_empty() && left.cgroups.is_empty();
    assert!(
        nothing && left.loop_devices.is_empty() && left.mounts == 0,
        "after {seen}: {left:?}"
    );
    seen.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
