//! All of the desired state at one revision, read in one transaction.

use clawstaff_api::nodes::{MemberDecision, MemberMessage};
use clawstaff_types::{ClawName, Guardrail, NodeName, Sink, spec::Connection};
use sqlx::Acquire;

use crate::{
    ClawRow, GrantRow, Store, StoreError, approvals, claws, codec::from_column, connections, error::doing,
    grants, guardrails, messages, nodes, sinks,
};

/// The desired state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Its revision.
    pub revision: u64,
    /// By name.
    pub connections: Vec<Connection>,
    /// By name.
    pub guardrails: Vec<Guardrail>,
    /// The Claws that exist, by name.
    pub claws: Vec<ClawRow>,
    /// The cages of Claws that were destroyed, the last ten thousand.
    pub destroyed: Vec<String>,
    /// The unrevoked grants, in the order in which they were added.
    pub grants: Vec<GrantRow>,
    /// The messages that wait for the gateway, oldest first.
    pub messages: Vec<MemberMessage>,
    /// The decisions that the gateway has not taken yet, oldest first.
    pub approvals: Vec<MemberDecision>,
    /// By name.
    pub sinks: Vec<Sink>,
    /// The nodes that are in, by name; `local` is not among them.
    pub nodes: Vec<NodeName>,
}

impl Snapshot {
    /// The Claw of this name.
    pub fn claw(&self, name: &ClawName) -> Option<&ClawRow> {
        self.claws.iter().find(|claw| claw.spec.name == *name)
    }

    /// The unrevoked grants of this Claw.
    pub fn grants_of<'a>(&'a self, name: &'a ClawName) -> impl Iterator<Item = &'a GrantRow> {
        self.grants.iter().filter(move |row| row.grant.claw == *name)
    }
}

impl Store {
    /// The desired state as it is now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let read = || doing("read the state");
        let mut connection = self.readers.acquire().await.map_err(read())?;
        let mut transaction = connection.begin().await.map_err(read())?;
        let revision: i64 = sqlx::query_scalar("SELECT revision FROM organization WHERE id = 1")
            .fetch_one(&mut *transaction)
            .await
            .map_err(read())?;
        let snapshot = Snapshot {
            revision: from_column("state revision", revision)?,
            connections: connections::all(&mut transaction).await?,
            guardrails: guardrails::all(&mut transaction).await?,
            claws: claws::living(&mut transaction).await?,
            destroyed: claws::destroyed(&mut transaction).await?,
            grants: grants::living(&mut transaction).await?,
            messages: messages::waiting(&mut transaction).await?,
            approvals: approvals::on_their_way(&mut transaction).await?,
            sinks: sinks::all(&mut transaction).await?,
            nodes: nodes::names(&mut transaction).await?,
        };
        transaction.rollback().await.map_err(read())?;
        Ok(snapshot)
    }
}
