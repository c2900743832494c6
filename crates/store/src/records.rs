//! Writing the searchable index of audit records. Rebuildable: the logs are the truth.
//!
//! A record's row id is its place in time, and a function of the log alone: the same log, indexed again in
//! whatever portions, gives the same rows.

use clawstaff_api::people::AuditRecord;
use serde::Serialize;
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::{
    Change, StoreError,
    codec::{from_column, from_json, to_column, to_json},
    error::doing,
};

/// Rows in one statement.
const AT_ONCE: usize = 64;

/// A new record and where it goes.
struct Placed<'a> {
    id: i64,
    changed: i64,
    record: &'a AuditRecord,
}

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

    /// Indexes records in the order of their indices, and replaces those that are there already (an outcome was
    /// merged in). `log` is the log's short name.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn put_records(&mut self, log: &str, records: &[&AuditRecord]) -> Result<(), StoreError> {
        let (mut last_index, mut last_id) = self.newest_place(log).await?;
        let mut changed = self.newest_change().await?;
        let mut fresh = Vec::new();
        for record in records {
            changed += 1;
            let index = to_column("index in a log", record.index)?;
            if index > last_index {
                last_id = place(log, record).max(last_id.saturating_add(2));
                last_index = index;
                fresh.push(Placed {
                    id: last_id,
                    changed,
                    record,
                });
            } else {
                self.replace(log, changed, record).await?;
            }
        }
        for rows in fresh.chunks(AT_ONCE) {
            self.insert(log, rows).await?;
        }
        Ok(())
    }

    /// Forgets everything that is indexed of a log.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn clear_index(&mut self, log: &str) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM records_text WHERE rowid IN (SELECT id FROM records WHERE log = ?)",
            "DELETE FROM records WHERE log = ?",
            "UPDATE logs SET indexed = 0, index_frontier = '[]' WHERE name = ?",
        ] {
            sqlx::query(sql)
                .bind(log)
                .execute(self.connection())
                .await
                .map_err(doing("clear the index of a log"))?;
        }
        Ok(())
    }

    /// Takes at most `most` records of entries before index `before` out of the index, oldest first. How many there
    /// were.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn forget_records_before(
        &mut self,
        log: &str,
        before: u64,
        most: u64,
    ) -> Result<u64, StoreError> {
        let forget = || doing("forget audit records");
        let ids: Vec<i64> = sqlx::query_scalar(
            "DELETE FROM records WHERE id IN \
             (SELECT id FROM records WHERE log = ? AND idx < ? ORDER BY idx LIMIT ?) RETURNING id",
        )
        .bind(log)
        .bind(to_column("index in a log", before)?)
        .bind(to_column("number of records", most)?)
        .fetch_all(self.connection())
        .await
        .map_err(forget())?;
        for id in &ids {
            sqlx::query("DELETE FROM records_text WHERE rowid = ?")
                .bind(id)
                .execute(self.connection())
                .await
                .map_err(forget())?;
        }
        Ok(ids.len() as u64)
    }

    /// Index and row id of the newest record of a log; -1 and the smallest id if there is none.
    async fn newest_place(&mut self, log: &str) -> Result<(i64, i64), StoreError> {
        let read = || doing("read the newest audit record");
        let row = sqlx::query("SELECT idx, id FROM records WHERE log = ? ORDER BY idx DESC LIMIT 1")
            .bind(log)
            .fetch_optional(self.connection())
            .await
            .map_err(read())?;
        let Some(row) = row else { return Ok((-1, i64::MIN)) };
        Ok((row.try_get(0).map_err(read())?, row.try_get(1).map_err(read())?))
    }

    async fn newest_change(&mut self) -> Result<i64, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(changed) FROM records")
            .fetch_one(self.connection())
            .await
            .map_err(doing("read the newest change of the index"))?;
        from_column("change of the index", newest.unwrap_or(0))
    }

    async fn insert(&mut self, log: &str, rows: &[Placed<'_>]) -> Result<(), StoreError> {
        let mut columns = Vec::with_capacity(rows.len());
        for row in rows {
            columns.push(Columns::of(row.record)?);
        }
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
            "INSERT INTO records (id, log, idx, outcome_idx, time, changed, kind, claw, actor, action, resource, \
             decision, outcome, cause, body) ",
        );
        query.push_values(rows.iter().zip(columns), |mut values, (row, columns)| {
            let event = &row.record.event;
            values
                .push_bind(row.id)
                .push_bind(log)
                .push_bind(columns.index)
                .push_bind(columns.outcome_index)
                .push_bind(row.record.time.as_microsecond())
                .push_bind(row.changed)
                .push_bind(event.kind.as_str())
                .push_bind(event.claw.as_ref().map(clawstaff_types::ClawName::as_str))
                .push_bind(event.actor.to_string())
                .push_bind(event.action.as_ref().map(ToString::to_string))
                .push_bind(columns.resource)
                .push_bind(columns.decision)
                .push_bind(columns.outcome)
                .push_bind(event.cause.as_ref().map(|cause| cause.0.to_string()))
                .push_bind(columns.body);
        });
        self.run(query, "index audit records").await?;
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("INSERT INTO records_text (rowid, body) ");
        query.push_values(rows, |mut values, row| {
            values.push_bind(row.id).push_bind(texts(row.record));
        });
        self.run(query, "index the texts of audit records").await
    }

    async fn run(&mut self, mut query: QueryBuilder<Sqlite>, what: &'static str) -> Result<(), StoreError> {
        let done = query.build().execute(self.connection()).await;
        done.map(drop).map_err(doing(what))
    }

    async fn replace(&mut self, log: &str, changed: i64, record: &AuditRecord) -> Result<(), StoreError> {
        let columns = Columns::of(record)?;
        let id: i64 = sqlx::query_scalar(
            "UPDATE records SET outcome_idx = ?, changed = ?, resource = ?, decision = ?, outcome = ?, body = ? \
             WHERE log = ? AND idx = ? RETURNING id",
        )
        .bind(columns.outcome_index)
        .bind(changed)
        .bind(columns.resource)
        .bind(columns.decision)
        .bind(columns.outcome)
        .bind(columns.body)
        .bind(log)
        .bind(columns.index)
        .fetch_one(self.connection())
        .await
        .map_err(doing("index the outcome of an audit record"))?;
        sqlx::query("INSERT OR REPLACE INTO records_text (rowid, body) VALUES (?, ?)")
            .bind(id)
            .bind(texts(record))
            .execute(self.connection())
            .await
            .map_err(doing("index the texts of an audit record"))?;
        Ok(())
    }
}

/// What of a record must be converted before it is a column.
struct Columns {
    index: i64,
    outcome_index: Option<i64>,
    resource: Option<String>,
    decision: Option<String>,
    outcome: Option<String>,
    body: String,
}

impl Columns {
    fn of(record: &AuditRecord) -> Result<Self, StoreError> {
        let event = &record.event;
        let outcome_index = record.outcome_index.map(|at| to_column("index in a log", at));
        Ok(Self {
            index: to_column("index in a log", record.index)?,
            outcome_index: outcome_index.transpose()?,
            resource: event.resource.as_ref().map(ToString::to_string),
            decision: word("decision", event.decision.as_ref())?,
            outcome: word("outcome", event.outcome.as_ref())?,
            body: to_json("audit record", record)?,
        })
    }
}

/// The row id that the record's time asks for. The control plane's log never asks for a gateway's.
fn place(log: &str, record: &AuditRecord) -> i64 {
    let first = first_id(record.time);
    if log == "control" {
        first.saturating_add(1)
    } else {
        first
    }
}

/// No record of this time or later has a smaller id.
pub(crate) fn first_id(time: jiff::Timestamp) -> i64 {
    time.as_microsecond().saturating_mul(2)
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
