//! The searchable index of audit records. Rebuildable: the logs are the truth.

use clawstaff_api::people::AuditRecord;
use serde::Serialize;

use crate::{
    Change, StoreError,
    codec::{from_json, to_column, to_json},
    error::doing,
};

impl Change {
    /// The record at this place of a log, as indexed so far.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn record(&mut self, log: &str, index: u64) -> Result<Option<AuditRecord>, StoreError> {
        let body: Option<String> = sqlx::query_scalar("SELECT body FROM records WHERE log = ? AND idx = ?")
            .bind(log)
            .bind(to_column("index in a log", index)?)
            .fetch_optional(self.connection())
            .await
            .map_err(doing("read an audit record"))?;
        body.map(|text| from_json("audit record", &text)).transpose()
    }

    /// Indexes a record, or replaces it after its outcome was merged in. `log` is the log's short name.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn put_record(&mut self, log: &str, record: &AuditRecord) -> Result<(), StoreError> {
        let event = &record.event;
        let outcome_index = record.outcome_index.map(|at| to_column("index in a log", at));
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO records (log, idx, outcome_idx, time, changed, kind, claw, actor, action, resource, \
             decision, outcome, cause, body) \
             VALUES (?, ?, ?, ?, (SELECT coalesce(max(changed), 0) + 1 FROM records), ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (log, idx) DO UPDATE SET outcome_idx = excluded.outcome_idx, changed = excluded.changed, \
             resource = excluded.resource, decision = excluded.decision, outcome = excluded.outcome, \
             body = excluded.body RETURNING id",
        )
        .bind(log)
        .bind(to_column("index in a log", record.index)?)
        .bind(outcome_index.transpose()?)
        .bind(record.time.as_microsecond())
        .bind(event.kind.as_str())
        .bind(event.claw.as_ref().map(clawstaff_types::ClawName::as_str))
        .bind(event.actor.to_string())
        .bind(event.action.as_ref().map(ToString::to_string))
        .bind(event.resource.as_ref().map(ToString::to_string))
        .bind(word("decision", event.decision.as_ref())?)
        .bind(word("outcome", event.outcome.as_ref())?)
        .bind(event.cause.as_ref().map(|cause| cause.0.to_string()))
        .bind(to_json("audit record", record)?)
        .fetch_one(self.connection())
        .await
        .map_err(doing("index an audit record"))?;
        self.put_text(id, record).await
    }

    async fn put_text(&mut self, id: i64, record: &AuditRecord) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO records_text (rowid, body) VALUES (?, ?)")
            .bind(id)
            .bind(texts(record))
            .execute(self.connection())
            .await
            .map_err(doing("index an audit record's texts"))?;
        Ok(())
    }
}

/// An enum that serialises to one word, as that word.
fn word<T: Serialize>(what: &'static str, value: Option<&T>) -> Result<Option<String>, StoreError> {
    let Some(value) = value else { return Ok(None) };
    let json = to_json(what, value)?;
    Ok(Some(json.trim_matches('"').to_owned()))
}

/// Every text of a record in which words are looked for. Digests are left out: nobody types them by halves.
fn texts(record: &AuditRecord) -> String {
    let event = &record.event;
    let mut texts = vec![record.id.clone(), event.kind.to_string(), event.actor.to_string()];
    texts.extend(event.claw.as_ref().map(ToString::to_string));
    texts.extend(event.on_behalf_of.as_ref().map(ToString::to_string));
    texts.extend(event.cause.as_ref().map(|cause| cause.0.to_string()));
    texts.extend(event.connection.as_ref().map(ToString::to_string));
    texts.extend(event.action.as_ref().map(ToString::to_string));
    texts.extend(event.resource.as_ref().map(ToString::to_string));
    texts.extend(event.grants.iter().map(ToString::to_string));
    texts.extend(event.guardrails.iter().map(ToString::to_string));
    texts.extend(event.reason.clone());
    texts.extend(
        event
            .facts
            .iter()
            .flat_map(|(label, fact)| [label.clone(), fact.clone()]),
    );
    texts.join("\n")
}
