//! The gateway as a process: confine, open, restore, serve, end.
//!
//! `$DATA/gateway` is the gateway's alone; see `Layout`. The order matters: confinement comes before anything
//! else exists that could escape it, the log before anything that must be recorded, the last good state before
//! the first door.

pub(crate) mod http;
mod recovery;

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use clawstaff_audit::{AppendError, DEFAULT_SEGMENT_BYTES, Log, NoteError, Options, Recovery, SigningKey};
use clawstaff_types::{NodeName, Secret};
use clawstaff_vault::{
    Unlock, Vault,
    seal::{KeyFileError, PrivateKey},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    approvals::{self, Approvals},
    confine::{self, ConfineError, Confinement, Plan},
    expiry,
    inbox::{self, Clock, Inbox, InboxError, InboxKey, KeyError},
    ingress,
    local::{self, Callers},
    node::{self, GuardrailsError, Node, NodeEnd},
    retention,
    shared::{CustodyPolicy, Gateway, Instance, Parts, StartError},
    sinks,
    stores::{self, Stores, StoresError},
    witnesses::{self, Witnesses, WitnessesError},
};

/// The log's name and its key's.
fn origin(node: &NodeName) -> String {
    if node.is_local() {
        "clawstaff.local/gateway".to_owned()
    } else {
        format!("clawstaff.local/gateway-{node}")
    }
}

/// Places where hosts put secrets for processes to read.
const SECRET_MOUNTS: [&str; 3] = ["/run/secrets", "/var/run/secrets", "/etc/clawstaff"];
/// How often doors that could not be opened are tried again.
const RETRY_DOORS: Duration = Duration::from_secs(10);
/// What may still run when the process ends.
const LAST_WORK: Duration = Duration::from_secs(5);
const MAX_SMALL_FILE: u64 = 64 * 1024;

/// Where the gateway works.
#[derive(Debug, Clone)]
pub struct Config {
    /// `$DATA`
    pub data: PathBuf,
    /// The node that it is on.
    pub node: NodeName,
    /// Where inbound events arrive; port 0 takes a free one.
    pub ingress: SocketAddr,
    /// PEM file with further certificate authorities to trust for upstreams.
    pub extra_ca: Option<PathBuf>,
    /// Users of the local API besides root and the gateway's own: the runner's uid, and whose `up` it was.
    pub local_uids: Vec<u32>,
    /// What is kept of content, and who may read and erase it.
    pub custody: CustodyPolicy,
}

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A directory could not be made.
    #[error("cannot make the directory `{}`: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot use `{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The process could not be confined.
    #[error("cannot confine the gateway")]
    Confine(#[from] ConfineError),
    /// The log's key.
    #[error("cannot use the log's key")]
    LogKey(#[from] NoteError),
    /// The log.
    #[error("cannot open the gateway's log")]
    Log(#[from] clawstaff_audit::OpenError),
    /// What a crash left cannot be recorded.
    #[error("cannot record what the last run left unfinished")]
    Recovery(#[from] AppendError),
    /// The vault.
    #[error("cannot open the vault")]
    Vault(#[from] clawstaff_vault::OpenError),
    /// The sealing key.
    #[error("cannot use the sealing key")]
    SealKey(#[from] KeyFileError),
    /// The inbox's key.
    #[error("cannot use the inbox's key")]
    InboxKey(#[from] KeyError),
    /// The inbox.
    #[error("cannot open the inbox")]
    Inbox(#[from] InboxError),
    /// The shared state.
    #[error("cannot prepare the gateway")]
    Start(#[from] StartError),
    /// The host's guardrails.
    #[error("cannot use the host's guardrails")]
    Guardrails(#[from] GuardrailsError),
    /// The host's stores of secrets.
    #[error("cannot use the host's stores of secrets")]
    Stores(#[from] StoresError),
    /// The policy of external witnesses.
    #[error("cannot use the policy of external witnesses")]
    Witnesses(#[from] WitnessesError),
    /// A listener.
    #[error("cannot listen on {what}: {source}")]
    Listen {
        /// The address.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The threads could not be started.
    #[error("cannot start the gateway's threads: {0}")]
    Threads(io::Error),
    /// The process must be started again.
    #[error("the gateway ends to be started again")]
    Again(#[from] NodeEnd),
    /// A thread of the gateway panicked.
    #[error("the gateway ended unexpectedly")]
    Panicked,
}

/// `$DATA` as the gateway sees it.
#[derive(Debug, Clone)]
struct Layout {
    data: PathBuf,
    own: PathBuf,
    keys: PathBuf,
    doors: PathBuf,
    run: PathBuf,
}

impl Layout {
    fn of(data: &Path) -> Self {
        let own = data.join("gateway");
        Self {
            data: data.to_owned(),
            keys: own.join("keys"),
            doors: data.join("doors"),
            run: data.join("run"),
            own,
        }
    }

    /// Makes what is missing. A directory that is there keeps its mode and owner: `up` has set them.
    fn make(&self) -> Result<(), RunError> {
        let private = [
            &self.own,
            &self.keys,
            &self.own.join("anchor"),
            &self.own.join("log"),
        ];
        let dirs = private.into_iter().map(|dir| (dir.clone(), 0o700));
        for (path, mode) in dirs.chain([(self.doors.clone(), 0o710), (self.run.clone(), 0o711)]) {
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path);
            made.map_err(|source| RunError::Directory { path, source })?;
        }
        Ok(())
    }

    fn sinks(&self) -> sinks::Places {
        sinks::Places {
            cursors: self.own.join("sinks"),
            exports: self.own.join("exports"),
            socket: self.run.join("nodes.sock"),
            token: self.own.join("node.token"),
        }
    }

    fn witnesses(&self) -> witnesses::Places {
        witnesses::Places {
            own: self.own.clone(),
            log: self.own.join("log"),
        }
    }

    fn node(&self, node: &NodeName) -> node::Paths {
        node::Paths {
            node: node.clone(),
            data: self.data.clone(),
            socket: self.run.join("nodes.sock"),
            token: self.own.join("node.token"),
            state_key: self.own.join("state_key"),
            state: self.own.join("state.json"),
            cosigned: self.own.join("cosigned.checkpoint"),
            control_checkpoint: self.own.join("control.checkpoint"),
            control_vkey: self.own.join("control.vkey"),
            guardrails: self.own.join("guardrails.toml"),
        }
    }
}

static CONFINED: OnceLock<(Confinement, Unlock)> = OnceLock::new();

/// Confines the whole process, if called before it has a second thread: the first thing that `main` does.
/// Without it, [`run`] confines a thread of its own and everything it starts, and leaves the caller's alone.
///
/// # Errors
/// When directories cannot be made or a layer refuses.
pub fn confine_process(config: &Config) -> Result<(), RunError> {
    let confined = confine_thread(config)?;
    let _first = CONFINED.set(confined);
    Ok(())
}

/// Runs the gateway until `shutdown`.
///
/// # Errors
/// When it cannot start, or must be started again.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    if let Some((confinement, unlock)) = CONFINED.get() {
        return serve(config, confinement.clone(), unlock.clone(), shutdown).await;
    }
    let (done, ended) = tokio::sync::oneshot::channel();
    let work = move || {
        let _sent = done.send(run_confined(config, shutdown));
    };
    thread::Builder::new()
        .name("gateway".to_owned())
        .spawn(work)
        .map_err(RunError::Threads)?;
    ended.await.unwrap_or(Err(RunError::Panicked))
}

/// Confines this thread, then starts the runtime whose threads inherit that.
fn run_confined(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let (confinement, unlock) = confine_thread(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("gateway")
        .enable_all()
        .build()
        .map_err(RunError::Threads)?;
    let ended = runtime.block_on(serve(config, confinement, unlock, shutdown));
    runtime.shutdown_timeout(LAST_WORK);
    ended
}

/// What opens the vault is obtained first: a command that gives it could not be run later.
fn confine_thread(config: &Config) -> Result<(Confinement, Unlock), RunError> {
    let layout = Layout::of(&config.data);
    layout.make()?;
    let unlock = Unlock::obtain(&layout.own.join("vault"))?;
    let mut readable: Vec<PathBuf> = SECRET_MOUNTS.iter().map(PathBuf::from).collect();
    readable.extend(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from));
    readable.extend(config.extra_ca.clone());
    readable.extend(node::places_of_credentials(&layout.node(&config.node)));
    readable.extend(stores::places(&layout.own)?);
    let plan = Plan {
        own: vec![layout.own.clone(), layout.doors.clone(), layout.run.clone()],
        readable,
        may_exec: !allowed_commands(&layout.own)?.is_empty(),
    };
    Ok((confine::apply(&plan)?, unlock))
}

/// The command lines that `exec:` credentials may run: one a line in `exec.allow`, a file of this host's.
fn allowed_commands(own: &Path) -> Result<Vec<String>, RunError> {
    let path = own.join("exec.allow");
    match inbox::read_bounded(&path, MAX_SMALL_FILE) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            Ok(lines.map(ToOwned::to_owned).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RunError::File { path, source }),
    }
}

async fn serve(
    config: Config,
    confinement: Confinement,
    unlock: Unlock,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let layout = Layout::of(&config.data);
    let (log_key, node_key) = log_keys(&layout, &origin(&config.node))?;
    let log_vkey = log_key.vkey();
    let (log, left) = open_log(&layout, &origin(&config.node), log_key)?;
    recovery::settle(&log, &left).await?;

    let listen = |what: String| move |source| RunError::Listen { what, source };
    let events = TcpListener::bind(config.ingress)
        .await
        .map_err(listen(config.ingress.to_string()))?;
    let address = events.local_addr().map_err(listen(config.ingress.to_string()))?;
    let instance = Instance {
        ingress: format!("http://{address}"),
        log_vkey,
        extra_ca: config.extra_ca.clone(),
        custody: config.custody.clone(),
    };
    let gateway = open_gateway(&layout, log, unlock, instance)?;
    let control = node::Client::new(layout.run.join("nodes.sock"), layout.own.join("node.token"));
    let witnesses = Witnesses::load(
        layout.witnesses(),
        gateway.log.clone(),
        control,
        config.extra_ca.as_deref(),
    )?;
    let node = Node::prepare(
        Arc::clone(&gateway),
        layout.node(&config.node),
        node_key,
        confinement,
    )
    .await?;

    let socket = layout.run.join("gateway.sock");
    let host = local::bind(&socket).map_err(listen(socket.display().to_string()))?;
    tracing::info!(ingress = %address, local = %socket.display(), "the gateway is up");

    let ending = shutdown.child_token();
    let tasks = TaskTracker::new();
    let router = ingress::router(Arc::clone(&gateway), Clock::system());
    tasks.spawn(ingress::serve(events, router, ending.clone()));
    tasks.spawn(local::serve(
        Arc::clone(&gateway),
        host,
        Callers::new(&config.local_uids),
        ending.clone(),
    ));
    tasks.spawn(recovery::report_given_up(Arc::clone(&gateway), ending.clone()));
    tasks.spawn(attend_approvals(Arc::clone(&gateway), ending.clone()));
    tasks.spawn(retry_doors(Arc::clone(&gateway), ending.clone()));
    if let Some(witnesses) = witnesses {
        tasks.spawn(witnesses.run(ending.clone()));
    }
    let noted = layout.own.join("ended-secrets.json");
    tasks.spawn(expiry::run(Arc::clone(&gateway), noted, ending.clone()));
    tasks.spawn(retention::run(Arc::clone(&gateway), ending.clone()));
    tasks.spawn(sinks::run(Arc::clone(&gateway), layout.sinks(), ending.clone()));
    tasks.close();

    let ended = node.run(ending.clone()).await;
    ending.cancel();
    gateway.shut_doors();
    if tokio::time::timeout(LAST_WORK, tasks.wait()).await.is_err() {
        tracing::warn!("some connections were cut at the end");
    }
    let _gone = std::fs::remove_file(&socket);
    tracing::info!("the gateway is down");
    Ok(ended?)
}

fn open_log(layout: &Layout, origin: &str, key: SigningKey) -> Result<(Log, Recovery), RunError> {
    Ok(Log::open(Options {
        dir: layout.own.join("log"),
        anchor: Some(layout.own.join("anchor/checkpoint")),
        origin: origin.to_owned(),
        key,
        segment_bytes: DEFAULT_SEGMENT_BYTES,
    })?)
}

fn open_gateway(
    layout: &Layout,
    log: Log,
    unlock: Unlock,
    instance: Instance,
) -> Result<Arc<Gateway>, RunError> {
    let commands = allowed_commands(&layout.own)?;
    let stores = Stores::load(&layout.own, instance.extra_ca.as_deref())?;
    let vault = Vault::open_with(&layout.own.join("vault"), unlock)?.with_commands(commands);
    let key = InboxKey::load_or_create(&layout.keys.join("inbox.key"))?;
    Ok(Gateway::new(Parts {
        log,
        vault: vault.with_stores(Arc::new(stores)),
        inbox: Inbox::open(&layout.own.join("inbox"), key)?,
        approvals: open_approvals(&layout.own.join("approvals"))?,
        seal_key: PrivateKey::load_or_create(&layout.keys.join("seal.key"))?,
        doors_dir: layout.doors.clone(),
        keys_dir: layout.keys.clone(),
        own_dir: layout.own.clone(),
        instance,
    })?)
}

fn open_approvals(dir: &Path) -> Result<Approvals, RunError> {
    Approvals::open(dir.to_owned()).map_err(|source| RunError::File {
        path: dir.to_owned(),
        source,
    })
}

/// The log's key twice: for the log, and for checkpoints of batches on their way to the control plane.
fn log_keys(layout: &Layout, origin: &str) -> Result<(SigningKey, SigningKey), RunError> {
    let (path, log) = (&layout.keys.join("log.key"), layout.own.join("log"));
    let file = |source| RunError::File {
        path: path.clone(),
        source,
    };
    if !path.exists() {
        if log.join("journal").exists() {
            let why = "it is missing, but there is a log that it signs: put it back from a backup, or move the log's folder away to begin another one";
            return Err(file(io::Error::other(why)));
        }
        let fresh = SigningKey::generate(origin)?;
        inbox::replace(path, fresh.to_bytes().expose_secret()).map_err(file)?;
    }
    let bytes = Secret::new(inbox::read_bounded(path, 33).map_err(file)?);
    let seed: Secret<[u8; 32]> = match bytes.expose_secret().as_slice().try_into() {
        Ok(seed) => Secret::new(seed),
        Err(_) => return Err(file(io::Error::other("a log key is 32 bytes"))),
    };
    let key = || SigningKey::from_bytes(origin, seed.expose_secret());
    Ok((key()?, key()?))
}

/// Silence denies, even if nobody calls and no state comes.
async fn attend_approvals(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let mut news = gateway.approvals.watch();
    loop {
        approvals::attend(&gateway).await;
        let next = gateway.approvals.next_look(jiff::Timestamp::now()).await;
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = news.changed() => {}
            () = tokio::time::sleep(next) => {}
        }
    }
}

async fn retry_doors(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY_DOORS) => {}
        }
        let state = gateway.state.load_full();
        let behind = |door: Option<clawstaff_api::local::Door>| {
            door.is_none_or(|door| door.gateway_revision != state.revision())
        };
        if state.claw_names().any(|claw| behind(gateway.door(claw))) {
            gateway.retry_doors().await;
        }
    }
}
