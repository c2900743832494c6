//! How far each audit log is known: its size, the hashes that stand for what was read, and its checkpoints.

use clawstaff_types::Digest;
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    Change, Store, StoreError,
    codec::{from_column, from_json, to_column, to_json},
    error::doing,
};

/// A log and how far it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// `gateway`, `gateway-NODE` or `control`.
    pub name: String,
    /// Its origin.
    pub origin: String,
    /// Entries taken in.
    pub size: u64,
    /// Hashes of the perfect subtrees that cover them, left to right.
    pub frontier: Vec<Digest>,
    /// The log's own newest signed checkpoint.
    pub checkpoint: String,
    /// The same with the second party's signature, where there is one.
    pub cosigned: String,
    /// Entries in the searchable index: fewer than `size` only while the index is rebuilt.
    pub indexed: u64,
    /// Hashes of the perfect subtrees that cover the indexed ones.
    pub index_frontier: Vec<Digest>,
}

impl Change {
    /// Keeps how far a log is known now.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_log(&mut self, log: &LogRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO logs (name, origin, size, frontier, checkpoint, cosigned, indexed, index_frontier) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET origin = excluded.origin, size = excluded.size, \
             frontier = excluded.frontier, checkpoint = excluded.checkpoint, cosigned = excluded.cosigned, \
             indexed = excluded.indexed, index_frontier = excluded.index_frontier",
        )
        .bind(&log.name)
        .bind(&log.origin)
        .bind(to_column("size of a log", log.size)?)
        .bind(to_json("frontier of a log", &log.frontier)?)
        .bind(&log.checkpoint)
        .bind(&log.cosigned)
        .bind(to_column("indexed size of a log", log.indexed)?)
        .bind(to_json("frontier of a log", &log.index_frontier)?)
        .execute(self.connection())
        .await
        .map_err(doing("keep how far a log is known"))?;
        Ok(())
    }

    /// Keeps the hashes of leaves, the first of which is at index `from`.
    ///
    /// # Errors
    /// When one is there already, or a statement fails.
    pub async fn put_leaves(&mut self, log: &str, from: u64, hashes: &[Digest]) -> Result<(), StoreError> {
        for (index, hash) in (from..).zip(hashes) {
            sqlx::query("INSERT INTO log_leaves (log, idx, hash) VALUES (?, ?, ?)")
                .bind(log)
                .bind(to_column("index in a log", index)?)
                .bind(hash.as_bytes().as_slice())
                .execute(self.connection())
                .await
                .map_err(doing("keep the hash of a leaf"))?;
        }
        Ok(())
    }
}

impl Store {
    /// The hashes of at most `count` leaves from index `from` on, as far as they are known.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn leaves(&self, log: &str, from: u64, count: u64) -> Result<Vec<Digest>, StoreError> {
        let rows: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT hash FROM log_leaves WHERE log = ? AND idx >= ? ORDER BY idx LIMIT ?")
                .bind(log)
                .bind(to_column("index in a log", from)?)
                .bind(to_column("number of leaves", count)?)
                .fetch_all(&self.readers)
                .await
                .map_err(doing("read the hashes of leaves"))?;
        rows.into_iter()
            .map(|bytes| {
                let hash: Result<[u8; 32], _> = bytes.try_into();
                hash.map(Digest::from_bytes).map_err(|_| StoreError::Malformed {
                    what: "hash of a leaf",
                    text: "it does not have 32 bytes".to_owned(),
                })
            })
            .collect()
    }

    /// The log of this name, if anything of it is known.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn log(&self, name: &str) -> Result<Option<LogRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM logs WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .map_err(doing("read how far a log is known"))?;
        row.as_ref().map(log_row).transpose()
    }

    /// Every log, by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn logs(&self) -> Result<Vec<LogRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM logs ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .map_err(doing("read how far the logs are known"))?;
        rows.iter().map(log_row).collect()
    }
}

fn log_row(row: &SqliteRow) -> Result<LogRow, StoreError> {
    let read = || doing("read how far a log is known");
    let text = |column: &'static str| row.try_get::<String, _>(column).map_err(read());
    let number = |column: &'static str| row.try_get::<i64, _>(column).map_err(read());
    Ok(LogRow {
        name: text("name")?,
        origin: text("origin")?,
        size: from_column("size of a log", number("size")?)?,
        frontier: from_json("frontier of a log", &text("frontier")?)?,
        checkpoint: text("checkpoint")?,
        cosigned: text("cosigned")?,
        indexed: from_column("indexed size of a log", number("indexed")?)?,
        index_frontier: from_json("frontier of a log", &text("index_frontier")?)?,
    })
}
