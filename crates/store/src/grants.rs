//! Grants: kept after they are revoked, because records name them.

use clawstaff_types::{ClawName, Grant, GrantId, MemberId};
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Change, StoreError,
    codec::{from_json, to_json},
    error::doing,
};

/// Where a grant came from, which decides what may take it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantOrigin {
    /// From a spec file; the next file replaces it.
    File,
    /// Added by itself; only revoking takes it away.
    Hand,
    /// It follows from the Claw's model.
    Model,
}

impl GrantOrigin {
    const fn text(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Hand => "hand",
            Self::Model => "model",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        match text {
            "file" => Ok(Self::File),
            "hand" => Ok(Self::Hand),
            "model" => Ok(Self::Model),
            other => Err(StoreError::Malformed {
                what: "grant's origin",
                text: format!("`{other}` is none"),
            }),
        }
    }
}

/// A grant that is not revoked; it may have expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// The grant.
    pub grant: Grant,
    /// Where it came from.
    pub origin: GrantOrigin,
}

impl Change {
    /// Adds a grant to the Claw in `cage`.
    ///
    /// # Errors
    /// When an unrevoked grant has this id, or the statement fails.
    pub async fn add_grant(
        &mut self,
        cage: &str,
        grant: &Grant,
        origin: GrantOrigin,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO grants (id, claw, cage, origin, body, added_at) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(grant.id.as_str())
            .bind(grant.claw.as_str())
            .bind(cage)
            .bind(origin.text())
            .bind(to_json("grant", grant)?)
            .bind(at.to_string())
            .execute(self.connection())
            .await
            .map_err(doing("add a grant"))?;
        Ok(())
    }

    /// Hands an unrevoked grant over to a spec file that says the same.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn adopt_grant(&mut self, id: &GrantId) -> Result<(), StoreError> {
        sqlx::query("UPDATE grants SET origin = 'file' WHERE id = ? AND revoked_at IS NULL")
            .bind(id.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("adopt a grant"))?;
        Ok(())
    }

    /// Revokes a grant; nothing happens if it is revoked already.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn revoke_grant(
        &mut self,
        id: &GrantId,
        by: &MemberId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE grants SET revoked_at = ?, revoked_by = ? WHERE id = ? AND revoked_at IS NULL")
            .bind(at.to_string())
            .bind(by.as_str())
            .bind(id.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("revoke a grant"))?;
        Ok(())
    }

    /// Revokes every grant of a Claw.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn revoke_grants_of(
        &mut self,
        claw: &ClawName,
        by: &MemberId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE grants SET revoked_at = ?, revoked_by = ? WHERE claw = ? AND revoked_at IS NULL")
            .bind(at.to_string())
            .bind(by.as_str())
            .bind(claw.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("revoke a Claw's grants"))?;
        Ok(())
    }
}

/// The unrevoked grants, in the order in which they were added.
pub(crate) async fn living(connection: &mut SqliteConnection) -> Result<Vec<GrantRow>, StoreError> {
    let rows = sqlx::query("SELECT body, origin FROM grants WHERE revoked_at IS NULL ORDER BY number")
        .fetch_all(connection)
        .await
        .map_err(doing("read the grants"))?;
    rows.iter().map(grant_row).collect()
}

fn grant_row(row: &SqliteRow) -> Result<GrantRow, StoreError> {
    let text = |column: &'static str| row.try_get::<String, _>(column).map_err(doing("read a grant"));
    Ok(GrantRow {
        grant: from_json("grant", &text("body")?)?,
        origin: GrantOrigin::read(&text("origin")?)?,
    })
}
