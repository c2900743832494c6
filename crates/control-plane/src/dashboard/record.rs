//! One audit record, whole.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};

use super::{Refused, page::frame};
use crate::{
    app::{context::App, problem::Problem},
    http::extract::Named,
};

pub(crate) async fn page(State(app): State<Arc<App>>, Named(id): Named<String>) -> Result<Markup, Refused> {
    let record = app.audit_record(&id).await?;
    let json = serde_json::to_string_pretty(&record).map_err(Problem::from)?;
    let outcome = record.outcome_index.map_or_else(
        || "It has no outcome entry.".to_owned(),
        |index| format!("Its outcome is entry {index}."),
    );
    Ok(frame(
        &record.id,
        html! {
            h1 { "Record " code { (record.id) } }
            section.card {
                p {
                    "Entry " (record.index) " of the log " code { (record.log) } ". " (outcome)
                    " Check it offline with " code { "clawstaff audit verify" } "."
                }
                pre tabindex="0" { (json) }
            }
        },
    ))
}
