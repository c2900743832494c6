//! Every tool of every connection, by the name that it is called by.
//!
//! Made once for a state. It says what there is; what a Claw is offered of it is the policy's to say.

use std::{collections::HashMap, sync::Arc};

use clawstaff_connectors::{Action, Tool};

use crate::state::Link;

/// The longest name.
const MAX_NAME: usize = 64;

/// The tools of all connections.
#[derive(Debug)]
pub(crate) struct Toolbox {
    tools: Vec<Place>,
    /// Places in `tools`. Long names that are cut off may be the same.
    by_name: HashMap<String, Vec<usize>>,
}

/// Where a tool is described.
#[derive(Debug)]
struct Place {
    name: String,
    link: Arc<Link>,
    /// Place in the connector's actions.
    action: usize,
}

/// One tool: an action through a connection, under the name that a Claw calls it by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offered<'a> {
    pub(crate) name: &'a str,
    pub(crate) link: &'a Arc<Link>,
    pub(crate) action: &'a Action,
    pub(crate) tool: &'a Tool,
}

impl Toolbox {
    /// Where two connections have one connector, the connection's name is in front of the tool's.
    pub(crate) fn of<'a>(links: impl Iterator<Item = &'a Arc<Link>> + Clone) -> Self {
        let mut tools = Vec::new();
        for link in links.clone() {
            let same = |other: &&Arc<Link>| other.connector.id() == link.connector.id();
            let alone = links.clone().filter(same).count() == 1;
            for (action, described) in link.connector.actions().iter().enumerate() {
                let Some(tool) = &described.tool else { continue };
                let name = if alone {
                    tool.name.clone()
                } else {
                    let prefix = link.name().as_str().replace('-', "_");
                    format!("{prefix}__{}", tool.name)
                        .chars()
                        .take(MAX_NAME)
                        .collect()
                };
                let link = Arc::clone(link);
                tools.push(Place { name, link, action });
            }
        }
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, tool) in tools.iter().enumerate() {
            by_name.entry(tool.name.clone()).or_default().push(at);
        }
        Self { tools, by_name }
    }

    /// All of them, in the order of their connections.
    pub(crate) fn all(&self) -> impl Iterator<Item = Offered<'_>> {
        self.tools.iter().filter_map(Place::offered)
    }

    /// The ones of this name; seldom more than one.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = Offered<'_>> {
        let places = self.by_name.get(name).into_iter().flatten();
        places.filter_map(|at| self.tools.get(*at)?.offered())
    }
}

impl Place {
    fn offered(&self) -> Option<Offered<'_>> {
        let action = self.link.connector.actions().get(self.action)?;
        Some(Offered {
            name: &self.name,
            link: &self.link,
            action,
            tool: action.tool.as_ref()?,
        })
    }
}
