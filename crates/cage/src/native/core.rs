//! The acts of the native back end, one after the other for each cage; plain blocking code.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    NativeConfig,
    cgroup::Cgroups,
    host::{self, unavailable},
    images::{self, Pinned},
    launch::{self, Launch},
    record::{self, Process, Record, Running},
    run_exec::Ready,
    users,
};
use crate::{
    CAGE_UID,
    backend::{CageError, During},
    builtin::{self, Builtin},
    capability::Capabilities,
    id::CageId,
    image::{Images, RunConfig},
    observed::{Exit, ExitReason, Observed, Stats},
    raze::raze,
    spec::{CageSpec, Image},
    storage, tail,
};

/// Longest wait for the shim to write down an exit after the last process was killed.
const SETTLING: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: NativeConfig,
    pub(super) root: bool,
    pub(super) cgroups: Cgroups,
    builtin: Builtin,
    pub(super) images: Images,
    locks: Mutex<HashMap<CageId, Arc<Mutex<()>>>>,
}

impl Core {
    pub(super) fn open(mut config: NativeConfig) -> Result<Self, CageError> {
        for program in [&config.launcher, &config.claw] {
            let found = program.is_file();
            found
                .then_some(())
                .ok_or_else(|| unavailable("find a program", program.display()))?;
        }
        let make = |dir: &str| fs::create_dir_all(config.state_dir.join(dir));
        ["cages", "images", "etc"]
            .iter()
            .try_for_each(|dir| make(dir))
            .map_err(|e| unavailable("make its state directory", e))?;
        // The kernel names the file behind a loop device by its real path.
        config.state_dir = config
            .state_dir
            .canonicalize()
            .map_err(|error| unavailable("find its state directory", error))?;
        let etc = config.state_dir.join("etc");
        fs::write(etc.join("hosts"), builtin::HOSTS)
            .and_then(|()| fs::write(etc.join("resolv.conf"), builtin::RESOLV_CONF))
            .map_err(|error| unavailable("write the cages' own files", error))?;
        let builtin =
            Builtin::new(&config.claw).map_err(|error| unavailable("read the `claw` program", error))?;
        let root = host::is_root();
        let cages = config.state_dir.join("cages");
        let held = |id: &CageId| {
            fs::read_to_string(cages.join(id.as_str()).join("user"))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        users::sweep(&config.state_dir.join("users"), held)
            .map_err(|error| unavailable("look after the cages' user ids", error))?;
        let cgroups = Cgroups::of_this_host(&config.state_dir, root);
        Ok(Self {
            root,
            cgroups,
            images: Images::at(config.state_dir.join("images/oci"), builtin.clone())
                .map_err(|error| unavailable("make a directory for images", error))?,
            config,
            builtin,
            locks: Mutex::default(),
        })
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        host::capabilities(&self.cgroups, self.root)
    }

    /// Does one act on a cage at a time.
    pub(super) fn alone<T>(
        &self,
        id: &CageId,
        act: impl FnOnce() -> Result<T, CageError>,
    ) -> Result<T, CageError> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    pub(super) fn dir(&self, id: &CageId) -> PathBuf {
        self.config.state_dir.join("cages").join(id.as_str())
    }

    pub(super) fn spec(&self, id: &CageId) -> Result<CageSpec, CageError> {
        match fs::read(self.dir(id).join("spec.json")) {
            Ok(text) => serde_json::from_slice(&text).during(id, "read its spec"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CageError::Absent(id.clone())),
            Err(error) => Err(error).during(id, "read its spec"),
        }
    }

    /// Makes the cage. `image` is there for an image of other people.
    pub(super) fn create(&self, spec: &CageSpec, image: Option<Pinned>) -> Result<(), CageError> {
        self.alone(&spec.id, || {
            let dir = self.dir(&spec.id);
            fs::create_dir_all(dir.join("stage")).during(&spec.id, "make its directory")?;
            self.make_user(&spec.id, &dir)?;
            self.make_storage(spec, &dir)?;
            images::write(&dir, image.as_ref()).during(&spec.id, "write down its image")?;
            write_spec(spec, &dir).during(&spec.id, "write its spec")
        })
    }

    pub(super) fn admit(&self, spec: &CageSpec) -> Result<(), CageError> {
        let refused = |why: String| {
            Err(CageError::Refused {
                id: spec.id.clone(),
                why,
            })
        };
        if !spec
            .command
            .first()
            .is_some_and(|program| program.starts_with('/'))
        {
            return refused("the command must start with an absolute path".to_owned());
        }
        if spec.limits.storage.0 < storage::SMALLEST {
            return refused("`limits.storage` is below 8MiB".to_owned());
        }
        if spec.limits.pids == 0 || spec.limits.milli_cpus == 0 || spec.limits.memory.0 < 4 << 20 {
            return refused(
                "`limits` leave no room to run: memory from 4MiB, cpus and pids from 1".to_owned(),
            );
        }
        self.capabilities().admit(&spec.id, &spec.limits)
    }

    /// As root, takes a host user id; it stays with the cage and its files.
    fn make_user(&self, id: &CageId, dir: &Path) -> Result<(), CageError> {
        if self.root && !dir.join("user").exists() {
            let number =
                users::take(&self.config.state_dir.join("users"), id).during(id, "take a user id")?;
            replace(&dir.join("user"), number.to_string().as_bytes()).during(id, "write its user id")?;
        }
        Ok(())
    }

    /// The host's user and group id of the cage's processes.
    pub(super) fn ids(&self, id: &CageId) -> io::Result<(u32, u32)> {
        if !self.root {
            return Ok((
                rustix::process::getuid().as_raw(),
                rustix::process::getgid().as_raw(),
            ));
        }
        let text = fs::read_to_string(self.dir(id).join("user"))?;
        let number = text.trim().parse().map_err(io::Error::other)?;
        Ok((number, number))
    }

    pub(super) fn start(&self, id: &CageId) -> Result<(), CageError> {
        self.alone(id, || {
            let spec = self.spec(id)?;
            self.settled(id)?;
            if matches!(self.observe(id)?, Observed::Running { .. } | Observed::Paused) {
                return Ok(());
            }
            let (image, run) = self.image(&spec)?;
            self.cgroups.remove(id).during(id, "remove its old cgroups")?;
            self.cgroups
                .create(id, &spec.limits)
                .during(id, "make its cgroups")?;
            let (user, group) = self.ids(id).during(id, "find its user id")?;
            let launch = Launch {
                launcher: &self.config.launcher,
                spec: &spec,
                dir: &self.dir(id),
                image: &image,
                etc: &self.config.state_dir.join("etc"),
                user,
                group,
                cgroups: self.cgroups.dirs(id),
                oom: self.cgroups.oom_file(id),
                run: &run,
            };
            launch.run().map_err(|detail| CageError::Failed {
                id: id.clone(),
                doing: "start it",
                detail,
            })
        })
    }

    /// The root file system, and how it wants to run.
    fn image(&self, spec: &CageSpec) -> Result<(PathBuf, RunConfig), CageError> {
        match &spec.image {
            Image::Builtin => self
                .builtin
                .directory(&self.config.state_dir.join("images"))
                .during(&spec.id, "assemble its image")
                .map(|place| (place, RunConfig::default())),
            Image::Directory(path) => Ok((path.clone(), RunConfig::default())),
            Image::Oci(_) => {
                let pinned = images::read(&self.dir(&spec.id)).during(&spec.id, "find its image")?;
                Ok((self.images.root(&pinned.image.digest), pinned.image.run))
            }
        }
    }

    /// What the cage's image was when its revision was made.
    pub(super) fn pinned(&self, id: &CageId) -> Option<Pinned> {
        images::read(&self.dir(id)).ok()
    }

    pub(super) const fn images(&self) -> &Images {
        &self.images
    }

    /// Removes images that no cage has any more.
    pub(super) fn forget_images(&self) -> io::Result<()> {
        let cages = self.list().map_err(io::Error::other)?;
        let kept = cages.iter().filter_map(|id| self.pinned(id));
        self.images
            .keep_only(&kept.map(|pinned| pinned.image.digest).collect())
    }

    pub(super) fn stop(&self, id: &CageId, grace: Duration) -> Result<(), CageError> {
        self.alone(id, || self.end(id, grace))
    }

    fn end(&self, id: &CageId, grace: Duration) -> Result<(), CageError> {
        let doing = "stop it";
        self.settled(id)?;
        if let Record::Running(running) = record::read(&self.dir(id)).during(id, doing)?
            && running.is_of_this_boot()
        {
            self.end_running(id, &running, grace).during(id, doing)?;
        }
        self.cgroups.remove(id).during(id, "remove its cgroups")
    }

    /// Waits for a launcher that a back end before us has started: it holds the cage's directory until it is done.
    fn settled(&self, id: &CageId) -> Result<(), CageError> {
        let doing = "wait for a launcher that is making it";
        let dir = match fs::File::open(self.dir(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.during(id, doing)?,
        };
        let end = Instant::now() + SETTLING;
        loop {
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(1));
                }
                held => return held.during(id, doing),
            }
        }
    }

    fn end_running(&self, id: &CageId, running: &Running, grace: Duration) -> io::Result<()> {
        if !grace.is_zero() && running.init.lives() {
            self.cgroups.freeze(id, false)?;
            signal(running.init, Signal::TERM)?;
            wait_gone(running.init, grace)?;
        }
        if running.init.lives() {
            self.cgroups.kill(id)?;
            signal(running.init, Signal::KILL)?;
            self.cgroups.freeze(id, false)?;
            wait_gone(running.init, SETTLING)?;
        }
        // The shim ends after it has written down the exit and the storage is quiet.
        if wait_gone(running.shim, SETTLING)? {
            return Ok(());
        }
        Err(io::Error::other("its parent process does not end"))
    }

    pub(super) fn freeze(&self, id: &CageId, frozen: bool) -> Result<(), CageError> {
        self.alone(id, || match self.observe(id)? {
            Observed::Running { .. } | Observed::Paused => {
                let doing = if frozen { "freeze it" } else { "thaw it" };
                self.cgroups.freeze(id, frozen).during(id, doing)
            }
            Observed::Absent => Err(CageError::Absent(id.clone())),
            Observed::Created | Observed::Exited(_) => Err(CageError::NotRunning(id.clone())),
        })
    }

    pub(super) fn destroy(&self, id: &CageId) -> Result<(), CageError> {
        let done = self.alone(id, || {
            self.end(id, Duration::ZERO)?;
            let dir = self.dir(id);
            if !dir.exists() {
                return Ok(());
            }
            if self.root && dir.join("user").exists() {
                let (user, _) = self.ids(id).during(id, "find its user id")?;
                users::give_back(&self.config.state_dir.join("users"), user)
                    .during(id, "give its user id back")?;
            }
            raze(&dir).during(id, "remove its files")
        });
        if done.is_ok() {
            self.locks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(id);
        }
        done
    }

    pub(super) fn observe(&self, id: &CageId) -> Result<Observed, CageError> {
        let dir = self.dir(id);
        if !dir.join("spec.json").exists() {
            return Ok(Observed::Absent);
        }
        let exited = |reason| {
            let output = tail::of_log(&dir, 4096).unwrap_or_default();
            Observed::Exited(Exit {
                reason,
                last_lines: tail::lines(&output),
            })
        };
        Ok(match record::read(&dir).during(id, "observe it")? {
            Record::None => Observed::Created,
            Record::Exited(reason) => exited(reason),
            Record::Running(running) if !lives(&running) => {
                // The shim may have written the exit between our two looks.
                match record::read(&dir).during(id, "observe it")? {
                    Record::Exited(reason) => exited(reason),
                    Record::None | Record::Running(_) => exited(ExitReason::Unknown),
                }
            }
            Record::Running(_) if self.cgroups.is_frozen(id) => Observed::Paused,
            Record::Running(running) => Observed::Running {
                pid: running.init.pid.unsigned_abs(),
                started: running.since,
            },
        })
    }

    pub(super) fn list(&self) -> Result<Vec<CageId>, CageError> {
        let entries = fs::read_dir(self.config.state_dir.join("cages"))
            .map_err(|error| unavailable("list the cages", error))?;
        let mut ids: Vec<CageId> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    pub(super) fn stats(&self, id: &CageId) -> Result<Stats, CageError> {
        let dir = self.dir(id);
        let mut stats = match self.observe(id)? {
            Observed::Absent => return Err(CageError::Absent(id.clone())),
            Observed::Running { .. } | Observed::Paused => self.live_stats(id),
            Observed::Created | Observed::Exited(_) => Stats::default(),
        };
        stats.storage_bytes = super::storage::used_bytes(&dir, &self.mounted(id).unwrap_or_default());
        Ok(stats)
    }

    pub(super) fn logs(&self, id: &CageId, tail_bytes: u64) -> Result<Vec<u8>, CageError> {
        let dir = self.dir(id);
        if !dir.exists() {
            return Err(CageError::Absent(id.clone()));
        }
        tail::of_log(&dir, tail_bytes).during(id, "read its log")
    }

    /// The user id of the cage's processes, as they see it.
    fn uid(&self, id: &CageId) -> u32 {
        self.pinned(id).map_or(CAGE_UID, |pinned| pinned.image.run.uid())
    }

    /// What the launcher needs to run a command in the cage.
    pub(super) fn exec_arguments(&self, id: &CageId) -> Result<Ready, CageError> {
        let spec = self.spec(id)?;
        match record::read(&self.dir(id)).during(id, "find its init")? {
            Record::Running(running) if running.is_of_this_boot() && running.init.lives() => Ok(Ready {
                launcher: self.config.launcher.clone(),
                line: launch::exec(
                    running.init,
                    self.uid(id),
                    &self.cgroups.dirs(id),
                    spec.limits.pids,
                ),
            }),
            Record::None | Record::Running(_) | Record::Exited(_) => Err(CageError::NotRunning(id.clone())),
        }
    }
}

/// Whether the cage runs, or its shim is about to write down that it does not.
fn lives(running: &Running) -> bool {
    running.is_of_this_boot() && (running.shim.lives() || running.init.lives())
}

fn write_spec(spec: &CageSpec, dir: &Path) -> io::Result<()> {
    replace(&dir.join("spec.json"), &serde_json::to_vec(spec)?)?;
    fs::File::open(dir)?.sync_all()
}

pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = fs::File::create(&next)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    fs::rename(next, path)
}

/// Signals exactly this process. One that is gone already is no error.
fn signal(process: Process, signal: Signal) -> io::Result<()> {
    match open(process)? {
        Some(fd) => match pidfd_send_signal(&fd, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        },
        None => Ok(()),
    }
}

/// Waits until the process has ended; says whether it has.
fn wait_gone(process: Process, patience: Duration) -> io::Result<bool> {
    let Some(fd) = open(process)? else {
        return Ok(true);
    };
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(
            &mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A descriptor of the process, or nothing when it is gone.
fn open(process: Process) -> io::Result<Option<std::os::fd::OwnedFd>> {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Looked at after the descriptor is open: it cannot come to mean another process.
        Ok(fd) => Ok(process.lives().then_some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
