//! What all stand-ins share: listening on loopback, the control routes, and fault answers.

use std::{io::Write as _, net::SocketAddr};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::Value;

use crate::{
    faults::{Fault, Faults},
    journal::{Journal, Line},
};

/// Journal and faults of one stand-in.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// What reached it.
    pub journal: Journal,
    /// What it will do wrong.
    pub faults: Faults,
}

impl Control {
    /// The routes under `/_standin`.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/_standin/journal", get(journal))
            .route("/_standin/faults", post(faults))
            .with_state(self.clone())
    }

    /// Notes the request and gives its answer back.
    pub fn answer(&self, call: &str, status: StatusCode, body: Value) -> Response {
        self.journal.note(call, status.as_u16(), body.clone());
        (status, Json(body)).into_response()
    }
}

async fn journal(State(control): State<Control>) -> Json<Vec<Line>> {
    Json(control.journal.lines())
}

async fn faults(State(control): State<Control>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    control.faults.add(faults);
    StatusCode::NO_CONTENT
}

/// Whether a bearer token was presented and is the expected one.
pub fn bearer_is(headers: &HeaderMap, token: &str) -> bool {
    let presented = headers.get("authorization").and_then(|value| value.to_str().ok());
    presented
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|value| value == token)
}

/// A response that breaks the connection: the work is done, the caller never hears of it.
pub fn silent() -> Response {
    let broken = futures_util::stream::once(async {
        Err::<bytes::Bytes, _>(std::io::Error::other("closed on purpose"))
    });
    Response::new(axum::body::Body::from_stream(broken))
}

/// Serves until the process ends. Says where on standard output: one line, `listening on ADDRESS`.
///
/// # Errors
/// When the address cannot be listened on, or is not a loopback address.
pub async fn serve(listen: SocketAddr, router: Router) -> anyhow::Result<()> {
    anyhow::ensure!(
        listen.ip().is_loopback(),
        "a stand-in listens on loopback only, not on {listen}"
    );
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener
        .local_addr()
        .context("cannot read the address listened on")?;
    writeln!(std::io::stdout(), "listening on {address}").context("cannot say where it listens")?;
    axum::serve(listener, router)
        .await
        .context("the stand-in stopped serving")
}
