//! Finding audit records: filters that all must hold, newest first, one page at a time, and what is new since.

use clawstaff_api::people::AuditRecord;
use clawstaff_types::{Decision, EventKind, Outcome};
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use crate::{
    Store, StoreError,
    codec::{from_column, from_json, to_column, to_json},
    error::doing,
    records::first_id,
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

/// A place in the order of records: their time, and their order within one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub i64);

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
        let mut query = in_time(search)?;
        if let Some(Place(id)) = before {
            query.push(" AND records.id < ").push_bind(id);
        }
        // The same order by the table that the rows are found in, so that nothing is sorted.
        let order = if search.words.is_empty() {
            "records.id"
        } else {
            "records_text.rowid"
        };
        query.push(" ORDER BY ").push(order).push(" DESC LIMIT ");
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
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM records WHERE 1 = 1"));
        filter(&mut query, search, &Lead::none())?;
        if !search.words.is_empty() {
            query.push(
                " AND EXISTS (SELECT 1 FROM records_text WHERE rowid = records.id AND records_text MATCH ",
            );
            query.push_bind(phrases(search)).push(")");
        }
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

const COLUMNS: &str = "records.id, records.changed, records.body";
/// Ids run ahead of their times where many records have one time (a clock that stands still); never by an hour.
const AHEAD: i64 = 2 * 3_600_000_000;

/// Which columns the database may look up; the others are only looked at. It keeps no statistics, so which index
/// is the best one is said here: the column with the most different values.
#[derive(Debug)]
struct Lead(Vec<&'static str>);

impl Lead {
    const fn none() -> Self {
        Self(Vec::new())
    }

    fn of(search: &Search) -> Self {
        let exact = |pattern: &Option<String>| pattern.as_ref().is_some_and(|text| !text.contains('*'));
        let unusual = |usual: bool, asked: bool| asked && !usual;
        let decision = unusual(
            search.decision == Some(Decision::Allow),
            search.decision.is_some(),
        );
        let outcome = unusual(
            search.outcome == Some(Outcome::Succeeded),
            search.outcome.is_some(),
        );
        let with_claw = |other| {
            if search.claw.is_some() {
                vec!["claw", other]
            } else {
                vec![other]
            }
        };
        Self(match () {
            () if !search.words.is_empty() => Vec::new(),
            () if search.cause.is_some() => vec!["cause"],
            () if exact(&search.resource) => vec!["resource"],
            () if exact(&search.action) => with_claw("action"),
            () if outcome => with_claw("outcome"),
            () if decision => with_claw("decision"),
            () if search.kinds.len() == 1 => with_claw("kind"),
            () if search.claw.is_some() => vec!["claw"],
            () if search.actor.is_some() => vec!["actor"],
            () => Vec::new(),
        })
    }

    /// The column as it stands in the statement.
    fn name(&self, column: &'static str) -> String {
        let looked_up = self.0.contains(&column);
        let plus = if looked_up { "" } else { "+" };
        format!("{plus}records.{column}")
    }
}

/// Records in the order of time, from the index that finds them fastest.
fn in_time(search: &Search) -> Result<QueryBuilder<Sqlite>, StoreError> {
    let mut query = if search.words.is_empty() {
        QueryBuilder::new(format!("SELECT {COLUMNS} FROM records WHERE 1 = 1"))
    } else {
        let mut query = QueryBuilder::new(format!(
            "SELECT {COLUMNS} FROM records_text CROSS JOIN records ON records.id = records_text.rowid \
             WHERE records_text MATCH "
        ));
        query.push_bind(phrases(search));
        query
    };
    let id = if search.words.is_empty() {
        "records.id"
    } else {
        "records_text.rowid"
    };
    if let Some(since) = search.since {
        query.push(format!(" AND {id} >= ")).push_bind(first_id(since));
    }
    if let Some(until) = search.until {
        let end = first_id(until).saturating_add(AHEAD);
        query.push(format!(" AND {id} < ")).push_bind(end);
    }
    filter(&mut query, search, &Lead::of(search))?;
    Ok(query)
}

fn filter(query: &mut QueryBuilder<Sqlite>, search: &Search, lead: &Lead) -> Result<(), StoreError> {
    equal(query, &lead.name("claw"), search.claw.as_deref());
    equal(query, &lead.name("actor"), search.actor.as_deref());
    like(query, &lead.name("action"), search.action.as_deref());
    like(query, &lead.name("resource"), search.resource.as_deref());
    equal(query, &lead.name("cause"), search.cause.as_deref());
    let decision = search.decision.map(|one| to_json("decision", &one)).transpose()?;
    unusual(
        query,
        lead,
        "decision",
        "allow",
        decision.as_deref().map(unquoted),
    );
    let outcome = search.outcome.map(|one| to_json("outcome", &one)).transpose()?;
    unusual(
        query,
        lead,
        "outcome",
        "succeeded",
        outcome.as_deref().map(unquoted),
    );
    one_of(query, &lead.name("kind"), &search.kinds);
    if let Some(since) = search.since {
        query
            .push(" AND +records.time >= ")
            .push_bind(since.as_microsecond());
    }
    if let Some(until) = search.until {
        query
            .push(" AND +records.time < ")
            .push_bind(until.as_microsecond());
    }
    Ok(())
}

fn equal(query: &mut QueryBuilder<Sqlite>, column: &str, value: Option<&str>) {
    if let Some(value) = value {
        query.push(format!(" AND {column} = "));
        query.push_bind(value.to_owned());
    }
}

/// A column of which only what is not usual is indexed; the statement has to say so for the index to be used.
fn unusual(
    query: &mut QueryBuilder<Sqlite>,
    lead: &Lead,
    column: &'static str,
    usual: &str,
    value: Option<&str>,
) {
    equal(query, &lead.name(column), value);
    if lead.0.contains(&column) {
        query.push(format!(" AND records.{column} <> '{usual}'"));
    }
}

/// `GLOB` with every character but `*` taken literally.
fn like(query: &mut QueryBuilder<Sqlite>, column: &str, pattern: Option<&str>) {
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
    query.push(format!(" AND {column} GLOB "));
    query.push_bind(glob);
}

fn one_of(query: &mut QueryBuilder<Sqlite>, column: &str, kinds: &[EventKind]) {
    if kinds.is_empty() {
        return;
    }
    query.push(format!(" AND {column} IN ("));
    let mut list = query.separated(", ");
    for kind in kinds {
        list.push_bind(kind.as_str());
    }
    query.push(")");
}

/// Each word as a quoted phrase, so that nothing in it is FTS5 syntax; all must occur. What other filters ask for
/// stands among a record's words as well: it narrows the search, and the columns have the last word.
fn phrases(search: &Search) -> String {
    let exact = |pattern: &Option<String>| pattern.clone().filter(|text| !text.contains('*'));
    let named = [
        search.claw.clone(),
        search.actor.clone(),
        search.cause.clone(),
        exact(&search.action),
        exact(&search.resource),
    ];
    let quoted: Vec<String> = search
        .words
        .iter()
        .cloned()
        .chain(named.into_iter().flatten())
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
        place: Place(number("id")?),
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
                claw: text(),
                action: text(),
                since: Some(Timestamp::UNIX_EPOCH),
                until: Some(Timestamp::UNIX_EPOCH),
                ..Search::default()
            },
            Search {
                claw: text(),
                outcome: Some(Outcome::Unknown),
                ..Search::default()
            },
            Search {
                claw: text(),
                words: vec!["x".into()],
                ..Search::default()
            },
            Search {
                words: vec!["x".into()],
                ..Search::default()
            },
        ] {
            let text = in_time(&search).unwrap();
            let order = if search.words.is_empty() {
                "records.id"
            } else {
                "records_text.rowid"
            };
            let sql = format!(
                "EXPLAIN QUERY PLAN {} ORDER BY {order} DESC LIMIT 1",
                text.sql().as_str()
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .fetch_all(&store.readers)
                .await
                .unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let plan = plan.join("; ");
            // Without any filter the table itself is in the order of time.
            let walked = search == Search::default() && plan.contains("SCAN records");
            let indexed = plan.contains("USING") || plan.contains("VIRTUAL TABLE INDEX");
            assert!(walked || indexed, "{search:?}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{search:?}: {plan}");
        }
    }
}
