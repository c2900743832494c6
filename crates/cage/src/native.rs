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
mod launch;
mod record;
mod run_exec;
mod users;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use self::core::Core;
use crate::{
    backend::{Backend, CageError},
    capability::Capabilities,
    id::CageId,
    observed::{ExecOutput, Observed, Stats},
    spec::CageSpec,
};

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
pub struct Native(Arc<Core>);

impl Native {
    /// Opens the back end and finds out what this host can enforce.
    ///
    /// # Errors
    /// [`CageError::Unavailable`] when a program is missing or the state directory cannot be used.
    pub fn new(config: NativeConfig) -> Result<Self, CageError> {
        Core::open(config).map(|core| Self(Arc::new(core)))
    }

    /// Does file-system work off the async threads.
    fn blocking<T: Send + 'static>(
        &self,
        id: &CageId,
        work: impl FnOnce(&Core, &CageId) -> Result<T, CageError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CageError>> {
        let (core, id) = (Arc::clone(&self.0), id.clone());
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
        self.0.capabilities()
    }

    fn create<'a>(&'a self, spec: &'a CageSpec) -> BoxFuture<'a, Result<(), CageError>> {
        let spec = spec.clone();
        self.blocking(&spec.id.clone(), move |core, _| core.create(&spec))
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
        self.blocking(id, Core::destroy)
    }

    fn observe<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Observed, CageError>> {
        self.blocking(id, Core::observe)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<CageId>, CageError>> {
        let core = Arc::clone(&self.0);
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
