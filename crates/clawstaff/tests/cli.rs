//! The command line from outside: the real program, its exit code, its output.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// Runs the program in a folder with nothing of the caller's environment.
fn run(folder: &Path, words: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_clawstaff"))
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("CLAWSTAFF_DATA", folder.join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input is none of our business here.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let mut text = format!("exit {}\n", output.status.code().unwrap());
    for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        let said = String::from_utf8(bytes)
            .unwrap()
            .replace(folder.to_str().unwrap(), "[FOLDER]");
        if !said.is_empty() {
            write!(text, "--- {name}\n{said}").unwrap();
        }
    }
    text
}

fn quiet(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), words, "")
}

/// Every command with its help: the surface that people script against.
#[test]
fn help() {
    let commands = [
        "",
        "demo",
        "up",
        "control",
        "gateway",
        "runner",
        "doctor",
        "whoami",
        "status",
        "apply",
        "get",
        "claw",
        "claw list",
        "claw show",
        "claw history",
        "claw start",
        "claw stop",
        "claw restart",
        "claw pause",
        "claw resume",
        "claw destroy",
        "claw update",
        "claw rollback",
        "claw stats",
        "claw message",
        "claw logs",
        "claw exec",
        "claw selftest",
        "claw snapshot",
        "claw restore",
        "connector",
        "connector list",
        "connector show",
        "connector check",
        "connection",
        "connection list",
        "grant",
        "grant list",
        "grant add",
        "grant revoke",
        "grant check",
        "grant explain",
        "guardrail",
        "guardrail list",
        "guardrail add",
        "guardrail remove",
        "secret",
        "secret set",
        "secret rotate",
        "secret ref",
        "secret backup",
        "secret restore",
        "secret bind",
        "secret list",
        "secret remove",
        "audit",
        "audit tail",
        "audit query",
        "audit show",
        "audit stats",
        "audit checkpoint",
        "audit prove",
        "audit bundle",
        "audit verify",
        "completion",
        "man",
    ];
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let text = quiet(&words);
        let leaf = ![
            "",
            "claw",
            "connector",
            "connection",
            "grant",
            "guardrail",
            "secret",
            "audit",
        ]
        .contains(&command);
        assert!(!leaf || text.contains("Example"), "`{command}` has no example");
        insta::assert_snapshot!(format!("help {command}").trim().replace(' ', "_"), text);
    }
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    insta::assert_snapshot!(quiet(&["clwa", "list"]));
}

#[test]
fn an_unreachable_installation_is_unavailable() {
    insta::assert_snapshot!(quiet(&["claw", "list"]));
}

#[test]
fn an_unreachable_gateway_keeps_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let text = run(folder.path(), &["secret", "set", "slack-bot"], "xoxb-secret\n");
    assert!(!text.contains("xoxb"));
    insta::assert_snapshot!(text);
}

#[test]
fn an_empty_secret_is_refused() {
    insta::assert_snapshot!(quiet(&["secret", "set", "slack-bot"]));
}

#[test]
fn a_server_over_plain_http_is_refused_unless_it_is_this_machine() {
    insta::assert_snapshot!(quiet(&["claw", "list", "--server", "http://claws.example.com"]));
}

#[test]
fn a_server_without_a_token_is_denied() {
    insta::assert_snapshot!(quiet(&["claw", "list", "--server", "https://claws.example.com"]));
}

fn apply(spec: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("staff.toml"), spec).unwrap();
    run(folder.path(), &["apply", "-f", "staff.toml"], "")
}

#[test]
fn a_misspelt_field_is_refused_with_its_place_and_the_nearest_name() {
    insta::assert_snapshot!(apply("[[claw]]\nname = \"a\"\ndescriptoin = \"x\"\n"));
}

#[test]
fn a_wrong_type_is_refused_with_its_place() {
    insta::assert_snapshot!(apply("[[claw]]\nname = \"a\"\nlimits = { pids = \"many\" }\n"));
}

#[test]
fn a_missing_field_is_refused_with_the_place_of_its_table() {
    insta::assert_snapshot!(apply("[[connection]]\nname = \"slack\"\nconnector = \"slack\"\n"));
}

#[test]
fn a_field_that_does_nothing_yet_is_refused_rather_than_ignored() {
    insta::assert_snapshot!(apply(
        "[[claw]]\nname = \"a\"\naudience = { members = [\"m\"] }\n"
    ));
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_place() {
    insta::assert_snapshot!(apply("[[claw]\nname = \"a\"\n"));
}

#[test]
fn a_missing_spec_file_is_a_usage_error() {
    insta::assert_snapshot!(quiet(&["apply", "-f", "nowhere.toml"]));
}

#[test]
fn a_folder_without_spec_files_is_a_usage_error() {
    insta::assert_snapshot!(quiet(&["apply", "-f", "."]));
}

#[test]
fn a_spec_from_standard_input_is_called_by_its_dash() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(folder.path(), &["apply", "-f", "-"], "[[clawz]]\n"));
}

#[test]
fn one_thing_in_two_files_of_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.toml", "b.toml"] {
        std::fs::write(folder.path().join(name), "[[claw]]\nname = \"twin\"\n").unwrap();
    }
    insta::assert_snapshot!(run(folder.path(), &["apply", "-f", "."], ""));
}

#[test]
fn verifying_where_there_is_no_log_finds_nothing() {
    insta::assert_snapshot!(quiet(&["audit", "verify", "nowhere"]));
}

#[test]
fn verifying_an_installation_that_is_not_there_finds_nothing() {
    insta::assert_snapshot!(quiet(&["audit", "verify"]));
}

#[test]
fn a_filter_that_is_no_time_is_a_usage_error() {
    insta::assert_snapshot!(quiet(&["audit", "query", "--since", "yesterday"]));
}

#[test]
fn a_connector_manifest_that_is_not_there_is_a_usage_error() {
    insta::assert_snapshot!(quiet(&["connector", "check", "nowhere.toml"]));
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = quiet(&["completion", shell]);
        assert!(
            text.starts_with("exit 0\n") && text.contains("clawstaff"),
            "{shell}"
        );
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["man", "pages"], ""), "exit 0\n");
    let pages = std::fs::read_dir(folder.path().join("pages")).unwrap().count();
    assert!(pages > 40, "{pages}");
    assert!(quiet(&["man"]).contains(".TH clawstaff"));
}

/// A log with a few entries, closed.
fn make_log(folder: &Path) -> std::path::PathBuf {
    let origin = "clawstaff.local/test";
    let options = clawstaff_audit::Options {
        dir: folder.join("log"),
        anchor: None,
        origin: origin.to_owned(),
        key: clawstaff_audit::SigningKey::generate(origin).unwrap(),
        segment_bytes: 1 << 20,
    };
    let (log, _) = clawstaff_audit::Log::open(options).unwrap();
    for _ in 0..5 {
        let actor = clawstaff_types::Actor::System("test".to_owned());
        let draft = clawstaff_audit::Draft {
            stream: clawstaff_audit::Stream::System("test".into()),
            phase: clawstaff_audit::Phase::Fact,
            call: clawstaff_types::Digest::of(b"call"),
            event: clawstaff_types::Event::new(clawstaff_types::EventKind::ConfigChanged, actor),
        };
        drop(log.append_blocking(draft).unwrap());
    }
    std::fs::write(folder.join("checkpoint.txt"), log.checkpoint()).unwrap();
    folder.join("log")
}

#[test]
fn a_whole_log_verifies_against_a_checkpoint_that_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    make_log(folder.path());
    let text = run(
        folder.path(),
        &["audit", "verify", "log", "--from", "checkpoint.txt"],
        "",
    );
    assert!(text.starts_with("exit 0\n"), "{text}");
    assert!(
        text.contains("extends the checkpoint in checkpoint.txt over 5 entries"),
        "{text}"
    );
}

#[test]
fn a_flipped_bit_fails_verification_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let log = make_log(folder.path());
    let segment = std::fs::read_dir(log.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .min()
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes
        .windows(14)
        .position(|window| window == b"config.changed")
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let text = run(folder.path(), &["audit", "verify", "log", "-o", "json"], "");
    assert!(text.starts_with("exit 6\n"), "{text}");
    assert!(text.contains("\"index\":0"), "{text}");
}

#[test]
fn a_proof_of_one_entry_verifies_with_the_log_s_key_and_not_with_another_or_when_changed() {
    let folder = tempfile::tempdir().unwrap();
    let log = make_log(folder.path());
    let here = |words: &[&str]| run(folder.path(), words, "");
    let made = here(&["audit", "prove", "3", "--log", "log", "--out", "3.tlog-proof"]);
    assert_eq!(made, "exit 0\n");
    let key = std::fs::read_to_string(log.join("vkey")).unwrap();
    let verified = here(&[
        "audit",
        "verify",
        "3.tlog-proof",
        "--key",
        key.trim(),
        "-o",
        "json",
    ]);
    assert!(verified.starts_with("exit 0\n"), "{verified}");
    assert!(verified.contains("\"index\":3,\"size\":5"), "{verified}");
    let other = clawstaff_audit::SigningKey::generate("clawstaff.local/test").unwrap();
    let refused = here(&["audit", "verify", "3.tlog-proof", "--key", &other.vkey()]);
    assert!(refused.starts_with("exit 6\n"), "{refused}");
    let nobody = here(&["audit", "verify", "3.tlog-proof"]);
    assert!(
        nobody.starts_with("exit 2\n") && nobody.contains("--key"),
        "{nobody}"
    );
    let text = std::fs::read_to_string(folder.path().join("3.tlog-proof")).unwrap();
    std::fs::write(
        folder.path().join("bad.tlog-proof"),
        text.replace("index 3", "index 2"),
    )
    .unwrap();
    let changed = here(&["audit", "verify", "bad.tlog-proof", "--key", key.trim()]);
    assert!(changed.starts_with("exit 6\n"), "{changed}");
    let beyond = here(&["audit", "prove", "5", "--log", "log"]);
    assert!(beyond.starts_with("exit 4\n"), "{beyond}");
}

#[test]
fn a_bundle_verifies_as_folder_and_as_file_and_not_when_a_byte_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let log = make_log(folder.path());
    let here = |words: &[&str]| run(folder.path(), words, "");
    for out in ["evidence", "evidence.tar"] {
        let made = here(&["audit", "bundle", "--log", "log", "--since", "1h", "--out", out]);
        assert!(
            made.starts_with("exit 0\n") && made.contains("5 of the log log"),
            "{made}"
        );
        let verified = here(&["audit", "verify", out]);
        assert!(verified.starts_with("exit 0\n"), "{verified}");
        assert!(
            verified.contains("5 entries, each with its proof, of 5"),
            "{verified}"
        );
        let again = here(&["audit", "bundle", "--log", "log", "--out", out]);
        assert!(again.starts_with("exit 2\n"), "{again}");
    }
    let key = std::fs::read_to_string(log.join("vkey")).unwrap();
    let known = here(&[
        "audit",
        "verify",
        "evidence.tar",
        "--key",
        key.trim(),
        "-o",
        "json",
    ]);
    assert!(
        known.starts_with("exit 0\n") && known.contains("\"unchecked\":[]"),
        "{known}"
    );
    let path = folder.path().join("evidence.tar");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(here(&["audit", "verify", "evidence.tar"]).starts_with("exit 6\n"));
    let none = here(&[
        "audit", "bundle", "--log", "log", "--claw", "nobody", "--out", "none.tar",
    ]);
    assert!(none.starts_with("exit 4\n"), "{none}");
    assert!(!folder.path().join("none.tar").exists());
}
