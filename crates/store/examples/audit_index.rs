//! Measures the searchable index: how fast it takes records in, what one costs on disk, how fast it answers.
//!
//! ```text
//! cargo run --release -p clawstaff-store --example audit_index -- RECORDS FOLDER
//! ```
//!
//! The records are like those of a busy organization: 50 Claws of unequal zeal, 40 actions, 2,000 resources, a
//! cause for every fifth record, 3 % refused, at 1,000 a second. Every query is asked 200 times with other values.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement"
)]

use std::{path::PathBuf, time::Instant};

use clawstaff_api::people::AuditRecord;
use clawstaff_store::{Search, Store};
use clawstaff_types::{Actor, Cause, ClawName, Decision, Digest, Event, EventKind, Outcome};
use jiff::{SignedDuration, Timestamp};

const PORTION: u64 = 1000;
const ASKED: u64 = 200;
const PACE: i64 = 1_000;
const WORDS: [&str; 8] = [
    "ratelimited",
    "invoice",
    "thread",
    "missing",
    "archived",
    "denied",
    "window",
    "scope",
];

/// A small generator, the same on every run (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// A number below `sides` that is small more often than not.
    fn unequal(&mut self, sides: u64) -> u64 {
        self.roll(sides).min(self.roll(sides)).min(self.roll(sides))
    }
}

fn begin() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn at(index: u64) -> Timestamp {
    begin() + SignedDuration::from_micros(i64::try_from(index).unwrap() * 1_000_000 / PACE)
}

fn claw(number: u64) -> ClawName {
    format!("claw-{number}").parse().unwrap()
}

fn action(number: u64) -> String {
    let tool = ["slack", "notion", "github", "gdrive"][usize::try_from(number % 4).unwrap()];
    format!("{tool}:things.verb{}", number / 4)
}

fn record(index: u64, dice: &mut Dice) -> AuditRecord {
    let claw = claw(dice.unequal(50));
    let refused = dice.roll(100) < 3;
    let kind = if refused {
        EventKind::ToolDenied
    } else {
        EventKind::ToolCall
    };
    let mut event = Event::new(kind, Actor::Claw(claw.clone()));
    event.claw = Some(claw);
    event.action = action(dice.unequal(40)).parse().ok();
    event.resource = format!("channel:C{:06}", dice.unequal(2000)).parse().ok();
    event.cause = Some(Cause(format!("Ev{}", index / 5).parse().unwrap()));
    event.claw_revision = Some(3);
    event.policy_revision = Some(42);
    event.connection = "slack".parse().ok();
    event.decision = Some(if refused { Decision::Deny } else { Decision::Allow });
    event.outcome = Some(if refused {
        Outcome::Refused
    } else {
        Outcome::Succeeded
    });
    event.grants = vec![format!("gr_{}", dice.roll(500)).parse().unwrap()];
    event
        .digests
        .insert("request".into(), Digest::of(&index.to_le_bytes()));
    event
        .digests
        .insert("response".into(), Digest::of(&index.to_be_bytes()));
    event
        .facts
        .insert("status".into(), if refused { "403" } else { "200" }.into());
    event
        .facts
        .insert("ids".into(), format!("id{}", dice.roll(1_000_000)));
    if dice.roll(50) == 0 {
        event.reason = Some(format!(
            "the thing is {}",
            WORDS[usize::try_from(dice.roll(8)).unwrap()]
        ));
    }
    AuditRecord {
        id: format!("gateway:{index}"),
        log: "clawstaff.local/gateway".into(),
        index,
        outcome_index: None,
        time: at(index),
        seq: index,
        event,
    }
}

async fn fill(store: &Store, count: u64) {
    let mut dice = Dice(1);
    let (whole, mut part) = (Instant::now(), Instant::now());
    for from in (0..count).step_by(usize::try_from(PORTION).unwrap()) {
        let portion: Vec<AuditRecord> = (from..count.min(from + PORTION))
            .map(|at| record(at, &mut dice))
            .collect();
        let portion: Vec<&AuditRecord> = portion.iter().collect();
        let mut change = store.begin().await.unwrap();
        change.put_records("gateway", &portion).await.unwrap();
        change.commit().await.unwrap();
        if (from + PORTION).is_multiple_of(1_000_000) {
            let rate = 1e6 / part.elapsed().as_secs_f64();
            println!("{:>9} records: {rate:.0} a second", from + PORTION);
            part = Instant::now();
        }
    }
    let nanos = whole.elapsed().as_nanos() / u128::from(count);
    println!("taken in: {} µs a record", nanos / 1000);
}

/// Asks a kind of question many times and prints the median and the slow end.
async fn ask(store: &Store, what: &str, question: impl Fn(&mut Dice) -> Search) {
    let (mut dice, mut times, mut found) = (Dice(7), Vec::new(), 0);
    for _ in 0..ASKED {
        let search = question(&mut dice);
        let start = Instant::now();
        found += store.search(&search, None, 100).await.unwrap().len();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let percent = |part: usize| times[times.len() * part / 100];
    println!(
        "{what:<44} p50 {:>8.2} ms  p95 {:>8.2} ms  max {:>8.2} ms  {:>5} found each",
        percent(50),
        percent(95),
        times[times.len() - 1],
        found / usize::try_from(ASKED).unwrap(),
    );
}

async fn questions(store: &Store, count: u64) {
    let window = |dice: &mut Dice| {
        let from = dice.roll(count);
        (Some(at(from)), Some(at(from + count / 50)))
    };
    let words = |text: &str| vec![text.to_owned()];
    ask(store, "claw + action + time", |dice| {
        let (since, until) = window(dice);
        Search {
            claw: Some(claw(dice.unequal(50)).to_string()),
            action: Some(action(dice.unequal(40))),
            since,
            until,
            ..Search::default()
        }
    })
    .await;
    ask(store, "claw + action", |dice| Search {
        claw: Some(claw(dice.roll(50)).to_string()),
        action: Some(action(dice.roll(40))),
        ..Search::default()
    })
    .await;
    ask(store, "claw + deny + time", |dice| {
        let (since, until) = window(dice);
        Search {
            claw: Some(claw(dice.roll(50)).to_string()),
            decision: Some(Decision::Deny),
            since,
            until,
            ..Search::default()
        }
    })
    .await;
    ask(store, "resource", |dice| Search {
        resource: Some(format!("channel:C{:06}", dice.roll(2000))),
        ..Search::default()
    })
    .await;
    ask(store, "cause", |dice| Search {
        cause: Some(format!("Ev{}", dice.roll(count / 5))),
        ..Search::default()
    })
    .await;
    ask(store, "outcome unknown (there is none)", |_| Search {
        outcome: Some(Outcome::Unknown),
        ..Search::default()
    })
    .await;
    ask(store, "text: one id", |dice| Search {
        words: words(&format!("id{}", dice.roll(1_000_000))),
        ..Search::default()
    })
    .await;
    ask(store, "text: a word of 0.25 % of the records", |dice| Search {
        words: words(WORDS[usize::try_from(dice.roll(8)).unwrap()]),
        ..Search::default()
    })
    .await;
    ask(store, "text: a word of every record", |_| Search {
        words: words("slack"),
        ..Search::default()
    })
    .await;
    ask(store, "text: two words, claw and time", |dice| {
        let (since, until) = window(dice);
        Search {
            claw: Some(claw(dice.roll(50)).to_string()),
            words: vec![
                "thing".into(),
                WORDS[usize::try_from(dice.roll(8)).unwrap()].into(),
            ],
            since,
            until,
            ..Search::default()
        }
    })
    .await;
    ask(store, "text: two words that never meet", |_| Search {
        words: vec!["invoice".into(), "archived".into()],
        ..Search::default()
    })
    .await;
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100_000);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "/tmp/audit-index".into()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("index.db");
    let store = Store::open(&file).await.unwrap();
    if store.newest_change().await.unwrap() < count {
        fill(&store, count).await;
    }
    let bytes = std::fs::metadata(&file).unwrap().len();
    println!(
        "{count} records, {} MB, {} bytes a record",
        bytes / 1_000_000,
        bytes / count
    );
    questions(&store, count).await;
    store.close().await;
}
