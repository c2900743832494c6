//! Pid 1 of a cage: opens the listeners, starts the agent, reaps, passes signals on, and ends as the agent ends.
//!
//! ```text
//! claw.json ─► listeners open ─► agent started ─► ready reported ─► … agent exits ─► init exits with its code
//! ```
//!
//! When the init exits the kernel ends every other process of the cage: there is nothing to clean up.

mod child;
mod environment;
mod health;

use std::process::ExitCode;

use clawstaff_cage_contract::DOOR_SOCKET;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    runtime,
    signal::unix::{Signal as Stream, SignalKind, signal},
};

use crate::{
    claw_file::{self, EXIT_CONFIG},
    options::Options,
    shim::{Addresses, Shim},
};

/// The exit code when the operating system did not give what an init needs (`EX_OSERR` of `sysexits.h`).
const EXIT_OS: u8 = 71;

/// The signals that are passed on to the agent.
const PASSED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Why the init gave up.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error(transparent)]
    ClawFile(#[from] claw_file::ClawFileError),
    #[error(transparent)]
    Bind(#[from] crate::shim::BindError),
    #[error("preparing the init's event loop: {0}")]
    Runtime(std::io::Error),
    #[error("listening for signals: {0}")]
    Signals(std::io::Error),
    #[error("starting the agent {program:?}: {source}")]
    Start { program: String, source: std::io::Error },
}

impl InitError {
    /// What a shell would exit with for the same reason: 127 for a program that is not there, 126 for one that
    /// cannot be started.
    fn exit_code(&self) -> u8 {
        match self {
            Self::ClawFile(_) => EXIT_CONFIG,
            Self::Bind(_) | Self::Runtime(_) | Self::Signals(_) => EXIT_OS,
            Self::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 127,
            Self::Start { .. } => 126,
        }
    }
}

/// Runs the init until the agent exits.
pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime
        .map_err(InitError::Runtime)
        .and_then(|runtime| runtime.block_on(supervise(options)));
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("claw: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn supervise(options: &Options) -> Result<u8, InitError> {
    let file = claw_file::read(&options.claw_path(clawstaff_cage_contract::CLAW_FILE))?;
    let shim = Shim::bind(&Addresses::contract(options.doors, options.proxy)).await?;
    let _serving = shim.serve(options.claw_path(DOOR_SOCKET));
    let mut children = signal(SignalKind::child()).map_err(InitError::Signals)?;
    let mut orders = orders().map_err(InitError::Signals)?;
    let agent = child::start(&file, options)?;
    let healthy = tokio::spawn(health::keep_reporting(options.doors));
    let code = loop {
        tokio::select! {
            _ = children.recv() => {
                if let Some(code) = child::reap(agent) {
                    break code;
                }
            }
            order = next(&mut orders) => pass_on(agent, order),
        }
    };
    healthy.abort();
    health::report_end(options.doors).await;
    Ok(code)
}

fn orders() -> Result<Vec<(Stream, Signal)>, std::io::Error> {
    PASSED_ON
        .into_iter()
        .map(|(kind, order)| Ok((signal(kind)?, order)))
        .collect()
}

/// The next signal to pass on, whichever comes first.
async fn next(orders: &mut [(Stream, Signal)]) -> Signal {
    std::future::poll_fn(|context| {
        for (stream, order) in orders.iter_mut() {
            if stream.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*order);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn pass_on(agent: Pid, order: Signal) {
    // The agent may have exited in this moment; its end is noticed by the reaping.
    if let Err(error) = kill_process(agent, order) {
        eprintln!("claw: passing signal {} on to the agent: {error}", order.as_raw());
    }
}
