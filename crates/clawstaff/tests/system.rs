//! Whole-system tests: real processes, real cages, a real log; only the services outside are stand-ins.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "system/hosts.rs"]
mod hosts;
#[path = "system/installation.rs"]
mod installation;
#[path = "system/memory.rs"]
mod memory;
#[path = "system/split.rs"]
mod split;
#[path = "system/verbs.rs"]
mod verbs;
#[path = "system/visitor.rs"]
mod visitor;
#[path = "system/wire.rs"]
mod wire;

use std::process::Command;

use installation::Installation;

fn demo(cage: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_clawstaff"))
        .args(["demo", "--cage", cage])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!told.contains('✗'), "{told}");
}

#[test]
fn the_demo_tells_its_whole_story_in_native_cages() {
    demo("native");
}

#[test]
fn the_demo_tells_its_whole_story_in_docker_containers() {
    demo("docker");
}

/// What the control plane, the gateway and the runner lose when each is killed amid the work: nothing.
fn killed_amid_work(part: &str) {
    let installation = Installation::start();
    installation.deploy();
    for round in 1..=3_usize {
        let status = installation.deliver(
            &format!("EvKill{round}"),
            &format!("17640000{round:02}.000100"),
            "Search is slow. Help",
        );
        installation.kill(part);
        // A delivery that was not acknowledged would be repeated by Slack; the stand-in does so itself.
        assert_eq!(status, 200);
        installation.until("the ticket of this round", || installation.pages().len() >= round);
    }
    let verified = installation.run(&["audit", "verify"], None);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

#[test]
fn killing_the_control_plane_amid_work_loses_nothing() {
    killed_amid_work("control");
}

#[test]
fn killing_the_gateway_amid_work_loses_nothing() {
    killed_amid_work("gateway");
}

#[test]
fn killing_the_runner_amid_work_loses_nothing() {
    killed_amid_work("runner");
}

#[test]
fn a_spec_file_with_a_mistake_changes_nothing_and_says_where_it_is() {
    let installation = Installation::start();
    let path = installation.data.with_file_name("bad.toml");
    std::fs::write(
        &path,
        "[[connection]]\nname = \"slack\"\nconnector = \"slack\"\ncredential = \"vault:x\"\ncolour = 1\n",
    )
    .unwrap();
    let ran = installation.run(&["apply", "-f", path.to_str().unwrap()], None);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(
        ran.err.contains("line 5") || ran.err.contains(":5:"),
        "{}",
        ran.err
    );
    assert!(installation.json(&["connection", "list"]).is_empty());
}

#[test]
fn nothing_is_done_while_the_disk_under_the_log_is_full_and_work_goes_on_once_there_is_room() {
    let installation = Installation::start_bare(|data| {
        let log = data.join("gateway/log");
        std::fs::create_dir_all(&log).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=100m", "tmpfs"])
            .arg(&log)
            .status()
            .unwrap();
        assert!(
            mounted.success(),
            "this test mounts a small file system and needs root"
        );
    });
    let log = installation.data.join("gateway/log");
    // There is room for the first segment of the log and none for the one after it.
    let refused = installation.run(&["secret", "set", "slack-bot"], Some("xoxb-never"));
    assert_eq!(refused.code, 7, "{}{}", refused.out, refused.err);
    assert!(
        installation.json(&["secret", "list"]).is_empty(),
        "nothing was stored"
    );
    let grown = Command::new("mount")
        .args(["-o", "remount,size=400m"])
        .arg(&log)
        .status()
        .unwrap();
    assert!(grown.success());
    installation.until("the log to write again", || {
        installation.run(&["secret", "set", "x"], Some("y")).code == 0
    });
    installation.set_secrets();
    installation.deploy();
    assert_eq!(
        installation.deliver("EvRoom", "1764002000.000100", "Search is slow"),
        200
    );
    installation.until("the ticket", || installation.pages().len() == 1);
    let verified = installation.run(&["audit", "verify"], None);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    drop(installation);
    let unmounted = Command::new("umount").arg(&log).status().unwrap();
    assert!(unmounted.success());
}

#[test]
fn the_dashboard_shows_the_fleet_and_the_live_log_in_a_browser() {
    let installation = Installation::start();
    installation.deploy();
    assert_eq!(
        installation.deliver("EvDash", "1764003000.000100", "Search is slow"),
        200
    );
    installation.until("the ticket", || installation.pages().len() == 1);
    let token = std::fs::read_to_string(installation.data.join("control/dashboard.token")).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let page = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--timeout=5000", "--dump-dom"])
        .arg(format!("{}/?token={}", installation.dashboard, token.trim()))
        .output()
        .expect("chromium is missing: run scripts/setup.sh");
    let page = String::from_utf8_lossy(&page.stdout);
    for shown in [
        "support-triage",
        "github-triage",
        "weekly-report",
        "running",
        "notion:pages.create",
    ] {
        assert!(page.contains(shown), "`{shown}` is not on the page: {page}");
    }
}

#[test]
fn an_unmodified_https_client_works_in_a_cage_as_far_as_the_claw_was_granted() {
    let installation = Installation::start();
    installation.deploy();
    assert_eq!(
        installation.deliver("EvCurl", "1764004000.000100", "Search is slow"),
        200
    );
    installation.until("the ticket", || installation.pages().len() == 1);
    let visitor = visitor::Visitor::enter(&installation, "support-triage");
    let granted = visitor.curl("https://slack.com/api/conversations.history?channel=C0SUPPORT");
    assert!(
        granted.contains("Search is slow") && granted.ends_with(" 200"),
        "{granted}"
    );
    let elsewhere = visitor.curl("https://slack.com/api/conversations.history?channel=C0EXECS");
    assert!(
        elsewhere.contains("no grant") && elsewhere.ends_with(" 403"),
        "{elsewhere}"
    );
    let outside = visitor.curl("https://collector.example.net/drop");
    assert!(outside.ends_with(" 403"), "{outside}");
    let secrets = [&granted, &elsewhere, &outside]
        .iter()
        .any(|said| said.contains("xoxb-system-test"));
    assert!(!secrets, "the real credential never shows");
}
