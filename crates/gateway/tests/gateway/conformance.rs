//! The Model Context Protocol's own conformance suite against our server, and against a conforming server seen
//! through us, in both revisions.
//!
//! The suite runs as its authors publish it, on the Node that it wants; both are pinned in `scripts/setup.sh`.

mod fixtures;
mod reference;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use clawstaff_types::spec::Connection;
use serde_json::{Value, json};
use tokio::{io::copy_bidirectional, net::TcpListener, process::Command};

use self::reference::Era;
use crate::world::World;

const OLD: &str = "2025-11-25";
const NEW: &str = "2026-07-28";
/// Scenarios that are required of a server in each revision.
const REQUIRED: [(&str, usize); 2] = [(OLD, 30), (NEW, 37)];

/// What one run of the suite found.
#[derive(Debug, Default)]
struct Found {
    /// Checks that passed, by scenario.
    passed: BTreeMap<String, usize>,
    /// Checks that did not: scenario, check, what it says.
    failed: Vec<String>,
}

fn suite() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap();
    Path::new(&home).join(".cache/clawstaff/mcp-conformance/node_modules")
}

/// Runs what a revision requires of a server, or of that only one scenario, and reads the suite's own records.
async fn run(url: &str, revision: &str, scenario: Option<&str>) -> Found {
    let (modules, out) = (suite(), tempfile::tempdir().unwrap());
    let machine = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let node = modules.join(format!("node-linux-{machine}/bin/node"));
    assert!(
        node.exists(),
        "{} is not there: run scripts/setup.sh",
        node.display()
    );
    let mut command = Command::new(node);
    command
        .arg(modules.join("@modelcontextprotocol/conformance/dist/index.js"))
        .args(["server", "--url", url, "-o"])
        .arg(out.path())
        .stdin(Stdio::null());
    match scenario {
        Some(scenario) => command.args(["--scenario", scenario, "--spec-version", revision]),
        None => command.args(["--requirements", revision]),
    };
    let ended = command.output().await.unwrap();
    let mut found = Found::default();
    for entry in std::fs::read_dir(out.path()).unwrap() {
        let entry = entry.unwrap();
        let scenario = name_of(&entry.file_name().to_string_lossy());
        let Ok(text) = std::fs::read(entry.path().join("checks.json")) else {
            continue;
        };
        let checks: Vec<Value> = serde_json::from_slice(&text).unwrap();
        for check in checks {
            match check["status"].as_str().unwrap() {
                "FAILURE" | "WARNING" => found
                    .failed
                    .push(format!("{scenario}: {}: {}", check["id"], check["errorMessage"])),
                _ => *found.passed.entry(scenario.clone()).or_default() += 1,
            }
        }
    }
    if found.passed.is_empty() {
        let (out, err) = (
            String::from_utf8_lossy(&ended.stdout),
            String::from_utf8_lossy(&ended.stderr),
        );
        panic!("the suite found nothing: {out}{err}");
    }
    found
}

/// `server-tools-list-2026-11-29T01-02-03-004Z` is of `tools-list`.
fn name_of(folder: &str) -> String {
    let name = folder.strip_prefix("server-").unwrap_or(folder);
    name[..name.len() - "-2026-11-29T01-02-03-004Z".len()].to_owned()
}

/// What a run may leave unpassed: scenarios that the suite itself does not score, because its own reference cannot
/// pass them or because they are of an extension.
const NOT_SCORED: [&str; 4] = [
    "tasks-",
    "server-sse-polling",
    "server-session-lifecycle",
    "sse-polling",
];

fn assert_conforms(revision: &str, found: &Found) {
    let scored = |line: &&String| !NOT_SCORED.iter().any(|prefix| line.starts_with(prefix));
    let failed: Vec<&String> = found.failed.iter().filter(scored).collect();
    assert!(failed.is_empty(), "{revision}: {failed:#?}");
    let (_, required) = REQUIRED.into_iter().find(|(of, _)| *of == revision).unwrap();
    assert!(
        found.passed.len() >= required,
        "{revision}: {:?}",
        found.passed.keys()
    );
    let checks: usize = found.passed.values().sum();
    println!("{revision}: {} scenarios, {checks} checks", found.passed.len());
}

/// A Claw's `/mcp` at an address of its own, as the shim in a cage has it.
async fn address(world: &std::sync::Arc<World>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = std::sync::Arc::clone(world);
    tokio::spawn(async move {
        loop {
            let (mut outside, _) = listener.accept().await.unwrap();
            let mut door = world.connect("doors").await;
            tokio::spawn(async move {
                let _one_side_ended = copy_bidirectional(&mut outside, &mut door).await;
            });
        }
    });
    format!("http://127.0.0.1:{port}/mcp")
}

/// A Claw with everything granted on a conforming server of `era`, its tools approved.
async fn in_front_of(era: Era) -> (std::sync::Arc<World>, String) {
    let world = std::sync::Arc::new(World::new().await);
    let connection = json!({ "name": "files", "connector": "mcp", "credential": "vault:slack",
        "base_url": reference::serve(era).await });
    let connection: Connection = serde_json::from_value(connection).unwrap();
    world.change(|state| state.connections.push(connection)).await;
    world.grant("files", "*", "*").await;
    crate::servers::approve_all(&world).await;
    let url = address(&world).await;
    (world, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_we_are_measured_with_conforms_by_itself() {
    for (era, revision) in [(Era::Sessions, OLD), (Era::Stateless, NEW)] {
        let url = reference::serve(era).await;
        assert_conforms(revision, &run(&url, revision, None).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conforming_server_with_sessions_conforms_when_seen_through_us() {
    let (world, url) = in_front_of(Era::Sessions).await;
    assert_conforms(OLD, &run(&url, OLD, None).await);
    // The call and the answer to what the server asked in it: each judged and on record as the same action.
    let of_it = world.entries().into_iter().filter(|entry| {
        let action = entry.event.action.as_ref().map(ToString::to_string);
        action.as_deref() == Some("mcp:tools.test_elicitation")
            && entry.event.outcome == Some(clawstaff_types::Outcome::Succeeded)
    });
    assert_eq!(of_it.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conforming_server_without_sessions_conforms_when_seen_through_us() {
    let (_world, url) = in_front_of(Era::Stateless).await;
    assert_conforms(NEW, &run(&url, NEW, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_sessions_conforms_to_the_older_revision_when_an_older_client_sees_it_through_us() {
    let (_world, url) = in_front_of(Era::Stateless).await;
    assert_conforms(OLD, &run(&url, OLD, None).await);
}

/// What does not need the fixtures of the suite, so that a server of its own tools alone can be asked for it.
const OWN: [(&str, &[&str]); 2] = [
    (
        OLD,
        &[
            "server-initialize",
            "ping",
            "tools-list",
            "server-sse-multiple-streams",
            "dns-rebinding-protection",
        ],
    ),
    (
        NEW,
        &[
            "tools-list",
            "server-sse-multiple-streams",
            "dns-rebinding-protection",
            "input-required-result-unsupported-methods",
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn our_own_server_conforms_by_itself() {
    let world = std::sync::Arc::new(World::new().await);
    world.grant("slack", "messages.*", "channel:C1").await;
    let url = address(&world).await;
    for (revision, scenarios) in OWN {
        for scenario in scenarios {
            let found = run(&url, revision, Some(scenario)).await;
            assert!(found.failed.is_empty(), "{revision}: {:#?}", found.failed);
        }
    }
}
