//! Cages made by a Docker Engine (or anything that speaks its API), each one container.
//!
//! `create` makes the container and `start` starts it. A container cannot be changed, so that a new spec for a
//! running cage becomes a second container, `….next`, which takes the first one's place at the next start. The
//! engine is the only keeper of state: names and labels carry all that this back end must know.
//!
//! Cages have no network, no writable root, no capability, the system-call table of `seccomp/cage.json`, and an own
//! size-limited file system at `/data` where the engine is on this machine and we are root
//! ([`Docker::storing_at`]); otherwise `/data` is a volume of no fixed size, and reported as such.

mod container;
mod engine;
mod exec;
mod image;
mod seed;
mod state;
mod volume;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use bollard::{
    API_DEFAULT_VERSION,
    errors::Error as EngineError,
    models::{ContainerInspectResponse, SystemInfo},
    query_parameters::{
        CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
        RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use clawstaff_types::Digest;
use futures_util::future::BoxFuture;

use self::{
    engine::{Dialect, Kind},
    volume::Volumes,
};
use crate::{
    backend::{Backend, CageError, During, refused},
    builtin::Builtin,
    capability::{Capabilities, Enforcement},
    id::CageId,
    image::Credentials,
    observed::{ExecOutput, Observed, Stats},
    snapshot::{Snapshot, SnapshotName},
    spec::CageSpec,
    storage,
};

const NAME: &str = "docker";
/// Where an engine usually is.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Longest wait for one answer of the engine, in seconds; longer than any grace.
const PATIENCE: u64 = 600;
/// Longest wait for Podman to clear up after a container that has ended, and between two looks.
const CLEARING: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where the engine is, and what goes into the built-in image.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// `unix://` and the engine's socket; `None` means `DOCKER_HOST`, and without it the usual place.
    pub host: Option<String>,
    /// The `claw` program.
    pub claw: PathBuf,
}

/// The Docker back end.
#[derive(Debug)]
pub struct Docker {
    engine: bollard::Docker,
    info: SystemInfo,
    kind: Kind,
    /// Ours on this machine, if it was given.
    directory: Option<PathBuf>,
    builtin: Arc<Builtin>,
    claw: PathBuf,
    runtime: Option<String>,
    credentials: Credentials,
    volumes: Volumes,
    /// Tells the cages of this installation from those of others on the same engine.
    owner: String,
    locks: Mutex<HashMap<CageId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Docker {
    /// Connects to the engine and asks what it can enforce.
    ///
    /// # Errors
    /// [`CageError::Unavailable`] when there is no engine or `claw` cannot be read.
    pub async fn connect(config: DockerConfig) -> Result<Self, CageError> {
        let given = config
            .host
            .or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()));
        let host = given.unwrap_or_else(|| DEFAULT_HOST.to_owned());
        let fail =
            |error: &dyn std::fmt::Display| unavailable("reach the engine", format!("{host}: {error}"));
        let socket = host
            .strip_prefix("unix://")
            .ok_or_else(|| fail(&"only `unix://` sockets are used"))?;
        let engine = bollard::Docker::connect_with_unix(socket, PATIENCE, API_DEFAULT_VERSION)
            .map_err(|e| fail(&e))?;
        let engine = engine.negotiate_version().await.map_err(|error| fail(&error))?;
        let info = engine.info().await.map_err(|error| fail(&error))?;
        let version = engine.version().await.map_err(|error| fail(&error))?;
        let program = config.claw.clone();
        let builtin = tokio::task::spawn_blocking(move || Builtin::new(&program)).await;
        let builtin = builtin.map_err(std::io::Error::other).and_then(|read| read);
        let builtin = builtin.map_err(|error| unavailable("read the `claw` program", error))?;
        Ok(Self {
            engine,
            info,
            kind: Kind::of(&version),
            directory: None,
            builtin: Arc::new(builtin),
            claw: config.claw,
            runtime: None,
            credentials: Credentials::default(),
            volumes: Volumes::of_the_engine(),
            owner: "default".to_owned(),
            locks: Mutex::default(),
        })
    }

    /// Has the engine run its containers with this runtime of its, gVisor's or Kata's say, instead of its usual one.
    #[must_use]
    pub fn with_runtime(mut self, runtime: Option<String>) -> Self {
        self.runtime = runtime;
        self
    }

    /// Pulls from private registries with these credentials.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Keeps the cages' storage as file systems of fixed size below `directory`, on this machine. Needs root, and
    /// an engine that sees the same mounts. The directory also tells this installation's cages from others'.
    #[must_use]
    pub fn storing_at(mut self, directory: PathBuf) -> Self {
        let hash = digest(&SHA256, directory.as_os_str().as_encoded_bytes());
        self.owner = hex::encode(hash.as_ref().get(..4).unwrap_or_default());
        self.directory = Some(directory.clone());
        self.volumes = Volumes::at(directory, &self.info);
        self
    }

    fn name_of(&self, id: &CageId) -> String {
        format!("clawstaff-{}-{id}", self.owner)
    }

    fn next_name_of(&self, id: &CageId) -> String {
        format!("{}.next", self.name_of(id))
    }

    /// Waits for the acts before this one on the same cage.
    async fn turn(&self, id: &CageId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }

    async fn inspect(&self, id: &CageId, name: &str) -> Result<Option<ContainerInspectResponse>, CageError> {
        let end = Instant::now() + CLEARING;
        loop {
            match self.engine.inspect_container(name, None).await {
                Ok(found) => return Ok(Some(found)),
                Err(error) if status(&error) == Some(404) => return Ok(None),
                Err(error) if engine::is_clearing(&error) && Instant::now() < end => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error).during(id, "inspect its container"),
            }
        }
    }

    async fn existing(&self, id: &CageId) -> Result<ContainerInspectResponse, CageError> {
        self.inspect(id, &self.name_of(id))
            .await?
            .ok_or_else(|| CageError::Absent(id.clone()))
    }

    /// The cage's container, which must be one that runs or is paused.
    async fn live(&self, id: &CageId) -> Result<ContainerInspectResponse, CageError> {
        let found = self.existing(id).await?;
        if state::is_live(&found) {
            Ok(found)
        } else {
            Err(CageError::NotRunning(id.clone()))
        }
    }

    async fn make(&self, spec: &CageSpec) -> Result<(), CageError> {
        let _turn = self.turn(&spec.id).await;
        container::admit(spec)?;
        engine::has_runtime(&self.info, self.runtime.as_deref()).or_else(|why| refused(&spec.id, why))?;
        self.capabilities().admit(&spec.id, &spec.limits)?;
        let name = self.name_of(&spec.id);
        let found = self.inspect(&spec.id, &name).await?;
        let image = self.image(spec, found.as_ref()).await?;
        self.volumes
            .make(spec, image.run.uid())
            .await
            .during(&spec.id, "make its storage")?;
        let user = image.run.uid();
        if let Some(owner) = self.volumes.owner(&spec.id).filter(|owner| *owner != user) {
            let why = format!(
                "its image runs as user {user} and its `/data` belongs to user {owner}: keep the user, or destroy the \
                 cage first; the native back end can change it"
            );
            return refused(&spec.id, why);
        }
        self.seed(spec, user).await?;
        let dialect = Dialect::of(self.kind, self.directory.as_deref(), self.runtime.clone());
        let dialect = dialect.during(&spec.id, "write its system-call filter")?;
        let body = container::body(spec, &image, &self.owner, &self.volumes, &self.claw, &dialect)
            .during(&spec.id, "describe its container")?;
        let name = match found {
            None => name,
            Some(found) if container::is_same(&found, &body) => {
                return self.remove(&spec.id, &self.next_name_of(&spec.id)).await;
            }
            Some(found) if state::is_live(&found) => {
                self.remove(&spec.id, &self.next_name_of(&spec.id)).await?;
                self.next_name_of(&spec.id)
            }
            Some(_) => {
                self.remove(&spec.id, &name).await?;
                name
            }
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        self.engine
            .create_container(Some(options), body)
            .await
            .during(&spec.id, "create its container")
            .map(drop)
    }

    async fn run(&self, id: &CageId) -> Result<(), CageError> {
        let _turn = self.turn(id).await;
        if state::is_live(&self.existing(id).await?) {
            return Ok(());
        }
        if self.inspect(id, &self.next_name_of(id)).await?.is_some() {
            self.remove(id, &self.name_of(id)).await?;
            let options = RenameContainerOptionsBuilder::default()
                .name(&self.name_of(id))
                .build();
            let renamed = self
                .engine
                .rename_container(&self.next_name_of(id), options)
                .await;
            renamed.during(id, "put its new container in place")?;
        }
        self.volumes.attach(id).await.during(id, "mount its storage")?;
        let started = self.engine.start_container(&self.name_of(id), None).await;
        forgive(started, &[304]).during(id, "start it")
    }

    async fn end(&self, id: &CageId, grace: Duration) -> Result<(), CageError> {
        let found = self.existing(id).await?;
        let name = self.name_of(id);
        if state::is_paused(&found) {
            forgive(self.engine.unpause_container(&name).await, &[409]).during(id, "thaw it")?;
        }
        if state::is_live(&found) && grace.is_zero() {
            let options = KillContainerOptionsBuilder::default().signal("KILL").build();
            // 409: it ended by itself meanwhile.
            forgive(self.engine.kill_container(&name, Some(options)).await, &[409]).during(id, "kill it")?;
        }
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        forgive(self.engine.stop_container(&name, Some(options)).await, &[304]).during(id, "stop it")?;
        self.volumes.detach(id).await.during(id, "unmount its storage")
    }

    async fn remove(&self, id: &CageId, name: &str) -> Result<(), CageError> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        forgive(self.engine.remove_container(name, Some(options)).await, &[404])
            .during(id, "remove its container")
    }

    async fn raze(&self, id: &CageId) -> Result<(), CageError> {
        let turn = self.turn(id).await;
        let image = self
            .inspect(id, &self.name_of(id))
            .await?
            .and_then(|found| found.image);
        self.remove(id, &self.next_name_of(id)).await?;
        self.remove(id, &self.name_of(id)).await?;
        if let Some(image) = image {
            self.forget_image(&image).await;
        }
        self.volumes
            .remove(&self.engine, &self.owner, id)
            .await
            .during(id, "remove its storage")?;
        self.locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        drop(turn);
        Ok(())
    }

    /// Copies its storage, frozen meanwhile if it runs.
    async fn copy(&self, id: &CageId) -> Result<Snapshot, CageError> {
        let _turn = self.turn(id).await;
        let found = self.existing(id).await?;
        let name = self.name_of(id);
        let runs = state::is_live(&found) && !state::is_paused(&found);
        if runs {
            self.engine.pause_container(&name).await.during(id, "freeze it")?;
        }
        let copied = self.volumes.snapshot(id).await;
        // We die here: the runner finds it frozen and lets it go on.
        if runs {
            let thawed = self.engine.unpause_container(&name).await;
            forgive(thawed, &[409]).during(id, "thaw it")?;
        }
        copied.during(id, "copy its storage")
    }

    async fn put_back(&self, id: &CageId, name: &SnapshotName) -> Result<(), CageError> {
        let _turn = self.turn(id).await;
        if state::is_live(&self.existing(id).await?) {
            return refused(id, "it runs: stop it first, then restore");
        }
        let restored = self.volumes.restore(id, name.clone()).await;
        restored.during(id, "restore the snapshot")
    }

    async fn all(&self) -> Result<Vec<CageId>, CageError> {
        let ours = format!("{}={}", container::OWNER, self.owner);
        let filters = HashMap::from([("label", vec![ours.as_str()])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let found = self.engine.list_containers(Some(options)).await;
        let found = found.map_err(|error| unavailable("list the cages", error))?;
        let labels = found
            .into_iter()
            .filter_map(|one| one.labels?.remove(container::CAGE)?.parse().ok());
        let mut ids: Vec<CageId> = labels
            .collect::<HashSet<_>>()
            .into_iter()
            .chain(self.volumes.list())
            .collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }
}

fn unavailable(doing: &'static str, error: impl std::fmt::Display) -> CageError {
    CageError::Unavailable {
        backend: NAME,
        doing,
        detail: error.to_string(),
    }
}

/// The HTTP status of a refusal.
fn status(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Takes these statuses for success: the cage is already as it should be.
fn forgive(result: Result<(), EngineError>, statuses: &[u16]) -> Result<(), EngineError> {
    match result {
        Err(error) if status(&error).is_some_and(|status| statuses.contains(&status)) => Ok(()),
        other => other,
    }
}

impl Backend for Docker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn notes(&self) -> Vec<(&'static str, String)> {
        engine::notes(self.kind, &self.info, self.runtime.as_deref())
    }

    fn capabilities(&self) -> Capabilities {
        state::capabilities(self.kind, &self.info, self.volumes.enforcement())
    }

    fn create<'a>(&'a self, spec: &'a CageSpec) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(self.make(spec))
    }

    fn start<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(self.run(id))
    }

    fn stop<'a>(&'a self, id: &'a CageId, grace: Duration) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(async move {
            let _turn = self.turn(id).await;
            match self.end(id, grace).await {
                Err(CageError::Absent(_)) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn pause<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(async move {
            let _turn = self.turn(id).await;
            if state::is_paused(&self.live(id).await?) {
                return Ok(());
            }
            self.engine
                .pause_container(&self.name_of(id))
                .await
                .during(id, "freeze it")
        })
    }

    fn resume<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(async move {
            let _turn = self.turn(id).await;
            if !state::is_paused(&self.live(id).await?) {
                return Ok(());
            }
            self.engine
                .unpause_container(&self.name_of(id))
                .await
                .during(id, "thaw it")
        })
    }

    fn destroy<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(self.raze(id))
    }

    fn image_digest<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Option<Digest>> {
        Box::pin(async move {
            // What was made last is what starts next.
            let names = [self.next_name_of(id), self.name_of(id)];
            for name in names {
                if let Ok(Some(found)) = self.inspect(id, &name).await {
                    return container::image_digest(&found);
                }
            }
            None
        })
    }

    fn observe<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Observed, CageError>> {
        Box::pin(async move {
            match self.inspect(id, &self.name_of(id)).await? {
                None => Ok(Observed::Absent),
                Some(found) => {
                    let name = self.name_of(id);
                    let tail = async || {
                        exec::logs(&self.engine, id, &name, 4096)
                            .await
                            .unwrap_or_default()
                    };
                    state::observed(&found, tail).await.during(id, "observe it")
                }
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<CageId>, CageError>> {
        Box::pin(self.all())
    }

    fn stats<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Stats, CageError>> {
        Box::pin(async move {
            let found = self.existing(id).await?;
            let mut stats = Stats::default();
            if state::is_live(&found) {
                stats = state::stats(&self.engine, &self.name_of(id))
                    .await
                    .during(id, "measure it")?;
                let sized = self.volumes.data_of(id).is_some();
                state::look(&found, sized, &mut stats.counts);
            }
            stats.storage_bytes = self.volumes.used(id);
            Ok(stats)
        })
    }

    fn logs<'a>(&'a self, id: &'a CageId, tail_bytes: u64) -> BoxFuture<'a, Result<Vec<u8>, CageError>> {
        Box::pin(async move {
            self.existing(id).await?;
            exec::logs(&self.engine, id, &self.name_of(id), tail_bytes).await
        })
    }

    fn snapshot<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Snapshot, CageError>> {
        Box::pin(self.copy(id))
    }

    fn snapshots<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Vec<Snapshot>, CageError>> {
        Box::pin(async move {
            self.existing(id).await?;
            self.volumes.snapshots(id).await.during(id, "list its snapshots")
        })
    }

    fn restore<'a>(&'a self, id: &'a CageId, name: &'a SnapshotName) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(self.put_back(id, name))
    }

    fn forget_snapshot<'a>(
        &'a self,
        id: &'a CageId,
        name: &'a SnapshotName,
    ) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(async move {
            let _turn = self.turn(id).await;
            self.existing(id).await?;
            let removed = self.volumes.forget_snapshot(id, name.clone()).await;
            removed.during(id, "remove the snapshot")
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a CageId,
        command: &'a [String],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput, CageError>> {
        Box::pin(async move {
            self.live(id).await?;
            exec::run(&self.engine, id, &self.name_of(id), command, timeout).await
        })
    }
}

/// What makes storage of a fixed size possible, besides being root.
fn tools() -> Enforcement {
    for (program, package) in [("mkfs.ext4", "e2fsprogs"), ("mount", "mount")] {
        if storage::host_program(program).is_none() {
            return Enforcement::missing(
                format!("{program} is not installed"),
                format!("install {package}"),
            );
        }
    }
    Enforcement::Enforced
}
