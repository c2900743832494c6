//! The native back end against the real kernel: the conformance suite as root and as an ordinary user.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

#[path = "support/common.rs"]
mod common;

use std::{fs, path::Path};

use clawstaff_cage::{
    Backend, CageError, CageId, CageSpec, Enforcement, Image,
    conformance::{self, Outcome, Setup},
    native::{Native, NativeConfig},
};
use clawstaff_types::spec::Limit;

fn native(dir: &Path) -> Native {
    let config = NativeConfig {
        state_dir: dir.join("state"),
        launcher: common::program("clawstaff-launcher"),
        claw: common::program("claw"),
    };
    Native::new(config).unwrap()
}

fn setup(dir: &Path, backend: &dyn Backend) -> Setup {
    let mut limits = Setup::limits();
    limits.accept_unenforced = common::unenforced(backend);
    Setup {
        image: Image::Builtin,
        door_dir: common::door(dir),
        limits,
        searched: vec![dir.to_owned()],
    }
}

#[tokio::test]
async fn the_native_back_end_conforms() {
    let dir = common::directory();
    let backend = native(dir.path());
    let findings = conformance::run(&backend, &setup(dir.path(), &backend)).await;
    common::report(&findings);
    let column = if common::is_root() {
        "native, root"
    } else {
        "native, ordinary user"
    };
    common::matrix(column, &findings);
}

/// Runs the test above again as an ordinary user, in a process of its own.
#[tokio::test]
async fn the_native_back_end_conforms_as_an_ordinary_user() {
    if !common::is_root() {
        // Then the test above has shown it.
        return;
    }
    let dir = common::directory();
    let output = common::as_ordinary_user(dir.path(), "the_native_back_end_conforms");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn a_limit_that_the_host_cannot_enforce_is_refused_with_a_remedy() {
    if common::is_root() {
        let dir = common::directory();
        let output = common::as_ordinary_user(
            dir.path(),
            "a_limit_that_the_host_cannot_enforce_is_refused_with_a_remedy",
        );
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        return;
    }
    let dir = common::directory();
    let backend = native(dir.path());
    assert!(matches!(
        backend.capabilities().limits[&Limit::Storage],
        Enforcement::NotEnforced { .. }
    ));
    let mut spec = spec(dir.path());
    let refused = backend.create(&spec).await.unwrap_err();
    let CageError::Unenforceable { remedy, .. } = &refused else {
        panic!("{refused}")
    };
    assert!(!remedy.is_empty());
    spec.limits.accept_unenforced = common::unenforced(&backend);
    backend.create(&spec).await.unwrap();
    backend.destroy(&spec.id).await.unwrap();
}

fn spec(dir: &Path) -> CageSpec {
    let id: CageId = "check-spec-00000001".parse().unwrap();
    CageSpec {
        claw: id.claw().clone(),
        id,
        revision: 1,
        image: Image::Builtin,
        door_dir: common::door(dir),
        limits: Setup::limits(),
        command: ["/sbin/claw", "probe", "actor", "idle"]
            .map(str::to_owned)
            .to_vec(),
    }
}

#[tokio::test]
async fn cages_survive_their_back_end_and_are_found_again() {
    let dir = common::directory();
    let first = native(dir.path());
    let mut spec = spec(dir.path());
    spec.limits.accept_unenforced = common::unenforced(&first);
    first.create(&spec).await.unwrap();
    first.start(&spec.id).await.unwrap();
    let before = first.observe(&spec.id).await.unwrap();
    drop(first);

    let second = native(dir.path());
    assert_eq!(second.list().await.unwrap(), vec![spec.id.clone()]);
    assert_eq!(second.observe(&spec.id).await.unwrap(), before);
    second.destroy(&spec.id).await.unwrap();
}

#[tokio::test]
async fn a_cage_that_cannot_be_made_exactly_as_asked_does_not_run() {
    let dir = common::directory();
    let backend = native(dir.path());
    let mut spec = spec(dir.path());
    spec.limits.accept_unenforced = common::unenforced(&backend);
    spec.door_dir = dir.path().join("nowhere");
    backend.create(&spec).await.unwrap();
    let refused = backend.start(&spec.id).await.unwrap_err().to_string();
    assert!(refused.contains("door") || refused.contains("/claw"), "{refused}");
    spec.door_dir = common::door(dir.path());
    spec.command = vec!["/no/such/program".to_owned()];
    backend.create(&spec).await.unwrap();
    let refused = backend.start(&spec.id).await.unwrap_err().to_string();
    assert!(refused.contains("/no/such/program"), "{refused}");
    backend.destroy(&spec.id).await.unwrap();
    assert!(
        fs::read_dir(dir.path().join("state/cages"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[tokio::test]
async fn every_probe_of_a_selftest_leaves_the_cage_running() {
    let dir = common::directory();
    let backend = native(dir.path());
    let mut spec = spec(dir.path());
    spec.limits.accept_unenforced = common::unenforced(&backend);
    backend.create(&spec).await.unwrap();
    backend.start(&spec.id).await.unwrap();
    let before = backend.observe(&spec.id).await.unwrap();
    let findings = conformance::selftest(&backend, &spec.id, &spec.limits)
        .await
        .unwrap();
    assert_eq!(backend.observe(&spec.id).await.unwrap(), before);
    backend.destroy(&spec.id).await.unwrap();
    assert!(
        findings.iter().all(|finding| match finding.outcome {
            Outcome::Held => true,
            Outcome::Broken => false,
            // All cages of an ordinary user are that user's.
            Outcome::NotEnforced => !common::is_root() && finding.check == "user-of-its-own",
        }),
        "{findings:#?}"
    );
}

/// The probes must be able to fail: outside a cage, these do.
#[test]
fn probes_do_not_hold_where_there_is_no_cage() {
    for probe in [
        "no-new-privileges",
        "seccomp-filter",
        "no-userfaultfd",
        "no-keyrings",
        "no-io-uring",
    ] {
        let output = std::process::Command::new(common::program("claw"))
            .args(["probe", probe])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(r#""held":false"#), "{probe}: {said}");
    }
}

#[test]
fn probes_that_could_do_harm_refuse_to_run_outside_a_cage() {
    for probe in ["no-administration", "signals-stay-inside", "fork-bomb-bounded"] {
        let output = std::process::Command::new(common::program("claw"))
            .args(["probe", probe])
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{probe}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}
