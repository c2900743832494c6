//! How long a decision takes: `cargo bench -p clawstaff-policy`.
//!
//! The promise is 10 µs at the median with 100 grants per Claw and 10,000 Claws. Calls go to Claws and grants at
//! random, so most of them find cold caches, as in a gateway that serves many cages. `cold` is the first
//! decision about a grant, which links its Cedar policy; `warm` is every later one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clawstaff_policy::{Call, Policy, Verdict};
use clawstaff_types::{
    Access, ActionId, ClawName, ConnectionName, Digest, Grant, Guardrail, Mode, ResourceRef,
};

const CONNECTIONS: [&str; 4] = ["slack", "notion", "hub", "model"];
const ACTIONS: [&str; 5] = [
    "messages.read",
    "messages.send",
    "pages.create",
    "issues.*",
    "contents.read",
];
const SAMPLES: usize = 20_000;

/// A small generator (xorshift64), so that every run asks the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

fn pick(list: &[&'static str], n: usize) -> &'static str {
    list.get(n % list.len()).copied().unwrap_or_default()
}

fn grant(claw: usize, n: usize) -> Option<Grant> {
    Some(Grant {
        id: format!("gr_{claw}_{n}").parse().ok()?,
        claw: format!("claw-{claw}").parse().ok()?,
        connection: pick(&CONNECTIONS, n).parse().ok()?,
        actions: vec![pick(&ACTIONS, n).parse().ok()?],
        resources: vec![format!("channel:C{claw}X{n}").parse().ok()?],
        conditions: clawstaff_types::Conditions::default(),
        mode: Mode::Allow,
        expires: n
            .is_multiple_of(3)
            .then(|| "2099-01-01T00:00:00Z".parse().ok())
            .flatten(),
        granted_by: "uid-0".parse().ok()?,
    })
}

struct Asked {
    claw: ClawName,
    connection: ConnectionName,
    action: ActionId,
    resources: Vec<ResourceRef>,
}

/// A call that grant `n` of Claw `claw` allows; or one that nothing allows.
fn asked(claw: usize, n: usize, allowed: bool) -> Option<Asked> {
    let channel = if allowed {
        format!("channel:C{claw}X{n}")
    } else {
        format!("channel:OTHER{n}")
    };
    let action = pick(&ACTIONS, n).replace('*', "read");
    Some(Asked {
        claw: format!("claw-{claw}").parse().ok()?,
        connection: pick(&CONNECTIONS, n).parse().ok()?,
        action: format!("tool:{action}").parse().ok()?,
        resources: vec![channel.parse().ok()?, "workspace:T1".parse().ok()?],
    })
}

fn time(policy: &Policy, calls: &[Asked], allowed: bool) -> Vec<Duration> {
    let (none, digest) = (BTreeMap::new(), Digest::of(b""));
    let now = jiff::Timestamp::from_second(1_795_000_000).unwrap_or_default();
    let one = |asked: &Asked| {
        let call = Call {
            claw: &asked.claw,
            connection: &asked.connection,
            action: &asked.action,
            access: Access::Read,
            resources: &asked.resources,
            arguments: &none,
            on_behalf_of: None,
            now,
            digest,
        };
        let start = Instant::now();
        let verdict = policy.decide(&call);
        let took = start.elapsed();
        assert_eq!(matches!(verdict, Verdict::Allow(_)), allowed);
        took
    };
    let mut times: Vec<Duration> = calls.iter().map(one).collect();
    times.sort_unstable();
    times
}

fn row(what: &str, times: &[Duration]) {
    let at = |share: usize| {
        times
            .get((times.len() * share / 1000).min(times.len() - 1))
            .copied()
            .unwrap_or_default()
    };
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{what:34} {:>9.2} {:>9.2} {:>9.2}",
        us(at(500)),
        us(at(990)),
        us(at(999))
    );
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn main() {
    // `cargo bench` says so; a test runner that merely starts every target gets nothing to wait for.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{:34} {:>9} {:>9} {:>9}", "decision, µs", "p50", "p99", "p99.9");
    for (claws, grants_each, guardrails) in [(1, 1, 0), (1, 100, 5), (1_000, 100, 5), (10_000, 100, 5)] {
        let all: Vec<Grant> = (0..claws)
            .flat_map(|claw| (0..grants_each).filter_map(move |n| grant(claw, n)))
            .collect();
        let rails: Vec<Guardrail> = (0..guardrails)
            .filter_map(|n| {
                Some(Guardrail {
                    name: format!("rail-{n}").parse().ok()?,
                    actions: vec!["*.delete".parse().ok()?],
                    resources: vec!["*".parse().ok()?],
                })
            })
            .collect();
        let start = Instant::now();
        let Ok(policy) = Policy::compile(1, &all, &rails) else {
            continue;
        };
        let (took, resident) = (start.elapsed(), resident_mib());
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let mut calls = |allowed: bool| -> Vec<Asked> {
            (0..SAMPLES)
                .filter_map(|_| asked(dice.below(claws), dice.below(grants_each), allowed))
                .collect()
        };
        let (allowed, denied) = (calls(true), calls(false));
        let name = format!("{claws} Claws x {grants_each} grants");
        row(&format!("{name}, cold"), &time(&policy, &allowed, true));
        row(&format!("{name}, warm"), &time(&policy, &allowed, true));
        row(&format!("{name}, denied"), &time(&policy, &denied, false));
        println!("    compiled in {took:.1?}, {resident} MiB resident with the grants themselves");
    }
}
