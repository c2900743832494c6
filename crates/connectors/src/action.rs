//! What a loaded connector consists of: the parts that other crates see.

use clawstaff_types::{Access, ActionId, ActionPattern, ConnectorId, ResourceKind, ResourceRef};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::{load::Rules, manifest::ManifestError};

/// A host of a connector's API. Text form: `api.github.com`, or `*.example.com` for every host below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(pub(crate) String);

impl HostPattern {
    /// Whether `host`, without port, is meant. Letter case does not matter; a trailing dot is another name.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self.0.strip_prefix('*') {
            Some(suffix) => host
                .strip_suffix(suffix)
                .is_some_and(|label| !label.is_empty() && !label.starts_with('.')),
            None => host == self.0,
        }
    }

    /// As written in the manifest.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// In which header a credential travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthScheme {
    /// `Authorization: Bearer CREDENTIAL` (RFC 6750).
    Bearer,
    /// `Authorization: Basic` (RFC 7617) with the credential as password.
    Basic {
        /// The user's name that goes with it.
        username: String,
    },
    /// The bare credential in a header of its own.
    Header {
        /// The header.
        name: HeaderName,
    },
}

/// How requests are authenticated. The gateway does it; here it is only described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// In which header the credential travels.
    pub scheme: AuthScheme,
    /// What real credentials start with, so that placeholders look like them: `xoxb-`.
    pub placeholder_prefix: String,
    /// Headers that the API demands; to be added where the request has none of that name.
    pub extra_headers: Vec<(HeaderName, HeaderValue)>,
}

/// As which kind of event a call is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// `tool.call`
    #[default]
    Tool,
    /// `message.read`
    MessageRead,
    /// `message.sent`
    MessageSent,
    /// `model.call`
    Model,
}

/// An action as a tool of the Model Context Protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name, unique over all built-in connectors: 1 to 64 of letters, digits and `_`.
    pub name: String,
    /// What a model is told about it.
    pub description: String,
    /// JSON Schema (2020-12) of its arguments; unknown arguments are refused.
    pub input_schema: serde_json::Value,
}

/// One thing that can be done with a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its id: `slack:messages.read`.
    pub id: ActionId,
    /// What it does to the world.
    pub access: Access,
    /// What it is, in a few words.
    pub title: String,
    /// What it is, in a sentence.
    pub description: String,
    /// The kind of resource it touches, if any. Where its requests touch several kinds, the first.
    pub resource: Option<ResourceKind>,
    /// As which kind of event it is recorded.
    pub record: RecordKind,
    /// Its MCP tool, if it has one.
    pub tool: Option<Tool>,
}

/// What a tool's API speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP requests, as the manifest describes them.
    Http,
    /// The Model Context Protocol over streamable HTTP.
    Mcp,
    /// Git's smart HTTP protocol.
    Git,
}

/// A connector, loaded and checked.
#[derive(Debug, Clone)]
pub struct Connector {
    pub(crate) id: ConnectorId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) base_url: String,
    pub(crate) auth: Auth,
    pub(crate) actions: Vec<Action>,
    pub(crate) rules: Rules,
    pub(crate) protocol: Protocol,
}

impl Connector {
    /// Loads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] with the line, what is wrong there, and what to write instead.
    pub fn parse(manifest: &str) -> Result<Self, ManifestError> {
        crate::load::load(manifest)
    }

    /// Its id: `slack`.
    pub const fn id(&self) -> &ConnectorId {
        &self.id
    }

    /// The tool's name: `Slack`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in a sentence.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The hosts of its API; a credential goes to no other.
    pub fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    /// Where its API lives: `https`, host, and a path without trailing slash. Paths of requests are relative to it.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// How requests are authenticated.
    pub const fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Its actions, in the order of the manifest.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// One of its actions.
    pub fn action(&self, id: &ActionId) -> Option<&Action> {
        self.actions.iter().find(|action| &action.id == id)
    }

    /// What its API speaks.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether a pattern means an action of it. An MCP server may have tools of any name.
    pub fn may_mean(&self, pattern: &ActionPattern) -> bool {
        let known = self.actions.iter().any(|action| pattern.matches(&action.id));
        match self.protocol {
            Protocol::Http | Protocol::Git => known,
            Protocol::Mcp => known || crate::mcp::may_mean(pattern),
        }
    }

    /// Its MCP tools, each with its action.
    pub fn tools(&self) -> impl Iterator<Item = (&Action, &Tool)> {
        let with_tool = |action: &'_ Action| action.tool.is_some();
        self.actions
            .iter()
            .filter(move |action| with_tool(action))
            .filter_map(|action| Some((action, action.tool.as_ref()?)))
    }

    /// The resources above one, nearest first, as far as its id tells: above `repo:acme/site` is `org:acme`.
    pub fn parents(&self, resource: &ResourceRef) -> Vec<ResourceRef> {
        self.rules.parents(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::HostPattern;

    #[test]
    fn a_host_pattern_reaches_below_its_star_and_nowhere_else() {
        let one = HostPattern("api.github.com".into());
        assert!(one.matches("API.github.com"));
        assert!(!one.matches("xapi.github.com") && !one.matches("api.github.com.") && !one.matches(""));
        let below = HostPattern("*.example.com".into());
        assert!(below.matches("a.example.com") && below.matches("a.b.example.com"));
        assert!(
            !below.matches("example.com") && !below.matches(".example.com") && !below.matches("aexample.com")
        );
    }
}
