//! What gateways and runners last said of themselves, and each gateway's log key, which is pinned on first use.

use std::collections::BTreeMap;

use clawstaff_api::nodes::{GatewayHello, GatewayStatus, RunnerStatus};
use clawstaff_types::NodeName;
use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    Change, Store, StoreError,
    codec::{from_json, parse, time, to_json},
    error::doing,
};

/// A gateway as last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRow {
    /// Its introduction.
    pub hello: GatewayHello,
    /// Its status, if it has sent one.
    pub status: GatewayStatus,
    /// When it last spoke.
    pub seen: Timestamp,
}

/// A runner as last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerRow {
    /// Its status.
    pub status: RunnerStatus,
    /// When it last spoke.
    pub seen: Timestamp,
}

impl Change {
    /// Keeps a gateway's introduction. The pinned log key is kept from the node's first one.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_gateway_hello(
        &mut self,
        node: &NodeName,
        hello: &GatewayHello,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO reports (node, kind, log_vkey, hello, seen_at) VALUES (?, 'gateway', ?, ?, ?) \
             ON CONFLICT (node, kind) DO UPDATE SET hello = excluded.hello, seen_at = excluded.seen_at",
        )
        .bind(node.as_str())
        .bind(&hello.log_vkey)
        .bind(to_json("gateway's introduction", hello)?)
        .bind(at.to_string())
        .execute(self.connection())
        .await
        .map_err(doing("keep the gateway's introduction"))?;
        Ok(())
    }

    /// Keeps a gateway's status; ignored from one that never introduced itself.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_gateway_status(
        &mut self,
        node: &NodeName,
        status: &GatewayStatus,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE reports SET status = ?, seen_at = ? WHERE node = ? AND kind = 'gateway'")
            .bind(to_json("gateway's status", status)?)
            .bind(at.to_string())
            .bind(node.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("keep the gateway's status"))?;
        Ok(())
    }

    /// Keeps a runner's status.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_runner_status(
        &mut self,
        node: &NodeName,
        status: &RunnerStatus,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO reports (node, kind, status, seen_at) VALUES (?, 'runner', ?, ?) \
             ON CONFLICT (node, kind) DO UPDATE SET status = excluded.status, seen_at = excluded.seen_at",
        )
        .bind(node.as_str())
        .bind(to_json("runner's status", status)?)
        .bind(at.to_string())
        .execute(self.connection())
        .await
        .map_err(doing("keep the runner's status"))?;
        Ok(())
    }
}

impl Store {
    /// The gateways that have ever introduced themselves, by node.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn gateways(&self) -> Result<BTreeMap<NodeName, GatewayRow>, StoreError> {
        let rows = sqlx::query("SELECT node, hello, status, seen_at FROM reports WHERE kind = 'gateway'")
            .fetch_all(&self.readers)
            .await
            .map_err(doing("read the gateways' reports"))?;
        rows.iter().map(gateway_row).collect()
    }

    /// This node's gateway, if it has ever introduced itself.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn gateway(&self, node: &NodeName) -> Result<Option<GatewayRow>, StoreError> {
        Ok(self.gateways().await?.remove(node))
    }

    /// The log key pinned when this node's gateway introduced itself for the first time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn pinned_log_key(&self, node: &NodeName) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT log_vkey FROM reports WHERE node = ? AND kind = 'gateway'")
            .bind(node.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(doing("read the gateway's pinned log key"))
    }

    /// The runners that have ever reported, by node.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn runners(&self) -> Result<BTreeMap<NodeName, RunnerRow>, StoreError> {
        let rows = sqlx::query("SELECT node, status, seen_at FROM reports WHERE kind = 'runner'")
            .fetch_all(&self.readers)
            .await
            .map_err(doing("read the runners' reports"))?;
        rows.iter().map(runner_row).collect()
    }
}

fn gateway_row(row: &SqliteRow) -> Result<(NodeName, GatewayRow), StoreError> {
    let read = || doing("read a gateway's report");
    let hello: String = row.try_get("hello").map_err(read())?;
    let status: Option<String> = row.try_get("status").map_err(read())?;
    let status = status.map(|text| from_json("gateway's status", &text));
    let gateway = GatewayRow {
        hello: from_json("gateway's introduction", &hello)?,
        status: status.transpose()?.unwrap_or_default(),
        seen: seen(row)?,
    };
    Ok((node(row)?, gateway))
}

fn runner_row(row: &SqliteRow) -> Result<(NodeName, RunnerRow), StoreError> {
    let status: String = row.try_get("status").map_err(doing("read a runner's report"))?;
    let runner = RunnerRow {
        status: from_json("runner's status", &status)?,
        seen: seen(row)?,
    };
    Ok((node(row)?, runner))
}

fn node(row: &SqliteRow) -> Result<NodeName, StoreError> {
    let name: String = row.try_get("node").map_err(doing("read a node's report"))?;
    parse("node's name", &name)
}

fn seen(row: &SqliteRow) -> Result<Timestamp, StoreError> {
    let seen: String = row.try_get("seen_at").map_err(doing("read a node's report"))?;
    time("time a node last spoke", &seen)
}
