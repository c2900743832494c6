//! The cages' storage: made, measured, copied and put back. As root an image of a fixed size, else a directory.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clawstaff_types::spec::Limit;

use super::{
    core::Core,
    record::{self, Record},
};
use crate::{
    backend::{CageError, During, refused},
    capability::Enforcement,
    id::CageId,
    observed::{Observed, Stats},
    reached::{PLACES, Sight, TEMPORARY},
    snapshot::{Shelf, Snapshot, SnapshotName, Source},
    spec::CageSpec,
    storage,
};

impl Core {
    pub(super) fn make_storage(&self, spec: &CageSpec, dir: &Path) -> Result<(), CageError> {
        let (image, bytes) = (dir.join("storage.img"), spec.limits.storage.0);
        if self.capabilities().limits.get(&Limit::Storage) != Some(&Enforcement::Enforced) {
            return self
                .make_data_directory(spec, dir)
                .during(&spec.id, "make its storage");
        }
        match image.metadata() {
            Ok(found) if found.len() == bytes => Ok(()),
            Ok(_) => Err(CageError::Refused {
                id: spec.id.clone(),
                why: "`limits.storage` cannot change while the cage exists; destroy it first".to_owned(),
            }),
            Err(_) => {
                let unfinished = dir.join("storage.next");
                storage::make_image(&self.config.state_dir.join("templates"), &unfinished, bytes)
                    .and_then(|()| fs::rename(&unfinished, &image))
                    .during(&spec.id, "make its storage")
            }
        }
    }

    fn make_data_directory(&self, spec: &CageSpec, dir: &Path) -> io::Result<()> {
        let data = dir.join("data");
        if data.exists() {
            return Ok(());
        }
        let unfinished = dir.join("data.next");
        fs::create_dir_all(&unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))?;
        if self.root {
            let (user, group) = self.ids(&spec.id)?;
            chown(&unfinished, Some(user), Some(group))?;
        }
        fs::rename(unfinished, data)
    }

    /// The way to a live cage's `/data`. Its root is read-only and `/data` a mount point in it: this path stays on the
    /// cage's storage.
    pub(super) fn mounted(&self, id: &CageId) -> Option<PathBuf> {
        self.init_of(id)
            .map(|init| PathBuf::from(format!("/proc/{init}/root/data")))
    }

    /// The host's process id of a live cage's init.
    fn init_of(&self, id: &CageId) -> Option<u32> {
        match record::read(&self.dir(id)) {
            Ok(Record::Running(running)) if running.init.lives() => Some(running.init.pid.unsigned_abs()),
            Ok(Record::None | Record::Running(_) | Record::Exited(_)) | Err(_) => None,
        }
    }

    /// What a live cage uses, and what is counted of it against its limits.
    pub(super) fn live_stats(&self, id: &CageId) -> Stats {
        let mut stats = self.cgroups.stats(id);
        stats.counts = self.cgroups.counts(id);
        let dir = self.dir(id);
        stats.counts.output_lost = output_lost(&dir);
        let Some(sight) = self.init_of(id).map(Sight::of) else {
            return stats;
        };
        // Without a size of its own, `/data` is as full as the host's disk.
        let sized = dir.join("storage.img").exists();
        (stats.counts.bytes, stats.counts.files) = sight.room(if sized { &PLACES } else { TEMPORARY });
        if let Ok(seen) = sight.processes() {
            stats.counts.descriptors = Some(seen.descriptors);
            // Where no cgroup counts them.
            stats.pids = stats.pids.max(seen.tasks);
        }
        stats
    }

    pub(super) fn snapshot(&self, id: &CageId) -> Result<Snapshot, CageError> {
        self.alone(id, || {
            let spec = self.spec(id)?;
            self.still(&spec.id, |dir| {
                on_disk(dir, |source| Shelf::of(dir).take(source, SystemTime::now()))
            })
        })
    }

    pub(super) fn snapshots(&self, id: &CageId) -> Result<Vec<Snapshot>, CageError> {
        let spec = self.spec(id)?;
        Shelf::of(&self.dir(&spec.id))
            .list()
            .during(id, "list its snapshots")
    }

    pub(super) fn restore(&self, id: &CageId, name: &SnapshotName) -> Result<(), CageError> {
        self.alone(id, || match self.observe(id)? {
            Observed::Absent => Err(CageError::Absent(id.clone())),
            Observed::Running { .. } | Observed::Paused => {
                refused(id, "it runs: stop it first, then restore")
            }
            Observed::Created | Observed::Exited(_) => {
                let dir = self.dir(id);
                let put = on_disk(&dir, |target| Shelf::of(&dir).put_back(name, target));
                put.during(id, "restore the snapshot")
            }
        })
    }

    pub(super) fn forget_snapshot(&self, id: &CageId, name: &SnapshotName) -> Result<(), CageError> {
        self.alone(id, || {
            let spec = self.spec(id)?;
            let removed = Shelf::of(&self.dir(&spec.id)).remove(name);
            removed.during(id, "remove the snapshot")
        })
    }

    /// Does something with the cage's directory while nothing in the cage runs and its storage is written out.
    fn still<T>(&self, id: &CageId, work: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, CageError> {
        let doing = "copy its storage";
        let dir = self.dir(id);
        let frozen = match self.observe(id)? {
            Observed::Absent => return Err(CageError::Absent(id.clone())),
            Observed::Created | Observed::Exited(_) => return work(&dir).during(id, doing),
            Observed::Paused => true,
            Observed::Running { .. } => false,
        };
        if let Enforcement::NotEnforced { why, .. } = self.cgroups.freezing() {
            return refused(
                id,
                format!("it cannot be frozen meanwhile ({why}): stop it first"),
            );
        }
        if !frozen {
            self.cgroups.freeze(id, true).during(id, "freeze it")?;
        }
        let done = self.write_out(id).and_then(|()| work(&dir));
        // We die here: the runner finds it frozen and lets it go on.
        if !frozen {
            self.cgroups.freeze(id, false).during(id, "thaw it")?;
        }
        done.during(id, doing)
    }

    fn write_out(&self, id: &CageId) -> io::Result<()> {
        match self.mounted(id) {
            Some(data) => Ok(rustix::fs::syncfs(fs::File::open(data)?)?),
            None => Ok(()),
        }
    }
}

/// Bytes of the cage's output that the launcher has not kept.
fn output_lost(dir: &Path) -> Option<u64> {
    match fs::read_to_string(dir.join("log.lost")) {
        Ok(text) => text.trim().parse().ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
        Err(_) => None,
    }
}

/// Calls with where the cage's storage is.
fn on_disk<T>(dir: &Path, work: impl FnOnce(Source<'_>) -> T) -> T {
    let (image, data) = (dir.join("storage.img"), dir.join("data"));
    if image.exists() {
        work(Source::Image(&image))
    } else {
        work(Source::Directory(&data))
    }
}

/// Bytes in use by the cage's storage: by its own file system where that is mounted, else on the host's.
pub(super) fn used_bytes(dir: &Path, mounted: &Path) -> u64 {
    let image = dir.join("storage.img");
    if !image.exists() {
        return storage::disk_bytes(&dir.join("data"));
    }
    match rustix::fs::statvfs(mounted) {
        Ok(found) => found
            .f_blocks
            .saturating_sub(found.f_bfree)
            .saturating_mul(found.f_frsize),
        Err(_) => image.metadata().map_or(0, |found| found.blocks() * 512),
    }
}
