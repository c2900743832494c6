//! What a running native cage weighs.

use std::fs;

use clawstaff_cage::Observed;

/// Memory of one cage in KiB: what its init and its parent do not share with anybody and their part of what they do
/// share, and what the kernel charges to its cgroup for itself where that is told.
pub(crate) fn of(observed: &Observed) -> u64 {
    let Observed::Running { pid, .. } = observed else {
        panic!("{observed:?}")
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap()
        .trim()
        .to_owned();
    let pss: u64 = [pid.to_string(), shim].iter().map(|pid| proportional(pid)).sum();
    pss + kernel(*pid)
}

fn proportional(pid: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    pss.and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

fn kernel(pid: u32) -> u64 {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = cgroups
        .lines()
        .find_map(|line| line.split_once(":memory:"))
        .map(|(_, path)| path.to_owned());
    let Some(path) = path else { return 0 };
    let file = format!("/sys/fs/cgroup/memory{path}/memory.kmem.usage_in_bytes");
    let bytes: u64 = fs::read_to_string(file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default();
    bytes / 1024
}
