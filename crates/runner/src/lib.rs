//! Keeps the cages of one machine as the control plane wants them.
//!
//! ```text
//!   control plane ──state──► ┌ observe ──► plan (pure) ──► execute ┐ ──acts──► back end
//!                 ◄─status── └──────────────◄──────────────────────┘ ──intent, outcome──► gateway
//! ```
//!
//! Everything is level-triggered: the wanted state has a revision, is kept across restarts, and is made so; no
//! message is the only carrier of a fact. No act without a durable record at the gateway, and without the
//! gateway no running cage: it is frozen until somebody mediates again.
//!
//! Read in this order: `plan.rs` (what to do next), `execute.rs` (how one step is done), `run.rs` (the loop).
//! The runner decides nothing about what should run, holds no secret but its own node token, knows no policy,
//! and is on no data path.

mod choose;
mod confine;
mod control;
mod execute;
mod files;
mod gateway;
mod http;
pub mod local;
pub mod memory;
pub mod plan;
mod record;
mod run;
pub mod selftest;
pub mod snapshots;
mod status;
mod stills;

use std::{path::PathBuf, sync::Arc};

use clawstaff_cage::Backend;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use choose::{BackendChoice, ChooseError, UnknownBackend, docker, native};
pub use confine::{ConfineError, confine_process};
pub use files::FileError;

use crate::{
    execute::Hands,
    files::Files,
    gateway::Gateway,
    http::Peer,
    local::Local,
    plan::Mediator,
    run::{Loop, Wires},
    stills::Stills,
};

/// What the runner must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data root of the installation.
    pub data: PathBuf,
    /// Which back end makes the cages.
    pub backend: BackendChoice,
    /// The program that makes native cages.
    pub launcher: PathBuf,
    /// The program that is the init of every cage.
    pub claw: PathBuf,
    /// Docker Engine or Podman socket; `None` means the engine's usual one.
    pub docker_host: Option<String>,
    /// The engine's runtime for the cages, gVisor's or Kata's say; `None` means its usual one.
    pub runtime: Option<String>,
    /// Leave cages as they are when the runner ends.
    pub keep_cages: bool,
    /// Whether operators may run commands in cages.
    pub exec: bool,
}

/// Why the runner could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing on this host can make cages.
    #[error(transparent)]
    Backend(#[from] ChooseError),
    /// Its own files.
    #[error(transparent)]
    Files(#[from] FileError),
    /// Its socket.
    #[error("cannot serve {path}: {source}")]
    Socket {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs until shutdown; then stops the cages, unless `keep_cages`.
///
/// # Errors
/// When no back end works here, its files cannot be read, or its socket cannot be made.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let backend = choose::choose(&config).await?;
    run_with(&config, backend, shutdown).await
}

/// The same with a back end that the caller made.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: &Config,
    backend: Arc<dyn Backend>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let places = Places::new(config);
    let files = Files::new(config.data.join("runner"));
    let kept = files.load_kept()?.unwrap_or_default();
    let (state_in, state) = watch::channel(files.load_state()?);
    let (mediator_in, mediator) = watch::channel(Mediator::Unknown);
    let (status_in, status) = watch::channel(None);
    let socket = config.data.join("run/runner.sock");
    let listener = local::bind(&socket).map_err(|source| RunError::Socket {
        path: socket.display().to_string(),
        source,
    })?;
    tracing::info!(backend = backend.name(), "the runner is ready");
    let hands = Arc::new(Hands {
        backend,
        gateway: Gateway::new(places.gateway),
        stills: Stills::default(),
    });
    // The gateway is watched to the very end: the last stops want to be recorded.
    let end = CancellationToken::new();
    let local = Arc::new(Local {
        hands: Arc::clone(&hands),
        state: state.clone(),
        exec: config.exec,
    });
    let around = [
        tokio::spawn(control::watch(
            places.control.clone(),
            files.clone(),
            state_in,
            shutdown.clone(),
        )),
        tokio::spawn(hands.gateway.clone().watch(mediator_in, end.clone())),
        tokio::spawn(local::serve(listener, local, shutdown.clone())),
        tokio::spawn(control::tell(places.control, status)),
    ];
    let wires = Wires {
        state,
        mediator,
        status: status_in,
    };
    Loop::new(hands, files, wires, kept)
        .run(&shutdown, config.keep_cages)
        .await;
    end.cancel();
    for task in around {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task of the runner died");
        }
    }
    // Best effort: a socket that is left behind is replaced by the next runner.
    drop(std::fs::remove_file(&socket));
    Ok(())
}

/// The two servers that the runner speaks to.
struct Places {
    control: Peer,
    gateway: Peer,
}

impl Places {
    fn new(config: &Config) -> Self {
        let run = config.data.join("run");
        Self {
            control: Peer {
                socket: run.join("nodes.sock"),
                owned: config.data.join("control"),
                token: Some(config.data.join("runner/node.token")),
            },
            gateway: Peer {
                socket: run.join("gateway.sock"),
                owned: config.data.join("gateway"),
                token: None,
            },
        }
    }
}
