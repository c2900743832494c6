//! `clawstaff up`: the three processes of one machine under one supervisor.
//!
//! The supervisor makes directories and tokens, starts the parts with only the environment they need, restarts
//! one that dies, and stops them in order. It reads no secret and speaks to no cage; what it starts are copies
//! of its own executable, as users of their own where it was started as root.

mod child;
mod prepare;
mod ready;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{
    child::{Part, Parts},
    prepare::{Owner, Owners},
};
use super::parts::CustodyArgs;
use crate::{context::Context, failure::Failure, output, place::Place};

/// How long the parts may take to be ready before that is said.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// Run control plane, gateway and runner on this machine, in the foreground
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clawstaff up
  clawstaff up --data ./staff --listen 127.0.0.1:8080 --cage native

SIGTERM or Ctrl-C stops cages, gateway and control plane, in this order.")]
pub(crate) struct Args {
    /// Where the dashboard and the API listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7410")]
    listen: SocketAddr,

    /// Where inbound events (Slack) arrive; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7411")]
    ingress: SocketAddr,

    /// What makes the cages: auto, native or docker
    #[arg(long, value_name = "BACKEND", default_value = "auto", value_parser = ["auto", "native", "docker"])]
    cage: String,

    /// Docker Engine or Podman socket
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    docker_host: Option<String>,

    /// PEM file with further certificate authorities to trust for tools and models
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    extra_ca: Option<PathBuf>,

    #[command(flatten)]
    custody: CustodyArgs,

    /// Leave cages as they are when stopping
    #[arg(long)]
    keep_cages: bool,

    /// Refuse `clawstaff claw exec` and `selftest` on this host
    #[arg(long)]
    no_exec: bool,

    /// User of this host who may log in besides the one who starts this; may be given several times
    #[arg(long = "login-uid", value_name = "UID")]
    login_uids: Vec<u32>,

    /// Let other processes of this user read the control plane's memory, to search it for what must not be there
    #[arg(long)]
    inspectable: bool,

    /// User id of the control plane, when started as root
    #[arg(long, value_name = "UID", env = "CLAWSTAFF_CONTROL_UID", default_value_t = 64101, value_parser = clap::value_parser!(u32).range(1..))]
    control_uid: u32,

    /// User id of the gateway, when started as root
    #[arg(long, value_name = "UID", env = "CLAWSTAFF_GATEWAY_UID", default_value_t = 64102, value_parser = clap::value_parser!(u32).range(1..))]
    gateway_uid: u32,

    /// Group that may make sockets in DATA/run, when started as root
    #[arg(long, value_name = "GID", env = "CLAWSTAFF_GID", default_value_t = 64100, value_parser = clap::value_parser!(u32).range(1..))]
    gid: u32,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let place = context.place()?;
    let owners = owners(&args)?;
    let _lock = prepare::prepare(&place, &owners)?;
    let listen = concrete(args.listen)?;
    let ingress = concrete(args.ingress)?;
    let shutdown = CancellationToken::new();
    let mut parts = Parts::start(specs(&place, &args, &owners, listen, ingress), &place);
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let announce = announce(&place, listen, shutdown.clone());
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failure = parts.given_up() => Err(failure),
        never = announce => never,
    };
    shutdown.cancel();
    parts.stop().await;
    ended
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}

/// Says when everything is ready, then waits for ever.
async fn announce(place: &Place, listen: SocketAddr, shutdown: CancellationToken) -> Result<(), Failure> {
    let mut late = false;
    loop {
        match tokio::time::timeout(READY_WITHIN, ready::ready(place)).await {
            Ok(ingress) => {
                output::line(&format!(
                    "ready: dashboard http://{listen} · API unix:{} · ingress {ingress}",
                    place.api_socket().display()
                ))?;
                shutdown.cancelled().await;
                return Ok(());
            }
            Err(_) if late => {}
            Err(_) => {
                late = true;
                output::note("not ready yet; see the messages above");
            }
        }
    }
}

/// The address with a port of its own.
fn concrete(address: SocketAddr) -> Result<SocketAddr, Failure> {
    if address.port() != 0 {
        return Ok(address);
    }
    let bound = std::net::TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|error| Failure::failed(format!("cannot listen on {address}: {error}")))
}

fn owners(args: &Args) -> Result<Owners, Failure> {
    let own = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    if own.uid != 0 {
        return Ok(Owners {
            runner: own,
            control: own,
            gateway: own,
        });
    }
    if args.control_uid == args.gateway_uid {
        let message = "control plane and gateway must run as different users";
        return Err(Failure::usage(message).hint("give --control-uid and --gateway-uid different numbers"));
    }
    let part = |uid| Owner { uid, gid: args.gid };
    Ok(Owners {
        runner: own,
        control: part(args.control_uid),
        gateway: part(args.gateway_uid),
    })
}

/// What to start, in the order of starting.
fn specs(place: &Place, args: &Args, owners: &Owners, listen: SocketAddr, ingress: SocketAddr) -> Vec<Part> {
    let words = |name: &str, more: &[(&str, OsString)]| {
        let mut words: Vec<OsString> = vec![name.into(), "--data".into(), place.root().into()];
        for (option, value) in more {
            words.push(option.into());
            if !value.is_empty() {
                words.push(value.clone());
            }
        }
        words
    };
    let mut runner: Vec<(&str, OsString)> = vec![("--cage", args.cage.clone().into())];
    if let Some(host) = &args.docker_host {
        runner.push(("--docker-host", host.into()));
    }
    if args.keep_cages {
        runner.push(("--keep-cages", OsString::new()));
    }
    if args.no_exec {
        runner.push(("--no-exec", OsString::new()));
    }
    let mut control: Vec<(&str, OsString)> = vec![("--listen", listen.to_string().into())];
    let logins = args.login_uids.iter().chain([&owners.runner.uid]);
    control.extend(logins.map(|uid| ("--login-uid", uid.to_string().into())));
    if args.inspectable {
        control.push(("--inspectable", OsString::new()));
    }
    let runner_uid: OsString = owners.runner.uid.to_string().into();
    let mut gateway: Vec<(&str, OsString)> = vec![
        ("--ingress", ingress.to_string().into()),
        ("--local-uid", runner_uid),
    ];
    if let Some(file) = &args.extra_ca {
        gateway.push(("--extra-ca", file.into()));
    }
    gateway.extend(args.custody.options());
    vec![
        Part::new("control", words("control", &control), owners.control).has_log(),
        Part::new("gateway", words("gateway", &gateway), owners.gateway)
            .whole_environment()
            .has_log(),
        Part::new("runner", words("runner", &runner), owners.runner),
    ]
}

/// The parts run elsewhere, so a path must not depend on where this one runs.
fn absolute(text: &str) -> Result<PathBuf, std::io::Error> {
    std::path::absolute(text)
}

/// The folder with `claw` and `clawstaff-launcher`: `CLAWSTAFF_LIBEXEC`, else where this program is.
pub(crate) fn libexec() -> Result<PathBuf, Failure> {
    if let Some(folder) = std::env::var_os("CLAWSTAFF_LIBEXEC") {
        return std::path::absolute(&folder)
            .map_err(|error| Failure::usage(format!("cannot use CLAWSTAFF_LIBEXEC: {error}")));
    }
    let own = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot tell where this program is: {error}")))?;
    Ok(own.parent().map(PathBuf::from).unwrap_or_default())
}
