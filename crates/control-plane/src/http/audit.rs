//! The audit log: pages, one record, and what happens now.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    response::sse::{Event as Sent, KeepAlive, Sse},
};
use clawstaff_api::{
    ApiProblem,
    people::{AuditFilter, AuditPage, AuditRecord, LogView},
};
use clawstaff_store::{Found, Search};
use futures_util::{Stream, stream};
use http::HeaderMap;

use super::{
    auth::Caller,
    extract::{Asked, Named},
    routes::Routes,
};
use crate::app::{audit, context::App, problem::Problem};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/v1/audit", query_audit)
        .get("/v1/audit/tail", tail_audit)
        .get("/v1/audit/checkpoints", list_checkpoints)
        .post("/v1/audit/rebuild", rebuild_index)
        .get("/v1/audit/{id}", show_record)
}

/// Records that match, newest last; without a cursor, the newest ones.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditFilter), responses(
    (status = 200, body = AuditPage), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn query_audit(
    State(app): State<Arc<App>>,
    Asked(filter): Asked<AuditFilter>,
) -> Result<Json<AuditPage>, Problem> {
    app.audit(&filter).await.map(Json)
}

/// One record, by `gateway:INDEX` or `control:INDEX`.
#[utoipa::path(get, path = "/v1/audit/{id}", tag = "audit", params(("id" = String, Path)), responses(
    (status = 200, body = AuditRecord), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn show_record(
    State(app): State<Arc<App>>,
    Named(id): Named<String>,
) -> Result<Json<AuditRecord>, Problem> {
    app.audit_record(&id).await.map(Json)
}

/// How far each log is known, with its newest cosigned checkpoint.
#[utoipa::path(get, path = "/v1/audit/checkpoints", tag = "audit", responses(
    (status = 200, body = Vec<LogView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn list_checkpoints(State(app): State<Arc<App>>) -> Result<Json<Vec<LogView>>, Problem> {
    app.checkpoints().await.map(Json)
}

/// Makes the searchable index anew from the logs. Answers when the old one is gone; `size` of each log says how far
/// the new one is.
#[utoipa::path(post, path = "/v1/audit/rebuild", tag = "audit", responses(
    (status = 200, body = Vec<LogView>), (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn rebuild_index(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<LogView>>, Problem> {
    app.rebuild_index(&caller.member).await.map(Json)
}

/// Records as they are indexed, as server-sent events. A record is sent again, with the same id, when its outcome
/// arrives. `Last-Event-ID` continues where an earlier tail ended.
#[utoipa::path(get, path = "/v1/audit/tail", tag = "audit", params(AuditFilter), responses(
    (status = 200, body = AuditRecord, content_type = "text/event-stream"),
    (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn tail_audit(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Asked(filter): Asked<AuditFilter>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let search = audit::search(&filter)?;
    let last = match headers.get("last-event-id") {
        Some(id) => last_event(id)?,
        None => app.store.newest_change().await?,
    };
    let tail = Tail {
        app,
        search,
        last,
        waiting: VecDeque::new(),
    };
    Ok(Sse::new(stream::unfold(tail, Tail::next))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn last_event(id: &http::HeaderValue) -> Result<u64, Problem> {
    let number = id.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Problem::invalid("`Last-Event-ID` is none that this server gave"))
}

/// A tail under way.
struct Tail {
    app: Arc<App>,
    search: Search,
    last: u64,
    waiting: VecDeque<Found>,
}

impl Tail {
    /// The next event; the stream ends at shutdown or when the index cannot be read.
    async fn next(mut self) -> Option<(Result<Sent, Infallible>, Self)> {
        if self.waiting.is_empty() {
            let found = self.app.audit_after(&self.search, self.last).await?;
            self.waiting = found.ok()?.into();
        }
        let found = self.waiting.pop_front()?;
        self.last = found.changed;
        let event = Sent::default()
            .id(found.changed.to_string())
            .json_data(&found.record)
            .ok()?;
        Some((Ok(event), self))
    }
}
