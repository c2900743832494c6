//! Names that people write: of Claws, connections, actions and resources.
//!
//! A name is checked once, when it is parsed; after that it is safe in a path segment, a log line, a Cedar
//! entity id and a shell argument. Patterns are what grants and guardrails may say instead of one name.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {rule}")]
pub struct NameError {
    /// What it was meant to be.
    pub what: &'static str,
    /// The refused text, shortened to 80 characters.
    pub text: String,
    /// The rule in words.
    pub rule: &'static str,
}

impl NameError {
    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        let text = text
            .chars()
            .take(80)
            .map(|c| if c.is_control() { '�' } else { c })
            .collect();
        Self { what, text, rule }
    }
}

const LABEL_RULE: &str = "1 to 63 of a-z, 0-9 and `-`, starting and ending with a letter or digit";

fn is_label(text: &str) -> bool {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.first().is_some_and(alnum)
        && bytes.last().is_some_and(alnum)
        && bytes.iter().all(|b| alnum(b) || *b == b'-')
}

/// Reads a name from the text where it stands.
pub(crate) struct FromText<T>(pub(crate) PhantomData<T>);

impl<T: FromStr<Err = NameError>> de::Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Gives a newtype over a short string its parsing, printing and serde, all through one check. Names are copied more
/// often than anything else, so up to 23 bytes they stand in the value itself, and longer ones are shared.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(smol_str::SmolStr);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether `text` is one, without making it.
            pub fn is_one(text: &str) -> bool {
                let check: fn(&str) -> bool = $check;
                check(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(crate::name::FromText(std::marker::PhantomData))
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if Self::is_one(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError::new($what, text, $rule))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}
pub(crate) use checked_name;

/// Gives a type with a text form its serde: the text as it prints, read through its one parser.
macro_rules! serde_as_text {
    ($($name:ident),*) => { $(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(FromText(PhantomData))
            }
        }
    )* };
}
serde_as_text!(ActionId, ActionPattern, ResourceRef, ResourcePattern);

checked_name!(
    /// The name of a Claw, unique in its organization.
    ClawName, "Claw name", LABEL_RULE, is_label
);
checked_name!(
    /// The name of a connection, unique in its organization.
    ConnectionName, "connection name", LABEL_RULE, is_label
);
checked_name!(
    /// The id of a connector: `slack`, `github`.
    ConnectorId, "connector id", LABEL_RULE, is_label
);
checked_name!(
    /// The name of a guardrail, unique in its organization.
    GuardrailName, "guardrail name", LABEL_RULE, is_label
);
checked_name!(
    /// The name of a secret in the vault.
    SecretName, "secret name", LABEL_RULE, is_label
);
checked_name!(
    /// The name of a sink, unique in its organization.
    SinkName, "sink name", LABEL_RULE, is_label
);
checked_name!(
    /// The name of a store of secrets that is not ours, as the gateway's host calls it.
    StoreName, "name of a store of secrets", LABEL_RULE, is_label
);

checked_name!(
    /// The name of a node: a host with a gateway and a runner of its own.
    NodeName, "node name", "1 to 40 of a-z, 0-9 and `-`, starting and ending with a letter or digit", |text| {
        text.len() <= 40 && is_label(text)
    }
);
checked_name!(
    /// The name of a pool of nodes, any of which may have a Claw.
    PoolName, "pool name", LABEL_RULE, is_label
);

impl NodeName {
    /// The control plane's own host.
    pub fn local() -> Self {
        Self("local".into())
    }

    /// Whether it is the control plane's own host, which does not join.
    pub fn is_local(&self) -> bool {
        self.0 == "local"
    }
}

const DOTTED_RULE: &str = "lower-case words of a-z, 0-9 and `_`, joined by `.`, at most 63 characters";

fn is_dotted(text: &str) -> bool {
    text.len() <= 63
        && text.split('.').all(|word| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
}

checked_name!(
    /// The kind of a resource in its tool's own words: `channel`, `repo`, `database`, `model`, `host`.
    ResourceKind, "resource kind", DOTTED_RULE, is_dotted
);

const ACTION_RULE: &str = "words of letters, digits, `_` and `-`, joined by `.`, at most 127 characters";

/// As tools are named: by connectors in lower case, by MCP servers as they like.
fn is_action_name(text: &str) -> bool {
    let part_of_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    text.len() <= 127
        && text
            .split('.')
            .all(|word| !word.is_empty() && word.bytes().all(part_of_word))
}

/// One thing that can be done with a tool: `slack:messages.read`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId {
    connector: ConnectorId,
    name: SmolStr,
}

impl ActionId {
    /// Puts an action together from its connector and its name within it.
    ///
    /// # Errors
    /// When `name` is not words joined by `.`.
    pub fn new(connector: ConnectorId, name: &str) -> Result<Self, NameError> {
        if is_action_name(name) {
            Ok(Self {
                connector,
                name: name.into(),
            })
        } else {
            Err(NameError::new("action name", name, ACTION_RULE))
        }
    }

    /// Whether `text` is one, without making it.
    pub fn is_one(text: &str) -> bool {
        text.split_once(':')
            .is_some_and(|(connector, name)| ConnectorId::is_one(connector) && is_action_name(name))
    }

    /// The connector that defines the action.
    pub const fn connector(&self) -> &ConnectorId {
        &self.connector
    }

    /// The name within the connector: `messages.read`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for ActionId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rule = "a connector id, `:` and the action's name, as in `slack:messages.read`";
        let (connector, name) = text
            .split_once(':')
            .ok_or_else(|| NameError::new("action", text, rule))?;
        Self::new(connector.parse()?, name)
    }
}

impl TryFrom<String> for ActionId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ActionId> for String {
    fn from(action: ActionId) -> Self {
        action.to_string()
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.connector, self.name)
    }
}

impl fmt::Debug for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Which actions a grant or guardrail speaks of.
///
/// Text form: `messages.read`, `issues.*`, `*.write`, `*`, each optionally prefixed with `connector:`. A `*`
/// stands for any run of characters of the action's name, the dots included. Without a prefix the pattern
/// speaks of the connection's own connector (grants) or of every connector (guardrails).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionPattern {
    connector: Option<ConnectorId>,
    name: SmolStr,
}

impl ActionPattern {
    /// The connector the pattern is limited to, if it names one.
    pub const fn connector(&self) -> Option<&ConnectorId> {
        self.connector.as_ref()
    }

    /// The pattern within the connector.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the pattern has no `*`, so that it names exactly one action.
    pub fn is_exact(&self) -> bool {
        !self.name.contains('*')
    }

    /// Whether `action` is one of those meant.
    pub fn matches(&self, action: &ActionId) -> bool {
        self.connector
            .as_ref()
            .is_none_or(|connector| connector == action.connector())
            && glob(self.name.as_bytes(), action.name().as_bytes())
    }
}

/// `*` matches any run of bytes, everything else itself. Linear in `text` for each `*`, no recursion.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|b| *b == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(mut part) = parts.next() else {
        return rest.is_empty();
    };
    for next in parts {
        match rest
            .windows(part.len().max(1))
            .position(|window| part.is_empty() || window == part)
        {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None if part.is_empty() => {}
            None => return false,
        }
        part = next;
    }
    rest.ends_with(part)
}

impl FromStr for ActionPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (connector, name) = match text.split_once(':') {
            Some((connector, name)) => (Some(connector.parse()?), name),
            None => (None, text),
        };
        let literal = name.replace('*', "x");
        if is_action_name(&literal) {
            Ok(Self {
                connector,
                name: name.into(),
            })
        } else {
            Err(NameError::new(
                "action pattern",
                text,
                "an action's name in which `*` stands for any run of characters",
            ))
        }
    }
}

impl TryFrom<String> for ActionPattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ActionPattern> for String {
    fn from(pattern: ActionPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.connector {
            Some(connector) => write!(f, "{connector}:{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Debug for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

const RESOURCE_RULE: &str =
    "a kind, `:` and an id of 1 to 256 printable characters without spaces, as in `channel:C0SUPPORT`";

fn is_resource_id(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) && !id.contains('*')
}

/// What an action is done to: `channel:C0SUPPORT`, `repo:acme/site`, `database:2f26ee68…`.
///
/// The id is the tool's own, at most 256 printable ASCII characters; `/` expresses the tool's own hierarchy
/// in the id where it has one (`repo:acme/site`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceRef {
    kind: ResourceKind,
    id: SmolStr,
}

impl ResourceRef {
    /// Puts a resource together from its kind and the tool's id for it.
    ///
    /// # Errors
    /// When the id is empty, longer than 256 bytes, or holds a space, a control character or a `*`.
    pub fn new(kind: ResourceKind, id: &str) -> Result<Self, NameError> {
        if is_resource_id(id) {
            Ok(Self { kind, id: id.into() })
        } else {
            Err(NameError::new("resource", id, RESOURCE_RULE))
        }
    }

    /// Whether `text` is one, without making it.
    pub fn is_one(text: &str) -> bool {
        text.split_once(':')
            .is_some_and(|(kind, id)| ResourceKind::is_one(kind) && is_resource_id(id))
    }

    /// The kind of resource.
    pub const fn kind(&self) -> &ResourceKind {
        &self.kind
    }

    /// The tool's own id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for ResourceRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (kind, id) = text
            .split_once(':')
            .ok_or_else(|| NameError::new("resource", text, RESOURCE_RULE))?;
        Self::new(kind.parse()?, id)
    }
}

impl TryFrom<String> for ResourceRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ResourceRef> for String {
    fn from(resource: ResourceRef) -> Self {
        resource.to_string()
    }
}

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}

impl fmt::Debug for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Which resources a grant or guardrail speaks of: one resource, all of one kind (`channel:*`), everything
/// below an owner (`repo:acme/*`), or any (`*`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourcePattern {
    /// Any resource, and actions that touch none.
    Any,
    /// Every resource of this kind.
    Kind(ResourceKind),
    /// Resources of this kind whose id starts with this text, which ends in `/`.
    Below(ResourceKind, SmolStr),
    /// Exactly this one.
    Exactly(ResourceRef),
}

impl ResourcePattern {
    /// Whether `resource` is one of those meant.
    pub fn matches(&self, resource: &ResourceRef) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(kind) => kind == resource.kind(),
            Self::Below(kind, prefix) => {
                kind == resource.kind() && resource.id().starts_with(prefix.as_str())
            }
            Self::Exactly(one) => one == resource,
        }
    }
}

impl FromStr for ResourcePattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let rule = "`*`, `kind:*`, `kind:prefix/*` or one resource such as `channel:C0SUPPORT`";
        let (kind, id) = text
            .split_once(':')
            .ok_or_else(|| NameError::new("resource pattern", text, rule))?;
        let kind: ResourceKind = kind.parse()?;
        match id.strip_suffix('*') {
            Some("") => Ok(Self::Kind(kind)),
            Some(prefix) if prefix.ends_with('/') && is_resource_id(prefix) => {
                Ok(Self::Below(kind, prefix.into()))
            }
            Some(_) => Err(NameError::new("resource pattern", text, rule)),
            None => Ok(Self::Exactly(ResourceRef::new(kind, id)?)),
        }
    }
}

impl TryFrom<String> for ResourcePattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ResourcePattern> for String {
    fn from(pattern: ResourcePattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for ResourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Kind(kind) => write!(f, "{kind}:*"),
            Self::Below(kind, prefix) => write!(f, "{kind}:{prefix}*"),
            Self::Exactly(one) => write!(f, "{one}"),
        }
    }
}

impl fmt::Debug for ResourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_safe_in_paths_and_log_lines() {
        for good in ["a", "support-triage", "x9"] {
            assert!(good.parse::<ClawName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a/b",
            "a.b",
            "..",
            "a b",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<ClawName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_one_can_be_made() {
        for text in [
            "a",
            "a-",
            "a:b",
            "a:b.c",
            "a:b..c",
            "A:b",
            "channel:C0",
            "channel:C 0",
            "channel:",
            ":x",
            "",
            "claw:a",
            "claw:A",
            "member:a_b",
            "system:",
            "system:x y",
            "other:x",
        ] {
            assert_eq!(ClawName::is_one(text), text.parse::<ClawName>().is_ok(), "{text}");
            assert_eq!(ActionId::is_one(text), text.parse::<ActionId>().is_ok(), "{text}");
            assert_eq!(
                ResourceRef::is_one(text),
                text.parse::<ResourceRef>().is_ok(),
                "{text}"
            );
            let actor = crate::Actor::try_from(text.to_owned());
            assert_eq!(crate::Actor::is_one(text), actor.is_ok(), "{text}");
        }
    }

    #[test]
    fn action_patterns_match_what_their_stars_stand_for() {
        let action: ActionId = "github:contents.write".parse().unwrap();
        for (pattern, expected) in [
            ("github:*.write", true),
            ("*.write", true),
            ("contents.*", true),
            ("*", true),
            ("c*t*e", true),
            ("contents.write", true),
            ("slack:*", false),
            ("contents.writ", false),
            ("*.read", false),
            ("contents", false),
            ("c*z*e", false),
        ] {
            assert_eq!(
                pattern.parse::<ActionPattern>().unwrap().matches(&action),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn resource_patterns_end_at_a_separator_so_that_a_prefix_cannot_reach_a_sibling() {
        let repo: ResourceRef = "repo:acme/site".parse().unwrap();
        assert!("repo:acme/*".parse::<ResourcePattern>().unwrap().matches(&repo));
        assert!("repo:*".parse::<ResourcePattern>().unwrap().matches(&repo));
        assert!(!"repo:acm/*".parse::<ResourcePattern>().unwrap().matches(&repo));
        assert!("repo:acme*".parse::<ResourcePattern>().is_err());
    }
}
