//! The audit log as a table with its filters. With JavaScript, new rows appear at the top as they are recorded.

use clawstaff_api::people::{AuditFilter, AuditPage, AuditRecord};
use clawstaff_types::Actor;
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::page::{decision_badge, instant, outcome_badge};

const DECISIONS: [&str; 3] = ["allow", "deny", "ask"];
const OUTCOMES: [&str; 4] = ["succeeded", "failed", "refused", "unknown"];

/// The log, newest first. `base` is the page's own path.
pub(crate) fn section(base: &str, filter: &AuditFilter, page: &AuditPage, of_claw: bool) -> Markup {
    let query = query(filter);
    html! {
        section #log.card {
            div.head {
                h2 { "Audit log" }
                p #live.live role="status" {}
            }
            (form(base, filter, of_claw))
            div.scroll tabindex="0" role="region" aria-label="Audit log" {
                table data-tail={ "/v1/audit/tail" (query) } {
                    thead { tr {
                        th scope="col" { "Time (UTC)" }
                        th scope="col" { "What" }
                        th scope="col" { "Who" }
                        th scope="col" { "Action" }
                        th scope="col" { "Resource" }
                        th scope="col" { "Decision" }
                        th scope="col" { "Outcome" }
                    } }
                    tbody #records {
                        @for record in page.records.iter().rev() { (row(record)) }
                    }
                }
            }
            @if page.records.is_empty() { p.muted { "Nothing that matches has been recorded." } }
            @if let Some(cursor) = &page.cursor {
                p { a.button href=(older(base, filter, cursor)) { "Older" } }
            }
            (watermarks(page))
        }
    }
}

fn row(record: &AuditRecord) -> Markup {
    let event = &record.event;
    html! {
        tr data-id=(record.id) {
            td { a href={ "/records/" (record.id) } { (instant(record.time)) } }
            td { code { (event.kind) } @if let Some(reason) = &event.reason { span.sub { (reason) } } }
            td {
                (event.actor)
                @if let Some(member) = &event.on_behalf_of { span.sub { "for " (member) } }
                @if let Some(claw) = event.claw.as_ref().filter(|claw| event.actor != Actor::Claw((*claw).clone())) {
                    span.sub { "about " (claw) }
                }
            }
            td { @if let Some(action) = &event.action { code { (action) } } @else { (thing(record)) } }
            td { @if let Some(resource) = &event.resource { code { (resource) } } }
            td { @if let Some(decision) = event.decision { (decision_badge(decision)) } }
            td { @if let Some(outcome) = event.outcome { (outcome_badge(outcome)) } }
        }
    }
}

/// What a change without an action was about.
fn thing(record: &AuditRecord) -> Markup {
    let facts = &record.event.facts;
    let words: Vec<&str> = ["thing", "change", "wish", "actions"]
        .iter()
        .filter_map(|label| facts.get(*label).map(String::as_str))
        .collect();
    html! { span.muted { (words.join(" ")) } }
}

fn form(base: &str, filter: &AuditFilter, of_claw: bool) -> Markup {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    html! {
        form.filter method="get" action={ (base) "#log" } role="search" {
            @if !of_claw { (field("claw", "Claw", &text(&filter.claw))) }
            (field("action", "Action", &text(&filter.action)))
            (field("resource", "Resource", &text(&filter.resource)))
            (field("kind", "Kind", &text(&filter.kind)))
            (choice("decision", "Decision", &DECISIONS, filter.decision.as_deref()))
            (choice("outcome", "Outcome", &OUTCOMES, filter.outcome.as_deref()))
            (field("text", "Words", &text(&filter.text)))
            button type="submit" { "Filter" }
            a.button.quiet href={ (base) "#log" } { "Clear" }
        }
    }
}

fn field(name: &str, label: &str, value: &str) -> Markup {
    html! { label { span { (label) } input type="text" name=(name) value=(value) autocomplete="off"; } }
}

fn choice(name: &str, label: &str, options: &[&str], chosen: Option<&str>) -> Markup {
    html! {
        label {
            span { (label) }
            select name=(name) {
                option value="" { "any" }
                @for option in options {
                    option value=(option) selected[chosen == Some(*option)] { (option) }
                }
            }
        }
    }
}

fn watermarks(page: &AuditPage) -> Markup {
    html! {
        @if !page.watermarks.is_empty() {
            details {
                summary { "How far each log has been read and checked" }
                @for log in &page.watermarks {
                    h3 { (log.origin) ": " (log.size) " entries" }
                    pre tabindex="0" { (log.checkpoint) }
                }
            }
        }
    }
}

fn older(base: &str, filter: &AuditFilter, cursor: &str) -> String {
    let filter = AuditFilter {
        cursor: Some(cursor.to_owned()),
        ..filter.clone()
    };
    format!("{base}{}#log", query(&filter))
}

/// The filter as a query string, with its `?`; empty if nothing is asked.
fn query(filter: &AuditFilter) -> String {
    let all = [
        ("claw", &filter.claw),
        ("actor", &filter.actor),
        ("action", &filter.action),
        ("resource", &filter.resource),
        ("decision", &filter.decision),
        ("outcome", &filter.outcome),
        ("kind", &filter.kind),
        ("since", &filter.since),
        ("until", &filter.until),
        ("cause", &filter.cause),
        ("text", &filter.text),
        ("cursor", &filter.cursor),
    ];
    let pairs: Vec<String> = all
        .iter()
        .filter_map(|(name, value)| {
            value
                .as_ref()
                .map(|value| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        })
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    }
}

/// What a form sends for a field that was left empty asks nothing.
pub(crate) fn cleaned(mut filter: AuditFilter) -> AuditFilter {
    for field in [
        &mut filter.claw,
        &mut filter.actor,
        &mut filter.action,
        &mut filter.resource,
        &mut filter.decision,
        &mut filter.outcome,
        &mut filter.kind,
        &mut filter.since,
        &mut filter.until,
        &mut filter.cause,
        &mut filter.text,
        &mut filter.cursor,
    ] {
        let kept = field.take().map(|text| text.trim().to_owned());
        *field = kept.filter(|text| !text.is_empty());
    }
    filter
}
