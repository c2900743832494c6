//! Cages made by the kernel alone, each by one run of `clawstaff-launcher`.
//!
//! The state of a cage is files below `state_dir/cages/<id>/`: `spec.json` (written last by create, so that its
//! presence means "created"), `state`, `log` and `log.1` (written by the launcher), and the storage. Nothing is
//! kept in memory that matters: another process with the same `state_dir` sees the same cages.
//!
//! As root every cage has a host user id of its own and storage of a hard size. As an ordinary user all cages share
//! that user's id on the host (each in its own namespaces), and what needs root is reported as not enforced.

mod cgroup;
mod core;
mod host;
mod images;
mod launch;
mod record;
mod run_exec;
mod storage;
mod users;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clawstaff_types::Digest;
use futures_util::future::BoxFuture;

use self::{core::Core, images::Pinned};
use crate::{
    backend::{Backend, CageError, During as _, image_error},
    capability::Capabilities,
    id::CageId,
    image::{Credentials, ImageError, Reference},
    observed::{ExecOutput, Observed, Stats},
    snapshot::{Snapshot, SnapshotName},
    spec::{CageSpec, Image},
};

/// Longest wait for one answer of the engine, in seconds.
const ENGINE_PATIENCE: u64 = 600;

/// Where the native back end keeps its state and finds its programs.
#[derive(Debug, Clone)]
pub struct NativeConfig {
    /// Its own directory; made when it is not there. One back end at a time.
    pub state_dir: PathBuf,
    /// The `clawstaff-launcher` program.
    pub launcher: PathBuf,
    /// The `claw` program, for the built-in image.
    pub claw: PathBuf,
}

/// The native back end.
#[derive(Debug, Clone)]
pub struct Native {
    core: Arc<Core>,
    engine: Option<bollard::Docker>,
    making: Arc<tokio::sync::RwLock<()>>,
}

impl Native {
    /// Opens the back end and finds out what this host can enforce.
    ///
    /// # Errors
    /// [`CageError::Unavailable`] when a program is missing or the state directory cannot be used.
    pub fn new(config: NativeConfig) -> Result<Self, CageError> {
        let core = Core::open(config)?;
        Ok(Self {
            core: Arc::new(core),
            engine: None,
            making: Arc::default(),
        })
    }

    /// Takes images named `docker:…` from the engine behind this `unix://` socket. It is asked for nothing else.
    #[must_use]
    pub fn with_engine(mut self, host: &str) -> Self {
        let socket = host.strip_prefix("unix://");
        self.engine = socket.and_then(|socket| {
            bollard::Docker::connect_with_unix(socket, ENGINE_PATIENCE, bollard::API_DEFAULT_VERSION).ok()
        });
        self
    }

    /// Pulls from private registries with these credentials.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        if let Some(core) = Arc::get_mut(&mut self.core) {
            core.images.with_credentials(credentials);
        }
        self
    }

    /// The image of other people that the spec wants, unpacked: for the same revision the same as last time.
    async fn image(&self, spec: &CageSpec) -> Result<Option<Pinned>, CageError> {
        let Image::Oci(text) = &spec.image else {
            return Ok(None);
        };
        let reference: Reference = text
            .parse()
            .map_err(|error| image_error(&spec.id, ImageError::from(error)))?;
        let known = self.core.pinned(&spec.id);
        let known = known.filter(|known| known.reference == *text && known.revision == spec.revision);
        let pinned = known.map(|known| known.image.digest);
        let got = self
            .core
            .images()
            .get(&reference, pinned, self.engine.as_ref())
            .await;
        let image = got.map_err(|error| image_error(&spec.id, error))?;
        Ok(Some(Pinned {
            reference: text.clone(),
            revision: spec.revision,
            image,
        }))
    }

    /// Does file-system work off the async threads.
    fn blocking<T: Send + 'static>(
        &self,
        id: &CageId,
        work: impl FnOnce(&Core, &CageId) -> Result<T, CageError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CageError>> {
        let (core, id) = (Arc::clone(&self.core), id.clone());
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&core, &id)).await;
            done.unwrap_or_else(|error| Err(host::unavailable("finish an act", error)))
        })
    }
}

impl Backend for Native {
    fn name(&self) -> &'static str {
        host::NAME
    }

    fn capabilities(&self) -> Capabilities {
        self.core.capabilities()
    }

    fn create<'a>(&'a self, spec: &'a CageSpec) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(async move {
            self.core.admit(spec)?;
            // Held while an image is here that no cage has yet, so that nobody tidies it away.
            let _making = self.making.read().await;
            let image = self.image(spec).await?;
            let spec = spec.clone();
            self.blocking(&spec.id.clone(), move |core, _| core.create(&spec, image))
                .await
        })
    }

    fn start<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        self.blocking(id, Core::start)
    }

    fn stop<'a>(&'a self, id: &'a CageId, grace: Duration) -> BoxFuture<'a, Result<(), CageError>> {
        self.blocking(id, move |core, id| core.stop(id, grace))
    }

    fn pause<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        self.blocking(id, |core, id| core.freeze(id, true))
    }

    fn resume<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        self.blocking(id, |core, id| core.freeze(id, false))
    }

    fn destroy<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>> {
        Box::pin(async move {
            self.blocking(id, Core::destroy).await?;
            // An image that is being made keeps all of them: the next destroy tidies.
            let Ok(_tidying) = self.making.try_write() else {
                return Ok(());
            };
            self.blocking(id, |core, id| core.forget_images().during(id, "remove its image"))
                .await
        })
    }

    fn image_digest<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Option<Digest>> {
        let found = self.blocking(id, |core, id| {
            Ok(core.pinned(id).map(|pinned| pinned.image.digest))
        });
        Box::pin(async move { found.await.ok().flatten() })
    }

    fn observe<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Observed, CageError>> {
        self.blocking(id, Core::observe)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<CageId>, CageError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || core.list()).await;
            done.unwrap_or_else(|error| Err(host::unavailable("list the cages", error)))
        })
    }

    fn stats<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Stats, CageError>> {
        self.blocking(id, Core::stats)
    }

    fn logs<'a>(&'a self, id: &'a CageId, tail_bytes: u64) -> BoxFuture<'a, Result<Vec<u8>, CageError>> {
        self.blocking(id, move |core, id| core.logs(id, tail_bytes))
    }

    fn snapshot<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Snapshot, CageError>> {
        self.blocking(id, Core::snapshot)
    }

    fn snapshots<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Vec<Snapshot>, CageError>> {
        self.blocking(id, Core::snapshots)
    }

    fn restore<'a>(&'a self, id: &'a CageId, name: &'a SnapshotName) -> BoxFuture<'a, Result<(), CageError>> {
        let name = name.clone();
        self.blocking(id, move |core, id| core.restore(id, &name))
    }

    fn forget_snapshot<'a>(
        &'a self,
        id: &'a CageId,
        name: &'a SnapshotName,
    ) -> BoxFuture<'a, Result<(), CageError>> {
        let name = name.clone();
        self.blocking(id, move |core, id| core.forget_snapshot(id, &name))
    }

    fn exec<'a>(
        &'a self,
        id: &'a CageId,
        command: &'a [String],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput, CageError>> {
        Box::pin(async move {
            let ready = self.blocking(id, Core::exec_arguments).await?;
            run_exec::run(id, ready, command, timeout).await
        })
    }
}
