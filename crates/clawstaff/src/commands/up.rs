//! `clawstaff up`: the three processes of one machine under one supervisor; `clawstaff node up` is the same on a node.
//!
//! The supervisor makes directories and tokens, starts the parts with only the environment they need, restarts
//! one that dies, and stops them in order. It reads no secret and speaks to no cage; what it starts are copies
//! of its own executable, as users of their own where it was started as root.

mod child;
mod prepare;
mod ready;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clawstaff_api::nodes::NodeTokens;
use clawstaff_types::NodeName;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::prepare::{Owner, put};
use self::{
    child::{Part, Parts},
    prepare::Owners,
};
use super::parts::CustodyArgs;
use crate::{context::Context, failure::Failure, output, place::Place, uplink::identity::Identity};

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

    /// Where nodes on other hosts are served, with mutual TLS; without it no other host can join
    #[arg(long, value_name = "ADDR")]
    nodes: Option<SocketAddr>,

    #[command(flatten)]
    host: HostArgs,

    /// User of this host who may log in besides the one who starts this; may be given several times
    #[arg(long = "login-uid", value_name = "UID")]
    login_uids: Vec<u32>,

    /// Let other processes of this user read the control plane's memory, to search it for what must not be there
    #[arg(long)]
    inspectable: bool,

    #[command(flatten)]
    owners: OwnerArgs,
}

/// How gateway and runner work on a host
#[derive(Debug, clap::Args)]
pub(crate) struct HostArgs {
    /// Where inbound events (Slack) arrive; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7411")]
    ingress: SocketAddr,

    /// What makes the cages: auto, native or docker
    #[arg(long, value_name = "BACKEND", default_value = "auto", value_parser = ["auto", "native", "docker"])]
    cage: String,

    /// Docker Engine or Podman socket
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    docker_host: Option<String>,

    /// The engine's runtime for the cages, such as runsc; with the docker back end only
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,

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
}

/// Whose the parts are
#[derive(Debug, clap::Args)]
pub(crate) struct OwnerArgs {
    /// User id of the control plane, or of a node's uplink, when started as root
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
    if place.identity().exists() {
        let message = format!("{} is a node of another control plane", place.root().display());
        return Err(Failure::usage(message)
            .hint("start it with `clawstaff node up`, or use another --data directory"));
    }
    let owners = owners(&args.owners)?;
    let _lock = prepare::prepare(&place, &owners)?;
    let listen = concrete(args.listen)?;
    let ingress = concrete(args.host.ingress)?;
    let mut parts = vec![control(&place, &args, &owners, listen)];
    parts.extend(on_host(&place, &args.host, &owners, ingress, None));
    supervise(&place, parts, announce(&place, listen)).await
}

/// Runs a node: what [`run`] does, with an uplink in the place of the control plane.
pub(crate) async fn node(
    place: &Place,
    args: &HostArgs,
    owners: &OwnerArgs,
    key_log: Option<&Path>,
) -> Result<(), Failure> {
    let identity = Identity::load(place)?;
    let owners = self::owners(owners)?;
    let _lock = prepare::prepare(place, &owners)?;
    let ingress = concrete(args.ingress)?;
    let mut uplink: Vec<(&str, OsString)> = Vec::new();
    uplink.extend(key_log.map(|file| ("--tls-key-log", file.into())));
    let mut parts = vec![Part::new(
        "uplink",
        words(place, "uplink", &uplink),
        owners.control,
    )];
    parts.extend(on_host(place, args, &owners, ingress, Some(&identity.node)));
    let said = format!(
        "node {} of the control plane at {}",
        identity.node, identity.address
    );
    supervise(place, parts, announce_node(place, said)).await
}

/// Makes the folders and tokens of an installation, and says what the control plane may know of the tokens.
pub(crate) fn prepare_node(place: &Place, owners: &OwnerArgs) -> Result<NodeTokens, Failure> {
    let owners = self::owners(owners)?;
    let _lock = prepare::prepare(place, &owners)?;
    let path = place.control().join("nodes.json");
    let text = std::fs::read(&path).ok();
    let tokens = text.and_then(|text| serde_json::from_slice(&text).ok());
    tokens.ok_or_else(|| Failure::failed(format!("cannot read {}", path.display())))
}

/// Starts the parts and keeps them running until a signal, or until one is given up.
async fn supervise(
    place: &Place,
    parts: Vec<Part>,
    announce: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut parts = Parts::start(parts, place);
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failure = parts.given_up() => Err(failure),
        Err(failure) = announce => Err(failure),
    };
    parts.stop().await;
    ended
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}

/// Says when everything is ready, then waits for ever.
async fn announce(place: &Place, listen: SocketAddr) -> Result<(), Failure> {
    let ingress = patiently(|| ready::ready(place)).await;
    output::line(&format!(
        "ready: dashboard http://{listen} · API unix:{} · ingress {ingress}",
        place.api_socket().display()
    ))?;
    std::future::pending().await
}

/// The same on a node. Whether the control plane can be reached is not asked: a node works without it.
async fn announce_node(place: &Place, node: String) -> Result<(), Failure> {
    let ingress = patiently(|| ready::node(place)).await;
    output::line(&format!("ready: {node} · ingress {ingress}"))?;
    std::future::pending().await
}

/// Waits for it, and says once if it takes long.
async fn patiently<F: Future<Output = String>>(ready: impl Fn() -> F) -> String {
    if let Ok(ready) = tokio::time::timeout(READY_WITHIN, ready()).await {
        return ready;
    }
    output::note("not ready yet; see the messages above");
    ready().await
}

/// The address with a port of its own.
fn concrete(address: SocketAddr) -> Result<SocketAddr, Failure> {
    if address.port() != 0 {
        return Ok(address);
    }
    let bound = std::net::TcpListener::bind(address).and_then(|listener| listener.local_addr());
    bound.map_err(|error| Failure::failed(format!("cannot listen on {address}: {error}")))
}

fn owners(args: &OwnerArgs) -> Result<Owners, Failure> {
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

/// The command line of a part.
fn words(place: &Place, name: &str, options: &[(&str, OsString)]) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![name.into(), "--data".into(), place.root().into()];
    for (option, value) in options {
        words.push(option.into());
        if !value.is_empty() {
            words.push(value.clone());
        }
    }
    words
}

fn control(place: &Place, args: &Args, owners: &Owners, listen: SocketAddr) -> Part {
    let mut control: Vec<(&str, OsString)> = vec![("--listen", listen.to_string().into())];
    control.extend(args.nodes.map(|nodes| ("--nodes", nodes.to_string().into())));
    let logins = args.login_uids.iter().chain([&owners.runner.uid]);
    control.extend(logins.map(|uid| ("--login-uid", uid.to_string().into())));
    if args.inspectable {
        control.push(("--inspectable", OsString::new()));
    }
    Part::new("control", words(place, "control", &control), owners.control).has_log()
}

/// Gateway and runner, in the order of starting.
fn on_host(
    place: &Place,
    args: &HostArgs,
    owners: &Owners,
    ingress: SocketAddr,
    node: Option<&NodeName>,
) -> [Part; 2] {
    let mut runner: Vec<(&str, OsString)> = vec![("--cage", args.cage.clone().into())];
    if let Some(host) = &args.docker_host {
        runner.push(("--docker-host", host.into()));
    }
    if let Some(runtime) = &args.runtime {
        runner.push(("--runtime", runtime.into()));
    }
    if args.keep_cages {
        runner.push(("--keep-cages", OsString::new()));
    }
    if args.no_exec {
        runner.push(("--no-exec", OsString::new()));
    }
    let runner_uid: OsString = owners.runner.uid.to_string().into();
    let mut gateway: Vec<(&str, OsString)> = vec![
        ("--ingress", ingress.to_string().into()),
        ("--local-uid", runner_uid),
    ];
    gateway.extend(node.map(|node| ("--node", node.to_string().into())));
    if let Some(file) = &args.extra_ca {
        gateway.push(("--extra-ca", file.into()));
    }
    gateway.extend(args.custody.options());
    [
        Part::new("gateway", words(place, "gateway", &gateway), owners.gateway)
            .whole_environment()
            .has_log(),
        Part::new("runner", words(place, "runner", &runner), owners.runner),
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
