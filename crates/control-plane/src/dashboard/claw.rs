//! One Claw: how it is, what it may do, what it did.

use std::sync::Arc;

use axum::extract::State;
use clawstaff_api::people::{AuditFilter, ClawView, RevisionView};
use clawstaff_types::{ClawName, Grant, Mode};
use maud::{Markup, html};

use super::{
    Refused, fleet, log,
    page::{bytes, frame, instant, phase_badge},
};
use crate::{
    app::{context::App, event::listed},
    http::extract::{Asked, Named},
};

pub(crate) async fn page(
    State(app): State<Arc<App>>,
    Named(name): Named<ClawName>,
    Asked(filter): Asked<AuditFilter>,
) -> Result<Markup, Refused> {
    let filter = AuditFilter {
        claw: Some(name.to_string()),
        ..log::cleaned(filter)
    };
    let (claw, records) = (app.claw(&name).await?, app.audit(&filter).await?);
    // One that is on its way out has neither grants nor a history that could be rolled back to.
    let grants = app.grants(Some(&name)).await.unwrap_or_default();
    let history = app.history(&name).await.unwrap_or_default();
    Ok(frame(
        claw.name.as_str(),
        html! {
            h1 { (claw.name) " " (phase_badge(claw.phase)) }
            @if !claw.description.is_empty() { p.muted { (claw.description) } }
            (facts(&claw))
            (grants_table(&grants))
            (revisions(&history))
            (log::section(&format!("/claws/{name}"), &filter, &records, true))
        },
    ))
}

fn facts(claw: &ClawView) -> Markup {
    html! {
        section.card {
            h2 { "How it is" }
            dl {
                @if let Some(reason) = &claw.reason { dt { "Why" } dd { (reason) } }
                dt { "Revision" } dd { (fleet::revision(claw)) }
                dt { "Model" } dd { (claw.model.as_deref().unwrap_or("none")) }
                dt { "Cage" } dd { code { (claw.cage) } }
                dt { "Starts" } dd { (claw.starts) }
                @if let Some(stats) = &claw.stats {
                    dt { "Memory" } dd { (bytes(stats.memory_bytes)) }
                    dt { "CPU time" } dd { (stats.cpu_micros / 1_000_000) " s" }
                    dt { "Processes" } dd { (stats.pids) }
                    dt { "Storage" } dd { (bytes(stats.storage_bytes)) }
                }
            }
        }
    }
}

fn grants_table(grants: &[Grant]) -> Markup {
    html! {
        section #grants.card {
            h2 { "What it may do" }
            @if grants.is_empty() { p.muted { "Nothing: it has no grant." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Grants" {
                    table {
                        thead { tr {
                            th scope="col" { "Connection" }
                            th scope="col" { "Actions" }
                            th scope="col" { "Resources" }
                            th scope="col" { "Mode" }
                            th scope="col" { "Until" }
                            th scope="col" { "Given by" }
                            th scope="col" { "Id" }
                        } }
                        tbody { @for grant in grants { (grant_row(grant)) } }
                    }
                }
            }
        }
    }
}

fn grant_row(grant: &Grant) -> Markup {
    html! {
        tr {
            td { (grant.connection) }
            td { code { (listed(&grant.actions)) } }
            td { code { (listed(&grant.resources)) } }
            td { @match grant.mode {
                Mode::Allow => span.badge.good { "allow" },
                Mode::Ask => span.badge.wait { "ask" },
            } }
            td { @if let Some(expires) = grant.expires { (instant(expires)) } @else { span.muted { "no end" } } }
            td { (grant.granted_by) }
            td { code { (grant.id) } }
        }
    }
}

fn revisions(history: &[RevisionView]) -> Markup {
    html! {
        section.card {
            h2 { "Revisions" }
            ol.revisions {
                @for revision in history.iter().rev() {
                    li value=(revision.revision) {
                        (instant(revision.at)) " by " (revision.by) " " code.digest { (revision.digest) }
                    }
                }
            }
        }
    }
}
