//! The cgroups of a cage, on the old hierarchies (v1), the unified one (v2), or a machine that has both.
//!
//! Limits are written before any process is inside. On v1 every controller has its own tree; a v2 tree beside them
//! has no controllers, but `cgroup.kill` works there. Cages live in `clawstaff-<hash of the state directory>` below
//! the cgroup of this process, or below the root of the tree on a pure v2 host as root.

mod layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use clawstaff_types::spec::{Limit, Limits};

use self::layout::Layout;
use crate::{
    capability::Enforcement,
    id::CageId,
    observed::Stats,
    reached::{Counts, Periods},
};

/// Longest wait for the kernel to finish freezing or emptying a cgroup.
const PATIENCE: Duration = Duration::from_secs(5);

/// A tree of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tree {
    Memory,
    Cpu,
    CpuAccounting,
    Pids,
    Freezer,
    Unified,
}

const V1: [(Tree, &str); 5] = [
    (Tree::Memory, "memory"),
    (Tree::Cpu, "cpu"),
    (Tree::CpuAccounting, "cpuacct"),
    (Tree::Pids, "pids"),
    (Tree::Freezer, "freezer"),
];

/// The cgroups that this host lets us make.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// Where cages' cgroups are made, in each tree that can be used.
    bases: BTreeMap<Tree, PathBuf>,
    /// Controllers of the unified tree that cages there have.
    unified: BTreeSet<Limit>,
    /// The first thing that went wrong with each tree.
    faults: BTreeMap<Tree, String>,
}

impl Cgroups {
    /// Finds the trees, and makes our own directory in each.
    pub(super) fn of_this_host(state_dir: &Path, root: bool) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let layout = Layout::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let hash = digest(&SHA256, state_dir.as_os_str().as_encoded_bytes());
        let name = format!(
            "clawstaff-{}",
            hex::encode(hash.as_ref().get(..4).unwrap_or_default())
        );
        Self::below(&layout, &name, root)
    }

    fn below(layout: &Layout, name: &str, root: bool) -> Self {
        let mut this = Self {
            bases: BTreeMap::new(),
            unified: BTreeSet::new(),
            faults: BTreeMap::new(),
        };
        for (tree, controller) in V1 {
            if let Some(own) = layout.v1(controller) {
                this.try_base(tree, own.join(name));
            }
        }
        let Some((mount, own)) = layout.v2() else {
            return this;
        };
        if root && this.bases.is_empty() && this.open_unified(&mount.join(name)) {
            return this;
        }
        if this.bases.is_empty() {
            make_room(own);
        }
        this.open_unified(&own.join(name));
        this
    }

    fn try_base(&mut self, tree: Tree, base: PathBuf) {
        match fs::create_dir_all(&base) {
            Ok(()) => drop(self.bases.insert(tree, base)),
            Err(error) => drop(self.faults.insert(tree, format!("{}: {error}", base.display()))),
        }
    }

    /// Makes our directory in the unified tree and hands it what controllers there are. Says whether all came.
    fn open_unified(&mut self, base: &Path) -> bool {
        self.try_base(Tree::Unified, base.to_owned());
        if !self.bases.contains_key(&Tree::Unified) {
            return false;
        }
        self.unified.clear();
        for (limit, controller) in [
            (Limit::Memory, "memory"),
            (Limit::Cpus, "cpu"),
            (Limit::Pids, "pids"),
        ] {
            match hand_down(base, controller) {
                Ok(()) => drop(self.unified.insert(limit)),
                Err(error) => {
                    self.faults
                        .entry(Tree::Unified)
                        .or_insert(format!("controller {controller}: {error}"));
                }
            }
        }
        let complete = self.unified.len() == 3;
        if !complete && self.unified.is_empty() && !base.join("cgroup.kill").exists() {
            // Nothing there that a cage could use.
            let _ = fs::remove_dir(base);
            self.bases.remove(&Tree::Unified);
        }
        complete
    }

    /// Whether a limit can be written on this host.
    pub(super) fn enforcement(&self, limit: Limit) -> Enforcement {
        let tree = match limit {
            Limit::Memory => Tree::Memory,
            Limit::Cpus => Tree::Cpu,
            Limit::Pids => Tree::Pids,
            Limit::Storage => {
                return Enforcement::missing("cgroups do not limit storage", "see the storage row");
            }
        };
        if self.bases.contains_key(&tree) || self.unified.contains(&limit) {
            return Enforcement::Enforced;
        }
        let fault = self.faults.get(&tree).or_else(|| self.faults.get(&Tree::Unified));
        let why = fault.map_or_else(
            || "the kernel offers no such cgroup controller".to_owned(),
            Clone::clone,
        );
        Enforcement::missing(
            format!("no cgroup can be made for it ({why})"),
            "start the runner as root, or in a delegated cgroup (systemd: `Delegate=yes`)",
        )
    }

    /// Whether cages can be frozen.
    pub(super) fn freezing(&self) -> Enforcement {
        if self.bases.contains_key(&Tree::Freezer) || self.bases.contains_key(&Tree::Unified) {
            Enforcement::Enforced
        } else {
            Enforcement::missing(
                "no cgroup can be made to freeze a cage by",
                "start the runner as root, or in a delegated cgroup (systemd: `Delegate=yes`)",
            )
        }
    }

    fn dir(&self, tree: Tree, id: &CageId) -> Option<PathBuf> {
        self.bases.get(&tree).map(|base| base.join(id.as_str()))
    }

    /// The cage's cgroups in all trees.
    pub(super) fn dirs(&self, id: &CageId) -> Vec<PathBuf> {
        self.bases.values().map(|base| base.join(id.as_str())).collect()
    }

    /// The file that counts kills for lack of memory.
    pub(super) fn oom_file(&self, id: &CageId) -> Option<PathBuf> {
        if let Some(dir) = self.dir(Tree::Memory, id) {
            return Some(dir.join("memory.oom_control"));
        }
        self.unified
            .contains(&Limit::Memory)
            .then(|| self.dir(Tree::Unified, id))?
            .map(|dir| dir.join("memory.events"))
    }

    /// Makes the cage's cgroups with its limits.
    pub(super) fn create(&self, id: &CageId, limits: &Limits) -> io::Result<()> {
        for dir in self.dirs(id) {
            fs::create_dir_all(dir)?;
        }
        let (memory, quota) = (limits.memory.0.to_string(), Quota::of(limits.milli_cpus));
        if let Some(dir) = self.dir(Tree::Memory, id) {
            write(&dir, "memory.limit_in_bytes", &memory)?;
            // Absent where swap is not accounted for.
            if dir.join("memory.memsw.limit_in_bytes").exists() {
                write(&dir, "memory.memsw.limit_in_bytes", &memory)?;
            } else {
                write(&dir, "memory.swappiness", "0")?;
            }
        }
        if let Some(dir) = self.dir(Tree::Cpu, id) {
            write(&dir, "cpu.cfs_period_us", &quota.period.to_string())?;
            write(&dir, "cpu.cfs_quota_us", &quota.micros.to_string())?;
        }
        if let Some(dir) = self.dir(Tree::Pids, id) {
            write(&dir, "pids.max", &limits.pids.to_string())?;
        }
        match self.dir(Tree::Unified, id) {
            Some(dir) => self.limit_unified(&dir, limits, &memory, &quota),
            None => Ok(()),
        }
    }

    fn limit_unified(&self, dir: &Path, limits: &Limits, memory: &str, quota: &Quota) -> io::Result<()> {
        if self.unified.contains(&Limit::Memory) {
            write(dir, "memory.max", memory)?;
            write_if_there(dir, "memory.swap.max", "0")?;
            // One process too many ends the whole cage: half a cage is of no use to anybody.
            write_if_there(dir, "memory.oom.group", "1")?;
        }
        if self.unified.contains(&Limit::Cpus) {
            write(dir, "cpu.max", &format!("{} {}", quota.micros, quota.period))?;
        }
        if self.unified.contains(&Limit::Pids) {
            write(dir, "pids.max", &limits.pids.to_string())?;
        }
        Ok(())
    }

    /// Freezes or thaws, and waits until it is done.
    pub(super) fn freeze(&self, id: &CageId, frozen: bool) -> io::Result<()> {
        let (file, text) = if let Some(dir) = self.dir(Tree::Freezer, id) {
            (
                dir.join("freezer.state"),
                if frozen { "FROZEN" } else { "THAWED" },
            )
        } else if let Some(dir) = self.dir(Tree::Unified, id) {
            (dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })
        } else {
            return if frozen {
                Err(io::Error::other("this host has no freezer for us"))
            } else {
                Ok(())
            };
        };
        if !file.exists() && !frozen {
            return Ok(());
        }
        fs::write(&file, text)?;
        until(
            || self.is_frozen(id) == frozen,
            "the cgroup does not freeze or thaw",
        )
    }

    pub(super) fn is_frozen(&self, id: &CageId) -> bool {
        if let Some(dir) = self.dir(Tree::Freezer, id) {
            return fs::read_to_string(dir.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN");
        }
        self.dir(Tree::Unified, id)
            .and_then(|dir| fs::read_to_string(dir.join("cgroup.events")).ok())
            .is_some_and(|events| events.lines().any(|line| line == "frozen 1"))
    }

    /// Kills everything in the cage at once, where the kernel can (5.14). The death of the init does the rest.
    pub(super) fn kill(&self, id: &CageId) -> io::Result<()> {
        match self.dir(Tree::Unified, id) {
            Some(dir) => write_if_there(&dir, "cgroup.kill", "1"),
            None => Ok(()),
        }
    }

    /// Removes the cage's cgroups once they are empty.
    pub(super) fn remove(&self, id: &CageId) -> io::Result<()> {
        for dir in self.dirs(id) {
            let gone = || match fs::remove_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                done => done.is_ok(),
            };
            until(gone, "the cgroup stays busy")?;
        }
        Ok(())
    }

    pub(super) fn stats(&self, id: &CageId) -> Stats {
        let number = |dir: Option<PathBuf>, file: &str| -> u64 {
            let text = dir.and_then(|dir| fs::read_to_string(dir.join(file)).ok());
            text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
        };
        if self.unified.is_empty() {
            return Stats {
                memory_bytes: number(self.dir(Tree::Memory, id), "memory.usage_in_bytes"),
                cpu_micros: number(self.dir(Tree::CpuAccounting, id), "cpuacct.usage") / 1000,
                pids: number(self.dir(Tree::Pids, id), "pids.current"),
                ..Stats::default()
            };
        }
        let unified = || self.dir(Tree::Unified, id);
        let cpu = unified()
            .and_then(|dir| fs::read_to_string(dir.join("cpu.stat")).ok())
            .unwrap_or_default();
        let usage = cpu
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok());
        Stats {
            memory_bytes: number(unified(), "memory.current"),
            cpu_micros: usage.unwrap_or_default(),
            pids: number(unified(), "pids.current"),
            ..Stats::default()
        }
    }

    /// What the kernel counts of the cage against its limits.
    pub(super) fn counts(&self, id: &CageId) -> Counts {
        let home = |tree: Tree, limit: Limit| {
            let unified = || {
                self.unified
                    .contains(&limit)
                    .then(|| self.dir(Tree::Unified, id))?
            };
            self.dir(tree, id).or_else(unified)
        };
        let cpu = home(Tree::Cpu, Limit::Cpus).map(|dir| dir.join("cpu.stat"));
        let cpu = |key| number_of(cpu.as_deref(), key);
        let pids = home(Tree::Pids, Limit::Pids).map(|dir| dir.join("pids.events"));
        Counts {
            pids_refused: number_of(pids.as_deref(), "max"),
            oom_kills: number_of(self.oom_file(id).as_deref(), "oom_kill"),
            periods: cpu("nr_periods")
                .zip(cpu("nr_throttled"))
                .map(|(all, throttled)| Periods { all, throttled }),
            ..Counts::default()
        }
    }
}

/// The number beside `key` in a file of keys and numbers.
fn number_of(file: Option<&Path>, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file?).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find_map(|(name, number)| number.trim().parse().ok().filter(|_| name == key))
}

/// Our own directories go when they are empty, which they are when the last cage is gone.
impl Drop for Cgroups {
    fn drop(&mut self) {
        for base in self.bases.values() {
            // Cages in it survive us, and keep it.
            let _ = fs::remove_dir(base);
        }
    }
}

/// CPU time per period, in microseconds.
struct Quota {
    micros: u32,
    period: u32,
}

impl Quota {
    /// The kernel takes no quota below 1 ms, so that very small shares get the longest period, 1 s.
    fn of(milli_cpus: u32) -> Self {
        let period = if milli_cpus < 10 { 1_000_000 } else { 100_000 };
        Self {
            micros: milli_cpus.saturating_mul(period / 1000),
            period,
        }
    }
}

fn write(dir: &Path, file: &str, text: &str) -> io::Result<()> {
    let path = dir.join(file);
    fs::write(&path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn write_if_there(dir: &Path, file: &str, text: &str) -> io::Result<()> {
    if dir.join(file).exists() {
        write(dir, file, text)
    } else {
        Ok(())
    }
}

/// Lets the children of `base`, and of every cgroup above it that we may write, use a controller.
fn hand_down(base: &Path, controller: &str) -> io::Result<()> {
    let offered = |dir: &Path| {
        fs::read_to_string(dir.join("cgroup.controllers"))
            .is_ok_and(|list| list.split_whitespace().any(|name| name == controller))
    };
    let plus = format!("+{controller}");
    if !offered(base)
        && let Some(above) = base.parent()
    {
        write(above, "cgroup.subtree_control", &plus)?;
    }
    if !offered(base) {
        return Err(io::Error::other("not offered"));
    }
    write(base, "cgroup.subtree_control", &plus)
}

/// A unified cgroup with processes of its own cannot have controllers for its children: moves them, ourselves
/// among them, to a leaf. What cannot be moved shows when the controllers are handed down.
fn make_room(own: &Path) {
    let leaf = own.join("clawstaff-host");
    let Ok(pids) = fs::read_to_string(own.join("cgroup.procs")) else {
        return;
    };
    if own.join("cgroup.type").exists() && fs::create_dir_all(&leaf).is_ok() {
        for pid in pids.lines() {
            // A process may have ended meanwhile.
            let _ = fs::write(leaf.join("cgroup.procs"), pid);
        }
    }
}

/// The kernel has no event for these on all versions; it takes a moment at most.
fn until(mut done: impl FnMut() -> bool, otherwise: &'static str) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() >= end {
            return Err(io::Error::other(otherwise));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unified tree as files. Real cgroups make these files by themselves; here the test does.
    fn fake(controllers: &str) -> (tempfile::TempDir, Cgroups, CageId) {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("clawstaff-test");
        fs::create_dir(&base).unwrap();
        for place in [dir.path(), &base] {
            fs::write(place.join("cgroup.controllers"), controllers).unwrap();
            fs::write(place.join("cgroup.subtree_control"), "").unwrap();
        }
        fs::write(base.join("cgroup.kill"), "").unwrap();
        let mountinfo = format!(
            "41 31 0:37 / {} rw,relatime - cgroup2 cgroup2 rw\n",
            dir.path().display()
        );
        let groups = Cgroups::below(&Layout::parse(&mountinfo, "0::/\n"), "clawstaff-test", true);
        let id: CageId = "a-00000001".parse().unwrap();
        let cage = base.join(id.as_str());
        fs::create_dir(&cage).unwrap();
        for file in [
            "memory.swap.max",
            "memory.oom.group",
            "cgroup.kill",
            "cgroup.freeze",
        ] {
            fs::write(cage.join(file), "").unwrap();
        }
        (dir, groups, id)
    }

    #[test]
    fn on_a_pure_unified_host_every_limit_is_written_before_anything_runs() {
        let (dir, groups, id) = fake("cpuset cpu io memory pids");
        for limit in [Limit::Memory, Limit::Cpus, Limit::Pids] {
            assert_eq!(groups.enforcement(limit), Enforcement::Enforced);
        }
        groups.create(&id, &Limits::default()).unwrap();
        let cage = dir.path().join("clawstaff-test/a-00000001");
        let read = |file: &str| fs::read_to_string(cage.join(file)).unwrap();
        assert_eq!(read("memory.max"), (256 << 20).to_string());
        assert_eq!(
            (read("memory.swap.max"), read("memory.oom.group")),
            ("0".to_owned(), "1".to_owned())
        );
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!(read("pids.max"), "64");
        assert_eq!(groups.dirs(&id), vec![cage.clone()]);
        assert_eq!(groups.oom_file(&id), Some(cage.join("memory.events")));

        fs::write(cage.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        groups.freeze(&id, true).unwrap();
        assert_eq!(read("cgroup.freeze"), "1");
        groups.kill(&id).unwrap();
        assert_eq!(read("cgroup.kill"), "1");

        fs::write(cage.join("memory.current"), "4096\n").unwrap();
        fs::write(cage.join("cpu.stat"), "usage_usec 17\nuser_usec 10\n").unwrap();
        fs::write(cage.join("pids.current"), "3\n").unwrap();
        let stats = groups.stats(&id);
        assert_eq!((stats.memory_bytes, stats.cpu_micros, stats.pids), (4096, 17, 3));
    }

    #[test]
    fn a_missing_controller_is_said_to_be_missing_with_a_remedy() {
        let (_dir, groups, _) = fake("cpu pids");
        assert_eq!(groups.enforcement(Limit::Pids), Enforcement::Enforced);
        let Enforcement::NotEnforced { why, remedy } = groups.enforcement(Limit::Memory) else {
            panic!("enforced without a controller");
        };
        assert!(
            why.contains("memory") && remedy.contains("Delegate"),
            "{why} {remedy}"
        );
        assert_eq!(groups.freezing(), Enforcement::Enforced);
    }

    #[test]
    fn small_shares_of_a_cpu_fit_the_kernels_bounds() {
        for (milli, expected) in [
            (1, (1000, 1_000_000)),
            (10, (1000, 100_000)),
            (2500, (250_000, 100_000)),
        ] {
            let quota = Quota::of(milli);
            assert_eq!((quota.micros, quota.period), expected);
        }
    }
}
