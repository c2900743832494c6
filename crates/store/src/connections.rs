//! Connections: an organization's own instances of connectors. The credential is a reference, never a value.

use clawstaff_types::{ConnectionName, spec::Connection};
use sqlx::SqliteConnection;

use crate::{
    Change, StoreError,
    codec::{from_json, to_json},
    error::doing,
};

impl Change {
    /// Adds a connection or replaces the one of the same name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_connection(&mut self, connection: &Connection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO connections (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
        )
        .bind(connection.name.as_str())
        .bind(to_json("connection", connection)?)
        .execute(self.connection())
        .await
        .map_err(doing("store a connection"))?;
        Ok(())
    }

    /// Removes a connection; nothing happens if there is none of that name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn remove_connection(&mut self, name: &ConnectionName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM connections WHERE name = ?")
            .bind(name.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("remove a connection"))?;
        Ok(())
    }
}

/// All connections by name.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Connection>, StoreError> {
    let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM connections ORDER BY name")
        .fetch_all(connection)
        .await
        .map_err(doing("read the connections"))?;
    bodies.iter().map(|body| from_json("connection", body)).collect()
}
