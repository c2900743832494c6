//! The desired state, compiled: policy, connections by host, Claws by name.
//!
//! All or nothing: a [`State`] exists only if every part of what the control plane sent is sound. It is
//! immutable and swapped whole, so that one call sees one revision. It decides nothing itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use clawstaff_api::nodes::{GatewayClaw, GatewayState};
use clawstaff_connectors::{Catalogue, Connector, ManifestError};
use clawstaff_policy::{CompileError, Policy};
use clawstaff_types::{
    ActionId, ClawName, ConnectionName, ConnectorId, Grant, GrantId,
    spec::{Budget, Connection},
};
use jiff::Timestamp;

use crate::{
    base::{Base, BaseError},
    toolbox::Toolbox,
};

/// The desired state in force.
#[derive(Debug)]
pub struct State {
    raw: GatewayState,
    policy: Policy,
    links: BTreeMap<ConnectionName, Arc<Link>>,
    claws: HashMap<ClawName, GatewayClaw>,
    /// What may be spent under grants, of those that say so.
    budgets: HashMap<GrantId, Budget>,
    tools: Toolbox,
}

/// A connection together with its connector.
#[derive(Debug)]
pub struct Link {
    /// The connection, as the organization made it.
    pub connection: Connection,
    /// What it instantiates.
    pub connector: Arc<Connector>,
    /// Where the connector's API lives by its manifest: what software in a cage believes to speak to.
    pub public: Base,
    /// Where requests really go: the connection's own address, or the public one.
    pub base: Base,
}

impl Link {
    /// The connection's name.
    pub const fn name(&self) -> &ConnectionName {
        &self.connection.name
    }

    /// Whether the organization itself named the address, so that it may be a private one.
    pub const fn own_address(&self) -> bool {
        self.connection.base_url.is_some()
    }

    /// The path prefix of the API as seen at `host:port`, if this connection answers for that host.
    pub fn prefix_at(&self, host: &str, port: u16) -> Option<&str> {
        if self.own_address() && self.base.host() == host && self.base.port() == port {
            return Some(self.base.path());
        }
        let usual_port = port == 443 || port == 80;
        let known = self.connector.hosts().iter().any(|pattern| pattern.matches(host));
        (usual_port && known).then(|| self.public.path())
    }
}

/// Why a desired state cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The built-in manifests do not load.
    #[error("loading the connectors: {0}")]
    Connectors(#[from] ManifestError),
    /// The policy does not compile.
    #[error("compiling the policy of revision {revision}: {source}")]
    Policy {
        /// The revision refused.
        revision: u64,
        /// Why.
        source: CompileError,
    },
    /// Two things of one name.
    #[error("two {what} are named `{name}`")]
    Duplicate {
        /// `connections` or `claws`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// No connector of this id.
    #[error("connection `{connection}`: there is no connector `{connector}`")]
    UnknownConnector {
        /// The connection.
        connection: ConnectionName,
        /// The id it asks for.
        connector: ConnectorId,
    },
    /// An address that cannot be used.
    #[error("connection `{connection}`: {source}")]
    Base {
        /// The connection.
        connection: ConnectionName,
        /// Why.
        source: BaseError,
    },
    /// The compiling thread ended in a panic.
    #[error("compiling the state was abandoned")]
    Abandoned,
    /// A state that is not newer than the one in force.
    #[error("state revision {offered} is not above {in_force}, the one in force")]
    Stale {
        /// What was offered.
        offered: u64,
        /// What is in force.
        in_force: u64,
    },
}

impl State {
    /// The state before the first one arrives: nothing exists, everything is denied.
    ///
    /// # Errors
    /// When the built-in manifests are broken.
    pub fn empty() -> Result<Self, StateError> {
        Self::compile(GatewayState {
            revision: 0,
            node: clawstaff_types::NodeName::local(),
            connections: Vec::new(),
            claws: Vec::new(),
            grants: Vec::new(),
            guardrails: Vec::new(),
            messages: Vec::new(),
            approvals: Vec::new(),
            sinks: Vec::new(),
        })
    }

    /// Compiles what the control plane wants.
    ///
    /// # Errors
    /// When any part of it is unsound; see [`StateError`].
    pub fn compile(mut raw: GatewayState) -> Result<Self, StateError> {
        let limited = raw
            .grants
            .iter()
            .filter(|grant| !grant.conditions.budget.is_unlimited());
        let budgets = limited.map(|grant| (grant.id.clone(), grant.conditions.budget.clone()));
        let budgets = budgets.collect();
        // The policy alone holds the grants: there may be a million of them.
        let grants = std::mem::take(&mut raw.grants).into();
        let policy = Policy::of_shared(raw.revision, grants, &raw.guardrails).map_err(|source| {
            StateError::Policy {
                revision: raw.revision,
                source,
            }
        })?;
        let links = links(&raw.connections)?;
        let mut claws = HashMap::new();
        for claw in &raw.claws {
            if claws.insert(claw.spec.name.clone(), claw.clone()).is_some() {
                let name = claw.spec.name.to_string();
                return Err(StateError::Duplicate { what: "claws", name });
            }
        }
        Ok(Self {
            budgets,
            tools: Toolbox::of(links.values()),
            raw,
            policy,
            links,
            claws,
        })
    }

    /// The revision, also the policy's version.
    pub const fn revision(&self) -> u64 {
        self.raw.revision
    }

    /// What it was compiled from, but for the grants: those are the policy's.
    pub const fn raw(&self) -> &GatewayState {
        &self.raw
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A Claw by name.
    pub fn claw(&self, name: &ClawName) -> Option<&GatewayClaw> {
        self.claws.get(name)
    }

    /// The names of all Claws.
    pub fn claw_names(&self) -> impl Iterator<Item = &ClawName> {
        self.claws.keys()
    }

    /// A connection by name.
    pub fn link(&self, name: &ConnectionName) -> Option<&Arc<Link>> {
        self.links.get(name)
    }

    /// All connections, in the order of their names.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values()
    }

    /// The tools of all connections.
    pub(crate) const fn tools(&self) -> &Toolbox {
        &self.tools
    }

    /// The connection that a Claw's model lives at.
    pub fn model_link(&self, claw: &ClawName) -> Option<&Arc<Link>> {
        let model = self.claw(claw)?.spec.model.as_ref()?;
        self.link(&model.connection)
    }

    /// The connections that answer for `host:port`, in the order of their names.
    pub fn links_at<'a>(&'a self, host: &'a str, port: u16) -> impl Iterator<Item = &'a Arc<Link>> {
        self.links
            .values()
            .filter(move |link| link.prefix_at(host, port).is_some())
    }

    /// The connections on which a Claw holds any grant that is in force at `now`.
    pub fn granted_links(&self, claw: &ClawName, now: Timestamp) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values().filter(move |link| {
            self.live_grants(claw, now)
                .any(|grant| &grant.connection == link.name())
        })
    }

    /// Whether a Claw holds a grant in force at `now` that speaks of `action` on `link`, on whatever resource.
    pub fn speaks_of(&self, claw: &ClawName, link: &Link, action: &ActionId, now: Timestamp) -> bool {
        self.live_grants(claw, now).any(|grant| {
            &grant.connection == link.name() && grant.actions.iter().any(|pattern| pattern.matches(action))
        })
    }

    /// What may be spent under a grant, if it says so.
    pub(crate) fn budget_of(&self, grant: &GrantId) -> Option<&Budget> {
        self.budgets.get(grant)
    }

    /// Whether a Claw still holds any of these grants.
    pub(crate) fn holds_any(&self, claw: &ClawName, ids: &[GrantId]) -> bool {
        self.policy.grants_of(claw).any(|grant| ids.contains(&grant.id))
    }

    fn live_grants(&self, claw: &ClawName, now: Timestamp) -> impl Iterator<Item = &Grant> {
        let all = self.policy.grants_of(claw);
        all.filter(move |grant| grant.expires.is_none_or(|end| now < end))
    }
}

fn links(connections: &[Connection]) -> Result<BTreeMap<ConnectionName, Arc<Link>>, StateError> {
    let catalogue = Catalogue::builtin()?;
    let mut shared: HashMap<ConnectorId, Arc<Connector>> = HashMap::new();
    let mut links = BTreeMap::new();
    for connection in connections {
        let found = catalogue.get(&connection.connector);
        let found = found.ok_or_else(|| StateError::UnknownConnector {
            connection: connection.name.clone(),
            connector: connection.connector.clone(),
        })?;
        let once = shared.entry(connection.connector.clone());
        let connector = Arc::clone(once.or_insert_with(|| Arc::new(found.clone())));
        let name = connection.name.clone();
        let link = Arc::new(link(connection, connector)?);
        if links.insert(name.clone(), link).is_some() {
            let name = name.to_string();
            return Err(StateError::Duplicate {
                what: "connections",
                name,
            });
        }
    }
    Ok(links)
}

fn link(connection: &Connection, connector: Arc<Connector>) -> Result<Link, StateError> {
    let unusable = |source| StateError::Base {
        connection: connection.name.clone(),
        source,
    };
    let public = Base::parse(connector.base_url()).map_err(unusable)?;
    let base = match &connection.base_url {
        Some(own) => Base::parse(own).map_err(unusable)?,
        None => public.clone(),
    };
    Ok(Link {
        connection: connection.clone(),
        connector,
        public,
        base,
    })
}
