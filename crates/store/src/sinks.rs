//! Sinks: where the gateway sends the records of the logs.

use clawstaff_types::{Sink, SinkName};
use sqlx::SqliteConnection;

use crate::{
    Change, StoreError,
    codec::{from_json, to_json},
    error::doing,
};

impl Change {
    /// Adds a sink or replaces the one of the same name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_sink(&mut self, sink: &Sink) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sinks (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
        )
        .bind(sink.name.as_str())
        .bind(to_json("sink", sink)?)
        .execute(self.connection())
        .await
        .map_err(doing("store a sink"))?;
        Ok(())
    }

    /// Removes a sink; nothing happens if there is none of that name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn remove_sink(&mut self, name: &SinkName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sinks WHERE name = ?")
            .bind(name.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("remove a sink"))?;
        Ok(())
    }
}

/// All sinks by name.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Sink>, StoreError> {
    let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM sinks ORDER BY name")
        .fetch_all(connection)
        .await
        .map_err(doing("read the sinks"))?;
    bodies.iter().map(|body| from_json("sink", body)).collect()
}
