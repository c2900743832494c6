//! Many native cages: one after the other, at once, and idle side by side.
//!
//! `cargo bench -p clawstaff-cage --bench crowd -- cycles 10000 | parallel 200 | idle 1000`, after
//! `cargo build --release -p claw -p clawstaff-launcher`. Without arguments it does a little of each. It ends with an
//! error when one cage fails, or when anything is left behind.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints, and stops when it cannot go on"
)]

#[path = "../tests/support/census.rs"]
mod census;
#[path = "../tests/support/common.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;
#[path = "../tests/support/weight.rs"]
mod weight;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use clawstaff_cage::{
    Backend, CageError, CageId, CageSpec, Image,
    conformance::Setup,
    native::{Native, NativeConfig},
};
use futures_util::{StreamExt as _, future::join_all, stream};

use crate::census::Census;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let dir = common::directory();
    let backend = Native::new(NativeConfig {
        state_dir: dir.path().join("state"),
        launcher: common::program("clawstaff-launcher"),
        claw: common::program("claw"),
    })
    .unwrap();
    let crowd = Crowd {
        dir: dir.path(),
        backend: &backend,
    };
    let jobs: Vec<(&str, u32)> = match words.as_slice() {
        [] => vec![("cycles", 200), ("parallel", 20), ("idle", 20)],
        words => words
            .chunks(2)
            .map(|pair| match pair {
                [job, count] => (job.as_str(), count.parse().unwrap()),
                _ => panic!("JOB COUNT"),
            })
            .collect(),
    };
    for (job, count) in jobs {
        let before = Census::take("crowd-", dir.path());
        match job {
            "cycles" => crowd.cycles(count).await,
            "parallel" => crowd.parallel(count).await,
            "idle" => crowd.idle(count).await,
            other => panic!("no such job: {other}"),
        }
        let after = Census::take("crowd-", dir.path());
        assert_eq!(after, before, "something is left behind");
        println!("{job:10} nothing left behind");
    }
}

struct Crowd<'a> {
    dir: &'a Path,
    backend: &'a Native,
}

impl Crowd<'_> {
    fn spec(&self, name: &str, number: u32) -> CageSpec {
        let mut limits = Setup::limits();
        limits.accept_unenforced = common::unenforced(self.backend);
        let claw: clawstaff_types::ClawName = format!("crowd-{name}").parse().unwrap();
        CageSpec {
            id: CageId::new(&claw, number),
            claw,
            revision: 1,
            image: Image::Builtin,
            door_dir: common::door(self.dir),
            limits,
            command: ["/sbin/claw", "probe", "actor", "idle"]
                .map(str::to_owned)
                .to_vec(),
        }
    }

    async fn up(&self, spec: &CageSpec) -> Result<(), CageError> {
        self.backend.create(spec).await?;
        self.backend.start(&spec.id).await
    }

    async fn cycles(&self, count: u32) {
        let begin = Instant::now();
        let failures: usize = stream::iter(0..count)
            .map(|number| async move {
                let spec = self.spec("cycle", number);
                let lived = match self.up(&spec).await {
                    Ok(()) => self.backend.destroy(&spec.id).await,
                    Err(error) => Err(error),
                };
                lived
                    .inspect_err(|error| println!("{}: {error}", spec.id))
                    .is_err()
            })
            .buffer_unordered(2)
            .filter(|failed| std::future::ready(*failed))
            .count()
            .await;
        let each = begin.elapsed() / count.max(1);
        println!("cycles     {count} lives, {failures} failures, {each:?} each, two at a time");
        assert_eq!(failures, 0);
    }

    async fn parallel(&self, count: u32) {
        let specs: Vec<CageSpec> = (0..count).map(|number| self.spec("parallel", number)).collect();
        let begin = Instant::now();
        let started = join_all(specs.iter().map(|spec| self.up(spec))).await;
        let took = begin.elapsed();
        let failures: Vec<_> = started.iter().filter_map(|one| one.as_ref().err()).collect();
        println!(
            "parallel   {count} at once, {} failures, {took:?} for all",
            failures.len()
        );
        self.clear(&specs).await;
        assert!(failures.is_empty(), "{failures:?}");
    }

    async fn idle(&self, count: u32) {
        let before = used();
        let specs: Vec<CageSpec> = (0..count).map(|number| self.spec("idle", number)).collect();
        for spec in &specs {
            self.up(spec).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let each = used().saturating_sub(before) / u64::from(count.max(1));
        let mut weights = Vec::new();
        for spec in &specs {
            weights.push(weight::of(
                &spec.id,
                &self.backend.observe(&spec.id).await.unwrap(),
            ));
        }
        weights.sort_unstable();
        let middle = weights.get(weights.len() / 2).copied().unwrap_or_default();
        println!(
            "idle       {count} side by side, each {middle} KiB (PSS of init and parent, kernel memory of its cgroup), \
             {each} KiB of the machine (MemTotal - MemAvailable)"
        );
        self.clear(&specs).await;
    }

    async fn clear(&self, specs: &[CageSpec]) {
        for gone in join_all(specs.iter().map(|spec| self.backend.destroy(&spec.id))).await {
            gone.unwrap();
        }
    }
}

/// Memory of the machine that is not available, in KiB.
fn used() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    field("MemTotal:") - field("MemAvailable:")
}
