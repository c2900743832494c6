//! Hosts that joined: their names, the digests of what they show, and the one-time tokens that let more of them join.

use clawstaff_api::nodes::NodeTokens;
use clawstaff_types::{Digest, NodeName, PoolName};
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Change, Store, StoreError,
    codec::{parse, time},
    error::doing,
};

/// A host that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub name: NodeName,
    /// The pool that it is in.
    pub pool: Option<PoolName>,
    /// The digests of its gateway's and its runner's tokens.
    pub tokens: NodeTokens,
    /// When it joined.
    pub joined: Timestamp,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
    /// When its newest certificate ends.
    pub expires: Option<Timestamp>,
}

/// Whom a join token lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// Its name.
    pub node: NodeName,
    /// The pool that it is to be in.
    pub pool: Option<PoolName>,
    /// From then on the token is good for nothing.
    pub expires: Timestamp,
}

const NODE: &str = "SELECT nodes.*, \
    (SELECT max(expires_at) FROM certificates WHERE certificates.node = nodes.name) AS expires_at FROM nodes";

impl Change {
    /// Keeps the digest of a join token. An earlier one for the same node is good for nothing from now on.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn add_join_token(&mut self, digest: Digest, invited: &Invited) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM join_tokens WHERE node = ?")
            .bind(invited.node.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("drop a join token"))?;
        sqlx::query("INSERT INTO join_tokens (digest, node, pool, expires_at) VALUES (?, ?, ?, ?)")
            .bind(digest.to_string())
            .bind(invited.node.as_str())
            .bind(invited.pool.as_ref().map(PoolName::as_str))
            .bind(invited.expires.to_string())
            .execute(self.connection())
            .await
            .map_err(doing("keep a join token"))?;
        Ok(())
    }

    /// Takes a join token away, and says whom it let in. A second one who shows it finds nothing.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn take_join_token(&mut self, digest: Digest) -> Result<Option<Invited>, StoreError> {
        let row = sqlx::query("DELETE FROM join_tokens WHERE digest = ? RETURNING node, pool, expires_at")
            .bind(digest.to_string())
            .fetch_optional(self.connection())
            .await
            .map_err(doing("take a join token"))?;
        row.as_ref().map(invited_row).transpose()
    }

    /// Keeps a host that joined, or joined again; what it showed before opens nothing any more.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn put_node(
        &mut self,
        invited: &Invited,
        tokens: &NodeTokens,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO nodes (name, pool, gateway_token, runner_token, joined_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET pool = excluded.pool, gateway_token = excluded.gateway_token, \
             runner_token = excluded.runner_token, joined_at = excluded.joined_at, revoked_at = NULL",
        )
        .bind(invited.node.as_str())
        .bind(invited.pool.as_ref().map(PoolName::as_str))
        .bind(tokens.gateway.to_string())
        .bind(tokens.runner.to_string())
        .bind(at.to_string())
        .execute(self.connection())
        .await
        .map_err(doing("keep a node"))?;
        self.keep_certificates(&invited.node, None).await
    }

    /// Lets a certificate open the door for a node.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn add_certificate(
        &mut self,
        node: &NodeName,
        digest: Digest,
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO certificates (digest, node, expires_at) VALUES (?, ?, ?)")
            .bind(digest.to_string())
            .bind(node.as_str())
            .bind(expires.to_string())
            .execute(self.connection())
            .await
            .map_err(doing("keep a certificate's digest"))?;
        Ok(())
    }

    /// Forgets all of a node's certificates but one.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn keep_certificates(
        &mut self,
        node: &NodeName,
        only: Option<Digest>,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM certificates WHERE node = ? AND digest IS NOT ?")
            .bind(node.as_str())
            .bind(only.map(|digest| digest.to_string()))
            .execute(self.connection())
            .await
            .map_err(doing("forget certificates"))?;
        Ok(())
    }

    /// Turns a node away from now on. `false`: no such node is in.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn revoke_node(&mut self, node: &NodeName, at: Timestamp) -> Result<bool, StoreError> {
        let revoked = sqlx::query("UPDATE nodes SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL")
            .bind(at.to_string())
            .bind(node.as_str())
            .execute(self.connection())
            .await
            .map_err(doing("revoke a node"))?;
        self.keep_certificates(node, None).await?;
        Ok(revoked.rows_affected() > 0)
    }
}

/// The names of the nodes that are in.
pub(crate) async fn names(connection: &mut SqliteConnection) -> Result<Vec<NodeName>, StoreError> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM nodes WHERE revoked_at IS NULL ORDER BY name")
            .fetch_all(connection)
            .await
            .map_err(doing("read the nodes"))?;
    names.iter().map(|name| parse("node's name", name)).collect()
}

impl Store {
    /// The hosts that ever joined, by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{NODE} ORDER BY name")))
            .fetch_all(&self.readers)
            .await
            .map_err(doing("read the nodes"))?;
        rows.iter().map(node_row).collect()
    }

    /// The certificate that this node was given last.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn newest_certificate(&self, node: &NodeName) -> Result<Option<Digest>, StoreError> {
        let digest: Option<String> =
            sqlx::query_scalar("SELECT digest FROM certificates WHERE node = ? ORDER BY number DESC LIMIT 1")
                .bind(node.as_str())
                .fetch_optional(&self.readers)
                .await
                .map_err(doing("look a certificate up"))?;
        digest
            .map(|digest| parse("digest of a certificate", &digest))
            .transpose()
    }

    /// The node for which this certificate opens the door now, and how many certificates do.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn node_by_certificate(
        &self,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Option<(NodeRow, usize)>, StoreError> {
        let rows = sqlx::query_scalar::<_, String>(
            "SELECT digest FROM certificates WHERE expires_at > ? AND node = \
             (SELECT node FROM certificates WHERE digest = ?)",
        )
        .bind(now.to_string())
        .bind(digest.to_string())
        .fetch_all(&self.readers)
        .await
        .map_err(doing("look a certificate up"))?;
        if !rows.contains(&digest.to_string()) {
            return Ok(None);
        }
        let sql = format!(
            "{NODE} WHERE revoked_at IS NULL AND name = (SELECT node FROM certificates WHERE digest = ?)"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(digest.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(doing("look a node up"))?;
        let row = row.as_ref().map(node_row).transpose()?;
        Ok(row.map(|row| (row, rows.len())))
    }
}

fn invited_row(row: &SqliteRow) -> Result<Invited, StoreError> {
    let read = || doing("read a join token");
    let node: String = row.try_get("node").map_err(read())?;
    let expires: String = row.try_get("expires_at").map_err(read())?;
    Ok(Invited {
        node: parse("node's name", &node)?,
        pool: pool(row)?,
        expires: time("end of a join token", &expires)?,
    })
}

fn node_row(row: &SqliteRow) -> Result<NodeRow, StoreError> {
    let read = || doing("read a node");
    let text = |column: &'static str| row.try_get::<String, _>(column).map_err(read());
    let instant = |column: &'static str| {
        let text: Option<String> = row.try_get(column).map_err(read())?;
        text.map(|text| time("time of a node", &text)).transpose()
    };
    Ok(NodeRow {
        name: parse("node's name", &text("name")?)?,
        pool: pool(row)?,
        tokens: NodeTokens {
            gateway: parse("digest of a token", &text("gateway_token")?)?,
            runner: parse("digest of a token", &text("runner_token")?)?,
        },
        joined: time("time a node joined", &text("joined_at")?)?,
        revoked: instant("revoked_at")?,
        expires: instant("expires_at")?,
    })
}

fn pool(row: &SqliteRow) -> Result<Option<PoolName>, StoreError> {
    let name: Option<String> = row.try_get("pool").map_err(doing("read a node's pool"))?;
    name.map(|name| parse("pool's name", &name)).transpose()
}
