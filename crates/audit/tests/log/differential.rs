//! Another implementation's opinion: Go's `golang.org/x/mod/sumdb/tlog`, by way of `tests/tlog/main.go`.
//!
//! Tree heads, both kinds of proof, and tiles must be the same to the byte: for all sizes up to a bound with all
//! leaves and all older sizes, for random sizes up to 2^40 in a tree whose nodes are made up, and for the tiles
//! of a real log. `CLAWSTAFF_AUDIT_SIZES=N` raises the bound.

use std::{
    convert::Infallible,
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use clawstaff_audit::{
    published::{Published, TileHashes},
    tile::Tile,
    tree::{self, CompactRange, Hash, Hashes, leaf_hash},
};
use clawstaff_types::Digest;

use crate::{
    sim::Random,
    support::{append_together, heavy, open},
};

const SIZES_IN_CI: u64 = 130;
const SPARSE_IN_CI: usize = 2000;
const MAX_SPARSE: u64 = 1 << 40;

/// The Go program, built once for this test process.
pub(crate) struct Go {
    _home: tempfile::TempDir,
    program: PathBuf,
}

impl Go {
    pub(crate) fn build() -> Self {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("tlog");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tlog/main.go");
        let cache = env::temp_dir().join("clawstaff-go-cache");
        let built = Command::new("go")
            .args(["build", "-o"])
            .args([&program, &source])
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("CGO_ENABLED", "0")])
            .env("GOCACHE", cache)
            .output()
            .expect("go is missing: `apt-get install golang-go golang-golang-x-mod-dev` (scripts/setup.sh does it)");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        Self { _home: home, program }
    }

    /// Verifies a bundle in a folder.
    pub(crate) fn bundle(&self, folder: &Path) -> Output {
        Command::new(&self.program)
            .arg("bundle")
            .arg(folder)
            .output()
            .unwrap()
    }

    /// The answers to these questions, one a line.
    fn answers(&self, questions: String) -> Vec<String> {
        let mut child = Command::new(&self.program)
            .arg("answer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(questions.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Questions with our own answers.
#[derive(Default)]
struct Quiz {
    pushes: String,
    questions: Vec<String>,
    ours: Vec<String>,
}

impl Quiz {
    fn push(&mut self, leaf: Hash) {
        writeln!(self.pushes, "push {}", hex(&[leaf])).unwrap();
    }

    fn ask(&mut self, question: String, ours: String) {
        self.questions.push(question);
        self.ours.push(ours);
    }

    fn assert_agreed(self, go: &Go) -> usize {
        let theirs = go.answers(format!("{}{}\n", self.pushes, self.questions.join("\n")));
        assert_eq!(theirs.len(), self.questions.len());
        for ((question, ours), theirs) in self.questions.iter().zip(&self.ours).zip(&theirs) {
            assert_eq!(ours, theirs, "{question}");
        }
        theirs.len()
    }

    /// All that there is to ask about one size, with one leaf and one older size.
    fn ask_proofs<H: Hashes<Error = Infallible>>(
        &mut self,
        kind: &str,
        hashes: &H,
        index: u64,
        old: u64,
        size: u64,
    ) {
        let inclusion = tree::inclusion_proof(hashes, index, size).unwrap().unwrap();
        self.ask(format!("{kind}inclusion {index} {size}"), hex(&inclusion));
        let consistency = tree::consistency_proof(hashes, old, size).unwrap().unwrap();
        self.ask(format!("{kind}consistency {old} {size}"), hex(&consistency));
    }
}

fn hex(hashes: &[Hash]) -> String {
    let words: Vec<String> = hashes
        .iter()
        .map(|hash| hash.to_string().trim_start_matches("sha256:").to_owned())
        .collect();
    words.join(" ")
}

/// Subtrees out of all leaves.
struct Memory(Vec<Hash>);

impl Hashes for Memory {
    type Error = Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let first = usize::try_from(index << level).unwrap();
        let mut range = CompactRange::new();
        for leaf in &self.0[first..first + (1 << level)] {
            range.push(*leaf);
        }
        Ok(range.root())
    }
}

/// Nodes that are made up from their level and place, as in `main.go`.
struct Sparse;

impl Hashes for Sparse {
    type Error = Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        Ok(Digest::of(format!("{level}/{index}").as_bytes()))
    }
}

#[test]
fn heads_and_proofs_of_all_sizes_are_those_of_the_other_implementation() {
    let sizes = env::var("CLAWSTAFF_AUDIT_SIZES").map_or(SIZES_IN_CI, |sizes| sizes.parse().unwrap());
    let mut quiz = Quiz::default();
    let leaves: Vec<Hash> = (0..sizes)
        .map(|i| leaf_hash(format!("leaf {i}").as_bytes()))
        .collect();
    for leaf in &leaves {
        quiz.push(*leaf);
    }
    let memory = Memory(leaves);
    // Of the empty tree Debian's x/mod says zeroes, RFC 6962 the hash of nothing: it has no say there.
    for size in 1..=sizes {
        quiz.ask(
            format!("head {size}"),
            hex(&[tree::root_of(&memory, size).unwrap()]),
        );
        for index in 0..size {
            quiz.ask_proofs("", &memory, index, index + 1, size);
        }
    }
    let agreed = quiz.assert_agreed(&Go::build());
    println!("{agreed} answers for sizes 1 to {sizes}, different: 0");
}

#[test]
fn proofs_of_random_sizes_are_those_of_the_other_implementation() {
    let seed = 20_261_123;
    let mut random = Random(seed);
    let mut quiz = Quiz::default();
    for _ in 0..SPARSE_IN_CI {
        let size = 1 + ((random.next() % MAX_SPARSE) >> random.below(40));
        let (index, old) = (random.next() % size, 1 + random.next() % size);
        quiz.ask_proofs("sparse-", &Sparse, index, old, size);
        quiz.ask(
            format!("sparse-head {size}"),
            hex(&[tree::root_of(&Sparse, size).unwrap()]),
        );
    }
    let agreed = quiz.assert_agreed(&Go::build());
    println!("{agreed} answers (seed {seed}), different: 0");
}

#[test]
fn the_tiles_of_a_real_log_are_those_of_the_other_implementation() {
    let root = tempfile::tempdir().unwrap();
    let (log, _) = open(root.path());
    append_together(&log, (0..777).map(|i| heavy(&format!("{i}"), 10)).collect());
    let leaves = log.read(0, 1000).unwrap();
    assert_eq!(leaves.len(), 777);
    drop(log);
    let dir = root.path().join("log");
    let mut quiz = Quiz::default();
    for stored in &leaves {
        quiz.push(leaf_hash(&stored.leaf));
    }
    let mut tiles = 0;
    for path in tile_paths(&dir) {
        let name = path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
        let tile: Tile = name.parse().unwrap();
        if let clawstaff_audit::tile::TileKind::Hashes(level) = tile.kind {
            let bytes = fs::read(&path).unwrap();
            let mut ours = String::new();
            for byte in bytes {
                write!(ours, "{byte:02x}").unwrap();
            }
            quiz.ask(format!("tile {level} {} {}", tile.index, tile.width), ours);
            tiles += 1;
        }
    }
    assert!(tiles >= 5, "{tiles}");
    let published = Published::new(&dir);
    for size in [1, 255, 256, 257, 700, 777] {
        let hashes = TileHashes::new(&published, size);
        quiz.ask(
            format!("head {size}"),
            hex(&[tree::root_of(&hashes, size).unwrap()]),
        );
        let proof = tree::inclusion_proof(&hashes, size / 2, size).unwrap().unwrap();
        quiz.ask(format!("inclusion {} {size}", size / 2), hex(&proof));
    }
    quiz.assert_agreed(&Go::build());
}

fn tile_paths(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.join("tile")];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}
