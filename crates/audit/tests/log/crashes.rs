//! Many short lives of a log on the simulated disk, each chosen by a seed: what it is asked to write, what fails,
//! when the power goes and what the disk keeps; with a reader, a sink and a witness who remember what they saw.
//!
//! The seed fixes all of that but not how the log's threads take turns, which is the scheduler's; a seed that
//! fails is repeated with `CLAWSTAFF_AUDIT_SEED=N`. `CLAWSTAFF_AUDIT_SEEDS=N` runs N of them instead of CI's
//! few thousand.

use std::{collections::BTreeMap, env, path::Path, sync::Arc, time::Duration};

use clawstaff_audit::{
    AppendError, Checkpoint, Environment, Log, Phase, Stored,
    tree::{CompactRange, Hash, leaf_hash},
    verify,
};
use clawstaff_types::Digest;

use crate::{
    sim::{Fault, Random, Sim},
    support::{append_together, draft, heavy, key, options, scratch},
};

const SEEDS_IN_CI: u64 = 1000;

/// What people outside the machine know of a log, and hold against it for ever.
#[derive(Default)]
struct Outside {
    /// Callers: entries they have receipts for.
    acknowledged: BTreeMap<u64, Digest>,
    /// A sink: the leaves it was given, by index, and how far its cursor was when it last made that durable.
    delivered: BTreeMap<u64, Hash>,
    cursor: u64,
    /// A witness: every checkpoint it was shown.
    shown: Vec<Checkpoint>,
}

impl Outside {
    /// The sink reads on from its cursor. What it has already is the same again.
    fn deliver(&mut self, log: &Log, keeps_cursor: bool) {
        let stored = log.read(self.cursor, 1000).unwrap();
        for Stored { index, leaf } in &stored {
            let hash = leaf_hash(leaf);
            let before = self.delivered.insert(*index, hash);
            assert!(
                before.is_none_or(|before| before == hash),
                "entry {index} was delivered as another one"
            );
        }
        if keeps_cursor {
            self.cursor += stored.len() as u64;
        }
    }

    fn witness(&mut self, log: &Log) {
        let shown = Checkpoint::verify(&log.checkpoint(), &key().verifying_key()).unwrap();
        self.shown.push(shown);
    }

    /// Everything that anybody was told still holds.
    fn assert_holds(&self, log: &Log) {
        let mut tree = CompactRange::new();
        let mut roots = BTreeMap::from([(0, tree.root())]);
        let mut leaves = Vec::new();
        while let Some(next) = log.read(tree.size(), 1000).ok().filter(|read| !read.is_empty()) {
            for stored in next {
                let hash = leaf_hash(&stored.leaf);
                tree.push(hash);
                roots.insert(tree.size(), tree.root());
                leaves.push((stored.entry().unwrap().call, hash));
            }
        }
        assert_eq!(tree.size(), log.size());
        let found = |index: &u64| leaves.get(usize::try_from(*index).unwrap());
        for (index, call) in &self.acknowledged {
            assert_eq!(
                found(index).map(|leaf| leaf.0),
                Some(*call),
                "acknowledged entry {index}"
            );
        }
        for (index, hash) in &self.delivered {
            assert_eq!(
                found(index).map(|leaf| leaf.1),
                Some(*hash),
                "delivered entry {index}"
            );
        }
        for checkpoint in &self.shown {
            let size = checkpoint.size;
            assert_eq!(
                roots.get(&size),
                Some(&checkpoint.root),
                "checkpoint of {size} entries"
            );
        }
    }
}

/// One start of the log: recovery, work, and an end that the seed has chosen.
fn epoch(sim: &Sim, random: &mut Random, outside: &mut Outside) {
    let environment = Environment {
        disk: Arc::new(sim.clone()),
        publish_every: Duration::ZERO,
        ..Environment::default()
    };
    let opened = Log::open_in(options(Path::new("/")), environment);
    let Ok((log, recovery)) = opened else {
        assert!(sim.has_failed(), "it does not open: {:?}", opened.err());
        return;
    };
    outside.assert_holds(&log);
    for unfinished in recovery.unfinished {
        let outcome = Phase::Outcome { of: unfinished.index };
        let mut settled = draft("claw:a", outcome, "");
        (settled.stream, settled.call) = (unfinished.stream, unfinished.call);
        match log.append_blocking(settled) {
            Ok(receipt) => drop(outside.acknowledged.insert(receipt.index(), unfinished.call)),
            Err(error) => assert!(matches!(error, AppendError::Stopped { .. }), "{error}"),
        }
    }
    for _ in 0..random.below(12) {
        let drafts: Vec<_> = (0..=random.below(5)).map(|_| any_draft(random)).collect();
        let calls: Vec<_> = drafts.iter().map(|draft| draft.call).collect();
        for (result, call) in append_together(&log, drafts).into_iter().zip(calls) {
            match result {
                Ok(receipt) => drop(outside.acknowledged.insert(receipt.index(), call)),
                Err(error) => assert!(matches!(error, AppendError::Stopped { .. }), "{error}"),
            }
        }
        match random.below(4) {
            0 => outside.deliver(&log, random.below(2) == 0),
            1 => outside.witness(&log),
            _ => {}
        }
    }
    drop(log);
    assert_eq!(sim.breaches(), Vec::<String>::new());
}

fn any_draft(random: &mut Random) -> clawstaff_audit::Draft {
    let call = format!("{}", random.next());
    match random.below(6) {
        0 => draft(&format!("claw:c{}", random.below(3)), Phase::Intent, &call),
        1 => heavy(&call, 1 << random.below(16)),
        _ => draft(&format!("claw:c{}", random.below(3)), Phase::Fact, &call),
    }
}

/// A log's life: some starts, each ending in a fault or a clean stop and, mostly, in a power cut.
fn live(seed: u64) {
    let mut random = Random(seed);
    let mut outside = Outside::default();
    let mut sim = Sim::default();
    for _ in 0..=random.below(4) {
        let fault = [
            Fault::PowerCut,
            Fault::PowerCut,
            Fault::Lost,
            Fault::Happened,
            Fault::Short,
        ];
        let at = 1 + random.below(160) as u64;
        sim.fail(at, fault[random.below(fault.len())]);
        epoch(&sim, &mut random, &mut outside);
        sim = sim.after_power_cut(random.next());
    }
    let root = scratch();
    sim.put_down(random.next(), root.path());
    let (log, _) = Log::open(options(root.path())).unwrap();
    outside.assert_holds(&log);
    drop(log);
    let report = verify::verify_dir(&root.path().join("log"), Some(&key().verifying_key()), None);
    assert!(report.is_clean(), "{:#?}", report.problems);
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().expect("a seed is a number"))
}

/// Says which life it was if it ends badly.
struct SayingSeed(u64);

impl Drop for SayingSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}: repeat it with CLAWSTAFF_AUDIT_SEED={}", self.0, self.0);
        }
    }
}

/// Every second seed from `first` on, so that two tests share the work.
fn live_many(first: u64) {
    let (seeds, times) = match number("CLAWSTAFF_AUDIT_SEED") {
        Some(seed) => (seed..seed + 1, 20),
        None => (0..number("CLAWSTAFF_AUDIT_SEEDS").unwrap_or(SEEDS_IN_CI), 1),
    };
    let mut lives = 0;
    for seed in seeds.filter(|seed| times > 1 || seed % 2 == first) {
        for _ in 0..times {
            let _saying = SayingSeed(seed);
            live(seed);
            lives += 1;
        }
    }
    println!("{lives} lives, lost: 0");
}

#[test]
fn in_many_lives_nothing_that_anybody_was_told_is_lost_even_seeds() {
    live_many(0);
}

#[test]
fn in_many_lives_nothing_that_anybody_was_told_is_lost_odd_seeds() {
    live_many(1);
}
