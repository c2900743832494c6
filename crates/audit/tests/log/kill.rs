//! A real process is killed while it appends; what it had told anybody is in the log.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use clawstaff_audit::Phase;

use crate::support::{append, assert_clean, draft, open};

const DIRECTORY: &str = "CLAWSTAFF_AUDIT_KILL_TEST";

/// Not a test by itself: the process that is killed. It says each index after its receipt.
#[test]
fn appends_until_it_is_killed() {
    let Ok(root) = env::var(DIRECTORY) else {
        return;
    };
    let (log, _) = open(Path::new(&root));
    let mut out = std::io::stdout().lock();
    loop {
        let receipt = append(&log, draft("claw:a", Phase::Intent, "call"));
        writeln!(out, "acknowledged {}", receipt.index()).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_process_has_everything_in_the_log_that_it_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let mut least = 0;
    for kill_after in [1_u64, 17, 60] {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill::appends_until_it_is_killed", "--nocapture"])
            .env(DIRECTORY, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = None;
        let mut heard = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // The test runner's own words may stand before the first.
            if let Some((_, index)) = line.split_once("acknowledged ") {
                told = Some(index.parse::<u64>().unwrap());
                heard += 1;
                if heard == kill_after {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        least = told.expect("the child appended nothing") + 1;
        let (log, recovery) = open(root.path());
        assert!(recovery.size >= least, "{} < {least}", recovery.size);
        assert_eq!(recovery.unfinished.len() as u64, recovery.size);
        drop(log);
        assert_clean(root.path());
    }
    assert!(least > 60);
}
