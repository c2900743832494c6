//! What each fuzz target does with its input, so that a normal test can do the same with the corpus.
//!
//! Every function must return, whatever it is given, and where a text is read it must be the one that is printed.
//! `crates/audit/tests/log/corpus.rs` includes this file and runs it over `fuzz/corpus`.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use clawstaff_audit::{
    Checkpoint, Cosigner, Draft, Entry, Environment, Log, Options, Phase, Policy, Proof, SigningKey, Stream,
    VerifyingKey,
    bundle::{self, Bundler, Files},
    cosignature,
    disk::{Disk, DiskFile, Guard},
    log::MIN_SEGMENT_BYTES,
    note::Note,
    published::Published,
    tile::{self, Tile},
    witness::{self, AddCheckpoint},
};
use clawstaff_types::{Actor, Digest, Event, EventKind};

/// The key of every log in here.
fn key() -> SigningKey {
    SigningKey::from_bytes("example.org/log", &[1; 32]).unwrap()
}

fn text(data: &[u8]) -> &str {
    str::from_utf8(data).unwrap_or_default()
}

/// A signed note, and the two kinds of verifier keys.
pub fn note(data: &[u8]) {
    let text = text(data);
    if let Ok(note) = Note::parse(text) {
        assert!(text.starts_with(note.text()));
        let _ = note.verify(&key().verifying_key());
    }
    for line in text.lines() {
        if let Ok(key) = VerifyingKey::parse(line) {
            assert_eq!(key.to_string(), line);
        }
        if let Ok(key) = Cosigner::parse(line) {
            assert_eq!(key.to_string(), line);
        }
    }
}

/// A checkpoint, signed and bare.
pub fn checkpoint(data: &[u8]) {
    let text = text(data);
    if let Ok(read) = Checkpoint::from_note_body(text) {
        assert_eq!(read.to_note_body(), text);
    }
    if let Ok(read) = Checkpoint::parse(text) {
        assert!(text.starts_with(&read.to_note_body()));
        let _ = Checkpoint::verify(text, &key().verifying_key());
    }
}

/// Cosignatures on a note; adding one keeps what was there.
pub fn cosignature(data: &[u8]) {
    let text = text(data);
    let cosigner = Cosigner::of(&key().verifying_key());
    let Ok(note) = Note::parse(text) else {
        return;
    };
    let before = cosigner.verify(&note);
    let now = jiff::Timestamp::UNIX_EPOCH;
    if let Ok(cosigned) = cosignature::cosign(text, &key(), now) {
        assert!(before.is_err() && cosigned.starts_with(text));
        assert_eq!(cosigner.verify(&Note::parse(&cosigned).unwrap()), Ok(now));
    }
}

/// A policy, and whether it believes a checkpoint that only its log has signed.
pub fn policy(data: &[u8]) {
    static SIGNED: OnceLock<String> = OnceLock::new();
    let signed = SIGNED.get_or_init(|| {
        let checkpoint = Checkpoint {
            origin: "example.org/log".into(),
            size: 0,
            root: clawstaff_audit::tree::empty_root(),
        };
        checkpoint.sign(&key()).unwrap()
    });
    if let Ok(policy) = Policy::parse(text(data))
        && let Ok(vouched) = policy.check(signed)
    {
        assert!(vouched.witnesses.is_empty());
    }
}

/// A proof; none but a made-up one can verify.
pub fn proof(data: &[u8]) {
    let text = text(data);
    if let Ok(proof) = Proof::parse(text) {
        assert_eq!(proof.to_string(), text);
        let leaf = proof.extra.clone().unwrap_or_default();
        let _ = proof.verify(&leaf, &Policy::of_log(key().verifying_key()));
    }
}

/// What is said to a witness, and what it answers about a checkpoint of ours.
pub fn witness(data: &[u8]) {
    let text = text(data);
    if let Ok(request) = text.parse::<AddCheckpoint>() {
        assert_eq!(request.to_body(), text);
    }
    if let Ok(size) = witness::conflicting_size(text) {
        assert_eq!(format!("{size}\n"), text);
    }
    let checkpoint = Checkpoint {
        origin: "example.org/log".into(),
        size: 0,
        root: clawstaff_audit::tree::empty_root(),
    };
    let signed = checkpoint.sign(&key()).unwrap();
    let cosigner = Cosigner::of(&key().verifying_key());
    if let Ok((lines, _)) = witness::cosignatures(text, &signed, &cosigner) {
        let note = Note::parse(&format!("{signed}{lines}")).unwrap();
        cosigner.verify(&note).unwrap();
    }
}

/// An entry's leaf.
pub fn entry(data: &[u8]) {
    let _ = Entry::parse(data);
    let _ = text(data).parse::<Stream>();
}

/// The path of a tile, and a bundle of entries.
pub fn tile(data: &[u8]) {
    if let Ok(tile) = text(data).parse::<Tile>() {
        assert_eq!(tile.to_string(), text(data));
    }
    if let Some(entries) = tile::entries(data) {
        let bytes: usize = entries.iter().map(|entry| entry.len() + 2).sum();
        assert_eq!(bytes, data.len());
    }
}

/// A bundle in which something was changed: it must be noticed. The input is a list of changes, six bytes each:
/// file (2), place (2), what to do, with what.
pub fn bundle(data: &[u8]) {
    let good = good_bundle();
    let mut files = good.clone();
    for change in data.chunks_exact(6).take(64) {
        let at = |i: usize| usize::from(u16::from_be_bytes([change[i], change[i + 1]]));
        let names: Vec<String> = files.keys().cloned().collect();
        let Some(name) = names.get(at(0) % names.len().max(1)) else {
            break;
        };
        let bytes = files.get_mut(name).unwrap();
        let place = at(2) % (bytes.len() + 1);
        match change[4] % 5 {
            0 if place < bytes.len() => bytes[place] = change[5],
            1 => bytes.insert(place, change[5]),
            2 if place < bytes.len() => drop(bytes.remove(place)),
            3 => drop(files.remove(name)),
            _ => {
                let moved = files.remove(name).unwrap();
                files.insert(format!("{name}{}", char::from(change[5] % 26 + b'a')), moved);
            }
        }
    }
    let report = bundle::verify(&files, Some(&Policy::of_log(key().verifying_key())));
    assert_eq!(report.is_clean(), files == *good, "{:?}", report.problems);
}

fn draft() -> Draft {
    Draft {
        stream: Stream::System("gateway".into()),
        phase: Phase::Fact,
        call: Digest::of(b"call"),
        event: Event::new(EventKind::ToolCall, Actor::System("gateway".into())),
    }
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.join("log"),
        anchor: None,
        origin: "example.org/log".into(),
        key: key(),
        segment_bytes: 0,
    }
}

fn good_bundle() -> &'static Files {
    static BUNDLE: OnceLock<Files> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(options(root.path())).unwrap();
        for _ in 0..5 {
            log.append_blocking(draft()).unwrap();
        }
        let checkpoint = log.checkpoint();
        drop(log);
        let policy = format!("log {}\nquorum none\n", key().vkey());
        let mut bundler = Bundler::default();
        let published = Published::new(&root.path().join("log"));
        bundler
            .add_log("log", &published, &checkpoint, &policy, &mut |index, _| index > 1)
            .unwrap();
        bundler.finish([].into()).unwrap()
    })
}

/// The beginning of a journal's first segment, as opening a log reads it. It may be accepted or refused, and
/// nothing is written: the disk is read-only.
pub fn segment(data: &[u8]) {
    let mut bytes = data.to_vec();
    bytes.resize(data.len().max(MIN_SEGMENT_BYTES as usize), 0);
    let environment = Environment {
        disk: Arc::new(OneSegment(bytes)),
        ..Environment::default()
    };
    assert!(Log::open_in(options(Path::new("/")), environment).is_err());
}

/// A disk with nothing on it but one segment.
#[derive(Debug)]
struct OneSegment(Vec<u8>);

fn is_segment(path: &Path) -> bool {
    path.ends_with("journal/00000000.seg")
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for OneSegment {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let journal = path.ends_with("journal").then(|| "00000000.seg".to_owned());
        Ok(journal.into_iter().collect())
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        match is_segment(path) {
            true => Ok(Box::new(Segment(self.0.clone()))),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }
    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        match is_segment(path) {
            true => Ok(self.0.clone()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn sync_below(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        Ok(Some(Box::new(Held)))
    }
}

#[derive(Debug)]
struct Held;

impl Guard for Held {}

#[derive(Debug)]
struct Segment(Vec<u8>);

impl DiskFile for Segment {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = (offset as usize).min(self.0.len());
        let n = buffer.len().min(self.0.len() - start);
        buffer[..n].copy_from_slice(&self.0[start..start + n]);
        Ok(n)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        refused()
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        refused()
    }
    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
}
