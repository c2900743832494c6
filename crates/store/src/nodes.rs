//! What gateway and runner last said of themselves, and the gateway's log key, which is pinned on first use.

use clawstaff_api::nodes::{GatewayHello, GatewayStatus, RunnerStatus};
use jiff::Timestamp;
use sqlx::Row;

use crate::{
    Change, Store, StoreError,
    codec::{from_json, time, to_json},
    error::doing,
};

/// The gateway as last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRow {
    /// Its introduction.
    pub hello: GatewayHello,
    /// Its status, if it has sent one.
    pub status: GatewayStatus,
    /// When it last spoke.
    pub seen: Timestamp,
}

/// The runner as last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerRow {
    /// Its status.
    pub status: RunnerStatus,
    /// When it last spoke.
    pub seen: Timestamp,
}

impl Change {
    /// Keeps the gateway's introduction. The pinned log key is kept from the first one.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_gateway_hello(&mut self, hello: &GatewayHello, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO nodes (kind, log_vkey, hello, seen_at) VALUES ('gateway', ?, ?, ?) \
             ON CONFLICT (kind) DO UPDATE SET hello = excluded.hello, seen_at = excluded.seen_at",
        )
        .bind(&hello.log_vkey)
        .bind(to_json("gateway's introduction", hello)?)
        .bind(at.to_string())
        .execute(self.connection())
        .await
        .map_err(doing("keep the gateway's introduction"))?;
        Ok(())
    }

    /// Keeps the gateway's status; ignored from one that never introduced itself.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_gateway_status(
        &mut self,
        status: &GatewayStatus,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE nodes SET status = ?, seen_at = ? WHERE kind = 'gateway'")
            .bind(to_json("gateway's status", status)?)
            .bind(at.to_string())
            .execute(self.connection())
            .await
            .map_err(doing("keep the gateway's status"))?;
        Ok(())
    }

    /// Keeps the runner's status.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_runner_status(
        &mut self,
        status: &RunnerStatus,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO nodes (kind, status, seen_at) VALUES ('runner', ?, ?) \
             ON CONFLICT (kind) DO UPDATE SET status = excluded.status, seen_at = excluded.seen_at",
        )
        .bind(to_json("runner's status", status)?)
        .bind(at.to_string())
        .execute(self.connection())
        .await
        .map_err(doing("keep the runner's status"))?;
        Ok(())
    }
}

impl Store {
    /// The gateway, if it has ever introduced itself.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn gateway(&self) -> Result<Option<GatewayRow>, StoreError> {
        let read = || doing("read the gateway's row");
        let row = sqlx::query("SELECT hello, status, seen_at FROM nodes WHERE kind = 'gateway'")
            .fetch_optional(&self.readers)
            .await
            .map_err(read())?;
        let Some(row) = row else { return Ok(None) };
        let hello: String = row.try_get("hello").map_err(read())?;
        let status: Option<String> = row.try_get("status").map_err(read())?;
        let seen: String = row.try_get("seen_at").map_err(read())?;
        let status = status.map(|text| from_json("gateway's status", &text));
        Ok(Some(GatewayRow {
            hello: from_json("gateway's introduction", &hello)?,
            status: status.transpose()?.unwrap_or_default(),
            seen: time("time the gateway last spoke", &seen)?,
        }))
    }

    /// The log key pinned when the gateway introduced itself for the first time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn pinned_log_key(&self) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT log_vkey FROM nodes WHERE kind = 'gateway'")
            .fetch_optional(&self.readers)
            .await
            .map_err(doing("read the gateway's pinned log key"))
    }

    /// The runner, if it has ever reported.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn runner(&self) -> Result<Option<RunnerRow>, StoreError> {
        let read = || doing("read the runner's row");
        let row = sqlx::query("SELECT status, seen_at FROM nodes WHERE kind = 'runner'")
            .fetch_optional(&self.readers)
            .await
            .map_err(read())?;
        let Some(row) = row else { return Ok(None) };
        let status: String = row.try_get("status").map_err(read())?;
        let seen: String = row.try_get("seen_at").map_err(read())?;
        Ok(Some(RunnerRow {
            status: from_json("runner's status", &status)?,
            seen: time("time the runner last spoke", &seen)?,
        }))
    }
}
