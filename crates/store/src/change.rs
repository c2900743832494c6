//! One transaction: everything in it happens, or nothing.
//!
//! The methods that put things in live with their nouns (`claws.rs`, `grants.rs`, …).

use clawstaff_types::ClawName;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::{Store, StoreError, codec::from_column, error::doing};

/// A change under way. Dropped without [`Change::commit`], it never happened.
#[derive(Debug)]
pub struct Change {
    pub(crate) transaction: Transaction<'static, Sqlite>,
}

impl Change {
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// Raises the state revision and returns the new one.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn raise_revision(&mut self) -> Result<u64, StoreError> {
        let revision: i64 = sqlx::query_scalar(
            "UPDATE organization SET revision = revision + 1 WHERE id = 1 RETURNING revision",
        )
        .fetch_one(self.connection())
        .await
        .map_err(doing("raise the state revision"))?;
        from_column("state revision", revision)
    }

    /// Makes the change durable.
    ///
    /// # Errors
    /// When it could not be made durable; then it did not happen.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.transaction
            .commit()
            .await
            .map_err(doing("commit the change"))
    }

    /// Forgets what is on its way to a Claw that is no more: its messages, and decisions about its calls.
    pub(crate) async fn forget_waiting_of(&mut self, claw: &ClawName) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM messages WHERE claw = ?",
            "DELETE FROM approvals WHERE claw = ?",
        ] {
            sqlx::query(statement)
                .bind(claw.as_str())
                .execute(self.connection())
                .await
                .map_err(doing("drop what waits for a Claw"))?;
        }
        Ok(())
    }
}

impl Store {
    /// The state revision: rises with every change of desired state, 1 before the first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revision(&self) -> Result<u64, StoreError> {
        let revision: i64 = sqlx::query_scalar("SELECT revision FROM organization WHERE id = 1")
            .fetch_one(&self.readers)
            .await
            .map_err(doing("read the state revision"))?;
        from_column("state revision", revision)
    }
}
