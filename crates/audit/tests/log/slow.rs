//! A disk that hangs: who waits behind it is told, and nobody needs to do anything when it comes back.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use clawstaff_audit::{
    AppendError, Environment, Log, Phase,
    disk::{Disk, DiskFile, Guard, RealDisk},
};

use crate::support::{append, append_together, assert_clean, draft, options};

/// Whether syncs of segments hang, and how many do.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
    /// How many there were in all.
    syncs: AtomicUsize,
}

impl Gate {
    fn set(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |(shut, _)| *shut).unwrap();
        state.1 -= 1;
    }

    fn wait_for_one(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(state, |(_, waiting)| *waiting == 0)
                .unwrap(),
        );
    }
}

#[derive(Debug)]
struct Hanging(Arc<Gate>);

#[derive(Debug)]
struct HangingFile(Box<dyn DiskFile>, Arc<Gate>);

impl Disk for Hanging {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path)?;
        Ok(Box::new(HangingFile(file, Arc::clone(&self.0))))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(path)
    }
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        RealDisk.read(path, limit)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn sync_below(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_below(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for HangingFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }
}

#[test]
fn callers_that_are_ready_at_the_same_time_share_one_sync() {
    let root = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let environment = Environment {
        disk: Arc::new(Hanging(Arc::clone(&gate))),
        ..Environment::default()
    };
    let (log, _) = Log::open_in(options(root.path()), environment).unwrap();
    // The committer may still be up from the round before; then it begins with whoever comes first.
    let rounds = (0..100).filter(|round| {
        let before = gate.syncs.load(Ordering::SeqCst);
        let drafts = (0..32).map(|i| draft("claw:a", Phase::Fact, &format!("{round} {i}")));
        let receipts = append_together(&log, drafts.collect());
        assert!(receipts.iter().all(Result::is_ok));
        gate.syncs.load(Ordering::SeqCst) - before == 1
    });
    let shared = rounds.count();
    assert!(shared > 50, "{shared} of 100 rounds");
}

#[test]
fn while_the_disk_hangs_appends_are_refused_and_afterwards_they_go_on() {
    let root = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let environment = Environment {
        disk: Arc::new(Hanging(Arc::clone(&gate))),
        slow_after: Duration::from_millis(300),
        ..Environment::default()
    };
    let (log, _) = Log::open_in(options(root.path()), environment).unwrap();
    append(&log, draft("claw:a", Phase::Fact, "before"));

    gate.set(true);
    let in_background = |call: &'static str| {
        let log = log.clone();
        thread::spawn(move || log.append_blocking(draft("claw:a", Phase::Fact, call)))
    };
    let in_flight = in_background("in flight");
    gate.wait_for_one();
    // Nobody comes after this one: it is told all the same.
    let behind = in_background("behind it");
    assert!(matches!(behind.join().unwrap(), Err(AppendError::Slow { .. })));
    let later = log.append_blocking(draft("claw:a", Phase::Fact, "later"));
    assert!(matches!(later, Err(AppendError::Slow { .. })), "{later:?}");
    assert_eq!(log.read(0, 9).unwrap().len(), 1);

    gate.set(false);
    assert_eq!(in_flight.join().unwrap().unwrap().index(), 1);
    let after = loop {
        match log.append_blocking(draft("claw:a", Phase::Fact, "after")) {
            Err(AppendError::Slow { .. }) => thread::yield_now(),
            result => break result.unwrap(),
        }
    };
    assert_eq!(after.index(), 2);
    drop(log);
    assert_eq!(assert_clean(root.path()).size, 3);
}
