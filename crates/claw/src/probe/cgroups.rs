//! Probes of the control groups: a cage must not steer its own limits, and not use them to start something outside.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use super::{Findings, Verdict};

/// Files by which a control group is steered. `release_agent` names a program that the kernel runs on the host.
const LEVERS: [&str; 8] = [
    "release_agent",
    "notify_on_release",
    "cgroup.procs",
    "tasks",
    "cgroup.subtree_control",
    "devices.allow",
    "memory.max",
    "pids.max",
];

pub(super) fn no_release_agent(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for place in mounts() {
        for lever in LEVERS {
            // Opened only, never written: an open that works is the finding.
            let opened = OpenOptions::new().write(true).open(place.join(lever));
            findings.expect(opened.is_err(), || {
                format!("{} can be opened for writing", place.join(lever).display())
            });
        }
        let inner = place.join("clawstaff-probe");
        let made = fs::create_dir(&inner).is_ok();
        if made {
            let _ = fs::remove_dir(&inner);
        }
        findings.expect(!made, || format!("a group could be made in {}", place.display()));
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in own.lines() {
        let path = line.rsplit(':').next().unwrap_or_default();
        findings.expect(path == "/", || format!("groups of the host are named: {line}"));
    }
    findings.verdict("levers of control groups out of reach")
}

/// Where control groups are mounted, if anywhere.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| Path::new(path).to_owned())
        .collect()
}
