//! The calls that wait for a human. Shown only while there are any; decided on the command line, as shown.

use clawstaff_api::people::ApprovalView;
use maud::{Markup, html};

use super::page::instant;

pub(crate) fn section(waiting: &[ApprovalView]) -> Markup {
    html! {
        @if !waiting.is_empty() {
            section #approvals.card {
                h2 { "Waiting for a human" }
                p.muted {
                    "Decide with " code { "clawstaff approval approve ID" } " or " code { "clawstaff approval deny ID" }
                    ". Silence denies."
                }
                div.scroll tabindex="0" role="region" aria-label="Calls that wait for a human" {
                    table {
                        thead { tr {
                            th scope="col" { "Claw" }
                            th scope="col" { "Action" }
                            th scope="col" { "Resource" }
                            th scope="col" { "For" }
                            th scope="col" { "Asked" }
                            th scope="col" { "Until" }
                            th scope="col" { "Id" }
                        } }
                        tbody { @for call in waiting { (row(call)) } }
                    }
                }
            }
        }
    }
}

fn row(call: &ApprovalView) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/claws/" (call.claw) } { (call.claw) } }
            td { code { (call.action) } span.sub { "through " (call.connection) } }
            td { @if let Some(resource) = &call.resource { code { (resource) } } @else { "–" } }
            td { @if let Some(member) = &call.on_behalf_of { (member) } @else { span.muted { "nobody" } } }
            td { (instant(call.asked)) }
            td {
                (instant(call.until))
                @if let (Some(decided), Some(by)) = (&call.decided, &call.decided_by) {
                    span.sub { (decided) " by " (by) ", on its way" }
                }
            }
            td { code { (call.id) } }
        }
    }
}
