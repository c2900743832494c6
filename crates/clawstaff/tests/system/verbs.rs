//! Every verb of the command line leaves its record, or stands here with the reason why it leaves none.
//!
//! The verbs are read from the program's own `--help`, so one that nobody has spoken of fails the test.

use std::{collections::BTreeSet, process::Command};

use crate::installation::Installation;

/// What a verb leaves in the log.
enum Leaves {
    /// A record of this kind.
    Record(&'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
}
use Leaves::{Nothing, Record};

const NO_CONTENT: Leaves = Nothing("reads names, ids, counts and digests, never content");
const OFFLINE: Leaves = Nothing("works on files and speaks to no part of the installation");
const FILES: Leaves = Nothing("reads the log's own files, as whoever may read them can");
const DECIDES: Leaves =
    Nothing("is driven with a call that waits, in the control plane's tests of approvals");
const INDEX: Leaves = Nothing(
    "records `config.changed`, but the gateway's records come back to the index with its next one, so that a \
     count says nothing here; the control plane's tests of every route look for it",
);
const SERVER: Leaves = Nothing(
    "needs an MCP server, which this installation has none of; the gateway's tests of servers look for its records",
);
const NODES: Leaves = Nothing(
    "needs a control plane that serves nodes; the tests of a split installation and of joining drive it and look for its records",
);
const QUESTION: Leaves = Nothing("answers a question about what would be");

/// A verb, how it is used here, and what it leaves. In this order they make one story.
struct Row(&'static str, &'static str, Leaves);

const VERBS: &[Row] = &[
    Row(
        "demo",
        "",
        Nothing("is an installation of its own, with a log of its own; it has its own tests"),
    ),
    Row(
        "verify-byok",
        "",
        Nothing("is an installation of its own, with a log of its own, as the demo is"),
    ),
    Row("up", "", Nothing("starts the parts; what they do, they record")),
    Row("control", "", Nothing("starts a part; what it does, it records")),
    Row("gateway", "", Nothing("starts a part; what it does, it records")),
    Row("runner", "", Nothing("starts a part; what it does, it records")),
    Row("uplink", "", Nothing("starts a part; what it does, it records")),
    Row(
        "node up",
        "",
        Nothing("starts the parts; what they do, they record"),
    ),
    Row("node list", "node list", NO_CONTENT),
    Row("node token", "", NODES),
    Row("node join", "", NODES),
    Row("node rotate", "", NODES),
    Row("node revoke", "", NODES),
    Row("doctor", "", Nothing("looks at the host and changes nothing")),
    Row("completion", "completion bash", OFFLINE),
    Row("man", "man", OFFLINE),
    Row("connector check", "", OFFLINE),
    Row("image build", "", OFFLINE),
    Row("approval approve", "", DECIDES),
    Row("approval deny", "", DECIDES),
    Row("audit prove", "", FILES),
    Row("audit bundle", "", FILES),
    // The first request of this member is its login; `whoami` is what it is used with.
    Row("whoami", "whoami", Record("auth.login")),
    Row("secret set", "secret set later", Record("secret.set")),
    Row("secret rotate", "secret rotate later", Record("secret.rotated")),
    Row(
        "secret ref",
        "secret ref later env:PATH",
        Record("secret.rotated"),
    ),
    Row(
        "secret bind",
        "secret bind later --host example.com",
        Record("config.changed"),
    ),
    Row("secret list", "secret list", NO_CONTENT),
    Row("secret backup", "secret backup BACKUP", Record("config.changed")),
    Row(
        "secret restore",
        "secret restore BACKUP --replace",
        Record("secret.rotated"),
    ),
    Row("secret remove", "secret remove later", Record("secret.removed")),
    Row(
        "apply",
        "apply -f SPEC --wait --timeout 60",
        Record("claw.deployed"),
    ),
    Row("get", "get", NO_CONTENT),
    Row("status", "status", NO_CONTENT),
    Row("claw list", "claw list", NO_CONTENT),
    Row("claw show", "claw show weekly-report", NO_CONTENT),
    Row("claw history", "claw history weekly-report", NO_CONTENT),
    Row("claw stats", "claw stats weekly-report", NO_CONTENT),
    Row(
        "claw exec",
        "claw exec weekly-report -- /sbin/claw probe list",
        Record("cage.exec"),
    ),
    Row(
        "claw selftest",
        "claw selftest weekly-report",
        Record("cage.exec"),
    ),
    Row(
        "claw snapshot",
        "claw snapshot weekly-report",
        Record("cage.exec"),
    ),
    Row("claw logs", "claw logs weekly-report", Record("cage.exec")),
    Row(
        "claw message",
        "claw message weekly-report hello",
        Record("config.changed"),
    ),
    Row("claw pause", "claw pause weekly-report", Record("claw.paused")),
    Row("claw resume", "claw resume weekly-report", Record("claw.resumed")),
    Row("claw stop", "claw stop weekly-report", Record("claw.stopped")),
    Row(
        "claw restore",
        "claw restore weekly-report SNAPSHOT",
        Record("cage.exec"),
    ),
    Row("claw start", "claw start weekly-report", Record("claw.started")),
    Row(
        "claw restart",
        "claw restart weekly-report",
        Record("claw.started"),
    ),
    Row(
        "claw update",
        "claw update weekly-report -f CHANGED --no-wait",
        Record("claw.updated"),
    ),
    Row(
        "claw rollback",
        "claw rollback weekly-report 1 --no-wait",
        Record("claw.updated"),
    ),
    Row("connector list", "connector list", NO_CONTENT),
    Row("connector show", "connector show slack", NO_CONTENT),
    Row("connection list", "connection list", NO_CONTENT),
    Row("connection tools", "", SERVER),
    Row("connection approve", "", SERVER),
    Row("grant list", "grant list", NO_CONTENT),
    Row(
        "grant add",
        "grant add weekly-report slack --action messages.read --resource channel:C0LATER",
        Record("grant.added"),
    ),
    Row(
        "grant check",
        "grant check weekly-report slack:messages.read *",
        QUESTION,
    ),
    Row("grant explain", "grant explain weekly-report", QUESTION),
    Row("grant revoke", "grant revoke GRANT", Record("grant.revoked")),
    Row("guardrail list", "guardrail list", NO_CONTENT),
    Row(
        "guardrail add",
        "guardrail add quiet --action slack:messages.send --resource channel:C0LATER",
        Record("config.changed"),
    ),
    Row(
        "guardrail remove",
        "guardrail remove quiet",
        Record("config.changed"),
    ),
    Row("approval list", "approval list", NO_CONTENT),
    Row("audit tail", "audit tail", NO_CONTENT),
    Row("audit query", "audit query", NO_CONTENT),
    Row("audit show", "audit show control:0", NO_CONTENT),
    Row("audit stats", "audit stats", NO_CONTENT),
    Row("audit checkpoint", "audit checkpoint", NO_CONTENT),
    Row(
        "audit retention",
        "audit retention",
        Nothing(
            "shows numbers; what it removes with `--apply` is recorded, in the gateway's tests of retention",
        ),
    ),
    Row("audit rebuild", "audit rebuild", INDEX),
    Row("audit hold list", "audit hold list", NO_CONTENT),
    Row("audit hold add", "audit hold add case-1", Record("audit.hold")),
    Row(
        "audit hold release",
        "audit hold release case-1",
        Record("audit.hold"),
    ),
    Row(
        "audit erase",
        "audit erase claw:weekly-report",
        Record("audit.erase"),
    ),
    Row(
        "audit export",
        "audit export --format ocsf --ocsf-version 1.5",
        Record("audit.export"),
    ),
    Row(
        "audit sink add",
        "audit sink add files --kind file --format csv",
        Record("config.changed"),
    ),
    Row("audit sink list", "audit sink list", NO_CONTENT),
    Row(
        "audit sink remove",
        "audit sink remove files",
        Record("config.changed"),
    ),
    Row("audit verify", "audit verify", NO_CONTENT),
    Row(
        "claw destroy",
        "claw destroy weekly-report",
        Record("claw.destroyed"),
    ),
];

/// The verbs that `--help` names, from the top down.
fn verbs(path: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_clawstaff"))
        .args(path)
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let below: Vec<String> = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect();
    if below.is_empty() {
        return vec![path.join(" ")];
    }
    below
        .iter()
        .flat_map(|name| verbs(&[path, &[name.as_str()]].concat()))
        .collect()
}

/// How many records of this kind there are.
fn count(installation: &Installation, kind: &str) -> usize {
    installation
        .json(&["audit", "query", "--kind", kind, "--limit", "1000"])
        .len()
}

fn arguments(installation: &Installation, used: &str) -> Vec<String> {
    let beside = |name: &str| installation.data.with_file_name(name).display().to_string();
    let grant = || {
        let grants = installation.json(&["grant", "list", "--claw", "weekly-report"]);
        let added = grants
            .iter()
            .find(|grant| grant["resources"][0] == "channel:C0LATER");
        added.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let snapshot = || {
        let taken = installation.json(&["claw", "snapshot", "weekly-report", "--list"]);
        taken[0]["snapshot"].as_str().unwrap().to_owned()
    };
    used.split_whitespace()
        .map(|word| match word {
            "SPEC" => beside("spec.toml"),
            "CHANGED" => beside("changed.toml"),
            "BACKUP" => beside("vault.age"),
            "GRANT" => grant(),
            "SNAPSHOT" => snapshot(),
            word => word.to_owned(),
        })
        .collect()
}

#[test]
fn somebody_has_said_of_every_verb_what_it_leaves_in_the_log() {
    let known: Vec<&str> = VERBS.iter().map(|row| row.0).collect();
    let said: BTreeSet<String> = known.iter().map(|verb| (*verb).to_owned()).collect();
    let there: BTreeSet<String> = verbs(&[]).into_iter().collect();
    assert!(there.len() > 40, "{there:?}");
    assert_eq!(there, said, "say in VERBS what a new verb leaves, and drive it");
    assert_eq!(known.len(), said.len(), "no verb is there twice");
    for Row(verb, used, leaves) in VERBS {
        let driven = used.starts_with(verb);
        let excused = matches!(leaves, Nothing(why) if !why.is_empty());
        assert!(driven || (used.is_empty() && excused), "{verb}");
    }
}

#[test]
fn every_verb_that_changes_or_reads_something_protected_leaves_its_record() {
    let installation = Installation::start();
    let spec = installation.spec();
    std::fs::write(installation.data.with_file_name("spec.toml"), &spec).unwrap();
    let changed = spec.replace("description = \"", "description = \"New: ");
    std::fs::write(installation.data.with_file_name("changed.toml"), changed).unwrap();
    for Row(verb, used, leaves) in VERBS.iter().filter(|row| !row.1.is_empty()) {
        let arguments = arguments(&installation, used);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match leaves {
            // The very first request of all is already a login; nothing can be counted before it.
            Record(kind @ "auth.login") => {
                installation.must(&arguments, None);
                assert!(count(&installation, kind) >= 1, "{verb}");
            }
            Record(kind) => {
                let before = count(&installation, kind);
                installation.must(&arguments, Some("a value"));
                installation.until(&format!("`{kind}` of `{used}`"), || {
                    count(&installation, kind) > before
                });
            }
            Nothing(_) => drop(installation.must(&arguments, None)),
        }
    }
    let open = installation.json(&["audit", "query", "--outcome", "unknown"]);
    assert!(open.is_empty(), "{open:?}");
}
