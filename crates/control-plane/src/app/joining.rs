//! Nodes: letting a host join with a one-time token, a new certificate before the old one ends, turning one away.
//!
//! Each step is recorded before it is made. What a node shows is kept as digests, so nothing here lets anybody pose
//! as one.

use clawstaff_api::{
    join::{Identity, JoinRequest, JoinToken, RenewRequest},
    people::{NodeInvite, NodeToken, NodeView},
};
use clawstaff_store::{Invited, NodeRow, Snapshot};
use clawstaff_types::{Digest, Event, MemberId, NodeName, Outcome, Secret};
use jiff::{SignedDuration, Timestamp};

use super::{
    context::App,
    event::{self, NodeChange},
    mint::random,
    problem::Problem,
    status::{gateway_view, runner_view},
};

/// How long a join token is good.
const TOKEN_LASTS: SignedDuration = SignedDuration::from_hours(1);
/// More than any organization has.
const MAX_NODES: usize = 256;

impl App {
    /// Every node: `local` if it was ever heard of, then those that joined, by name.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeView>, Problem> {
        let (mut gateways, mut runners) = (self.store.gateways().await?, self.store.runners().await?);
        let snapshot = self.store.snapshot().await?;
        let mut rows: Vec<Option<NodeRow>> = self.store.nodes().await?.into_iter().map(Some).collect();
        let local = NodeName::local();
        if gateways.contains_key(&local) || runners.contains_key(&local) {
            rows.insert(0, None);
        }
        let mut view = |row: Option<NodeRow>| {
            let name = row.as_ref().map_or_else(NodeName::local, |row| row.name.clone());
            NodeView {
                gateway: gateways.remove(&name).map(gateway_view),
                runner: runners.remove(&name).map(runner_view),
                claws: on(&snapshot, &name),
                pool: row.as_ref().and_then(|row| row.pool.clone()),
                joined: row.as_ref().map(|row| row.joined),
                expires: row.as_ref().and_then(|row| row.expires),
                revoked: row.as_ref().and_then(|row| row.revoked),
                name,
            }
        };
        Ok(rows.into_iter().map(&mut view).collect())
    }

    /// Lets a host join under this name, once, within the hour.
    pub(crate) async fn invite(&self, by: &MemberId, invite: NodeInvite) -> Result<NodeToken, Problem> {
        let authority = self.authority.as_ref().ok_or_else(|| {
            Problem::refused("this control plane listens to no other host")
                .hint("start it with `--nodes ADDRESS`")
        })?;
        if invite.node.is_local() {
            return Err(Problem::refused(
                "`local` is the control plane's own host, which does not join",
            ));
        }
        let nodes = self.store.nodes().await?;
        let known = nodes.iter().find(|node| node.name == invite.node);
        if known.is_some_and(|node| node.revoked.is_none()) {
            let text = format!("there is a node `{}` already", invite.node);
            return Err(Problem::conflict(text)
                .hint("choose another name, or turn it away first: `clawstaff node revoke`"));
        }
        if known.is_none() && nodes.len() >= MAX_NODES {
            return Err(Problem::refused(format!(
                "there are {MAX_NODES} nodes, as many as there may be"
            )));
        }
        let secret = hex::encode(random::<32>()?);
        let invited = Invited {
            expires: Timestamp::now()
                .saturating_add(TOKEN_LASTS)
                .unwrap_or(Timestamp::MAX),
            node: invite.node,
            pool: invite.pool,
        };
        self.recorded(event::node(Some(by), &invited.node, NodeChange::Invited), async {
            let mut change = self.store.begin().await?;
            change
                .add_join_token(Digest::of(secret.as_bytes()), &invited)
                .await?;
            Ok(change.commit().await?)
        })
        .await?;
        let token = JoinToken {
            node: invited.node,
            secret: Secret::new(secret),
            authority: authority.for_token(),
        };
        Ok(NodeToken {
            token: token.to_text().expose_secret().clone(),
            expires: invited.expires,
        })
    }

    /// Takes a host in that shows a join token, which is good for nothing after that.
    pub(crate) async fn join(&self, secret: &str, request: JoinRequest) -> Result<Identity, Problem> {
        let authority = self.authority.as_ref().ok_or_else(unknown_token)?;
        let (identity, digest) = authority.issue(&request.node, &request.public_key)?;
        let mut change = self.store.begin().await?;
        let invited = change.take_join_token(Digest::of(secret.as_bytes())).await?;
        let invited = invited
            .filter(|invited| invited.node == request.node && invited.expires > Timestamp::now())
            .ok_or_else(unknown_token)?;
        self.recorded(
            event::node(None, &invited.node, NodeChange::Joined(digest)),
            async {
                change
                    .put_node(&invited, &request.tokens, Timestamp::now())
                    .await?;
                change
                    .add_certificate(&invited.node, digest, identity.expires)
                    .await?;
                Ok(change.commit().await?)
            },
        )
        .await?;
        Ok(identity)
    }

    /// Gives a node a certificate for a new key. The one that it has ends when the new one is first used.
    pub(crate) async fn renew(&self, node: &NodeName, request: RenewRequest) -> Result<Identity, Problem> {
        let authority = self.authority.as_ref().ok_or_else(unknown_token)?;
        let (identity, digest) = authority.issue(node, &request.public_key)?;
        self.recorded(event::node(None, node, NodeChange::Renewed(digest)), async {
            let mut change = self.store.begin().await?;
            change.add_certificate(node, digest, identity.expires).await?;
            Ok(change.commit().await?)
        })
        .await?;
        Ok(identity)
    }

    /// The node that shows this certificate, if it is in. The first use of a newer certificate ends the others.
    pub(crate) async fn node_of(&self, certificate: Digest) -> Result<Option<NodeRow>, Problem> {
        let found = self
            .store
            .node_by_certificate(certificate, Timestamp::now())
            .await?;
        let Some((node, certificates)) = found else {
            return Ok(None);
        };
        if certificates > 1 && self.newest(&node, certificate).await? {
            let mut change = self.store.begin().await?;
            change.keep_certificates(&node.name, Some(certificate)).await?;
            change.commit().await?;
        }
        Ok(Some(node))
    }

    /// Whether this node is in still: a long wait may have outlived that.
    pub(crate) async fn is_in(&self, node: &NodeName) -> Result<bool, Problem> {
        let nodes = self.store.nodes().await?;
        Ok(node.is_local() || nodes.iter().any(|one| one.name == *node && one.revoked.is_none()))
    }

    async fn newest(&self, node: &NodeRow, certificate: Digest) -> Result<bool, Problem> {
        Ok(self.store.newest_certificate(&node.name).await? == Some(certificate))
    }

    /// Turns a node away, from the next thing that it asks on. Its Claws stay where they are.
    pub(crate) async fn revoke(&self, by: &MemberId, node: &NodeName) -> Result<(), Problem> {
        let unknown = || Problem::not_found(format!("there is no node `{node}` that could be turned away"));
        let nodes = self.store.nodes().await?;
        if !nodes.iter().any(|one| one.name == *node && one.revoked.is_none()) {
            return Err(unknown().hint("`clawstaff node list` shows all"));
        }
        self.recorded(event::node(Some(by), node, NodeChange::Revoked), async {
            let mut change = self.store.begin().await?;
            if !change.revoke_node(node, Timestamp::now()).await? {
                return Err(unknown());
            }
            Ok(change.commit().await?)
        })
        .await
    }

    /// Records the intent, acts, records the outcome.
    async fn recorded(
        &self,
        event: Event,
        act: impl Future<Output = Result<(), Problem>>,
    ) -> Result<(), Problem> {
        let intents = self.recorder.intend(vec![event]).await?;
        let acted = act.await;
        let outcome = match &acted {
            Ok(()) => Outcome::Succeeded,
            Err(_) => Outcome::Failed,
        };
        self.recorder.settle(intents, outcome).await?;
        acted
    }
}

/// The Claws on a node.
fn on(snapshot: &Snapshot, node: &NodeName) -> usize {
    snapshot
        .claws
        .iter()
        .filter(|claw| claw.spec.place() == *node)
        .count()
}

fn unknown_token() -> Problem {
    Problem::unauthenticated(
        "this join token is not good: it was used, it is older than an hour, or it is none",
    )
    .hint("get a new one: `clawstaff node token NAME`")
}
