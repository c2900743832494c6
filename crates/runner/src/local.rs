//! The runner's API for its own host, on `runner.sock`: what a cage printed, and commands in a live cage.
//!
//! Only root and the runner's own user may speak to it. What a cage prints is content, so it goes from here to
//! the terminal of whoever asks and nowhere else. A command in a cage is an operator's act: it runs under the
//! cage's own confinement, its intent is durable before it starts, and `Config::exec` switches it off. The
//! selftest is such an act too: it runs the probes of the conformance suite that disturb nobody.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use clawstaff_api::{
    ApiProblem, Code,
    nodes::{RunnerClaw, RunnerState},
};
use clawstaff_cage::{CageId, Observed};
use clawstaff_types::{ClawName, Digest, Event, EventKind, Outcome};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    execute::Hands,
    record::{self, Subject},
    selftest,
};

/// The largest request body, in bytes.
const MAX_REQUEST: usize = 256 * 1024;
/// Most output that is handed out, in bytes.
const MAX_TAIL: u64 = 1024 * 1024;
/// The longest a command may run.
const MAX_EXEC: u64 = 60;

/// The path of something of a Claw's cage: `GET …/logs?tail=BYTES` → the bytes; `POST …/exec` [`ExecRequest`] →
/// [`ExecAnswer`]; `POST …/selftest` → [`SelftestAnswer`](crate::selftest::SelftestAnswer); `…/snapshots`, see
/// [`snapshots`](crate::snapshots).
pub fn cage_path(claw: &ClawName, what: &str) -> String {
    format!("/local/v1/cages/{claw}/{what}")
}

/// A command to run inside a live cage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// When to end it, at most 60.
    pub timeout_secs: u64,
}

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecAnswer {
    /// Its exit code, 128 plus the number for a signal; `None` when it took too long and was ended.
    pub code: Option<i32>,
    /// What it printed, base64.
    pub stdout: String,
    /// What it printed as errors, base64.
    pub stderr: String,
}

/// The server's own state.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) hands: Arc<Hands>,
    pub(crate) state: watch::Receiver<Option<RunnerState>>,
    pub(crate) exec: bool,
}

/// Binds the socket; one that a dead runner left behind is replaced.
pub(crate) fn bind(path: &PathBuf) -> std::io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            "another runner serves this installation",
        ));
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until shutdown.
pub(crate) async fn serve(listener: UnixListener, local: Arc<Local>, shutdown: CancellationToken) {
    let serving = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(stream, Arc::clone(&local)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(serving).await;
}

async fn connection(stream: UnixStream, local: Arc<Local>) {
    let Ok(peer) = stream.peer_cred().map(|cred| cred.uid()) else {
        return;
    };
    let service = service_fn(move |request| {
        let local = Arc::clone(&local);
        async move {
            let answer = local.answer(peer, request).await;
            Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(|problem| refuse(&problem)))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a local connection broke");
    }
}

fn refuse(problem: &ApiProblem) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        http::StatusCode::from_u16(problem.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let media = header::HeaderValue::from_static(clawstaff_api::problem::MEDIA_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

impl Local {
    async fn answer(
        &self,
        peer: u32,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, ApiProblem> {
        if peer != 0 && peer != rustix::process::geteuid().as_raw() {
            let text = "only root and the runner's own user may look into cages";
            return Err(ApiProblem::new(Code::Forbidden, text));
        }
        let path = request.uri().path().to_owned();
        let unknown = || ApiProblem::new(Code::NotFound, "there is no such thing in the runner's API");
        let rest = path.strip_prefix("/local/v1/cages/").ok_or_else(unknown)?;
        let (claw, what) = rest.split_once('/').ok_or_else(unknown)?;
        let claw: ClawName = claw
            .parse()
            .map_err(|error: clawstaff_types::NameError| ApiProblem::new(Code::Invalid, error.to_string()))?;
        let (id, wanted) = self.cage(&claw)?;
        let subject = Subject {
            claw,
            cage: id.to_string(),
            revision: Some(wanted.revision),
            by: Some(format!("uid-{peer}")),
        };
        match (request.method(), what) {
            (&Method::GET, "logs") => self.logs(&id, &subject, request.uri().query()).await,
            (&Method::POST, "exec") => self.exec(&id, &subject, request).await,
            (&Method::POST, "selftest") => self.selftest(&id, &subject, &wanted).await,
            (&Method::GET, "snapshots") => self.snapshots(&id).await,
            (&Method::POST, "snapshots") => self.take_snapshot(&id, &subject).await,
            (&Method::POST, "snapshots/restore") => {
                self.restore_snapshot(&id, &subject, &body(request).await?).await
            }
            (&Method::POST, "snapshots/remove") => {
                self.remove_snapshot(&id, &subject, &body(request).await?).await
            }
            _ => Err(unknown()),
        }
    }

    fn cage(&self, claw: &ClawName) -> Result<(CageId, RunnerClaw), ApiProblem> {
        let state = self.state.borrow();
        let wanted = state
            .iter()
            .flat_map(|state| &state.claws)
            .find(|wanted| wanted.claw == *claw);
        let wanted = wanted.ok_or_else(|| {
            ApiProblem::new(Code::NotFound, format!("there is no Claw `{claw}` on this host"))
        })?;
        let id = wanted
            .cage
            .parse()
            .map_err(|_| ApiProblem::new(Code::Internal, "the cage's id cannot be read"))?;
        Ok((id, wanted.clone()))
    }

    /// What a cage printed is content: it is handed out once that is on record.
    async fn logs(
        &self,
        id: &CageId,
        subject: &Subject,
        query: Option<&str>,
    ) -> Result<Response<Full<Bytes>>, ApiProblem> {
        let tail = query
            .and_then(|query| query.strip_prefix("tail="))
            .and_then(|tail| tail.parse::<u64>().ok())
            .unwrap_or(64 * 1024);
        let output = self
            .hands
            .backend
            .logs(id, tail.min(MAX_TAIL))
            .await
            .map_err(|error| refused(&error))?;
        let event = subject.event(
            EventKind::CageExec,
            Some("an operator read what the cage printed"),
        );
        let mut event = record::outcome(event, Outcome::Succeeded, None);
        event.facts.insert("bytes".to_owned(), output.len().to_string());
        self.record(subject, event).await?;
        let mut response = Response::new(Full::new(Bytes::from(output)));
        let media = header::HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        Ok(response)
    }

    async fn exec(
        &self,
        id: &CageId,
        subject: &Subject,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, ApiProblem> {
        let command = read_command(request).await?;
        let mut event = subject.event(EventKind::CageExec, None);
        event.digests.insert("command".to_owned(), digest(&command.argv));
        let index = self.announce(subject, &event).await?;
        let timeout = Duration::from_secs(command.timeout_secs);
        let ended = self.hands.backend.exec(id, &command.argv, timeout).await;
        let settled = match &ended {
            Ok(output) => {
                let code = output
                    .code
                    .map_or_else(|| "timeout".to_owned(), |code| code.to_string());
                event.facts.insert("code".to_owned(), code);
                record::outcome(event, Outcome::Succeeded, None)
            }
            Err(error) => record::outcome(event, Outcome::Failed, Some(&error.to_string())),
        };
        self.settle(subject, index, settled).await;
        let output = ended.map_err(|error| refused(&error))?;
        let answer = ExecAnswer {
            code: output.code,
            stdout: BASE64.encode(&output.stdout),
            stderr: BASE64.encode(&output.stderr),
        };
        json(&answer)
    }

    async fn selftest(
        &self,
        id: &CageId,
        subject: &Subject,
        wanted: &RunnerClaw,
    ) -> Result<Response<Full<Bytes>>, ApiProblem> {
        let backend = self.hands.backend.as_ref();
        let observed = backend.observe(id).await.map_err(|error| refused(&error))?;
        if !matches!(observed, Observed::Running { .. }) {
            return Err(ApiProblem::new(
                Code::Refused,
                format!("Claw `{}` is not running", subject.claw),
            ));
        }
        let event = subject.event(EventKind::CageExec, Some("selftest: the probes of the boundary"));
        let index = self.announce(subject, &event).await?;
        let ran = selftest::run(backend, id, subject, wanted, index).await;
        let settled = match &ran {
            Ok(answer) => {
                let mut settled = record::outcome(event, answer.outcome(), None);
                settled.facts.extend(answer.counts());
                settled
            }
            Err(error) => record::outcome(event, Outcome::Failed, Some(&error.to_string())),
        };
        self.settle(subject, index, settled).await;
        json(&ran.map_err(|error| refused(&error))?)
    }

    /// Makes the intent of an operator's act durable, if such acts are allowed here at all.
    async fn announce(&self, subject: &Subject, event: &Event) -> Result<u64, ApiProblem> {
        if !self.exec {
            return Err(ApiProblem::new(
                Code::Forbidden,
                "commands in cages are switched off on this host",
            ));
        }
        self.record(subject, event.clone()).await
    }

    pub(crate) async fn record(&self, subject: &Subject, event: Event) -> Result<u64, ApiProblem> {
        let recorded = self.hands.gateway.record(&subject.claw, None, event).await;
        recorded.map_err(|error| {
            let text = format!("it cannot be recorded, so it is not done: {error}");
            ApiProblem::new(Code::Unavailable, text)
        })
    }

    /// An outcome that cannot be recorded stays open in the log; the gateway closes it as unknown.
    pub(crate) async fn settle(&self, subject: &Subject, index: u64, event: Event) {
        if let Err(error) = self.hands.gateway.record(&subject.claw, Some(index), event).await {
            tracing::error!(cage = subject.cage, index, %error, "the outcome of a command could not be recorded");
        }
    }
}

pub(crate) fn json<T: Serialize>(answer: &T) -> Result<Response<Full<Bytes>>, ApiProblem> {
    let body = serde_json::to_vec(answer)
        .map_err(|_| ApiProblem::new(Code::Internal, "the answer cannot be written"))?;
    Ok(Response::new(Full::new(Bytes::from(body))))
}

/// The command's digest, over its words with their ends marked.
fn digest(argv: &[String]) -> Digest {
    Digest::of(
        argv.iter()
            .flat_map(|word| [word.as_str(), "\0"])
            .collect::<String>()
            .as_bytes(),
    )
}

async fn body(request: Request<Incoming>) -> Result<Bytes, ApiProblem> {
    let body = Limited::new(request.into_body(), MAX_REQUEST).collect().await;
    let body =
        body.map_err(|error| ApiProblem::new(Code::Invalid, format!("the request cannot be read: {error}")))?;
    Ok(body.to_bytes())
}

async fn read_command(request: Request<Incoming>) -> Result<ExecRequest, ApiProblem> {
    let invalid = |text: String| ApiProblem::new(Code::Invalid, text);
    let command: ExecRequest = serde_json::from_slice(&body(request).await?)
        .map_err(|error| invalid(format!("the command cannot be read: {error}")))?;
    if command.argv.is_empty() || !(1..=MAX_EXEC).contains(&command.timeout_secs) {
        return Err(invalid(format!("a command has a program and 1 to {MAX_EXEC} s")));
    }
    Ok(command)
}

pub(crate) fn refused(error: &clawstaff_cage::CageError) -> ApiProblem {
    ApiProblem::new(Code::Refused, crate::status::shorten(&error.to_string()))
}
