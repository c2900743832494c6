//! The first page: the fleet and the log.

use std::sync::Arc;

use axum::extract::State;
use clawstaff_api::people::{AuditFilter, ClawView, LogStatus, ServerStatus};
use maud::{Markup, html};

use super::{
    Refused, approvals, log,
    page::{bytes, frame, phase_badge},
};
use crate::{app::context::App, http::extract::Asked};

pub(crate) async fn page(
    State(app): State<Arc<App>>,
    Asked(filter): Asked<AuditFilter>,
) -> Result<Markup, Refused> {
    let filter = log::cleaned(filter);
    let (status, claws, records) = (app.status().await?, app.claws().await?, app.audit(&filter).await?);
    let waiting = app.approvals().await?;
    Ok(frame(
        "Fleet",
        html! {
            h1 { "Fleet" }
            (nodes(&status))
            (approvals::section(&waiting))
            section #fleet.card {
                h2 { "Claws" }
                @if claws.is_empty() {
                    p.muted { "There are no Claws yet. Write a spec file and run " code { "clawstaff apply -f FILE" } "." }
                } @else { (table(&claws)) }
            }
            (log::section("/", &filter, &records, false))
        },
    ))
}

fn nodes(status: &ServerStatus) -> Markup {
    let gateway = status
        .gateway
        .as_ref()
        .map(|gateway| (gateway.connected, gateway.revision, gateway.refused.clone()));
    let runner = status
        .runner
        .as_ref()
        .map(|runner| (runner.connected, runner.revision, None));
    html! {
        ul.nodes {
            li { span.label { "State" } "revision " (status.revision) }
            (node("Gateway", gateway))
            (node("Runner", runner))
            @for log in &status.logs { (audit_log(log)) }
        }
    }
}

fn audit_log(log: &LogStatus) -> Markup {
    html! {
        li {
            span.label { "Log " (log.name) }
            (log.entries) " entries"
            @if log.behind > 0 { ", " (log.behind) " not searchable yet" }
            @if let (Some(bytes), Some(micros)) = (log.bytes_per_entry, log.micros_per_entry) {
                span.sub { (bytes) " bytes and " (micros) " µs an entry" }
            }
        }
    }
}

fn node(name: &str, seen: Option<(bool, u64, Option<String>)>) -> Markup {
    html! {
        li {
            span.label { (name) }
            @match seen {
                None => span.badge.calm { "never seen" },
                Some((connected, revision, refused)) => {
                    @if connected { span.badge.good { "connected" } } @else { span.badge.bad { "silent" } }
                    " at revision " (revision)
                    @if let Some(why) = refused { span.sub { "refused the newest state: " (why) } }
                }
            }
        }
    }
}

fn table(claws: &[ClawView]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Claws" {
            table {
                thead { tr {
                    th scope="col" { "Claw" }
                    th scope="col" { "Phase" }
                    th scope="col" { "Revision" }
                    th scope="col" { "Model" }
                    th.number scope="col" { "Grants" }
                    th.number scope="col" { "Memory" }
                    th.number scope="col" { "Starts" }
                } }
                tbody { @for claw in claws { (row(claw)) } }
            }
        }
    }
}

fn row(claw: &ClawView) -> Markup {
    html! {
        tr {
            th scope="row" {
                a href={ "/claws/" (claw.name) } { (claw.name) }
                @if !claw.description.is_empty() { span.sub { (claw.description) } }
            }
            td {
                (phase_badge(claw.phase))
                @if claw.ready { " " span.badge.good { "ready" } }
                @if let Some(reason) = &claw.reason { span.sub { (reason) } }
            }
            td { (revision(claw)) }
            td { @if let Some(model) = &claw.model { code { (model) } } @else { span.muted { "none" } } }
            td.number { (claw.grants) }
            td.number { @if let Some(stats) = &claw.stats { (bytes(stats.memory_bytes)) } @else { "–" } }
            td.number { (claw.starts) }
        }
    }
}

/// The revision that is asked for, and the one that runs if it is another.
pub(crate) fn revision(claw: &ClawView) -> Markup {
    html! {
        (claw.revision)
        @if let Some(running) = claw.running_revision.filter(|running| *running != claw.revision) {
            span.sub { "running " (running) }
        }
    }
}
