//! What a cage notices of a neighbour that does its worst.
//!
//! `cargo bench -p clawstaff-cage --bench neighbours`, after `cargo build --release -p claw -p clawstaff-launcher`. In
//! one cage a small piece of work (write, read and sum 512 bytes, then rest a millisecond) is done again and again; in
//! another one flood after the other runs. Prints one row for each: how long the piece took, how many were done, and
//! what became of the flood. Wall-clock on this machine as it is; the limits are the suite's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints, and stops when it cannot go on"
)]

#[path = "../tests/support/common.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;

use std::time::Duration;

use clawstaff_cage::{
    Backend, CageId, CageSpec, ExitReason, Image, Observed,
    conformance::Setup,
    native::{Native, NativeConfig},
};

const SECONDS: u64 = 5;
const STORMS: [(&str, &str); 8] = [
    ("cpu", "all the CPU it gets"),
    ("fork", "processes without end"),
    ("memory", "64 MiB taken and given back, again and again"),
    ("page-cache", "16 MiB written to /data, again and again"),
    ("tmp", "48 MiB written to /tmp, again and again"),
    ("inodes", "4,096 files in /tmp, again and again"),
    ("files", "900 files opened and closed, again and again"),
    ("log", "output without end"),
];

struct Bench {
    backend: Native,
    dir: tempfile::TempDir,
}

impl Bench {
    fn spec(&self, name: &str, part: &[&str]) -> CageSpec {
        let mut limits = Setup::limits();
        limits.accept_unenforced = common::unenforced(&self.backend);
        let command = ["/sbin/claw", "probe", "actor"].iter().chain(part);
        CageSpec {
            id: CageId::new(&name.parse().unwrap(), 1),
            claw: name.parse().unwrap(),
            revision: 1,
            image: Image::Builtin,
            door_dir: common::door(self.dir.path()),
            limits,
            command: command.map(|word| (*word).to_owned()).collect(),
        }
    }

    async fn launch(&self, name: &str, part: &[&str]) -> CageId {
        let spec = self.spec(name, part);
        self.backend.create(&spec).await.unwrap();
        self.backend.start(&spec.id).await.unwrap();
        spec.id
    }

    /// Median, slowest hundredth and count of the neighbour's pieces of work, in microseconds.
    async fn beat(&self, id: &CageId) -> String {
        let command = ["/sbin/claw", "probe", "actor", "beat"].map(str::to_owned);
        let command = [command.to_vec(), vec![SECONDS.to_string()]].concat();
        let patience = Duration::from_secs(SECONDS * 4);
        let output = self.backend.exec(id, &command, patience).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    async fn row(&self, name: &str, neighbour: &CageId, storm: Option<&CageId>) {
        let said = self.beat(neighbour).await;
        let numbers: Vec<&str> = said.split_whitespace().collect();
        let [median, slow, count] = numbers.as_slice() else {
            panic!("{said}")
        };
        let end = match storm {
            None => "-".to_owned(),
            Some(id) => match self.backend.observe(id).await.unwrap() {
                Observed::Running { .. } => "held at its limit".to_owned(),
                Observed::Exited(exit) if exit.reason == ExitReason::OutOfMemory => {
                    "ended: out of memory".to_owned()
                }
                other => format!("{other:?}"),
            },
        };
        println!("| {name} | {median} | {slow} | {count} | {end} |");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = common::directory();
    let config = NativeConfig {
        state_dir: dir.path().join("state"),
        launcher: common::program("clawstaff-launcher"),
        claw: common::program("claw"),
    };
    let backend = Native::new(config).unwrap();
    let bench = Bench { backend, dir };
    let neighbour = bench.launch("neighbour", &["idle"]).await;
    println!("| flood in the other cage | p50, µs | p99, µs | pieces in {SECONDS} s | the flood |");
    println!("| --- | --- | --- | --- | --- |");
    bench.row("none", &neighbour, None).await;
    for (kind, does) in STORMS {
        let storm = bench.launch("storm", &["storm", kind]).await;
        bench.row(does, &neighbour, Some(&storm)).await;
        bench.backend.destroy(&storm).await.unwrap();
    }
    bench.row("none, again", &neighbour, None).await;
    bench.backend.destroy(&neighbour).await.unwrap();
}
