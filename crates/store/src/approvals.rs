//! Members' decisions about calls that wait, on their way to the gateway; gone as soon as it has made them so.

use clawstaff_api::nodes::MemberDecision;
use clawstaff_types::ApprovalId;
use sqlx::SqliteConnection;

use crate::{
    Change, StoreError,
    codec::{from_json, to_json},
    error::doing,
};

impl Change {
    /// Keeps a decision until the gateway has taken it. There is one for each call.
    ///
    /// # Errors
    /// When there is one already, or the statement fails.
    pub async fn add_decision(&mut self, decision: &MemberDecision) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO approvals (id, claw, body, at) VALUES (?, ?, ?, ?)")
            .bind(decision.id.as_str())
            .bind(decision.claw.as_str())
            .bind(to_json("decision", decision)?)
            .bind(decision.at.to_string())
            .execute(self.connection())
            .await
            .map_err(doing("keep a decision"))?;
        Ok(())
    }

    /// Drops decisions that the gateway has made so.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn drop_decisions(&mut self, ids: &[ApprovalId]) -> Result<(), StoreError> {
        for id in ids {
            sqlx::query("DELETE FROM approvals WHERE id = ?")
                .bind(id.as_str())
                .execute(self.connection())
                .await
                .map_err(doing("drop a decision"))?;
        }
        Ok(())
    }
}

/// The decisions that are on their way, oldest first.
pub(crate) async fn on_their_way(
    connection: &mut SqliteConnection,
) -> Result<Vec<MemberDecision>, StoreError> {
    let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM approvals ORDER BY at, id")
        .fetch_all(connection)
        .await
        .map_err(doing("read the decisions"))?;
    bodies.iter().map(|body| from_json("decision", body)).collect()
}
