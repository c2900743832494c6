//! Which back end makes the cages: what was asked for, or the first that works on this host.
//!
//! The native back end is tried out before it is chosen, with a cage that ends at once: whether a kernel lets
//! cages be made is nothing that can be read off a file.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use clawstaff_cage::{
    Backend, CageError, CageId, CageSpec, ExitReason, Image, Observed,
    docker::{Docker, DockerConfig},
    image::Credentials,
    native::{Native, NativeConfig},
};
use clawstaff_types::{
    ByteSize,
    spec::{Limit, Limits},
};

use crate::Config;

/// How long the trial cage may take to end.
const TRIAL: Duration = Duration::from_secs(10);

/// Which back end to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// The native one if it works here, else Docker.
    #[default]
    Auto,
    /// Straight from the kernel.
    Native,
    /// A Docker Engine or Podman socket.
    Docker,
}

/// The word names no back end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a back end: auto, native or docker")]
pub struct UnknownBackend(String);

impl FromStr for BackendChoice {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "docker" => Ok(Self::Docker),
            other => Err(UnknownBackend(other.chars().take(20).collect())),
        }
    }
}

/// Why there is no back end.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// The one asked for does not work here.
    #[error("the cages that were asked for cannot be made here: {0}")]
    Broken(CageError),
    /// None works here.
    #[error("nothing on this host can make cages; native: {native}; docker: {docker}")]
    None {
        /// Why not the native one.
        native: CageError,
        /// Why not Docker.
        docker: CageError,
    },
}

/// Opens the back end that the configuration asks for.
pub(crate) async fn choose(config: &Config) -> Result<Arc<dyn Backend>, ChooseError> {
    match config.backend {
        BackendChoice::Native => native(config).await.map_err(ChooseError::Broken),
        BackendChoice::Docker => docker(config).await.map_err(ChooseError::Broken),
        BackendChoice::Auto => match native(config).await {
            Ok(backend) => Ok(backend),
            Err(native) => match docker(config).await {
                Ok(backend) => Ok(backend),
                Err(docker) => Err(ChooseError::None { native, docker }),
            },
        },
    }
}

/// The native back end, after a trial.
///
/// # Errors
/// When its programs are missing, its folder cannot be used, or the trial cage does not come to life.
pub async fn native(config: &Config) -> Result<Arc<dyn Backend>, CageError> {
    let state_dir = config.data.join("runner");
    let backend = Native::new(NativeConfig {
        state_dir: state_dir.clone(),
        launcher: config.launcher.clone(),
        claw: config.claw.clone(),
    })?
    .with_engine(
        config
            .docker_host
            .as_deref()
            .unwrap_or(clawstaff_cage::docker::DEFAULT_HOST),
    )
    .with_credentials(credentials(config));
    let backend: Arc<dyn Backend> = Arc::new(backend);
    try_out(backend.as_ref(), &state_dir).await?;
    Ok(backend)
}

/// The Docker back end. Names on the engine carry a digest of our folder, so that installations do not meet.
///
/// # Errors
/// When no engine answers.
pub async fn docker(config: &Config) -> Result<Arc<dyn Backend>, CageError> {
    let docker = Docker::connect(DockerConfig {
        host: config.docker_host.clone(),
        claw: config.claw.clone(),
    })
    .await?;
    Ok(Arc::new(
        docker
            .storing_at(config.data.join("runner/docker"))
            .with_credentials(credentials(config))
            .with_runtime(config.runtime.clone()),
    ))
}

/// The file of the runner's host with credentials for private registries; read only when an image is pulled.
fn credentials(config: &Config) -> Credentials {
    Credentials::from_file(config.data.join("runner/registries.json"))
}

/// Makes a cage in which a program ends at once, and takes it away again.
async fn try_out(backend: &dyn Backend, folder: &Path) -> Result<(), CageError> {
    let unable = |detail: String| CageError::Unavailable {
        backend: "native",
        doing: "make a trial cage",
        detail,
    };
    let door_dir = folder.join("trial");
    std::fs::create_dir_all(&door_dir).map_err(|error| unable(error.to_string()))?;
    let spec = trial(&door_dir).map_err(|error| unable(error.to_string()))?;
    let tried = live_and_end(backend, &spec).await;
    backend.destroy(&spec.id).await?;
    drop(std::fs::remove_dir(&door_dir));
    tried.map_err(|error| unable(error.to_string()))
}

fn trial(door_dir: &Path) -> Result<CageSpec, clawstaff_types::NameError> {
    let claw = "clawstaff-trial".parse()?;
    Ok(CageSpec {
        id: CageId::new(&claw, 0),
        claw,
        revision: 0,
        image: Image::Builtin,
        door_dir: door_dir.to_owned(),
        limits: Limits {
            memory: ByteSize::mib(64),
            storage: ByteSize::mib(16),
            accept_unenforced: vec![Limit::Memory, Limit::Cpus, Limit::Pids, Limit::Storage],
            ..Limits::default()
        },
        command: ["/sbin/claw", "probe", "not-root"].map(str::to_owned).to_vec(),
    })
}

async fn live_and_end(backend: &dyn Backend, spec: &CageSpec) -> Result<(), CageError> {
    let failed = |detail: &str| CageError::Failed {
        id: spec.id.clone(),
        doing: "run a program in a trial cage",
        detail: detail.to_owned(),
    };
    backend.create(spec).await?;
    backend.start(&spec.id).await?;
    let ending = async {
        loop {
            if let Observed::Exited(exit) = backend.observe(&spec.id).await? {
                return match exit.reason {
                    ExitReason::Code(0) => Ok(()),
                    ExitReason::Code(_)
                    | ExitReason::Signal(_)
                    | ExitReason::OutOfMemory
                    | ExitReason::Unknown => Err(failed(&crate::status::shorten(&exit.last_lines))),
                };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TRIAL, ending)
        .await
        .unwrap_or_else(|_| Err(failed("it did not end")))
}
