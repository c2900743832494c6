//! What a running native cage weighs.

use std::fs;

use clawstaff_cage::{CageId, Observed};

/// Memory of one cage in KiB: what its init and its parent do not share with anybody and their part of what they do
/// share, and what the kernel charges to its cgroup for itself where that is told.
pub(crate) fn of(id: &CageId, observed: &Observed) -> u64 {
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
    pss + kernel(id, *pid)
}

fn proportional(pid: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    pss.and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Nothing where the cage has no memory cgroup of its own: then it is in ours, whose memory is not its.
fn kernel(id: &CageId, pid: u32) -> u64 {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = |mark: &str| {
        let mut paths = cgroups.lines().filter_map(|line| line.split_once(mark));
        paths
            .find(|(_, path)| path.rsplit('/').next() == Some(id.as_str()))
            .map(|(_, path)| path)
    };
    let bytes: Option<u64> = match (own(":memory:"), own("0::")) {
        (Some(path), _) => {
            let file = format!("/sys/fs/cgroup/memory{path}/memory.kmem.usage_in_bytes");
            fs::read_to_string(file)
                .ok()
                .and_then(|text| text.trim().parse().ok())
        }
        (None, Some(path)) => {
            let stat = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.stat")).unwrap_or_default();
            let kernel = stat.lines().find_map(|line| line.strip_prefix("kernel "));
            kernel.and_then(|text| text.trim().parse().ok())
        }
        (None, None) => None,
    };
    bytes.unwrap_or_default() / 1024
}
