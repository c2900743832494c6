//! A disk that fails on demand and forgets what was never synced.
//!
//! Everything is in memory. Each changing operation has a number; a [`Plan`] says what happens at one of them.
//! [`Sim::after_power_cut`] is the disk that a machine finds when the power has come back: what was synced, and
//! of the rest whatever [`Survival`] chose: sectors dropped, kept, kept in an earlier version, torn in the
//! middle, and any of the changed names. [`Sim::put_down`] writes such a disk to a real directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use clawstaff_audit::disk::{Disk, DiskFile, Guard};

const SECTOR: usize = 512;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and has no effect.
    Lost,
    /// It fails and has its effect all the same.
    Happened,
    /// A write writes half; another operation is unharmed.
    Short,
    /// It fails, and so does everything after it.
    PowerCut,
}

/// One fault, at one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) at: u64,
    pub(crate) fault: Fault,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync, each with what it held after every such write.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    /// A write or sync has failed: the kernel may have dropped anything.
    spoilt: bool,
}

impl Inode {
    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for (sector, _) in std::mem::take(&mut self.dirty) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
            self.durable[range.clone()].copy_from_slice(&self.now[range]);
        }
    }
}

#[derive(Debug, Clone)]
enum NameChange {
    Link {
        path: PathBuf,
        inode: usize,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: usize,
    },
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (Self::Link { path, .. } | Self::Unlink { path } | Self::Rename { to: path, .. }) = self;
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link { path, inode } => drop(names.insert(path.clone(), *inode)),
            Self::Unlink { path } => drop(names.remove(path)),
            // Changes of several directories become durable in any order, so the name may be another file's by now.
            Self::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    operations: u64,
    plan: Option<Plan>,
    dead: bool,
    full: bool,
    locked: bool,
    /// Contracts that the log broke.
    breaches: Vec<String>,
}

/// The simulated disk; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sim(Arc<Mutex<State>>);

/// How an operation goes.
enum Course {
    Well,
    Short,
    Fails { effect: bool },
}

impl Sim {
    pub(crate) fn with(plan: Option<Plan>) -> Self {
        let sim = Self::default();
        sim.state().plan = plan;
        sim
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// One fault, at an operation to come.
    pub(crate) fn fail(&self, at: u64, fault: Fault) {
        self.state().plan = Some(Plan { at, fault });
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Whether a fault has happened since the power came on.
    pub(crate) fn has_failed(&self) -> bool {
        let state = self.state();
        state.dead || state.plan.is_some_and(|plan| plan.at <= state.operations)
    }

    pub(crate) fn breaches(&self) -> Vec<String> {
        self.state().breaches.clone()
    }

    /// The disk as it is found when the power has come back. `seed` chooses what survives of the un-synced.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Self {
        let mut survival = Survival::chosen_by(seed);
        let state = self.state();
        let mut names = state.durable_names.clone();
        for change in survival.names(&state.changes) {
            change.apply(&mut names);
        }
        let inodes = state.inodes.iter().map(|inode| survival.content(inode));
        let found = State {
            inodes: inodes.collect(),
            durable_names: names.clone(),
            names,
            dirs: state.dirs.clone(),
            ..State::default()
        };
        Self(Arc::new(Mutex::new(found)))
    }

    /// Writes what is left after the power was cut to a real directory.
    pub(crate) fn put_down(&self, seed: u64, root: &Path) {
        let found = self.after_power_cut(seed);
        let state = found.state();
        for dir in &state.dirs {
            fs::create_dir_all(root.join(dir.strip_prefix("/").unwrap())).unwrap();
        }
        for (path, inode) in &state.names {
            let bytes = &state.inodes[*inode].durable;
            fs::write(root.join(path.strip_prefix("/").unwrap()), bytes).unwrap();
        }
    }
}

/// What a disk has done, by the time the power fails, with what it was not told to sync.
struct Survival {
    random: Random,
    sectors: Sectors,
    names: Names,
}

/// Which sectors survive.
enum Sectors {
    None,
    All,
    /// Each by itself, in any version it had.
    Some,
    /// As `Some`, and one may hold the beginning of one version and the end of another.
    Torn,
}

/// Which changes of names survive.
enum Names {
    /// The first so many: a file system with a journal.
    Prefix,
    /// Any of them: a file system without.
    Some,
}

impl Survival {
    fn chosen_by(seed: u64) -> Self {
        let mut random = Random(seed);
        let sectors = match random.below(8) {
            0 => Sectors::None,
            1 => Sectors::All,
            2 | 3 => Sectors::Torn,
            _ => Sectors::Some,
        };
        let names = match random.below(2) {
            0 => Names::Prefix,
            _ => Names::Some,
        };
        Self {
            random,
            sectors,
            names,
        }
    }

    fn names<'a>(&mut self, changes: &'a [NameChange]) -> Vec<&'a NameChange> {
        match self.names {
            Names::Prefix => {
                let kept = self.random.below(changes.len() + 1);
                changes.iter().take(kept).collect()
            }
            Names::Some => changes.iter().filter(|_| self.random.below(2) == 0).collect(),
        }
    }

    fn content(&mut self, inode: &Inode) -> Inode {
        let mut bytes = inode.durable.clone();
        if inode.now.len() > bytes.len() && self.random.below(2) == 0 {
            bytes.resize(inode.now.len(), 0);
        }
        for (sector, versions) in &inode.dirty {
            let start = sector * SECTOR;
            // The file is as short as it was: what was written beyond is gone with its length.
            let Some(old) = bytes.get(start..) else {
                continue;
            };
            let old = old[..old.len().min(SECTOR)].to_vec();
            let new = self.sector(&old, versions);
            let n = new.len().min(old.len());
            bytes[start..][..n].copy_from_slice(&new[..n]);
        }
        Inode {
            now: bytes.clone(),
            durable: bytes,
            ..Inode::default()
        }
    }

    fn sector(&mut self, old: &[u8], versions: &[Vec<u8>]) -> Vec<u8> {
        let newest = versions.last().unwrap();
        let any = |random: &mut Random| match random.below(versions.len() + 1) {
            0 => old.to_vec(),
            version => versions[version - 1].clone(),
        };
        match self.sectors {
            Sectors::None => old.to_vec(),
            Sectors::All => newest.clone(),
            Sectors::Some => any(&mut self.random),
            Sectors::Torn => {
                let (head, mut tail) = (any(&mut self.random), any(&mut self.random));
                let torn = self.random.below(SECTOR).min(head.len()).min(tail.len());
                tail[..torn].copy_from_slice(&head[..torn]);
                tail
            }
        }
    }
}

/// `SplitMix64`: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n as u64)).unwrap()
    }
}

impl State {
    /// Counts an operation and says how it goes.
    fn course(&mut self) -> Course {
        if self.dead {
            return Course::Fails { effect: false };
        }
        self.operations += 1;
        match self.plan.filter(|plan| plan.at == self.operations) {
            None => Course::Well,
            Some(Plan { fault, .. }) => match fault {
                Fault::Lost => Course::Fails { effect: false },
                Fault::Happened => Course::Fails { effect: true },
                Fault::Short => Course::Short,
                Fault::PowerCut => {
                    self.dead = true;
                    Course::Fails { effect: false }
                }
            },
        }
    }

    fn rename_or_so(&mut self, change: NameChange) -> io::Result<()> {
        let course = self.course();
        if !matches!(course, Course::Fails { effect: false }) {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
        ended(&course)
    }
}

fn ended(course: &Course) -> io::Result<()> {
    match course {
        Course::Well | Course::Short => Ok(()),
        Course::Fails { .. } => Err(io::Error::other("simulated failure")),
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for Sim {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(io::Error::other("simulated failure"));
        }
        state.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dirs.contains(path) {
            return Err(not_found());
        }
        let here = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(here
            .map(|name| name.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.state().names.get(path).ok_or_else(not_found)?;
        let is_journal = path.extension().is_some_and(|extension| extension == "seg");
        Ok(Box::new(SimFile {
            sim: self.clone(),
            inode,
            is_journal,
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        {
            let mut state = self.state();
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            let path = path.to_owned();
            state.rename_or_so(NameChange::Link { path, inode })?;
        }
        self.open(path)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let state = self.state();
        let inode = *state.names.get(path).ok_or_else(not_found)?;
        let bytes = state.inodes[inode].now.clone();
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inode = *state.names.get(from).ok_or_else(not_found)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        state.rename_or_so(NameChange::Rename { from, to, inode })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(not_found());
        }
        let path = path.to_owned();
        state.rename_or_so(NameChange::Unlink { path })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.dirs.contains(path) {
            return Err(not_found());
        }
        let below: Vec<PathBuf> = state
            .names
            .keys()
            .filter(|name| name.starts_with(path))
            .cloned()
            .collect();
        for path in below {
            state.rename_or_so(NameChange::Unlink { path })?;
        }
        state.dirs.retain(|dir| !dir.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let course = state.course();
        if !matches!(course, Course::Fails { effect: false }) {
            let (here, elsewhere) = std::mem::take(&mut state.changes)
                .into_iter()
                .partition(|change| change.dir() == path);
            state.changes = elsewhere;
            let here: Vec<NameChange> = here;
            for change in here {
                change.apply(&mut state.durable_names);
            }
        }
        ended(&course)
    }

    fn sync_below(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let course = state.course();
        if !matches!(course, Course::Fails { effect: false }) {
            let (here, elsewhere) = std::mem::take(&mut state.changes)
                .into_iter()
                .partition(|change| change.dir().starts_with(path));
            state.changes = elsewhere;
            let here: Vec<NameChange> = here;
            for change in here {
                change.apply(&mut state.durable_names);
            }
            let inodes: Vec<usize> = state
                .names
                .iter()
                .filter(|(name, _)| name.starts_with(path))
                .map(|(_, inode)| *inode)
                .collect();
            for inode in inodes {
                state.inodes[inode].sync();
            }
        }
        ended(&course)
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimGuard(self.clone()))))
    }
}

#[derive(Debug)]
struct SimGuard(Sim);

impl Guard for SimGuard {}

impl Drop for SimGuard {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

#[derive(Debug)]
struct SimFile {
    sim: Sim,
    inode: usize,
    is_journal: bool,
}

impl SimFile {
    /// After a failed write or sync of a segment, the log must not touch it again.
    fn spoil(&self, state: &mut State, course: &Course) {
        if self.is_journal && state.inodes[self.inode].spoilt && !state.dead {
            state
                .breaches
                .push("a segment was used again after a failure".to_owned());
        }
        if matches!(course, Course::Fails { .. }) {
            state.inodes[self.inode].spoilt = true;
        }
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.sim.state().inodes[self.inode].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.sim.state();
        let bytes = &state.inodes[self.inode].now;
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let n = buffer.len().min(bytes.len() - start);
        buffer[..n].copy_from_slice(&bytes[start..start + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.sim.state();
        let course = state.course();
        self.spoil(&mut state, &course);
        let n = match course {
            Course::Well | Course::Fails { effect: true } => bytes.len(),
            Course::Short => bytes.len().div_ceil(2),
            Course::Fails { effect: false } => 0,
        };
        let start = usize::try_from(offset).unwrap();
        let inode = &mut state.inodes[self.inode];
        if inode.now.len() < start + n {
            inode.now.resize(start + n, 0);
        }
        inode.now[start..start + n].copy_from_slice(&bytes[..n]);
        if n > 0 {
            for sector in start / SECTOR..=(start + n - 1) / SECTOR {
                let whole = sector * SECTOR..((sector + 1) * SECTOR).min(inode.now.len());
                let version = inode.now[whole].to_vec();
                inode.dirty.entry(sector).or_default().push(version);
            }
        }
        ended(&course)?;
        Ok(n)
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        let mut state = self.sim.state();
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let course = state.course();
        ended(&course)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.sim.state();
        let course = state.course();
        self.spoil(&mut state, &course);
        if !matches!(course, Course::Fails { effect: false }) {
            state.inodes[self.inode].sync();
        }
        ended(&course)
    }
}
