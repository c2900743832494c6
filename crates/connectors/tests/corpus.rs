//! The connectors' fuzz targets over their corpus, and over what is near it: no panic, no hang, no memory without bound.
//!
//! `fuzz/README.md` says how to look for more. `CLAWSTAFF_CONNECTORS_FUZZ=SECONDS` changes inputs for so long, each target.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

use std::{
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

#[path = "../../../fuzz/src/connectors.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
mod targets;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 4] = [
    ("manifest", targets::manifest),
    ("request", targets::request),
    ("graphql", targets::graphql),
    ("mcp", targets::mcp),
];
/// How long one input may take, on a busy machine and without optimisation.
const LONGEST: Duration = Duration::from_secs(5);
/// Memory that all of this may come to need, in KiB: what it needs at its beginning, and this.
const MOST: u64 = 256 << 10;

/// What the inputs of all targets are made of, so that changes get past the first character.
const WORDS: [&str; 20] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u0000",
    "%2f",
    "%25",
    "&",
    ";",
    "=",
    "..",
    "/",
    "\n",
    "...",
    "@",
    "#",
    "0",
    "99999999999999999999",
    "\u{202e}",
];

fn inputs(target: &str) -> Vec<Vec<u8>> {
    // The best manifests to begin with are those that are built in.
    let folder = match target {
        "manifest" => "connectors".to_owned(),
        _ => format!("fuzz/corpus/{target}"),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no corpus");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target; a slow one fails.
fn tried(name: &str, target: Target, input: &[u8]) {
    let started = Instant::now();
    target(input);
    let took = started.elapsed();
    assert!(
        took < LONGEST,
        "{name} took {took:?} for {}",
        String::from_utf8_lossy(input)
    );
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].bytes())),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].repeat(1 + self.below(40));
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            _ => {}
        }
    }
}

#[test]
fn every_target_survives_its_corpus_and_what_is_near_it() {
    for (name, target) in TARGETS {
        for good in inputs(name) {
            tried(name, target, &good);
            for at in (0..good.len()).step_by(1 + good.len() / 60) {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << (at % 8);
                tried(name, target, &bytes);
                tried(name, target, &good[..at]);
            }
        }
    }
}

#[test]
fn every_target_survives_random_changes_of_its_corpus() {
    let time = env::var("CLAWSTAFF_CONNECTORS_FUZZ").map_or(Duration::from_millis(500), |seconds| {
        Duration::from_secs(seconds.parse().unwrap())
    });
    let before = peak();
    for (name, target) in TARGETS {
        let (inputs, mut random) = (inputs(name), Random(7));
        let (started, mut count) = (Instant::now(), 0_u64);
        while started.elapsed() < time {
            let mut bytes = inputs[random.below(inputs.len())].clone();
            for _ in 0..=random.below(6) {
                random.change(&mut bytes);
            }
            tried(name, target, &bytes);
            count += 1;
        }
        println!("{name}: {count} inputs");
    }
    let grown = peak() - before;
    assert!(grown < MOST, "{grown} KiB more than before");
}

#[test]
fn what_is_nested_deeply_or_repeated_a_million_times_gets_an_answer() {
    for (name, target) in TARGETS {
        for piece in [
            "[",
            "{\"a\":",
            "{a",
            "(",
            "...",
            "%",
            "&a=",
            "a.",
            "\"",
            "[[a]]\n",
            "/a",
            "fragment F on R { ...F } ",
        ] {
            let body = piece.repeat((1 << 20) / piece.len());
            tried(name, target, body.as_bytes());
            let call = format!("POST /graphql\napplication/json\n\n{{\"query\":{body}");
            tried(name, target, call.as_bytes());
        }
    }
}
