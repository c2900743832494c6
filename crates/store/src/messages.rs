//! Members' messages on their way to a gateway: sealed, and gone as soon as the gateway has them.

use clawstaff_api::nodes::MemberMessage;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use crate::{
    Change, Store, StoreError,
    codec::{from_column, from_json, to_json},
    error::doing,
};

impl Change {
    /// Keeps a message until the gateway has taken it.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn add_message(&mut self, message: &MemberMessage, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO messages (id, claw, body, at) VALUES (?, ?, ?, ?)")
            .bind(&message.id)
            .bind(message.claw.as_str())
            .bind(to_json("message", message)?)
            .bind(at.to_string())
            .execute(self.connection())
            .await
            .map_err(doing("keep a message"))?;
        Ok(())
    }

    /// Drops messages that the gateway has.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn drop_messages(&mut self, ids: &[String]) -> Result<(), StoreError> {
        for id in ids {
            sqlx::query("DELETE FROM messages WHERE id = ?")
                .bind(id)
                .execute(self.connection())
                .await
                .map_err(doing("drop a message"))?;
        }
        Ok(())
    }
}

impl Store {
    /// How many messages wait.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn waiting_messages(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM messages")
            .fetch_one(&self.readers)
            .await
            .map_err(doing("count the messages"))?;
        from_column("number of messages", count)
    }
}

/// The messages that wait, oldest first.
pub(crate) async fn waiting(connection: &mut SqliteConnection) -> Result<Vec<MemberMessage>, StoreError> {
    let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM messages ORDER BY at, id")
        .fetch_all(connection)
        .await
        .map_err(doing("read the messages"))?;
    bodies.iter().map(|body| from_json("message", body)).collect()
}
