//! What the inside and the outside of a cage say to each other, version 1.
//!
//! The contract has three parts: the files under [`CLAW_DIR`], the line that opens a connection through the
//! door ([`Opening`]), and the JSON of the fixed door `/claw/v1`. The inside is hostile: what comes from there
//! is parsed with bounds and believed about nothing but itself. See `docs/cage-contract.md`.

use std::collections::BTreeMap;

use clawstaff_types::{ClawName, EventId};
use serde::{Deserialize, Serialize};

/// The version of this contract; `claw.json` carries it and the init refuses another.
pub const VERSION: u32 = 1;

/// Read-only directory in the cage, prepared by the gateway for this cage alone.
pub const CLAW_DIR: &str = "/claw";
/// The cage's only door: a Unix stream socket served by the gateway.
pub const DOOR_SOCKET: &str = "/claw/door.sock";
/// The cage's [`ClawFile`] as JSON.
pub const CLAW_FILE: &str = "/claw/claw.json";
/// The Claw's instructions, plain text. Content: it exists here and, sealed, elsewhere.
pub const INSTRUCTIONS_FILE: &str = "/claw/instructions.md";
/// PEM of the cage's own certificate authority: the only one that software in the cage needs to trust.
pub const CA_FILE: &str = "/claw/ca.pem";
/// The Claw's own persistent storage.
pub const DATA_DIR: &str = "/data";

/// Loopback address of the fixed HTTP doors: `/mcp`, `/anthropic`, `/openai`, `/claw/v1`.
pub const DOORS_ADDR: &str = "127.0.0.1:7070";
/// Loopback address of the HTTP proxy: `CONNECT` and absolute-form requests.
pub const PROXY_ADDR: &str = "127.0.0.1:3128";
/// Loopback address of the DNS responder, UDP and TCP.
pub const DNS_ADDR: &str = "127.0.0.1:53";

/// The longest opening line, newline included, in bytes.
pub const MAX_OPENING: usize = 512;

/// The first line of every connection through the door, written by the shim before the first payload byte.
///
/// Text form, terminated by `\n`: `CLAW/1 doors`, `CLAW/1 proxy`, or `CLAW/1 name <host> <port>`. The gateway
/// answers nothing to it; bytes that follow belong to the payload. A line it cannot accept closes the
/// connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// HTTP/1.1 to the fixed doors.
    Doors,
    /// HTTP/1.1 proxy requests.
    Proxy,
    /// A connection that software in the cage made to `host:port` (80 or 443).
    Name {
        /// The name that was looked up, or the address literal that was dialled; lower case, at most 253 bytes.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

/// An opening line that the contract does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an opening line of the cage contract, version 1")]
pub struct BadOpening;

impl Opening {
    /// The line to send, newline included.
    pub fn to_line(&self) -> String {
        match self {
            Self::Doors => "CLAW/1 doors\n".to_owned(),
            Self::Proxy => "CLAW/1 proxy\n".to_owned(),
            Self::Name { host, port } => format!("CLAW/1 name {host} {port}\n"),
        }
    }

    /// Reads a line without its newline.
    ///
    /// # Errors
    /// When the line is not exactly one of the three forms.
    pub fn parse(line: &str) -> Result<Self, BadOpening> {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["CLAW/1", "doors"] => Ok(Self::Doors),
            ["CLAW/1", "proxy"] => Ok(Self::Proxy),
            ["CLAW/1", "name", host, port] => {
                let port: u16 = port.parse().map_err(|_| BadOpening)?;
                if is_host(host) {
                    Ok(Self::Name {
                        host: (*host).to_owned(),
                        port,
                    })
                } else {
                    Err(BadOpening)
                }
            }
            _ => Err(BadOpening),
        }
    }
}

/// Whether `text` is a lower-case DNS name or an address literal without brackets, at most 253 bytes.
pub fn is_host(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    (1..=253).contains(&text.len())
        && (text.parse::<std::net::IpAddr>().is_ok()
            || text
                .split('.')
                .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(letter)))
}

/// `/claw/claw.json`: what the cage may know about itself. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClawFile {
    /// [`VERSION`]
    pub contract: u32,
    /// The Claw's name.
    pub claw: ClawName,
    /// The revision in force.
    pub revision: u32,
    /// The program to run; empty means the built-in agent.
    pub command: Vec<String>,
    /// Its environment, on top of the init's own: base URLs, CA paths, proxy, credential placeholders.
    pub env: BTreeMap<String, String>,
    /// The model, for the built-in agent.
    pub model: Option<ModelFile>,
}

/// Which model the built-in agent talks to, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// The API spoken at the model door.
    pub api: ModelApi,
    /// The provider's name of the model.
    pub name: String,
}

/// The two model APIs of the fixed doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelApi {
    /// `/anthropic/v1/messages`
    Anthropic,
    /// `/openai/v1/chat/completions`
    Openai,
}

/// One item of the Claw's inbox: `GET /claw/v1/inbox/next?wait=SECONDS` (at most 30) answers 200 with it, or
/// 204 when nothing came. The item stays leased to the cage until it is acknowledged, until the cage restarts, or
/// until the cage asks for the next: then it is handed out again, five times at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxItem {
    /// The event's id; what the Claw does until it acknowledges is recorded as caused by it.
    pub id: EventId,
    /// `slack.message` or `message`.
    pub source: String,
    /// The event, in the source's own shape with our few normalised fields beside it.
    pub event: serde_json::Value,
    /// How often it has been handed out, this time included.
    pub attempt: u32,
}

/// `POST /claw/v1/inbox/{id}/ack`: the agent is done with an item. Answers 204.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// How it ended.
    pub result: AckResult,
    /// The agent's own closing words: content, at most 16 KiB.
    #[serde(default)]
    pub note: String,
}

/// How the work on an inbox item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckResult {
    /// Done.
    Done,
    /// Given up: recorded, not handed out again.
    Failed,
}

/// `POST /claw/v1/acts`: what the built-in agent did inside its cage, reported by the cage itself.
///
/// The boundary is the kernel's and does not depend on this report; the record says who reported it.
/// Answers 204.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActReport {
    /// What was tried.
    pub act: CageAct,
    /// Its object: a path, a process id, a variable, an address. At most 256 characters.
    pub target: String,
    /// Whether it was let happen.
    pub happened: bool,
    /// The error's name when not: `ENOENT`, `EPERM`, `ENETUNREACH`. At most 64 characters.
    #[serde(default)]
    pub error: String,
}

/// Acts inside a cage that the built-in agent reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CageAct {
    /// Read a file or directory.
    ReadFile,
    /// Wrote a file.
    WriteFile,
    /// Connected by itself, not through the doors.
    Connect,
    /// Sent a signal to a process.
    Signal,
    /// Looked at its environment.
    ReadEnvironment,
}

/// `POST /claw/v1/health`: the init says how the agent is. Answers 204.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Whether the agent runs and waits for work or works.
    pub ready: bool,
}

/// The body of every refusal (RFC 9457 problem details), for the agent's eyes: what was refused and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `https://clawstaff.dev/problems/<slug>`
    pub r#type: String,
    /// The problem in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was refused, and what an honest agent could ask for.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_read_back_as_they_are_written() {
        let name = Opening::Name {
            host: "api.github.com".into(),
            port: 443,
        };
        for opening in [Opening::Doors, Opening::Proxy, name] {
            let line = opening.to_line();
            assert_eq!(Opening::parse(line.trim_end_matches('\n')).unwrap(), opening);
        }
    }

    #[test]
    fn openings_with_anything_else_in_them_are_refused() {
        for line in [
            "",
            "CLAW/2 doors",
            "CLAW/1 doors ",
            "CLAW/1 name a b",
            "CLAW/1 name A.com 443",
            "CLAW/1 name a/b 80",
            "CLAW/1 name  80",
        ] {
            assert_eq!(Opening::parse(line), Err(BadOpening), "{line:?}");
        }
    }
}
