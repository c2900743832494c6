//! Guardrails: what no grant overrides.

use clawstaff_types::{Guardrail, GuardrailName};
use sqlx::SqliteConnection;

use crate::{
    Change, StoreError,
    codec::{from_json, to_json},
    error::doing,
};

impl Change {
    /// Adds a guardrail or replaces the one of the same name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_guardrail(&mut self, guardrail: &Guardrail) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO guardrails (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
        )
        .bind(guardrail.name.as_str())
        .bind(to_json("guardrail", guardrail)?)
        .execute(self.connection())
        .await
        .map_err(doing("store a guardrail"))?;
        Ok(())
    }

    /// Removes a guardrail; nothing happens if there is none of that name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn remove_guardrail(&mut self, name: &GuardrailName) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM guardrails WHERE name = ?")
            .bind(name.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("remove a guardrail"))?;
        Ok(())
    }
}

/// All guardrails by name.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Guardrail>, StoreError> {
    let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM guardrails ORDER BY name")
        .fetch_all(connection)
        .await
        .map_err(doing("read the guardrails"))?;
    bodies.iter().map(|body| from_json("guardrail", body)).collect()
}
