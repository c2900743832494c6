//! Which node a Claw goes to, and the key of that node's gateway, to which what is said to the Claw is sealed.
//!
//! The key is pinned here when it is first used: a control plane that names another one later is not believed. On the
//! gateway's own host the gateway itself is asked, and nothing need be remembered.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use clawstaff_api::{
    local::{GatewayInfo, INFO},
    people::{ClawView, NodeView, ServerStatus},
};
use clawstaff_types::{ClawName, NodeName, PoolName};
use clawstaff_vault::seal::PublicKey;

use crate::{
    client::Client,
    context::Context,
    failure::{Exit, Failure},
    output,
    spec::Document,
};

/// The gateways, as the control plane names them.
#[derive(Debug)]
pub(super) struct Gateways<'a> {
    context: &'a Context,
    nodes: Vec<NodeView>,
    claws: BTreeMap<ClawName, NodeName>,
}

impl<'a> Gateways<'a> {
    /// Asks the control plane. Nodes are asked for only where there can be more than its own host.
    pub(super) async fn ask(context: &'a Context, client: &Client, elsewhere: bool) -> Result<Self, Failure> {
        let status: ServerStatus = client.get("/v1/status").await?;
        if !elsewhere && status.gateway.is_some() {
            let local = NodeView {
                name: NodeName::local(),
                pool: None,
                joined: None,
                expires: None,
                revoked: None,
                gateway: status.gateway,
                runner: status.runner,
                claws: 0,
            };
            return Ok(Self {
                context,
                nodes: vec![local],
                claws: BTreeMap::new(),
            });
        }
        let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
        let claws: Vec<ClawView> = client.get("/v1/claws").await?;
        Ok(Self {
            context,
            nodes: nodes.into_iter().filter(|node| node.revoked.is_none()).collect(),
            claws: claws.into_iter().map(|claw| (claw.name, claw.node)).collect(),
        })
    }

    /// Gives every Claw of the document its node: the one that it names or is on, one of the pool that it names, the
    /// control plane's own host, or the only node there is.
    pub(super) fn place(&mut self, document: &mut Document) -> Result<(), Failure> {
        for claw in &mut document.claws {
            if claw.spec.node.is_some() {
                continue;
            }
            let name = &claw.spec.name;
            let node = match (self.claws.get(name), &claw.pool) {
                (Some(node), pool) if pool.is_none() || self.pool_of(node) == pool.as_ref() => node.clone(),
                (_, Some(pool)) => self.emptiest(pool)?,
                (_, None) => self.usual()?,
            };
            if !node.is_local() {
                if let Some(view) = self.nodes.iter_mut().find(|view| view.name == node) {
                    view.claws += usize::from(!self.claws.contains_key(name));
                }
                claw.spec.node = Some(node);
            }
        }
        Ok(())
    }

    fn pool_of(&self, node: &NodeName) -> Option<&PoolName> {
        self.nodes.iter().find(|view| view.name == *node)?.pool.as_ref()
    }

    fn emptiest(&self, pool: &PoolName) -> Result<NodeName, Failure> {
        let members = self.nodes.iter().filter(|node| node.pool.as_ref() == Some(pool));
        let found = members
            .min_by_key(|node| node.claws)
            .map(|node| node.name.clone());
        found.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("no node is in pool `{pool}`"))
                .hint("`clawstaff node list` shows all")
        })
    }

    fn usual(&self) -> Result<NodeName, Failure> {
        match self.nodes.as_slice() {
            [] => Err(no_key()),
            [only] => Ok(only.name.clone()),
            several if several.iter().any(|node| node.name.is_local()) => Ok(NodeName::local()),
            several => {
                let names: Vec<&str> = several.iter().map(|node| node.name.as_str()).collect();
                let message = format!("which node? there are {}", names.join(", "));
                Err(Failure::usage(message)
                    .hint("say `node = \"…\"` or `pool = \"…\"` in the Claw's section"))
            }
        }
    }

    /// The node that has a Claw.
    pub(super) fn of(&self, claw: &ClawName) -> Result<NodeName, Failure> {
        match self.claws.get(claw) {
            Some(node) => Ok(node.clone()),
            None => self.usual(),
        }
    }

    /// The key of a node's gateway, which is the one that was pinned.
    pub(super) async fn key(&self, node: &NodeName) -> Result<PublicKey, Failure> {
        let view = self.nodes.iter().find(|view| view.name == *node);
        let gateway = view.and_then(|view| view.gateway.as_ref()).ok_or_else(no_key)?;
        let named: PublicKey = gateway
            .seal_key
            .parse()
            .map_err(|error| Failure::failed(format!("cannot use the gateway's key: {error}")))?;
        let known = match self.own(node).await {
            Some(own) => own,
            None => pinned(&self.context.installation()?, node, &named)?,
        };
        if known == named {
            return Ok(named);
        }
        let message = format!(
            "the control plane names {} as the key of node `{node}`, and it is {}: nothing is sealed to it",
            named.digest(),
            known.digest()
        );
        Err(Failure::new(Exit::Verification, message).hint(format!(
            "if the gateway was set up anew, compare with what `clawstaff status` says on its host, and take its line out of {}",
            file().map_or_else(|| "the pins".to_owned(), |path| path.display().to_string())
        )))
    }

    /// What the gateway says itself, where it is on this host.
    async fn own(&self, node: &NodeName) -> Option<PublicKey> {
        if !node.is_local() || self.context.is_remote() {
            return None;
        }
        let info: GatewayInfo = self.context.gateway().ok()?.get(INFO).await.ok()?;
        info.seal_key.parse().ok()
    }
}

fn no_key() -> Failure {
    Failure::unavailable("no gateway has connected yet, so there is no key to seal the text to")
        .hint("wait until `clawstaff status` or `clawstaff node list` shows the gateway")
}

/// `$XDG_CONFIG_HOME/clawstaff/gateways.json`: the keys by installation and node.
fn file() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("clawstaff/gateways.json"))
}

/// The pinned key; the named one, if this is the first time.
fn pinned(installation: &str, node: &NodeName, named: &PublicKey) -> Result<PublicKey, Failure> {
    let Some(path) = file() else {
        output::note(&format!(
            "there is no home directory to pin the key of node {node} in"
        ));
        return Ok(named.clone());
    };
    let unusable =
        |error: &dyn std::fmt::Display| Failure::failed(format!("cannot use {}: {error}", path.display()));
    let mut pins: BTreeMap<String, String> = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| unusable(&error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(unusable(&error)),
    };
    let name = format!("{installation} {node}");
    if let Some(pin) = pins.get(&name) {
        return pin.parse().map_err(|error| unusable(&error));
    }
    pins.insert(name, named.to_string());
    let text = serde_json::to_vec_pretty(&pins).map_err(|error| unusable(&error))?;
    keep(&path, &text).map_err(|error| unusable(&error))?;
    output::note(&format!("pinned the key of node {node}: {}", named.digest()));
    Ok(named.clone())
}

fn keep(path: &std::path::Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    std::io::Write::write_all(&mut file, text)?;
    file.sync_all()?;
    std::fs::rename(beside, path)
}
