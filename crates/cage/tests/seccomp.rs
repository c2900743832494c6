//! The table of system calls against real software: Python, Node, git, a JVM and the Claw's own programs work in a cage,
//! and every row of the table is used by one of them. A row that nothing uses is a door for nobody: it goes.
//!
//! Needs root, because strace must look into cages that have a user of their own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

#[path = "support/common.rs"]
#[expect(dead_code, reason = "the back ends' tests use the rest")]
mod common;
#[path = "support/software.rs"]
mod software;
#[path = "support/strace.rs"]
mod strace;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clawstaff_cage::{
    Backend, CageId, CageSpec, ExitReason, Image, Observed,
    conformance::Setup,
    native::{Native, NativeConfig},
};
use clawstaff_types::ByteSize;
use serde_json::Value;
use strace::Call;

const TABLE: &str = include_str!("../../../seccomp/cage.json");
const JAVA: &str = "/usr/lib/jvm/java-17-openjdk-amd64/bin";

/// A piece of real work: its name, and the command that does it.
struct Workload {
    name: &'static str,
    command: Vec<String>,
}

fn workloads() -> Vec<Workload> {
    let of = |name, words: &[&str]| Workload {
        name,
        command: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    vec![
        of("Claw", &["/sbin/claw", "init"]),
        of(
            "Python",
            &[
                "/usr/bin/python3",
                "-c",
                include_str!("support/workloads/work.py"),
            ],
        ),
        of(
            "Node",
            &["/usr/bin/node", "-e", include_str!("support/workloads/work.js")],
        ),
        of(
            "git",
            &["/bin/sh", "-c", include_str!("support/workloads/work.sh")],
        ),
        of(
            "JVM",
            &[
                &format!("{JAVA}/keytool"),
                "-genkeypair",
                "-keyalg",
                "EC",
                "-dname",
                "CN=a",
                "-storepass",
                "changeit",
                "-keystore",
                "/data/keys.p12",
            ],
        ),
    ]
}

/// A launcher that runs under strace and leaves its trace in `trace`.
fn traced_launcher(dir: &Path, trace: &Path) -> PathBuf {
    let path = dir.join("traced-launcher");
    let script = format!(
        "#!/bin/sh\ncase $1 in run) exec strace -f -q -X raw -s 0 -o {} -- {} \"$@\";; *) exec {} \"$@\";; esac\n",
        trace.display(),
        common::program("clawstaff-launcher").display(),
        common::program("clawstaff-launcher").display(),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn spec(dir: &Path, root: &Path, workload: &Workload) -> CageSpec {
    let claw = format!("work-{}", workload.name.to_lowercase()).parse().unwrap();
    let mut limits = Setup::limits();
    limits.memory = ByteSize::mib(512);
    limits.milli_cpus = 2000;
    limits.pids = 128;
    limits.storage = ByteSize::mib(64);
    CageSpec {
        id: CageId::new(&claw, std::process::id()),
        claw,
        revision: 1,
        image: Image::Directory(root.to_owned()),
        door_dir: door(dir),
        limits,
        command: workload.command.clone(),
    }
}

/// A door behind which nobody answers, and a Claw that runs a program which then ends.
fn door(dir: &Path) -> PathBuf {
    let door = common::door(dir);
    let file = r#"{"contract": 1, "claw": "work", "revision": 1, "env": {}, "model": null,
        "command": ["/usr/bin/curl", "--silent", "--max-time", "5", "http://api.example.com/"]}"#;
    fs::write(door.join("claw.json"), file).unwrap();
    door
}

/// Runs a workload in a cage to its end, and says which calls it made.
async fn run(dir: &Path, root: &Path, workload: &Workload) -> BTreeSet<Call> {
    let trace = dir.join(format!("{}.trace", workload.name));
    let config = NativeConfig {
        state_dir: dir.join("state"),
        launcher: traced_launcher(dir, &trace),
        claw: common::program("claw"),
    };
    let backend = Native::new(config).unwrap();
    let spec = spec(dir, root, workload);
    backend.create(&spec).await.unwrap();
    // Under strace the launcher ends with the cage.
    backend.start(&spec.id).await.unwrap();
    let observed = backend.observe(&spec.id).await.unwrap();
    let log = backend.logs(&spec.id, 1 << 16).await.unwrap();
    backend.destroy(&spec.id).await.unwrap();
    let Observed::Exited(exit) = observed else {
        panic!("{}: {observed:?}", workload.name);
    };
    // Nobody is behind the door: curl hears nothing, which is 52 in its words, or 56 where it was about to speak.
    let worked = match exit.reason {
        ExitReason::Code(code) if workload.name == "Claw" => [52, 56].contains(&code),
        reason => reason == ExitReason::Code(0),
    };
    assert!(
        worked,
        "{} does not work in a cage: {:?} {}",
        workload.name,
        exit.reason,
        String::from_utf8_lossy(&log)
    );
    strace::calls(&fs::read_to_string(trace).unwrap())
}

fn names(row: &Value) -> Vec<&str> {
    row["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect()
}

/// Whether the row lets this call through.
fn allows(row: &Value, call: &Call) -> bool {
    let holds = |condition: &Value| {
        let arg = usize::try_from(condition["arg"].as_u64().unwrap()).unwrap();
        let mask = condition["mask"].as_u64().unwrap_or(u64::from(u32::MAX));
        let value = call.args.get(arg).copied().flatten();
        value.is_some_and(|value| value & mask & u64::from(u32::MAX) == condition["eq"].as_u64().unwrap())
    };
    let alternatives = row["when"].as_array();
    names(row).contains(&call.name.as_str())
        && alternatives.is_none_or(|list| list.iter().any(|all| all.as_array().unwrap().iter().all(holds)))
}

fn rows() -> Vec<Value> {
    let table: Value = serde_json::from_str(TABLE).unwrap();
    table["allow"].as_array().unwrap().clone()
}

/// Which of a row's calls each workload made.
type Uses = BTreeMap<&'static str, BTreeSet<String>>;

fn uses(row: &Value, seen: &BTreeMap<&'static str, BTreeSet<Call>>) -> Uses {
    let of = |calls: &BTreeSet<Call>| -> BTreeSet<String> {
        let used = calls.iter().filter(|call| allows(row, call));
        used.map(|call| call.name.clone()).collect()
    };
    seen.iter()
        .map(|(name, calls)| (*name, of(calls)))
        .filter(|(_, used)| !used.is_empty())
        .collect()
}

fn document(found: &[(Value, Uses)]) -> String {
    let mut text = "# Who uses which row of the table\n\nEach row of `cage.json`, the workloads that made a call of it in a \
                    cage, and the calls that none of them made. Written by `just seccomp-coverage`; the test \
                    `real_software_works_in_a_cage_and_every_row_of_the_table_is_used` fails when a row is used by \
                    nobody or stands here differently.\n\n| row | used by | calls not seen |\n| --- | --- | --- |\n"
        .to_owned();
    for (row, uses) in found {
        let seen: BTreeSet<&String> = uses.values().flatten().collect();
        let unseen: Vec<&str> = names(row)
            .into_iter()
            .filter(|name| !seen.contains(&(*name).to_owned()))
            .collect();
        let by: Vec<&str> = uses.keys().copied().collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            row["reason"].as_str().unwrap(),
            by.join(", "),
            unseen.join(" ")
        );
    }
    text
}

/// The rows of a document, without what a run may see or not.
fn described(document: &str) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    rows.map(|line| line.split(" | ").next().unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn real_software_works_in_a_cage_and_every_row_of_the_table_is_used() {
    assert!(
        common::is_root(),
        "strace must look into cages: run the tests as root"
    );
    let dir = common::directory();
    let software = software::Root::make(dir.path());
    let mut seen = BTreeMap::new();
    for workload in workloads() {
        let calls =
            tokio::time::timeout(Duration::from_mins(2), run(dir.path(), &software.path, &workload)).await;
        seen.insert(workload.name, calls.expect("a workload hangs"));
    }
    let found: Vec<(Value, Uses)> = rows()
        .into_iter()
        .map(|row| {
            let uses = uses(&row, &seen);
            (row, uses)
        })
        .collect();
    let fresh = document(&found);
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seccomp/coverage.md");
    if std::env::var_os("UPDATE_COVERAGE").is_some() {
        fs::write(&place, &fresh).unwrap();
    }
    let idle: Vec<&str> = found
        .iter()
        .filter(|(_, uses)| uses.is_empty())
        .map(|(row, _)| row["reason"].as_str().unwrap())
        .collect();
    assert!(
        idle.is_empty(),
        "nothing uses these rows of seccomp/cage.json: {idle:#?}"
    );
    let committed = fs::read_to_string(place).unwrap();
    assert_eq!(
        described(&committed),
        described(&fresh),
        "seccomp/coverage.md is stale: run `just seccomp-coverage`"
    );
}
