//! `clawstaff control`, `gateway` and `runner`: the parts one by one, as `up` starts them.

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::PathBuf,
};

use clawstaff_gateway::CustodyPolicy;
use clawstaff_runner::BackendChoice;
use clawstaff_types::NodeName;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::up::libexec;
use crate::{context::Context, failure::Failure, fault, uplink};

/// Set by a supervisor to its process id: the part ends when the supervisor does.
pub(crate) const SUPERVISOR: &str = "CLAWSTAFF_SUPERVISOR";

/// Run the control plane alone
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff control --data /var/lib/clawstaff --listen 127.0.0.1:7410")]
pub(crate) struct ControlArgs {
    /// Where the dashboard and the API listen; without it only the Unix socket
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// Where nodes on other hosts are served, with mutual TLS; without it no other host can join
    #[arg(long, value_name = "ADDR")]
    nodes: Option<SocketAddr>,

    /// User of this host who may log in, besides root and the part's own; may be given several times
    #[arg(long = "login-uid", value_name = "UID")]
    login_uids: Vec<u32>,

    /// Let other processes of this user read the control plane's memory, to search it for what must not be there
    #[arg(long)]
    inspectable: bool,
}

/// Run the gateway alone
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff gateway --data /var/lib/clawstaff --ingress 127.0.0.1:7411")]
pub(crate) struct GatewayArgs {
    /// Where inbound events arrive
    #[arg(long, value_name = "ADDR")]
    ingress: SocketAddr,

    /// The node that this host joined as; without it, it is the control plane's own host
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,

    /// User of this host who may use the gateway's local API, besides root and its own; the runner must be one
    #[arg(long = "local-uid", value_name = "UID")]
    local_uids: Vec<u32>,

    /// PEM file with further certificate authorities to trust for tools and models
    #[arg(long, value_name = "FILE")]
    extra_ca: Option<PathBuf>,

    #[command(flatten)]
    custody: CustodyArgs,
}

/// What the gateway keeps of content, and who may read and erase it
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CustodyArgs {
    /// Keep what Claws send and receive, encrypted, on the gateway's host; without it no content is kept anywhere
    #[arg(long)]
    pub(crate) keep_content: bool,

    /// User of the gateway's host who may read content, hold and erase, besides root and the gateway's own; may be
    /// given several times
    #[arg(long = "custodian", value_name = "UID")]
    pub(crate) custodians: Vec<u32>,

    /// Have nothing erased, and no hold released, unless two custodians ask for it
    #[arg(long)]
    pub(crate) two_persons: bool,

    /// Remove entries of the gateway's log, and content kept of them, once they are older than so many days; a hold
    /// stops it, and every proof made before still verifies. Without it nothing is removed
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) keep_days: Option<u32>,
}

impl CustodyArgs {
    /// The same again for a child process.
    pub(crate) fn options(&self) -> Vec<(&'static str, OsString)> {
        let flag = |name, given: bool| given.then(|| (name, OsString::new()));
        let mut options: Vec<_> = flag("--keep-content", self.keep_content).into_iter().collect();
        let uids = self
            .custodians
            .iter()
            .map(|uid| ("--custodian", uid.to_string().into()));
        options.extend(uids);
        options.extend(flag("--two-persons", self.two_persons));
        options.extend(
            self.keep_days
                .map(|days| ("--keep-days", days.to_string().into())),
        );
        options
    }
}

impl From<CustodyArgs> for CustodyPolicy {
    fn from(args: CustodyArgs) -> Self {
        Self {
            keep: args.keep_content,
            custodians: args.custodians,
            two_persons: args.two_persons,
            keep_days: args.keep_days,
        }
    }
}

/// Run the runner alone
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff runner --data /var/lib/clawstaff --cage native")]
pub(crate) struct RunnerArgs {
    /// What makes the cages: auto, native or docker
    #[arg(long, value_name = "BACKEND", default_value = "auto", value_parser = str::parse::<BackendChoice>)]
    cage: BackendChoice,

    /// Docker Engine or Podman socket
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    docker_host: Option<String>,

    /// The engine's runtime for the cages, such as runsc; with the docker back end only
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,

    /// Leave cages as they are when stopping
    #[arg(long)]
    keep_cages: bool,

    /// Refuse `clawstaff claw exec` and `selftest` on this host
    #[arg(long)]
    no_exec: bool,
}

/// Run alone what carries a node's words to its control plane
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  clawstaff uplink --data /var/lib/clawstaff")]
pub(crate) struct UplinkArgs {
    /// Write the secrets of the connections to the control plane here, so that what is said can be captured and read
    #[arg(long, value_name = "FILE")]
    tls_key_log: Option<PathBuf>,
}

pub(crate) fn control(context: &Context, args: ControlArgs) -> Result<(), Failure> {
    let config = clawstaff_control_plane::Config {
        data: context.place()?.root().to_owned(),
        listen: args.listen,
        nodes: args.nodes,
        login_uids: args.login_uids,
        inspectable: args.inspectable,
    };
    follow_supervisor()?;
    let confined = clawstaff_control_plane::confine_process(&config);
    confined.map_err(|error| Failure::failed(format!("the control plane: {}", chain(&error))))?;
    serve("the control plane", |shutdown| {
        clawstaff_control_plane::run(config, shutdown)
    })
}

pub(crate) fn gateway(context: &Context, args: GatewayArgs) -> Result<(), Failure> {
    let config = clawstaff_gateway::Config {
        data: context.place()?.root().to_owned(),
        node: args.node.unwrap_or_else(NodeName::local),
        ingress: args.ingress,
        extra_ca: args.extra_ca,
        local_uids: args.local_uids,
        custody: args.custody.into(),
    };
    follow_supervisor()?;
    let reason = context.place()?.gateway_fault();
    fault::forget(&reason);
    let confined = clawstaff_gateway::confine_process(&config);
    let ended = confined
        .map_err(|error| Failure::failed(format!("the gateway: {}", chain(&error))))
        .and_then(|()| serve("the gateway", |shutdown| clawstaff_gateway::run(config, shutdown)));
    if let Err(failure) = &ended {
        fault::leave(&reason, failure.message());
    }
    ended
}

pub(crate) fn runner(context: &Context, args: RunnerArgs) -> Result<(), Failure> {
    let programs = libexec()?;
    let config = clawstaff_runner::Config {
        data: context.place()?.root().to_owned(),
        backend: args.cage,
        launcher: program(&programs, "clawstaff-launcher")?,
        claw: program(&programs, "claw")?,
        docker_host: args.docker_host,
        runtime: args.runtime,
        keep_cages: args.keep_cages,
        exec: !args.no_exec,
    };
    follow_supervisor()?;
    let confined = clawstaff_runner::confine_process();
    confined.map_err(|error| Failure::failed(format!("the runner: {}", chain(&error))))?;
    serve("the runner", |shutdown| clawstaff_runner::run(config, shutdown))
}

pub(crate) fn uplink(context: &Context, args: UplinkArgs) -> Result<(), Failure> {
    let place = context.place()?;
    follow_supervisor()?;
    uplink::confine(&place, args.tls_key_log.as_deref())?;
    serve("the uplink", |shutdown| async move {
        uplink::run(place, args.tls_key_log, shutdown)
            .await
            .map_err(Ended)
    })
}

/// How the uplink ended, as an error with a text.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
struct Ended(Failure);

/// One of our own programs.
pub(crate) fn program(folder: &std::path::Path, name: &str) -> Result<PathBuf, Failure> {
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("the program `{name}` is not in {}", folder.display());
    Err(Failure::failed(message)
        .hint("install it beside `clawstaff`, or name its folder in CLAWSTAFF_LIBEXEC"))
}

/// Runs a part until SIGTERM or SIGINT.
fn serve<E, F>(who: &str, part: impl FnOnce(CancellationToken) -> F) -> Result<(), Failure>
where
    E: std::error::Error,
    F: Future<Output = Result<(), E>>,
{
    log();
    // The part is confined by now, while there was one thread: the runtime's inherit that.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start {who}: {error}")))?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(end_on_signal(shutdown.clone()));
        part(shutdown)
            .await
            .map_err(|error| Failure::failed(format!("{who}: {}", chain(&error))))
    })
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn end_on_signal(shutdown: CancellationToken) {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "cannot listen for signals"),
    }
    shutdown.cancel();
}

/// A part that a supervisor started ends with it.
fn follow_supervisor() -> Result<(), Failure> {
    let Some(supervisor) = std::env::var(SUPERVISOR)
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok())
    else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::failed(format!("cannot follow the supervisor: {error}")))?;
    // It may have died before we asked to be told.
    match getppid() {
        Some(parent) if parent.as_raw_nonzero().get() == supervisor => Ok(()),
        Some(_) | None => Err(Failure::failed("the supervisor is gone")),
    }
}

/// Messages of the parts go to standard error; `CLAWSTAFF_LOG` filters, `CLAWSTAFF_LOG_FORMAT=json` is for machines.
fn log() {
    let filter = EnvFilter::try_from_env("CLAWSTAFF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let json = std::env::var_os("CLAWSTAFF_LOG_FORMAT").is_some_and(|format| format == OsStr::new("json"));
    // Already set only if somebody calls this twice, which changes nothing.
    drop(if json {
        tracing::subscriber::set_global_default(lines.json().finish())
    } else {
        tracing::subscriber::set_global_default(lines.with_ansi(false).finish())
    });
}
