//! The fuzz targets' own functions over their corpus, and over every input of it with one byte changed.
//!
//! `fuzz/README.md` says how to look for new ones. `CLAWSTAFF_MAKE_CORPUS=1` writes the first inputs.

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

#[path = "../../../../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::match_bool,
    reason = "shared with the fuzz targets"
)]
mod targets;

use clawstaff_audit::{
    Checkpoint, Cosigner, Phase, Proof, SigningKey,
    cosignature::{cosign, cosign_line},
    note::Note,
    published::{Published, TileHashes},
    tree::{empty_root, leaf_hash},
    witness::AddCheckpoint,
};
use jiff::Timestamp;

use crate::{
    sim::Random,
    support::{append, draft, key, open},
};

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 10] = [
    ("note", targets::note),
    ("checkpoint", targets::checkpoint),
    ("cosignature", targets::cosignature),
    ("policy", targets::policy),
    ("proof", targets::proof),
    ("bundle", targets::bundle),
    ("entry", targets::entry),
    ("segment", targets::segment),
    ("tile", targets::tile),
    ("witness", targets::witness),
];

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

#[test]
fn every_target_survives_its_corpus_and_what_is_near_it() {
    if env::var_os("CLAWSTAFF_MAKE_CORPUS").is_some() {
        make_corpus();
    }
    for (name, target) in TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus(name)).unwrap().flatten().collect();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let good = fs::read(input.path()).unwrap();
            target(&good);
            let step = 1 + good.len() / 200;
            for at in (0..good.len()).step_by(step) {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << (at % 8);
                target(&bytes);
                target(&good[..at]);
            }
        }
    }
}

/// `CLAWSTAFF_AUDIT_FUZZ=SECONDS` changes inputs at random for so long, each target: without coverage, so no
/// substitute for the fuzzer, but without a second build.
#[test]
fn every_target_survives_random_changes_of_its_corpus() {
    let time = env::var("CLAWSTAFF_AUDIT_FUZZ").map_or(Duration::from_millis(300), |seconds| {
        Duration::from_secs(seconds.parse().unwrap())
    });
    for (name, target) in TARGETS {
        let paths = fs::read_dir(corpus(name)).unwrap().flatten();
        let mut inputs: Vec<Vec<u8>> = paths.map(|input| fs::read(input.path()).unwrap()).collect();
        inputs.sort_unstable();
        let mut random = Random(7);
        let (started, mut tried) = (Instant::now(), 0_u64);
        while started.elapsed() < time {
            let mut bytes = inputs[random.below(inputs.len())].clone();
            for _ in 0..=random.below(4) {
                change(&mut random, &mut bytes);
            }
            target(&bytes);
            tried += 1;
        }
        println!("{name}: {tried} inputs, panics: 0");
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, b"\n +-09Aa=\0"[random.below(10)]),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 => {
            let end = at + random.below(bytes.len() - at + 1);
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        _ if at < bytes.len() => bytes[at] = u8::try_from(random.next() & 0xFF).unwrap(),
        _ => {}
    }
}

/// The key of the targets.
fn fuzz_key() -> SigningKey {
    SigningKey::from_bytes("example.org/log", &[1; 32]).unwrap()
}

/// The checkpoint that the target `witness` asks about.
fn empty() -> String {
    let checkpoint = Checkpoint {
        origin: "example.org/log".into(),
        size: 0,
        root: empty_root(),
    };
    checkpoint.sign(&fuzz_key()).unwrap()
}

/// Writes one good input for each target.
fn make_corpus() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    for i in 0..6 {
        append(&log, draft("claw:a", Phase::Fact, &format!("{i}")));
    }
    let leaf = log.read(3, 1).unwrap().remove(0).leaf;
    let signed = log.checkpoint();
    drop(log);
    let dir = root.path().join("log");
    let cosigned = cosign(&signed, &key(), Timestamp::from_second(1_795_000_000).unwrap()).unwrap();
    let published = Published::new(&dir);
    let proof = Proof::make(&TileHashes::new(&published, 6), 3, &leaf, &cosigned).unwrap();
    let cosigner = Cosigner::of(&key().verifying_key());
    let policy = format!(
        "# keys\nlog {} https://log.example/\nwitness w {cosigner}\ngroup g any w\nquorum g\n",
        key().vkey()
    );
    let request = AddCheckpoint {
        old: 3,
        proof: vec![leaf_hash(&leaf)],
        checkpoint: signed.clone(),
    };
    let line = cosign_line(
        Note::parse(&empty()).unwrap().text(),
        &fuzz_key(),
        Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    let segment = fs::read(dir.join("journal/00000000.seg")).unwrap();
    let end = segment.iter().rposition(|b| *b != 0).unwrap() + 1;
    for (target, bytes) in [
        (
            "note",
            format!("{signed}{}\n{cosigner}\n", key().vkey()).into_bytes(),
        ),
        ("note", cosigned.clone().into_bytes()),
        ("checkpoint", signed.clone().into_bytes()),
        (
            "checkpoint",
            signed.split("\n\n").next().unwrap().as_bytes().to_vec(),
        ),
        ("cosignature", signed.clone().into_bytes()),
        ("cosignature", cosigned.clone().into_bytes()),
        ("policy", policy.into_bytes()),
        ("proof", proof.to_string().into_bytes()),
        ("bundle", vec![0, 3, 0, 9, 0, 65, 0, 1, 0, 2, 1, 66]),
        ("entry", leaf),
        ("entry", b"claw:support-triage".to_vec()),
        ("segment", segment[..end].to_vec()),
        ("witness", request.to_body().into_bytes()),
        ("witness", b"20852163\n".to_vec()),
        ("witness", line.into_bytes()),
        ("tile", b"tile/0/x001/x234/067.p/8".to_vec()),
        ("tile", fs::read(dir.join("tile/entries/000.p/6")).unwrap()),
    ] {
        fs::create_dir_all(corpus(target)).unwrap();
        let name = clawstaff_types::Digest::of(&bytes).to_string();
        let name = name.trim_start_matches("sha256:");
        fs::write(corpus(target).join(&name[..16]), bytes).unwrap();
    }
}
