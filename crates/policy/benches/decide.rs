//! How long a decision takes: `cargo bench -p clawstaff-policy`.
//!
//! The promise is 10 µs at the median with 100 grants per Claw and 10,000 Claws, and that a million grants are swapped
//! without holding a decision up. Calls go to Claws and grants at random, so most of them find cold caches, as in a
//! gateway that serves many cages. `cold` is the first decision about a grant, `warm` is every later one; the grants of
//! the rows `conditions` have one each, so that Cedar decides (and links its policy at the first decision).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use clawstaff_policy::{Call, Policy, Verdict};
use clawstaff_types::{
    Access, ActionId, ClawName, Conditions, ConnectionName, Digest, Grant, Guardrail, Mode, ResourceRef,
    grant::ArgumentIs,
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

fn grant(claw: usize, n: usize, conditioned: bool) -> Option<Grant> {
    let only = ArgumentIs {
        name: "team".to_owned(),
        one_of: vec!["support".to_owned()],
    };
    Some(Grant {
        id: format!("gr_{claw}_{n}").parse().ok()?,
        claw: format!("claw-{claw}").parse().ok()?,
        connection: pick(&CONNECTIONS, n).parse().ok()?,
        actions: vec![pick(&ACTIONS, n).parse().ok()?],
        resources: vec![format!("channel:C{claw}X{n}").parse().ok()?],
        conditions: Conditions {
            arguments: conditioned.then_some(only).into_iter().collect(),
            ..Conditions::default()
        },
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

impl Asked {
    fn call<'a>(&'a self, arguments: &'a BTreeMap<String, String>) -> Call<'a> {
        Call {
            claw: &self.claw,
            connection: &self.connection,
            action: &self.action,
            access: Access::Read,
            resources: &self.resources,
            arguments,
            on_behalf_of: None,
            now: jiff::Timestamp::from_second(1_795_000_000).unwrap_or_default(),
            digest: Digest::from_bytes([7; 32]),
        }
    }
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
    let arguments = BTreeMap::from([("team".to_owned(), "support".to_owned())]);
    let one = |asked: &Asked| {
        let call = asked.call(&arguments);
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

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn grants(claws: usize, each: usize, conditioned: bool) -> Arc<[Grant]> {
    let of_claw = |claw| (0..each).filter_map(move |n| grant(claw, n, conditioned));
    (0..claws).flat_map(of_claw).collect::<Vec<_>>().into()
}

fn guardrails(count: usize) -> Vec<Guardrail> {
    let one = |n| {
        Some(Guardrail {
            name: format!("rail-{n}").parse().ok()?,
            actions: vec!["*.delete".parse().ok()?],
            resources: vec!["*".parse().ok()?],
        })
    };
    (0..count).filter_map(one).collect()
}

fn calls(claws: usize, each: usize, allowed: bool) -> Vec<Asked> {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    (0..SAMPLES)
        .filter_map(|_| asked(dice.below(claws), dice.below(each), allowed))
        .collect()
}

fn decisions() {
    println!("{:34} {:>9} {:>9} {:>9}", "decision, µs", "p50", "p99", "p99.9");
    for (claws, each, rails, conditioned) in [
        (1, 1, 0, false),
        (1, 100, 5, false),
        (1_000, 100, 5, false),
        (1_000, 100, 5, true),
        (10_000, 100, 5, false),
    ] {
        let before = resident_bytes();
        let all = grants(claws, each, conditioned);
        let (start, held) = (Instant::now(), resident_bytes());
        let Ok(policy) = Policy::of_shared(1, Arc::clone(&all), &guardrails(rails)) else {
            continue;
        };
        let (took, count) = (start.elapsed(), all.len() as u64);
        let (own, over) = (held.saturating_sub(before), resident_bytes().saturating_sub(held));
        let conditions = if conditioned { ", conditions" } else { "" };
        let name = format!("{claws} Claws x {each}{conditions}");
        let (allowed, denied) = (calls(claws, each, true), calls(claws, each, false));
        row(&format!("{name}, cold"), &time(&policy, &allowed, true));
        row(&format!("{name}, warm"), &time(&policy, &allowed, true));
        row(&format!("{name}, denied"), &time(&policy, &denied, false));
        println!(
            "    compiled in {took:.1?}; bytes per grant: {} for itself, {} for the policy over it",
            own / count,
            over / count
        );
    }
}

/// Decides without a pause on one thread while another compiles a million grants and swaps them in.
fn swaps() {
    let all = grants(10_000, 100, false);
    let compiled = |version| Policy::of_shared(version, Arc::clone(&all), &guardrails(5));
    let Ok(first) = compiled(1) else { return };
    let (in_force, ended) = (ArcSwap::from_pointee(first), AtomicBool::new(false));
    let (asked, arguments) = (calls(10_000, 100, true), BTreeMap::new());
    let decide = || {
        let (mut gaps, mut last) = (Vec::new(), Instant::now());
        for call in asked.iter().cycle() {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            let verdict = in_force.load().decide(&call.call(&arguments));
            assert!(matches!(verdict, Verdict::Allow(_)));
            let now = Instant::now();
            gaps.push(now - last);
            last = now;
        }
        gaps.sort_unstable();
        gaps
    };
    let swap = || {
        for version in 2..5 {
            let Ok(next) = compiled(version) else { return };
            let before = in_force.swap(Arc::new(next));
            // As the gateway does: whoever lets go of it last frees it, and that is not who decides.
            while Arc::strong_count(&before) > 1 {
                std::thread::yield_now();
            }
        }
        ended.store(true, Ordering::Relaxed);
    };
    let gaps = std::thread::scope(|scope| {
        let deciding = scope.spawn(decide);
        scope.spawn(swap);
        deciding.join().unwrap_or_default()
    });
    println!(
        "\n{:34} {:>9} {:>9} {:>9}",
        "between decisions, µs", "p50", "p99", "p99.9"
    );
    row("three swaps of 1,000,000 grants", &gaps);
    println!(
        "    longest pause: {:.2?}",
        gaps.last().copied().unwrap_or_default()
    );
}

fn main() {
    // `cargo bench` says so; a test runner that merely starts every target gets nothing to wait for.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    decisions();
    swaps();
}
