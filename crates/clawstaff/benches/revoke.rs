//! From a member's word to the refusal: how long a Claw can still use a grant that is being taken away, over all
//! processes (command line, control plane, gateway). `cargo bench -p clawstaff --bench revoke`; needs what native cages
//! need.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement"
)]

#[expect(dead_code, reason = "it is the tests' as well")]
#[path = "../tests/system/installation.rs"]
mod installation;

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use installation::Installation;

const CLAW: &str = "weekly-report";
const TIMES: usize = 20;

/// Makes one call as the Claw, through its own door; whether it was let through.
fn is_let_through(door: &Path) -> bool {
    let mut door = UnixStream::connect(door).unwrap();
    door.write_all(
        b"CLAW/1 name slack.com 80\nGET /api/conversations.history?channel=C0LATER HTTP/1.1\r\nHost: slack.com\r\n\
          Connection: close\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    door.read_to_string(&mut answer).unwrap();
    !answer.starts_with("HTTP/1.1 403")
}

/// Calls on and on; when the last call that was let through began, and when the first one had been refused.
fn until_refused(door: &Path) -> (Instant, Instant) {
    let mut last = Instant::now();
    loop {
        let begun = Instant::now();
        if !is_let_through(door) {
            return (last, Instant::now());
        }
        last = begun;
    }
}

fn main() {
    // `cargo bench` says so; a test runner that merely starts every target gets nothing to wait for.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let installation = Installation::start();
    installation.deploy();
    let door = installation.data.join("doors").join(CLAW).join("door.sock");
    let (mut after_word, mut after_command) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let scope = ["--action", "messages.read", "--resource", "channel:C0LATER"];
        installation.must(&[&["grant", "add", CLAW, "slack"][..], &scope].concat(), None);
        installation.until("the grant to be in force", || is_let_through(&door));
        let grants = installation.json(&["grant", "list", "--claw", CLAW]);
        let mut added = grants
            .iter()
            .filter(|grant| grant["resources"][0] == "channel:C0LATER");
        let id = added.next().unwrap()["id"].as_str().unwrap();
        let (begun, told, (last, refused)) = std::thread::scope(|scope| {
            let calls = scope.spawn(|| until_refused(&door));
            let begun = Instant::now();
            installation.must(&["grant", "revoke", id], None);
            (begun, Instant::now(), calls.join().unwrap())
        });
        after_word.push(last.saturating_duration_since(told));
        after_command.push(refused.saturating_duration_since(begun));
    }
    println!(
        "{:64} {:>9} {:>9}",
        format!("{TIMES} revocations"),
        "median",
        "longest"
    );
    row(
        "the last call let through began after the command had ended by",
        after_word,
    );
    row(
        "the first refusal came after the command had been started by",
        after_command,
    );
}

fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!(
        "{what:64} {:>9.1?} {:>9.1?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
}
