//! Verifying a bundle offline, trusting nothing in it but, for want of better, its keys.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Files, Line, MANIFEST, MAX_ENTRIES, MAX_FILES, Manifest, README, SUMS, in_log, is_folder, proof_path,
    sums,
};
use crate::{
    checkpoint::Checkpoint,
    entry::{Entry, Stream},
    policy::{Policy, Vouched},
    proof::Proof,
    published::{TileHashes, TileMissing, TileSource},
    tile::Tile,
    tree::{self, Hash},
};

/// One thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleProblem {
    /// The file.
    pub path: String,
    /// The entry, where it is one's.
    pub index: Option<u64>,
    /// In plain words.
    pub text: String,
}

/// What was found of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    /// Its folder.
    pub name: String,
    /// What the bundle is proved against.
    pub checkpoint: Checkpoint,
    /// The witnesses that cosigned it, with their times.
    pub witnesses: Vec<(String, jiff::Timestamp)>,
    /// How many entries were proved.
    pub entries: usize,
    /// Of each stream, how many entries are here, and the first and last number of them.
    pub streams: BTreeMap<Stream, (u64, u64, u64)>,
}

impl LogReport {
    /// The streams of which entries between the first and the last one here are missing.
    pub fn incomplete(&self) -> impl Iterator<Item = (&Stream, u64)> {
        self.streams.iter().filter_map(|(stream, (count, first, last))| {
            let missing = (last - first + 1).saturating_sub(*count);
            (missing > 0).then_some((stream, missing))
        })
    }
}

/// What verifying a bundle found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundleReport {
    /// The logs.
    pub logs: Vec<LogReport>,
    /// What is wrong. Empty: nothing is.
    pub problems: Vec<BundleProblem>,
    /// What could not be checked, in words.
    pub unchecked: Vec<String>,
}

impl BundleReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, path: &str, index: Option<u64>, text: impl Into<String>) {
        self.problems.push(BundleProblem {
            path: path.to_owned(),
            index,
            text: text.into(),
        });
    }
}

/// Verifies a bundle. `policy` says whom you believe; without it the bundle's own keys are used, which shows only
/// that it agrees with itself.
pub fn verify(files: &Files, policy: Option<&Policy>) -> BundleReport {
    let mut report = BundleReport::default();
    if files.len() > MAX_FILES {
        report.problem("", None, format!("it has more than {MAX_FILES} files"));
        return report;
    }
    check_sums(files, &mut report);
    let manifest = match read_manifest(files) {
        Ok(manifest) => manifest,
        Err(text) => {
            report.problem(MANIFEST, None, text);
            return report;
        }
    };
    let mut expected: BTreeSet<String> = [README, SUMS, MANIFEST].map(str::to_owned).into();
    for log in &manifest.logs {
        expected.extend(["checkpoint", "policy", "vkey", "events.jsonl"].map(|file| in_log(log, file)));
        if let Err((path, index, text)) = check_log(files, log, policy, &mut expected, &mut report) {
            report.problem(&path, index, text);
        }
    }
    for path in expected.iter().filter(|path| !files.contains_key(*path)) {
        report.problem(path, None, "it is missing");
    }
    for path in files.keys().filter(|path| !expected.contains(*path)) {
        report.problem(
            path,
            None,
            "it does not belong to the bundle, or to no entry in it",
        );
    }
    if policy.is_none() {
        report
            .unchecked
            .push("the keys were taken from the bundle itself; compare them with those you know".to_owned());
    }
    report
}

/// Names the files that are not what `SHA256SUMS` says.
fn check_sums(files: &Files, report: &mut BundleReport) {
    let right = sums(files);
    let stated = files.get(SUMS).map(Vec::as_slice).unwrap_or_default();
    if stated == right.as_bytes() {
        return;
    }
    let stated: BTreeSet<&[u8]> = stated.split_inclusive(|b| *b == b'\n').collect();
    let before = report.problems.len();
    for line in right.split_inclusive('\n') {
        if !stated.contains(line.as_bytes()) {
            let path = line.split_once("  ").map_or("", |(_, path)| path.trim_end());
            report.problem(path, None, "it is not what SHA256SUMS says");
        }
    }
    if report.problems.len() == before {
        report.problem(SUMS, None, "it has lines that belong to no file");
    }
}

fn read_manifest(files: &Files) -> Result<Manifest, String> {
    let bytes = files.get(MANIFEST).ok_or("it is missing")?;
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let again = serde_json::to_vec_pretty(&manifest).map_err(|error| error.to_string())?;
    if again != *bytes {
        return Err("it is not written in the one way".to_owned());
    }
    let mut names = manifest.logs.clone();
    names.sort_unstable();
    names.dedup();
    if manifest.v != 1
        || names != manifest.logs
        || names.is_empty()
        || !names.iter().all(|name| is_folder(name))
    {
        return Err("it is not a manifest of version 1 with the names of its logs in order".to_owned());
    }
    Ok(manifest)
}

/// A problem that ends the checking of a log.
type Ended = (String, Option<u64>, String);

fn text<'a>(files: &'a Files, path: &str) -> Result<&'a str, Ended> {
    let bytes = files.get(path);
    let bytes = bytes.ok_or_else(|| (path.to_owned(), None, "it is missing".to_owned()))?;
    str::from_utf8(bytes).map_err(|_| (path.to_owned(), None, "it is not text".to_owned()))
}

fn check_log(
    files: &Files,
    log: &str,
    known: Option<&Policy>,
    expected: &mut BTreeSet<String>,
    report: &mut BundleReport,
) -> Result<(), Ended> {
    let path = in_log(log, "policy");
    let own = Policy::parse(text(files, &path)?).map_err(|error| (path.clone(), None, error.to_string()))?;
    let path = in_log(log, "checkpoint");
    let note = text(files, &path)?;
    let vouched = known
        .unwrap_or(&own)
        .check(note)
        .map_err(|error| (path.clone(), None, error.to_string()))?;
    let path = in_log(log, "vkey");
    let keys = own.logs().iter().map(|log| format!("{}\n", log.key));
    if !keys.into_iter().any(|key| text(files, &path) == Ok(key.as_str())) {
        report.problem(&path, None, "it is not the key in the policy");
    }
    let checked = Entries {
        files,
        log,
        note,
        vouched: &vouched,
        policy: known.unwrap_or(&own),
    };
    let (streams, entries) = checked.all(expected, report)?;
    report.logs.push(LogReport {
        name: log.to_owned(),
        checkpoint: vouched.checkpoint,
        witnesses: vouched.witnesses,
        entries,
        streams,
    });
    Ok(())
}

/// The entries of one log, to be checked.
struct Entries<'a> {
    files: &'a Files,
    log: &'a str,
    note: &'a str,
    vouched: &'a Vouched,
    policy: &'a Policy,
}

type Streams = BTreeMap<Stream, (u64, u64, u64)>;

impl Entries<'_> {
    fn all(
        &self,
        expected: &mut BTreeSet<String>,
        report: &mut BundleReport,
    ) -> Result<(Streams, usize), Ended> {
        let path = in_log(self.log, "events.jsonl");
        let events = text(self.files, &path)?;
        if !events.is_empty() && !events.ends_with('\n') {
            report.problem(&path, None, "its last line does not end");
        }
        let tiles = Tiles(self.files, self.log);
        let hashes = TileHashes::new(&tiles, self.vouched.checkpoint.size);
        let (mut streams, mut count, mut last) = (Streams::new(), 0, None);
        for (number, line) in events.lines().enumerate() {
            if count >= MAX_ENTRIES {
                return Err((path, None, format!("it has more than {MAX_ENTRIES} entries")));
            }
            let line: Line<'_> = parse_line(line)
                .map_err(|why| (path.clone(), last, format!("line {}: {why}", number + 1)))?;
            if last.is_some_and(|last| last >= line.index) {
                return Err((path, Some(line.index), "the entries are not in order".to_owned()));
            }
            last = Some(line.index);
            expected.insert(proof_path(self.log, line.index));
            match self.one(&line, &hashes) {
                Ok(entry) => note_number(&mut streams, entry),
                Err((path, why)) => report.problem(&path, Some(line.index), why),
            }
            count += 1;
        }
        let stated = &self.vouched.checkpoint;
        match tree::root_of(&hashes, stated.size) {
            Ok(root) if root == stated.root => {}
            Ok(_) => {
                let why = "the tiles do not lead to the root in the checkpoint";
                report.problem(&in_log(self.log, "tile"), None, why);
            }
            Err(missing) => {
                report.problem(&in_log(self.log, &missing.tile.to_string()), None, missing.why);
            }
        }
        let used = hashes.into_used();
        expected.extend(used.keys().map(|tile| in_log(self.log, &tile.to_string())));
        Ok((streams, count))
    }

    /// One entry: its hash, its proof, and that the tiles give the same proof.
    fn one(&self, line: &Line<'_>, hashes: &TileHashes<'_, Tiles<'_>>) -> Result<Entry, (String, String)> {
        let events = || in_log(self.log, "events.jsonl");
        let leaf = line.leaf.get().as_bytes();
        if tree::leaf_hash(leaf) != line.leaf_hash {
            return Err((events(), "the leaf does not have the hash beside it".to_owned()));
        }
        let entry = Entry::parse(leaf).map_err(|error| (events(), error.to_string()))?;
        let path = proof_path(self.log, line.index);
        let here = |why: String| (path.clone(), why);
        let proof = text(self.files, &path).map_err(|(_, _, why)| here(why))?;
        let proof = Proof::parse(proof).map_err(|error| here(error.to_string()))?;
        if proof.checkpoint != self.note {
            return Err(here("its checkpoint is not that of the bundle".to_owned()));
        }
        if proof.index != line.index || proof.extra.as_deref() != Some(leaf) {
            return Err(here("it is the proof of another entry".to_owned()));
        }
        proof
            .verify(leaf, self.policy)
            .map_err(|error| here(error.to_string()))?;
        let size = self.vouched.checkpoint.size;
        match tree::inclusion_proof(hashes, line.index, size) {
            Ok(Some(path)) if path == proof.hashes => Ok(entry),
            Ok(_) => Err(here(format!("the tiles in {}/tile give another path", self.log))),
            Err(missing) => Err((in_log(self.log, &missing.tile.to_string()), missing.why)),
        }
    }
}

/// A line must be written in the one way, so that no byte of it is free.
fn parse_line(line: &str) -> Result<Line<'_>, String> {
    let read: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let again = serde_json::to_string(&read).map_err(|error| error.to_string())?;
    if again == line {
        Ok(read)
    } else {
        Err("it is not written in the one way".to_owned())
    }
}

fn note_number(streams: &mut Streams, entry: Entry) {
    let numbers = streams.entry(entry.stream).or_insert((0, entry.seq, entry.seq));
    numbers.0 += 1;
    numbers.1 = numbers.1.min(entry.seq);
    numbers.2 = numbers.2.max(entry.seq);
}

/// The tiles in a bundle.
struct Tiles<'a>(&'a Files, &'a str);

impl TileSource for Tiles<'_> {
    fn tile(&self, tile: Tile) -> Result<Vec<u8>, TileMissing> {
        let missing = |why: &str| TileMissing {
            tile,
            why: why.to_owned(),
        };
        let bytes = self.0.get(&in_log(self.1, &tile.to_string()));
        let bytes = bytes.ok_or_else(|| missing("is missing"))?;
        if bytes.len() == usize::from(tile.width) * size_of::<Hash>() {
            return Ok(bytes.clone());
        }
        Err(missing("has another length than its name says"))
    }
}
