//! All connectors that are built in: the manifests in `connectors/` at the root of the repository, `github-git` and `mcp`.

use std::collections::BTreeMap;

use clawstaff_types::ConnectorId;

use crate::{action::Connector, git, manifest::ManifestError, mcp};

/// The manifests, in the order of their ids. A test compares this list with the folder.
pub(crate) const BUILTIN: [&str; 5] = [
    include_str!("../../../connectors/anthropic.toml"),
    include_str!("../../../connectors/github.toml"),
    include_str!("../../../connectors/notion.toml"),
    include_str!("../../../connectors/openai.toml"),
    include_str!("../../../connectors/slack.toml"),
];

/// Connectors by id.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    connectors: BTreeMap<ConnectorId, Connector>,
}

impl Catalogue {
    /// The connectors that are built in.
    ///
    /// # Errors
    /// When a manifest that was compiled in is refused, or two share a tool's name; a test keeps that from happening.
    pub fn builtin() -> Result<Self, ManifestError> {
        let mut catalogue = Self::default();
        for manifest in BUILTIN {
            catalogue.add(Connector::parse(manifest)?)?;
        }
        for built in [git::connector(), mcp::connector()].into_iter().flatten() {
            catalogue.add(built)?;
        }
        Ok(catalogue)
    }

    /// Adds a connector.
    ///
    /// # Errors
    /// When a connector of that id, or a tool of the same name, is already there.
    pub fn add(&mut self, connector: Connector) -> Result<(), ManifestError> {
        let refuse = |what: String| ManifestError {
            connector: Some(connector.id.to_string()),
            line: 1,
            what,
            remedy: Some("choose another name".to_owned()),
        };
        if self.connectors.contains_key(&connector.id) {
            return Err(refuse("there is a connector of this id already".to_owned()));
        }
        let taken = |name: &str| {
            self.iter()
                .flat_map(Connector::tools)
                .any(|(_, tool)| tool.name == name)
        };
        if let Some((_, tool)) = connector.tools().find(|(_, tool)| taken(&tool.name)) {
            return Err(refuse(format!("another connector has a tool `{}`", tool.name)));
        }
        self.connectors.insert(connector.id.clone(), connector);
        Ok(())
    }

    /// One connector.
    pub fn get(&self, id: &ConnectorId) -> Option<&Connector> {
        self.connectors.get(id)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Connector> {
        self.connectors.values()
    }
}
