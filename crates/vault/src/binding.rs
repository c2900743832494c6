//! Where a secret may be used: the connections and hosts that are part of its seal.
//!
//! Inside the seal, so that neither a swapped file nor a control plane that sends a connection elsewhere can
//! change it: only the gateway's own host can. Pure.

use clawstaff_types::{ConnectionName, SecretName};
use serde::{Deserialize, Serialize};

/// Where a call wants to take a credential.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// Lower-case host name or address literal without brackets.
    pub host: &'a str,
    /// The TCP port.
    pub port: u16,
    /// The hosts of the connector's own manifest: each an exact host, or `*.` and a domain for every host below
    /// it. They come with the gateway's program, not from the control plane.
    pub public: &'a [&'a str],
}

impl Destination<'_> {
    /// Whether it is one of the connector's own hosts.
    pub(crate) fn is_public(&self) -> bool {
        self.public.iter().any(|own| is_own(own, self.host))
    }
}

/// A host that a secret may go to: `host`, `*.domain` for every host below it, either with `:port` for that port
/// alone. IPv6 addresses stand in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostRule {
    text: String,
    host: String,
    port: Option<u16>,
}

/// The text is no [`HostRule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host: write `host`, `*.domain`, `host:port` or `[ipv6]:port`")]
pub struct HostRuleError(String);

impl HostRule {
    fn allows(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && is_own(&self.host, host)
    }
}

impl std::fmt::Display for HostRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        let bad = || HostRuleError(text.chars().take(80).collect());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(bad)?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(digits.parse().map_err(|_| bad())?),
            None if port.is_empty() => None,
            None => return Err(bad()),
        };
        let name = host.strip_prefix("*.").unwrap_or(host);
        let is_name = !name.is_empty()
            && host.len() <= 253
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        if !is_name {
            return Err(bad());
        }
        Ok(Self {
            text: text.to_ascii_lowercase(),
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl TryFrom<String> for HostRule {
    type Error = HostRuleError;

    fn try_from(text: String) -> Result<Self, HostRuleError> {
        text.parse()
    }
}

impl From<HostRule> for String {
    fn from(rule: HostRule) -> Self {
        rule.text
    }
}

/// The connections and hosts of a secret. What is empty is filled in at the first use: with the connection that
/// uses it, and with the hosts of that connection's connector, never with an address that the control plane named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binding {
    /// The connections that may use it.
    pub connections: Vec<ConnectionName>,
    /// The hosts that it may go to.
    pub hosts: Vec<HostRule>,
}

/// A secret is not for this use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// Another connection asks for it.
    #[error(
        "the secret `{name}` is sealed for {sealed_for} and not for the connection `{asked}`: if that is meant, run `clawstaff secret bind {name} --connection {asked}` on the gateway's host"
    )]
    Connection {
        /// The secret.
        name: SecretName,
        /// The connections it is sealed for.
        sealed_for: String,
        /// The one that asked.
        asked: ConnectionName,
    },
    /// It would go to another host.
    #[error(
        "the secret `{name}` is not sealed for the host `{host}`: if the connection `{connection}` really lives there, run `clawstaff secret bind {name} --host {host}` on the gateway's host"
    )]
    Host {
        /// The secret.
        name: SecretName,
        /// The connection.
        connection: ConnectionName,
        /// The host, shortened for reading.
        host: String,
    },
}

impl Binding {
    /// Whether nothing is left to be filled in.
    pub(crate) const fn is_complete(&self) -> bool {
        !self.connections.is_empty() && !self.hosts.is_empty()
    }

    /// Refuses a use that it does not allow.
    pub(crate) fn check(
        &self,
        name: &SecretName,
        connection: &ConnectionName,
        to: &Destination<'_>,
    ) -> Result<(), Misuse> {
        if !self.connections.is_empty() && !self.connections.contains(connection) {
            let names: Vec<String> = self.connections.iter().map(|c| format!("`{c}`")).collect();
            return Err(Misuse::Connection {
                name: name.clone(),
                sealed_for: names.join(", "),
                asked: connection.clone(),
            });
        }
        let allowed = if self.hosts.is_empty() {
            to.is_public()
        } else {
            self.hosts.iter().any(|rule| rule.allows(to.host, to.port))
        };
        if allowed {
            return Ok(());
        }
        Err(Misuse::Host {
            name: name.clone(),
            connection: connection.clone(),
            host: to.host.chars().take(253).collect(),
        })
    }

    /// The same after a first use by `connection` toward `to`.
    pub(crate) fn completed(mut self, connection: &ConnectionName, to: &Destination<'_>) -> Self {
        if self.connections.is_empty() {
            self.connections.push(connection.clone());
        }
        if self.hosts.is_empty() {
            self.hosts
                .extend(to.public.iter().filter_map(|own| own.parse().ok()));
        }
        self
    }
}

/// Whether `host` is the one that `own` names, or below it where `own` starts with `*.`. Host names compare
/// without regard to ASCII case (RFC 4343).
pub(crate) fn is_own(own: &str, host: &str) -> bool {
    match own.strip_prefix("*.") {
        Some(domain) if !domain.is_empty() => {
            let below = host
                .len()
                .checked_sub(domain.len() + 1)
                .and_then(|at| host.split_at_checked(at));
            below.is_some_and(|(label, rest)| {
                !label.is_empty()
                    && rest
                        .strip_prefix('.')
                        .is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
            })
        }
        Some(_) => false,
        None => !own.is_empty() && own.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_to_exactly_the_hosts_that_are_named() {
        for (own, host, expected) in [
            ("slack.com", "slack.com", true),
            ("slack.com", "SLACK.com", true),
            ("slack.com", "files.slack.com", false),
            ("slack.com", "evilslack.com", false),
            ("*.slack.com", "files.slack.com", true),
            ("*.slack.com", "a.b.slack.com", true),
            ("*.slack.com", "slack.com", false),
            ("*.slack.com", ".slack.com", false),
            ("*.slack.com", "evilslack.com", false),
            ("*.slack.com", "files.slack.com.evil.io", false),
            ("*.", "a.", false),
            ("*", "slack.com", false),
            ("", "", false),
            ("*.com", "é.com", true),
        ] {
            assert_eq!(is_own(own, host), expected, "{own} {host}");
        }
    }

    #[test]
    fn a_rule_names_a_host_and_may_name_a_port() {
        for (rule, host, port, expected) in [
            ("ghe.acme.com", "ghe.acme.com", 443, true),
            ("ghe.acme.com:8443", "ghe.acme.com", 8443, true),
            ("ghe.acme.com:8443", "ghe.acme.com", 443, false),
            ("127.0.0.1", "127.0.0.1", 9001, true),
            ("[::1]:8443", "::1", 8443, true),
            ("*.acme.com", "ghe.acme.com", 443, true),
            ("*.acme.com", "acme.com", 443, false),
        ] {
            let rule: HostRule = rule.parse().unwrap();
            assert_eq!(rule.allows(host, port), expected, "{rule} {host}:{port}");
        }
        for text in [
            "",
            "*",
            "*.",
            "a b",
            "https://a",
            "a:port",
            "[::1",
            "a/b",
            "*.*.com",
        ] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
    }
}
