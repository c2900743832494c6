//! How long it takes from nothing to a running native cage, and what an idle one weighs.
//!
//! `cargo bench -p clawstaff-cage --bench start`, after `cargo build --release -p claw -p clawstaff-launcher`. Prints
//! one table; numbers are wall-clock on this machine as it is.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints, and stops when it cannot go on"
)]

#[path = "../tests/support/common.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use clawstaff_cage::{
    Backend, CageId, CageSpec, Image, Observed,
    conformance::Setup,
    native::{Native, NativeConfig},
};

const ROUNDS: u32 = 40;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = common::directory();
    let (launcher, claw) = (common::program("clawstaff-launcher"), common::program("claw"));
    let backend = Native::new(NativeConfig {
        state_dir: dir.path().join("state"),
        launcher,
        claw,
    })
    .unwrap();
    let mut limits = Setup::limits();
    limits.accept_unenforced = common::unenforced(&backend);
    let spec = |number: u32| CageSpec {
        id: CageId::new(&"bench".parse().unwrap(), number),
        claw: "bench".parse().unwrap(),
        revision: 1,
        image: Image::Builtin,
        door_dir: common::door(dir.path()),
        limits: limits.clone(),
        command: ["/sbin/claw", "probe", "actor", "idle"]
            .map(str::to_owned)
            .to_vec(),
    };
    let [mut creates, mut starts, mut destroys] = [vec![], vec![], vec![]];
    let mut memory = Vec::new();
    // The first makes the storage template and the image; it is not counted.
    for number in 0..=ROUNDS {
        let spec = spec(number);
        let begin = Instant::now();
        backend.create(&spec).await.unwrap();
        let created = Instant::now();
        backend.start(&spec.id).await.unwrap();
        let started = Instant::now();
        let rss = resident(&backend.observe(&spec.id).await.unwrap());
        let ending = Instant::now();
        backend.destroy(&spec.id).await.unwrap();
        if number > 0 {
            creates.push(created - begin);
            starts.push(started - created);
            destroys.push(ending.elapsed());
            memory.push(rss);
        }
    }
    println!("{:24} {:>10} {:>10} {:>10}", "native, ms", "p50", "p90", "max");
    let total = creates
        .iter()
        .zip(&starts)
        .map(|(create, start)| *create + *start)
        .collect();
    for (name, times) in [
        ("create", creates),
        ("start", starts),
        ("create to running", total),
        ("destroy", destroys),
    ] {
        row(name, times);
    }
    memory.sort_unstable();
    println!(
        "{:24} {:>10}",
        "one more idle cage, KiB",
        memory.get(memory.len() / 2).copied().unwrap_or_default()
    );
}

fn row(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get((times.len() - 1) * share / 100)
            .copied()
            .unwrap_or_default()
            .as_secs_f64()
            * 1000.0
    };
    println!("{name:24} {:>10.2} {:>10.2} {:>10.2}", at(50), at(90), at(100));
}

/// Memory that the cage alone costs: written pages of its init and of its parent, the shim, in KiB. The programs
/// themselves are in memory once for all cages.
fn resident(observed: &Observed) -> u64 {
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
    [pid.to_string(), shim].iter().map(|pid| private(pid)).sum()
}

fn private(pid: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let fields = rollup.lines().filter(|line| line.starts_with("Private_Dirty"));
    fields
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}
