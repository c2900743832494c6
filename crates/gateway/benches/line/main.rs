//! What the line costs: the same small tool call straight to a service and through the gateway, everything on
//! (policy, vault, durable log). Prints tables; run with `cargo bench -p clawstaff-gateway`, or with words after `--`
//! for a part of it: `one`, `many`, `steady`, `ready`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement"
)]

mod client;
mod gateway;

use std::{
    future::Future,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use self::{
    client::{Caller, Way},
    gateway::Process,
};

/// The gateway allows one Claw 32 calls at a time.
const CLAWS: [&str; 4] = ["a", "b", "c", "d"];
const CALLS: u32 = 4_000;
const WARM_UP: u32 = 400;
const WAYS: [(&str, Way); 3] = [
    ("direct", Way::Direct),
    ("gateway, HTTP", Way::Http),
    ("gateway, MCP", Way::Mcp),
];

fn main() {
    // `cargo bench` says so; a test runner that merely starts every target gets nothing to wait for.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") || gateway::play() {
        return;
    }
    let wanted = |part: &str| words.len() == 1 || words.iter().any(|word| word == part);
    let dir = tempfile::tempdir().unwrap();
    let port = on_its_own_thread("service", client::service());
    let gateway = gateway::start(dir.path(), port);
    let run = Run {
        dir: dir.path(),
        port,
        gateway: &gateway,
    };
    runtime().block_on(async {
        if wanted("one") {
            run.closed(1).await;
        }
        if wanted("many") {
            run.closed(16).await;
            run.closed(64).await;
        }
        if wanted("steady") {
            run.steady(1_000).await;
        }
    });
    println!(
        "\nmost memory resident in the gateway: {:.1} MiB",
        gateway.peak_mib()
    );
    if wanted("ready") {
        let [first, second] = gateway::ready();
        println!("whole gateway listening after start: first {first:.1?}, again {second:.1?}");
    }
    println!(
        "each gateway call is two durable log entries; the CPU is that of all threads of the gateway's process"
    );
}

/// Runs `work` on a new thread, gives its result, and keeps its runtime going.
fn on_its_own_thread<T: Send + 'static>(name: &str, work: impl Future<Output = T> + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(move || {
            runtime().block_on(async {
                tell.send(work.await).unwrap();
                std::future::pending::<()>().await;
            });
        })
        .unwrap();
    told.recv().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

struct Run<'a> {
    dir: &'a Path,
    port: u16,
    gateway: &'a Process,
}

impl Run<'_> {
    async fn callers(&self, way: Way, count: usize) -> Vec<Caller> {
        let mut callers = Vec::new();
        for number in 0..count {
            callers.push(Caller::connect(self.dir, self.port, way, number).await);
        }
        callers
    }

    /// Callers that each wait for their answer before they call again.
    async fn closed(&self, count: u32) {
        heading(&format!("{count} at a time"));
        let mut direct = [Duration::ZERO; 2];
        for (name, way) in WAYS {
            let mut callers = self.callers(way, count as usize).await;
            client::closed(&mut callers, WARM_UP / count).await;
            let (begun, before) = (Instant::now(), self.gateway.cpu());
            let times = client::closed(&mut callers, CALLS / count).await;
            row(
                name,
                times,
                begun.elapsed(),
                self.gateway.cpu().saturating_sub(before),
                &mut direct,
            );
        }
    }

    /// Calls that begin at a steady rate.
    async fn steady(&self, per_second: u32) {
        heading(&format!("{per_second} a second, steady"));
        let mut direct = [Duration::ZERO; 2];
        for (name, way) in WAYS {
            client::open(self.callers(way, 64).await, per_second, per_second).await;
            let callers = self.callers(way, 64).await;
            let (begun, before) = (Instant::now(), self.gateway.cpu());
            let times = client::open(callers, per_second, 5 * per_second).await;
            row(
                name,
                times,
                begun.elapsed(),
                self.gateway.cpu().saturating_sub(before),
                &mut direct,
            );
        }
    }
}

fn heading(what: &str) {
    println!(
        "\n{what:<22}{:>9}{:>9}{:>11}{:>11}{:>9}{:>9}",
        "p50 µs", "p99 µs", "added p50", "added p99", "calls/s", "CPU µs"
    );
}

/// One line of the table. The first is the direct calls', from which the others are counted.
fn row(name: &str, mut times: Vec<Duration>, took: Duration, cpu: Duration, direct: &mut [Duration; 2]) {
    times.sort_unstable();
    let calls = times.len() as f64;
    let at = |percent: usize| times[times.len() * percent / 100];
    let (p50, p99) = (at(50), at(99));
    if *direct == [Duration::ZERO; 2] {
        *direct = [p50, p99];
    }
    let [direct50, direct99] = *direct;
    println!(
        "{name:<22}{:>9}{:>9}{:>11}{:>11}{:>9.0}{:>9.1}",
        p50.as_micros(),
        p99.as_micros(),
        p50.saturating_sub(direct50).as_micros(),
        p99.saturating_sub(direct99).as_micros(),
        calls / took.as_secs_f64(),
        cpu.as_micros() as f64 / calls
    );
}
