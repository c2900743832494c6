//! The gateway's API for its own host, on `gateway.sock`: the runner's records, doors, secrets, content, readiness.
//!
//! Callers are told apart by the uid that the kernel says is at the other end. Nothing here is reachable from
//! a cage or over the network. The wire is `clawstaff_api::local`.

mod backup;
mod content;
mod custody;
mod records;
mod secrets;
mod servers;

use std::{io, os::unix::fs::PermissionsExt as _, path::Path as FsPath, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use clawstaff_api::{
    ApiProblem, Code,
    local::{ALIVE, CONTENT, DOOR, ERASE, GatewayInfo, HOLDS, INFO, MCP, RECORD, RETENTION, SECRETS, VAULT},
};
use clawstaff_types::{ClawName, MemberId};
use tokio::net::UnixListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    expiry,
    run::http::{Patience, serve_connection},
    shared::Gateway,
};

/// The longest request body: a secret and a record are shorter.
const MAX_BODY: usize = 64 * 1024 + 2;
/// `ALIVE` says so again this often.
const HEARTBEAT: Duration = Duration::from_secs(5);
const PATIENCE: Patience = Patience {
    header: Duration::from_secs(30),
    connection: None,
};

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers(Vec<u32>);

impl Callers {
    /// Root, our own uid and `others`.
    pub fn new(others: &[u32]) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self(others.iter().copied().chain([0, own]).collect())
    }

    /// Nobody at all.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    fn admit(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }
}

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Local {
    gateway: Arc<Gateway>,
    shutdown: CancellationToken,
}

/// The member that a caller of this API is, and the uid that the kernel says.
#[derive(Debug, Clone)]
struct Caller(MemberId, u32);

impl Caller {
    /// Whether they may read content, hold and erase: root, our own user, and whom the operator named.
    fn is_custodian(&self, local: &Local) -> bool {
        let custodians = &local.gateway.instance.custody.custodians;
        Callers::new(custodians).admit(self.1)
    }
}

/// Makes the socket at `path`, 0660, in place of one that a dead gateway left.
///
/// # Errors
/// When the file system refuses.
pub fn bind(path: &FsPath) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves the API until `shutdown`.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: UnixListener,
    callers: Callers,
    shutdown: CancellationToken,
) {
    let router = router(gateway, shutdown.clone());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the local socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let uid = stream.peer_cred().map(|peer| peer.uid());
        let router = match uid {
            Ok(uid) if callers.admit(uid) => admitted(&router, uid),
            Ok(uid) => refused(&format!("uid {uid} may not use the gateway's local API")),
            Err(_) => refused("the caller's uid cannot be told"),
        };
        tasks.spawn(serve_connection(stream, router, PATIENCE, shutdown.clone()));
    }
    tasks.close();
    tasks.wait().await;
}

fn router(gateway: Arc<Gateway>, shutdown: CancellationToken) -> Router {
    Router::new()
        .route(RECORD, post(records::record))
        .route(&format!("{DOOR}/{{claw}}"), get(door))
        .route(SECRETS, get(secrets::list))
        .route(
            &format!("{SECRETS}/{{name}}"),
            put(secrets::set).delete(secrets::remove),
        )
        .route(&format!("{CONTENT}/{{index}}"), get(content::show))
        .route(HOLDS, get(custody::holds))
        .route(
            &format!("{HOLDS}/{{name}}"),
            put(custody::hold).delete(custody::release),
        )
        .route(ERASE, post(custody::erase))
        .route(RETENTION, get(custody::retention).post(custody::retain))
        .route(&format!("{SECRETS}/{{name}}/rotate"), post(secrets::rotate))
        .route(&format!("{SECRETS}/{{name}}/reference"), put(secrets::refer))
        .route(&format!("{SECRETS}/{{name}}/binding"), put(secrets::bind))
        .route(&format!("{VAULT}/backup"), post(backup::make))
        .route(
            &format!("{VAULT}/restore"),
            post(backup::restore).layer(DefaultBodyLimit::max(backup::MAX_RESTORE)),
        )
        .route(&format!("{MCP}/{{connection}}"), get(servers::tools))
        .route(&format!("{MCP}/{{connection}}/approve"), post(servers::approve))
        .route(INFO, get(info))
        .route(ALIVE, get(alive))
        .fallback(|| async {
            problem(
                Code::NotFound,
                "there is no such route in the gateway's local API",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Local { gateway, shutdown }))
}

fn admitted(router: &Router, uid: u32) -> Router {
    match format!("uid-{uid}").parse() {
        Ok(member) => router.clone().layer(Extension(Caller(member, uid))),
        Err(_) => refused("the caller's uid cannot be told"),
    }
}

fn refused(why: &str) -> Router {
    let answer = ApiProblem::new(Code::Forbidden, why);
    Router::new().fallback(move || async move { respond(&answer) })
}

fn problem(code: Code, detail: impl Into<String>) -> Response {
    respond(&ApiProblem::new(code, detail))
}

fn respond(problem: &ApiProblem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(
        axum::http::header::CONTENT_TYPE,
        clawstaff_api::problem::MEDIA_TYPE,
    )];
    (status, kind, serde_json::to_string(problem).unwrap_or_default()).into_response()
}

async fn door(State(local): State<Arc<Local>>, Path(claw): Path<String>) -> Response {
    let unknown = || {
        problem(
            Code::NotFound,
            "the gateway does not know this Claw, or its door is not open yet",
        )
    };
    let Ok(claw) = claw.parse::<ClawName>() else {
        return unknown();
    };
    match local.gateway.door(&claw) {
        Some(door) => Json(door).into_response(),
        None => unknown(),
    }
}

async fn info(State(local): State<Arc<Local>>) -> Json<GatewayInfo> {
    let gateway = &local.gateway;
    let key = gateway.seal_key.public();
    Json(GatewayInfo {
        log_vkey: gateway.instance.log_vkey.clone(),
        seal_key: key.to_string(),
        seal_key_digest: key.digest(),
        ingress: gateway.instance.ingress.clone(),
        revision: gateway.state.load().revision(),
        log_size: gateway.log.size(),
        warnings: warnings(gateway),
    })
}

/// What its operator should do something about, in words.
fn warnings(gateway: &Gateway) -> Vec<String> {
    let lost = gateway.vault.check_key().err();
    let lost = lost.map(|error| error.to_string());
    let ending = expiry::warnings(gateway, jiff::Timestamp::now());
    lost.into_iter().chain(ending).collect()
}

/// A body that ends when the gateway does.
async fn alive(State(local): State<Arc<Local>>) -> Response {
    let beats = futures_util::stream::unfold((local, true), |(local, first)| async move {
        if !first {
            tokio::select! {
                () = local.shutdown.cancelled() => return None,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
        Some((Ok::<_, io::Error>(Bytes::from_static(b"\n")), (local, false)))
    });
    Body::from_stream(beats).into_response()
}
