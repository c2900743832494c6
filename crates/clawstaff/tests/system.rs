//! Whole-system tests: real processes, real cages, a real log; only the services outside are stand-ins.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "system/installation.rs"]
mod installation;

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
    let installation = Installation::start(|_| ());
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
    let installation = Installation::start(|_| ());
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
fn a_message_is_refused_while_the_disk_under_the_log_is_full_and_taken_once_there_is_room() {
    let installation = Installation::start(|data| {
        let log = data.join("gateway/log");
        std::fs::create_dir_all(&log).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
            .arg(&log)
            .status()
            .unwrap();
        assert!(
            mounted.success(),
            "this test mounts a small file system and needs root"
        );
    });
    let log = installation.data.join("gateway/log");
    installation.deploy();
    let ballast = log.join("ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", ballast.display()))
        .output()
        .unwrap();
    assert!(!filled.status.success(), "the disk should be full");
    let mut statuses = Vec::new();
    for round in 0..200 {
        let (id, ts) = (format!("EvFull{round}"), format!("1764001{round:03}.000100"));
        statuses.push(installation.deliver(&id, &ts, "Thanks!"));
        if statuses.last() == Some(&503) {
            break;
        }
    }
    assert_eq!(
        statuses.last(),
        Some(&503),
        "no refusal in {} deliveries",
        statuses.len()
    );
    std::fs::remove_file(&ballast).unwrap();
    installation.until("a message to be taken again", || {
        installation.deliver("EvRoom", "1764002000.000100", "Thanks!") == 200
    });
    let verified = installation.run(&["audit", "verify"], None);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    drop(installation);
    drop(Command::new("umount").arg(&log).status());
}
