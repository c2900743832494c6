//! Finding audit records: filters that all must hold, newest first, one page at a time, and what is new since.

use clawstaff_api::people::AuditRecord;
use clawstaff_types::{Decision, EventKind, Outcome};
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use crate::{
    Store, StoreError,
    codec::{from_column, from_json, to_column, to_json},
    error::doing,
};

/// What must hold of a record. Absent fields ask nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The Claw's name.
    pub claw: Option<String>,
    /// The actor, as text.
    pub actor: Option<String>,
    /// The action; `*` stands for any run of characters.
    pub action: Option<String>,
    /// The resource; `*` stands for any run of characters.
    pub resource: Option<String>,
    /// The decision.
    pub decision: Option<Decision>,
    /// The outcome.
    pub outcome: Option<Outcome>,
    /// One of these kinds; empty asks nothing.
    pub kinds: Vec<EventKind>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// The cause.
    pub cause: Option<String>,
    /// All of these words.
    pub words: Vec<String>,
}

/// A place in the order of records: by time, then by when they were indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Microseconds since 1970.
    pub time: i64,
    /// The row.
    pub row: i64,
}

/// A record and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The record.
    pub record: AuditRecord,
    /// Its place in the order.
    pub place: Place,
    /// Its place in the order of changes of the index.
    pub changed: u64,
}

impl Store {
    /// Records that match and come before `before`, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn search(
        &self,
        search: &Search,
        before: Option<Place>,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError> {
        let mut query = select(search)?;
        if let Some(place) = before {
            query.push(" AND (time, id) < (").push_bind(place.time);
            query.push(", ").push_bind(place.row).push(")");
        }
        query.push(" ORDER BY time DESC, id DESC LIMIT ");
        query.push_bind(i64::from(limit));
        self.find(query).await
    }

    /// Records that match and were indexed or got their outcome after `changed`, oldest change first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn search_changed(
        &self,
        search: &Search,
        changed: u64,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError> {
        let mut query = select(search)?;
        query.push(" AND changed > ");
        query.push_bind(to_column("change of the index", changed)?);
        query.push(" ORDER BY changed LIMIT ").push_bind(i64::from(limit));
        self.find(query).await
    }

    /// The newest change of the index, 0 if there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn newest_change(&self) -> Result<u64, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(changed) FROM records")
            .fetch_one(&self.readers)
            .await
            .map_err(doing("read the newest change of the index"))?;
        from_column("change of the index", newest.unwrap_or(0))
    }

    /// The record at this place of a log.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find_record(&self, log: &str, index: u64) -> Result<Option<AuditRecord>, StoreError> {
        let body: Option<String> = sqlx::query_scalar("SELECT body FROM records WHERE log = ? AND idx = ?")
            .bind(log)
            .bind(to_column("index in a log", index)?)
            .fetch_optional(&self.readers)
            .await
            .map_err(doing("read an audit record"))?;
        body.map(|text| from_json("audit record", &text)).transpose()
    }

    async fn find(&self, mut query: QueryBuilder<Sqlite>) -> Result<Vec<Found>, StoreError> {
        let rows = query
            .build()
            .fetch_all(&self.readers)
            .await
            .map_err(doing("search the audit records"))?;
        rows.iter().map(found).collect()
    }
}

fn select(search: &Search) -> Result<QueryBuilder<Sqlite>, StoreError> {
    let query = QueryBuilder::new("SELECT id, time, changed, body FROM records WHERE 1 = 1");
    filtered(query, search)
}

fn filtered(mut query: QueryBuilder<Sqlite>, search: &Search) -> Result<QueryBuilder<Sqlite>, StoreError> {
    equal(&mut query, "claw", search.claw.as_deref());
    equal(&mut query, "actor", search.actor.as_deref());
    like(&mut query, "action", search.action.as_deref());
    like(&mut query, "resource", search.resource.as_deref());
    equal(&mut query, "cause", search.cause.as_deref());
    let decision = search.decision.map(|one| to_json("decision", &one)).transpose()?;
    equal(&mut query, "decision", decision.as_deref().map(unquoted));
    let outcome = search.outcome.map(|one| to_json("outcome", &one)).transpose()?;
    equal(&mut query, "outcome", outcome.as_deref().map(unquoted));
    one_of(&mut query, &search.kinds);
    if let Some(since) = search.since {
        query.push(" AND time >= ").push_bind(since.as_microsecond());
    }
    if let Some(until) = search.until {
        query.push(" AND time < ").push_bind(until.as_microsecond());
    }
    if !search.words.is_empty() {
        query.push(" AND id IN (SELECT rowid FROM records_text WHERE records_text MATCH ");
        query.push_bind(phrases(&search.words)).push(")");
    }
    Ok(query)
}

fn equal(query: &mut QueryBuilder<Sqlite>, column: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        query.push(" AND ").push(column).push(" = ");
        query.push_bind(value.to_owned());
    }
}

/// `GLOB` with every character but `*` taken literally.
fn like(query: &mut QueryBuilder<Sqlite>, column: &'static str, pattern: Option<&str>) {
    let Some(pattern) = pattern.filter(|text| text.contains('*')) else {
        return equal(query, column, pattern);
    };
    let mut glob = String::with_capacity(pattern.len());
    for character in pattern.chars() {
        match character {
            '?' => glob.push_str("[?]"),
            '[' => glob.push_str("[[]"),
            other => glob.push(other),
        }
    }
    query.push(" AND ").push(column).push(" GLOB ");
    query.push_bind(glob);
}

fn one_of(query: &mut QueryBuilder<Sqlite>, kinds: &[EventKind]) {
    if kinds.is_empty() {
        return;
    }
    query.push(" AND kind IN (");
    let mut list = query.separated(", ");
    for kind in kinds {
        list.push_bind(kind.as_str());
    }
    query.push(")");
}

/// Each word as a quoted phrase, so that nothing in it is FTS5 syntax; all must occur.
fn phrases(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
        .collect();
    quoted.join(" ")
}

fn unquoted(json: &str) -> &str {
    json.trim_matches('"')
}

fn found(row: &SqliteRow) -> Result<Found, StoreError> {
    let read = || doing("read an audit record");
    let number = |column: &'static str| row.try_get::<i64, _>(column).map_err(read());
    let body: String = row.try_get("body").map_err(read())?;
    Ok(Found {
        record: from_json("audit record", &body)?,
        place: Place {
            time: number("time")?,
            row: number("id")?,
        },
        changed: from_column("change of the index", number("changed")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_filter_is_answered_from_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("control.db")).await.unwrap();
        let text = || Some("x".to_owned());
        for search in [
            Search::default(),
            Search {
                claw: text(),
                ..Search::default()
            },
            Search {
                actor: text(),
                ..Search::default()
            },
            Search {
                action: text(),
                ..Search::default()
            },
            Search {
                resource: text(),
                ..Search::default()
            },
            Search {
                cause: text(),
                ..Search::default()
            },
            Search {
                decision: Some(Decision::Deny),
                ..Search::default()
            },
            Search {
                outcome: Some(Outcome::Failed),
                ..Search::default()
            },
            Search {
                kinds: vec![EventKind::ToolCall],
                ..Search::default()
            },
            Search {
                since: Some(Timestamp::UNIX_EPOCH),
                ..Search::default()
            },
            Search {
                words: vec!["x".into()],
                ..Search::default()
            },
        ] {
            let head = QueryBuilder::new("EXPLAIN QUERY PLAN SELECT id FROM records WHERE 1 = 1");
            let mut query = filtered(head, &search).unwrap();
            query.push(" ORDER BY time DESC, id DESC LIMIT 1");
            let rows = query.build().fetch_all(&store.readers).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let plan = plan.join("; ");
            assert!(plan.contains("USING"), "{search:?}: {plan}");
            let sorted = search.words.is_empty() && plan.contains("TEMP B-TREE");
            assert!(!sorted, "{search:?}: {plan}");
        }
    }
}
