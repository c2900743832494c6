//! What is inside a seal: the secret's own name, its version, where it may be used, and its value or the place
//! where that is found.
//!
//! Pure. The name is inside so that a renamed or swapped file opens nothing; the binding, so that nobody who can
//! only move files or name addresses can send the secret elsewhere.

use clawstaff_types::{ConnectionName, Secret, SecretName, spec::CredentialRef};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::binding::{Binding, HostRule};

/// First line inside a seal; then the name, a line of JSON ([`Head`]) and the value.
const FORMAT: &str = "clawstaff-secret/2\n";
/// Before secrets were bound: the name and the value. Still read; written anew at the first use.
const UNBOUND: &str = "clawstaff-secret/1\n";

/// A secret, opened.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Counts the values that it has had, from 1.
    pub(crate) version: u32,
    pub(crate) binding: Binding,
    /// When the value stops being good, if whoever stored it said so. It is told, not enforced: the service decides.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) body: Body,
}

/// The value, or where it is found. What an OAuth flow refreshes will be a third one.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Value(Secret<String>),
    /// Never [`CredentialRef::Vault`].
    Reference(CredentialRef),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    connections: Vec<ConnectionName>,
    hosts: Vec<HostRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    reference: bool,
}

impl Record {
    /// The text to be sealed; allocated once, so that no copy is left behind.
    pub(crate) fn to_text(&self, name: &SecretName) -> Option<Secret<String>> {
        let head = serde_json::to_string(&Head {
            version: self.version,
            connections: self.binding.connections.clone(),
            hosts: self.binding.hosts.clone(),
            expires: self.expires,
            reference: matches!(self.body, Body::Reference(_)),
        });
        let (head, reference) = (head.ok()?, self.reference());
        let value = match &self.body {
            Body::Value(value) => value.expose_secret(),
            Body::Reference(_) => &reference,
        };
        let length = FORMAT.len() + name.as_str().len() + head.len() + value.len() + 2;
        let mut text = String::with_capacity(length);
        for part in [FORMAT, name.as_str(), "\n", &head, "\n", value] {
            text.push_str(part);
        }
        Some(Secret::new(text))
    }

    /// Reads what was sealed under `name`; `None` when it is something else.
    pub(crate) fn parse(name: &SecretName, text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(UNBOUND) {
            let value = rest.strip_prefix(name.as_str())?.strip_prefix('\n')?;
            return Some(Self {
                version: 1,
                binding: Binding::default(),
                expires: None,
                body: Body::Value(Secret::new(value.to_owned())),
            });
        }
        let rest = text.strip_prefix(FORMAT)?;
        let rest = rest.strip_prefix(name.as_str())?.strip_prefix('\n')?;
        let (head, value) = rest.split_once('\n')?;
        let head: Head = serde_json::from_str(head).ok()?;
        let body = if head.reference {
            Body::Reference(CredentialRef::try_from(value.to_owned()).ok()?)
        } else {
            Body::Value(Secret::new(value.to_owned()))
        };
        Some(Self {
            version: head.version,
            binding: Binding {
                connections: head.connections,
                hosts: head.hosts,
            },
            expires: head.expires,
            body,
        })
    }

    /// The same for a text whose name is not known before.
    pub(crate) fn parse_named(text: &str) -> Option<(SecretName, Self)> {
        let (_, rest) = text.split_once('\n')?;
        let name: SecretName = rest.split_once('\n')?.0.parse().ok()?;
        let record = Self::parse(&name, text)?;
        Some((name, record))
    }

    /// The text of its reference; empty for a value.
    pub(crate) fn reference(&self) -> String {
        match &self.body {
            Body::Value(_) => String::new(),
            Body::Reference(reference) => reference.clone().into(),
        }
    }
}
