//! The audit log in other formats, streamed.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use clawstaff_api::{ApiProblem, people::AuditFilter};
use clawstaff_export::{Format, ocsf::Version};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use super::{auth::Caller, extract::Asked, routes::Routes};
use crate::app::{
    context::App,
    export::{self, Export},
    problem::Problem,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/v1/audit/export", export_audit)
}

/// What to export: a format, and the filters of `GET /v1/audit`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// `jsonl`, `csv`, `ocsf` or `cef`.
    format: String,
    /// Version of OCSF, `1.1` to `1.9`; the newest if absent.
    ocsf_version: Option<String>,
    /// Go on as records come.
    #[serde(default)]
    follow: bool,
    /// Claw's name.
    claw: Option<String>,
    /// Actor.
    actor: Option<String>,
    /// Action; `*` stands for any run of characters.
    action: Option<String>,
    /// Resource; `*` stands for any run of characters.
    resource: Option<String>,
    /// `allow`, `deny` or `ask`.
    decision: Option<String>,
    /// `succeeded`, `failed`, `refused` or `unknown`.
    outcome: Option<String>,
    /// Kinds, comma-separated.
    kind: Option<String>,
    /// At or after this instant (RFC 3339).
    since: Option<String>,
    /// Before this instant (RFC 3339).
    until: Option<String>,
    /// The inbound event that caused it.
    cause: Option<String>,
    /// Words, in any of the record's texts.
    text: Option<String>,
}

impl ExportQuery {
    fn format(&self) -> Result<Format, Problem> {
        let invalid = |error: &dyn std::fmt::Display| Problem::invalid(error.to_string());
        let format: Format = self.format.parse().map_err(|error| invalid(&error))?;
        match (format, &self.ocsf_version) {
            (_, None) => Ok(format),
            (Format::Ocsf(_), Some(version)) => {
                let version: Version = version.parse().map_err(|error| invalid(&error))?;
                Ok(Format::Ocsf(version))
            }
            (_, Some(_)) => Err(Problem::invalid("`ocsf_version` goes with `format=ocsf` only")),
        }
    }

    fn asked(self) -> Result<export::Asked, Problem> {
        Ok(export::Asked {
            format: self.format()?,
            follow: self.follow,
            filter: AuditFilter {
                claw: self.claw,
                actor: self.actor,
                action: self.action,
                resource: self.resource,
                decision: self.decision,
                outcome: self.outcome,
                kind: self.kind,
                since: self.since,
                until: self.until,
                cause: self.cause,
                text: self.text,
                ..AuditFilter::default()
            },
        })
    }
}

/// Records in another format, oldest first, one a line; recorded as `audit.export` before the first byte. A record
/// that changes meanwhile (its outcome arrives) comes again with the same id. A stream that ends early ends without
/// its last chunk, so that a part is never taken for the whole.
#[utoipa::path(get, path = "/v1/audit/export", tag = "audit", params(ExportQuery), responses(
    (status = 200, body = String, content_type = "application/jsonl"),
    (status = "default", body = ApiProblem, content_type = "application/problem+json")))]
pub(crate) async fn export_audit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<ExportQuery>,
) -> Result<Response, Problem> {
    let asked = query.asked()?;
    let format = asked.format;
    let export = app.begin_export(&caller.member, asked).await?;
    let pages = stream::unfold((app, export), next);
    Ok(([(CONTENT_TYPE, format.media_type())], Body::from_stream(pages)).into_response())
}

async fn next(
    (app, mut export): (Arc<App>, Export),
) -> Option<(Result<String, axum::Error>, (Arc<App>, Export))> {
    let page = app.next_page(&mut export).await?;
    let page = page.map_err(|problem| axum::Error::new(std::io::Error::other(problem.0.detail)));
    Some((page, (app, export)))
}
