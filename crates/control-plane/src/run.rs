//! The process from start to end, in the order in which it happens.

use std::{
    fs::{DirBuilder, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError},
};

use aws_lc_rs::signature::Ed25519KeyPair;
use clawstaff_audit::{Environment, Log, Options, SigningKey};
use clawstaff_connectors::Catalogue;
use clawstaff_store::Store;
use clawstaff_types::Secret;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Mutex, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, RunError,
    app::{
        context::App,
        cosigned,
        ownlog::close_unfinished,
        problem::chain,
        publish::{Published, StateSigner},
        record::Recorder,
        watch::{Watch, take_count},
    },
    authority::Authority,
    confine::confine,
    http::{self, Logins, doorbook::Doorbook},
    keys::{self, file_error},
    serve::{Listener, serve},
};

/// The origin of the control plane's own log, and the name of its key.
const ORIGIN: &str = "clawstaff.local/control";
/// Records of changes are few and small.
const SEGMENT_BYTES: u64 = 8 << 20;
const WORKERS: usize = 2;

/// Where everything is.
struct Places {
    home: PathBuf,
    run: PathBuf,
}

impl Places {
    fn new(config: &Config) -> Self {
        Self {
            home: config.data.join("control"),
            run: config.data.join("run"),
        }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }
}

/// Set once the whole process is confined; holds the TCP listeners until [`run`] takes them.
static CONFINED: OnceLock<StdMutex<Bound>> = OnceLock::new();

/// What was bound before confinement, which forbids it.
#[derive(Debug, Default)]
struct Bound {
    people: Option<std::net::TcpListener>,
    nodes: Option<std::net::TcpListener>,
}

/// Confines the whole process, if called before it has a second thread: the first thing that `main` does.
/// Without it, [`run`] confines a thread of its own and everything it starts, and leaves the caller's alone.
///
/// # Errors
/// When directories or a TCP listener cannot be made, or a layer refuses.
pub fn confine_process(config: &Config) -> Result<(), RunError> {
    let bound = prepare(config, &Places::new(config))?;
    let _first = CONFINED.set(StdMutex::new(bound));
    Ok(())
}

/// Makes what must be made before the thread is confined, and confines it.
fn prepare(config: &Config, places: &Places) -> Result<Bound, RunError> {
    make_folders(places)?;
    let bound = Bound {
        people: bind_tcp(config.listen, &places.home("listen"))?,
        nodes: bind_tcp(config.nodes, &places.home("nodes.listen"))?,
    };
    confine(&[&places.home, &places.run], config.inspectable)?;
    Ok(bound)
}

/// Runs the control plane until `shutdown`. Ready when `run/api.sock` and `run/nodes.sock` accept.
///
/// After [`confine_process`] it works on the caller's runtime. Without, it works on threads of its own, the first
/// of which confines itself before there is a second, and the caller's threads only wait.
///
/// # Errors
/// When it cannot start: see [`RunError`].
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    run_in(config, Environment::default(), shutdown).await
}

/// [`run`], with the own log on another disk.
pub(crate) async fn run_in(
    config: Config,
    environment: Environment,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    if let Some(confined) = CONFINED.get() {
        let bound = std::mem::take(&mut *confined.lock().unwrap_or_else(PoisonError::into_inner));
        return serve_all(&config, environment, Places::new(&config), bound, shutdown).await;
    }
    let (done, ended) = oneshot::channel();
    let shutdown = shutdown.child_token();
    // A caller that stops waiting does not leave threads behind.
    let guard = shutdown.clone().drop_guard();
    std::thread::Builder::new()
        .name("control-plane".to_owned())
        .spawn(move || {
            // The caller may be gone; then nobody waits for the result.
            let _unheard = done.send(on_own_threads(&config, environment, shutdown));
        })
        .map_err(|error| RunError::Runtime(error.to_string()))?;
    let result = ended
        .await
        .map_err(|_| RunError::Runtime("its thread ended".to_owned()));
    guard.disarm();
    result?
}

fn on_own_threads(
    config: &Config,
    environment: Environment,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let places = Places::new(config);
    let bound = prepare(config, &places)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("control-plane")
        .enable_all()
        .build()
        .map_err(|error| RunError::Runtime(error.to_string()))?;
    runtime.block_on(serve_all(config, environment, places, bound, shutdown))
}

async fn serve_all(
    config: &Config,
    environment: Environment,
    places: Places,
    bound: Bound,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let disk = Arc::clone(&environment.disk);
    let shutdown = shutdown.child_token();
    let authority = match &bound.nodes {
        Some(_) => Some(Arc::new(Authority::open(&places.home("nodes.ca"))?)),
        None => None,
    };
    let app = open(&places, environment, authority.clone(), &shutdown).await?;
    let logins = Logins {
        uids: logins(config),
        dashboard: keys::dashboard_token(&places.home("dashboard.token"))?,
        nodes: places.home("nodes.json"),
    };
    let book = Doorbook::new(app.recorder.clone());
    let doors = (Arc::clone(&book), Arc::new(logins));
    let people = http::people(Arc::clone(&app), doors.clone())?;
    let nodes = http::nodes(Arc::clone(&app), doors)?;
    let listeners = Listeners::open(&places, bound, authority)?;
    let indexing = tokio::spawn(Arc::clone(&app).index_own_log());
    let watching = tokio::spawn({
        let watch = Watch {
            recorder: app.recorder.clone(),
            disk,
            folder: places.home("log"),
            lost: places.home("lost"),
        };
        let shutdown = shutdown.clone();
        async move {
            let why = watch.over(shutdown.clone()).await;
            shutdown.cancel();
            why
        }
    });
    let counting = tokio::spawn(book.count_refusals(shutdown.clone()));
    let tcp = async {
        if let Some(listener) = listeners.tcp {
            serve(listener, people.clone(), shutdown.clone()).await;
        }
    };
    let elsewhere = async {
        if let Some(listener) = listeners.elsewhere {
            serve(listener, nodes.clone(), shutdown.clone()).await;
        }
    };
    tokio::join!(
        serve(listeners.api, people.clone(), shutdown.clone()),
        serve(listeners.nodes, nodes.clone(), shutdown.clone()),
        tcp,
        elsewhere,
    );
    for socket in ["api.sock", "nodes.sock"] {
        remove_if_there(&places.run.join(socket))?;
    }
    for ended in [counting, indexing] {
        ended
            .await
            .map_err(|error| RunError::Runtime(error.to_string()))?;
    }
    app.store.close().await;
    let again = watching
        .await
        .map_err(|error| RunError::Runtime(error.to_string()))?;
    again.map_or(Ok(()), |why| Err(RunError::Again(why)))
}

/// Root and the process' own uid may always log in: both can read the database anyway.
fn logins(config: &Config) -> Vec<u32> {
    let mut uids = config.login_uids.clone();
    uids.push(0);
    uids.push(rustix::process::getuid().as_raw());
    uids
}

fn make_folders(places: &Places) -> Result<(), RunError> {
    for (path, mode) in [
        (places.home.clone(), 0o700),
        (places.home("log"), 0o700),
        (places.home("anchor"), 0o700),
        (places.run.clone(), 0o711),
    ] {
        let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(|source| file_error("make", &path, source))?;
    }
    Ok(())
}

async fn open(
    places: &Places,
    environment: Environment,
    authority: Option<Arc<Authority>>,
    shutdown: &CancellationToken,
) -> Result<Arc<App>, RunError> {
    let (log, log_key) = open_log(places, environment).await?;
    let store = Store::open(&places.home("control.db"))
        .await
        .map_err(RunError::Store)?;
    let catalogue = Catalogue::builtin().map_err(|error| RunError::Connectors(chain(&error)))?;
    let seed = keys::seed(&places.home("policy.key"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose_secret()).map_err(|_| RunError::Crypto)?;
    let signer = StateSigner::new(pair);
    let snapshot = store.snapshot().await.map_err(RunError::Store)?;
    let newest = store.newest_change().await.map_err(RunError::Store)?;
    let recorder = Recorder::new(log.clone(), take_count(&places.home("lost")));
    let app = App {
        store,
        recorder,
        log,
        log_key,
        catalogue,
        signer,
        authority,
        home: places.home.clone(),
        own_log: places.home("log"),
        own_cosigned: Mutex::new(cosigned::kept(&places.home("control.cosigned"))),
        published: watch::Sender::new(Arc::new(Published::of(snapshot))),
        indexed: watch::Sender::new(newest),
        own_indexed: watch::Sender::new(0),
        indexing: Mutex::new(()),
        changing: Mutex::new(()),
        taking: Mutex::new(()),
        last_gap: Mutex::new(None),
        forgotten: StdMutex::default(),
        shutdown: shutdown.clone(),
    };
    app.check_own_log().await?;
    app.recorder.tell_lost().await;
    Ok(Arc::new(app))
}

/// Opens the own log and closes what the last process left open in it.
async fn open_log(places: &Places, environment: Environment) -> Result<(Log, SigningKey), RunError> {
    let (key, log) = (places.home("log.key"), places.home("log"));
    if !key.exists() && log.join("journal").exists() {
        return Err(RunError::KeyMissing { key, log });
    }
    let seed: Secret<[u8; 32]> = keys::seed(&key)?;
    let key = || SigningKey::from_bytes(ORIGIN, seed.expose_secret()).map_err(|_| RunError::Crypto);
    let options = Options {
        dir: places.home("log"),
        anchor: Some(places.home("anchor")),
        origin: ORIGIN.to_owned(),
        key: key()?,
        segment_bytes: SEGMENT_BYTES,
    };
    let opened = tokio::task::spawn_blocking(move || Log::open_in(options, environment));
    let opened = opened
        .await
        .map_err(|error| RunError::Runtime(error.to_string()))?;
    let (log, recovery) = opened.map_err(|error| RunError::OwnLog(chain(&error)))?;
    close_unfinished(&log, &recovery).await?;
    Ok((log, key()?))
}

/// Binds an address, which confinement would not allow later, and writes down which it was.
fn bind_tcp(
    address: Option<std::net::SocketAddr>,
    path: &Path,
) -> Result<Option<std::net::TcpListener>, RunError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listen_error = |source| RunError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(listen_error)?;
    let bound = listener.local_addr().map_err(listen_error)?;
    std::fs::write(path, format!("{bound}\n")).map_err(|source| file_error("write", path, source))?;
    Ok(Some(listener))
}

struct Listeners {
    api: Listener,
    nodes: Listener,
    tcp: Option<Listener>,
    elsewhere: Option<Listener>,
}

impl Listeners {
    /// Makes the sockets, which says that everything behind them is ready.
    fn open(places: &Places, bound: Bound, authority: Option<Arc<Authority>>) -> Result<Self, RunError> {
        let failed = |error: std::io::Error| RunError::Runtime(error.to_string());
        let listening = |socket: std::net::TcpListener| {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        };
        let people = bound.people.map(listening).transpose().map_err(failed)?;
        let elsewhere = bound.nodes.map(listening).transpose().map_err(failed)?;
        Ok(Self {
            api: Listener::Unix(bind_socket(&places.run.join("api.sock"))?),
            nodes: Listener::Unix(bind_socket(&places.run.join("nodes.sock"))?),
            tcp: people.map(Listener::Tcp),
            elsewhere: elsewhere
                .zip(authority)
                .map(|(socket, authority)| Listener::Nodes(socket, authority)),
        })
    }
}

/// Anybody may connect; who it is decides what they get.
fn bind_socket(path: &Path) -> Result<UnixListener, RunError> {
    remove_if_there(path)?;
    let socket = UnixListener::bind(path).map_err(|source| file_error("listen on", path, source))?;
    let open = std::fs::set_permissions(path, Permissions::from_mode(0o666));
    open.map_err(|source| file_error("open", path, source))?;
    Ok(socket)
}

fn remove_if_there(path: &Path) -> Result<(), RunError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(file_error("remove", path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_nodes_are_let_go_at_shutdown() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data: dir.path().to_owned(),
            listen: None,
            nodes: None,
            login_uids: Vec::new(),
            inspectable: false,
        };
        let (places, shutdown) = (Places::new(&config), CancellationToken::new());
        make_folders(&places).unwrap();
        let app = open(&places, Environment::default(), None, &shutdown)
            .await
            .unwrap();
        assert_eq!(app.newer_state(Some(0)).await.unwrap().revision, 1);
        let waiting = tokio::spawn({
            let app = Arc::clone(&app);
            async move { app.newer_state(Some(1)).await.is_none() }
        });
        shutdown.cancel();
        assert!(waiting.await.unwrap());
    }
}
