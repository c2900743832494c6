//! The MCP servers of this organization as they were last seen, and what of them an operator has approved.
//!
//! A tool is offered to Claws only while its definition is the one that was approved. What was approved is kept on
//! this host, one file per connection; it holds for one address only.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clawstaff_types::{ClawName, ConnectionName, Digest, MemberId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::DropGuard;

use super::{conversation::Talk, definition::Definition, wire::Era};
use crate::{
    inbox::{read_bounded, replace},
    state::Link,
};

/// For how long a server is believed to be as it was seen.
const FRESH: Duration = Duration::from_mins(1);
/// Bytes of a file of approvals.
const MAX_FILE: u64 = 64 << 20;

/// What a server offers, as it said when it was last asked.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) era: Era,
    pub(crate) tools: Vec<Definition>,
    /// Tools that are offered to nobody, because no grant can speak of them.
    pub(crate) unusable: usize,
    pub(crate) resources: Vec<Value>,
    pub(crate) templates: Vec<Value>,
    pub(crate) prompts: Vec<Value>,
    pub(crate) seen: Instant,
}

/// How a tool stands with the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As it was approved.
    Approved,
    /// Never approved.
    New,
    /// Another than the one that was approved: held.
    Changed,
}

impl Standing {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::New => "new",
            Self::Changed => "changed",
        }
    }
}

/// One approved definition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    pub(crate) digest: Digest,
    /// What was approved, to be compared with by eye.
    pub(crate) said: Value,
    pub(crate) by: MemberId,
    pub(crate) at: Timestamp,
}

/// What is approved of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    address: String,
    tools: BTreeMap<String, Pin>,
}

/// A session at a server of revision 2025-11-25 or older.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Absent where the server keeps none.
    pub(crate) id: Option<http::HeaderValue>,
    pub(crate) version: http::HeaderValue,
    /// Whether the server can be told what to log.
    pub(super) logs: bool,
    /// What it was told.
    pub(super) level: Option<String>,
    /// Its own stream, open as long as this is kept.
    pub(super) stream: Option<Arc<DropGuard>>,
}

/// Whose session it is: a Claw's, in one of its conversations.
pub(super) type Whose<'a> = (&'a ClawName, &'a Talk);

#[derive(Debug, Default)]
struct Known {
    offers: HashMap<ConnectionName, (String, Arc<Offer>)>,
    pins: HashMap<ConnectionName, Pins>,
    /// By connection, Claw and conversation.
    sessions: HashMap<(ConnectionName, ClawName, u64), Session>,
    asking: HashMap<ConnectionName, Arc<tokio::sync::Mutex<()>>>,
    /// Definitions that were told to be held already.
    told: HashMap<(ConnectionName, String), Digest>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Servers {
    dir: PathBuf,
    known: Mutex<Known>,
}

impl Servers {
    /// What was approved is read back from `dir`.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut known = Known::default();
        for entry in fs::read_dir(&dir)?.take(10_000) {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let name: Option<ConnectionName> = stem.and_then(|stem| stem.parse().ok());
            let name = name.filter(|_| path.extension().is_some_and(|ending| ending == "json"));
            if let Some(name) = name {
                let text = read_bounded(&path, MAX_FILE)?;
                known.pins.insert(name, serde_json::from_slice(&text)?);
            } else {
                tracing::warn!(path = %path.display(), "not a file of approved tools");
            }
        }
        Ok(Self {
            dir,
            known: Mutex::new(known),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server of `link` offered when it was last asked, at the address that it has now.
    pub(crate) fn last_seen(&self, link: &Link) -> Option<Arc<Offer>> {
        let known = self.known();
        let (address, offer) = known.offers.get(link.name())?;
        (*address == link.base.url()).then(|| Arc::clone(offer))
    }

    /// The same, if that was not long ago.
    pub(super) fn fresh(&self, link: &Link) -> Option<Arc<Offer>> {
        self.last_seen(link).filter(|offer| offer.seen.elapsed() < FRESH)
    }

    pub(super) fn saw(&self, link: &Link, offer: &Arc<Offer>) {
        let address = link.base.url().to_owned();
        self.known()
            .offers
            .insert(link.name().clone(), (address, Arc::clone(offer)));
    }

    /// Whoever holds it asks the server; the others wait for what it says.
    pub(super) fn asking(&self, link: &Link) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.known().asking.entry(link.name().clone()).or_default())
    }

    /// How a tool stands.
    pub(crate) fn standing(&self, link: &Link, tool: &Definition) -> Standing {
        match self.pin(link, &tool.name) {
            None => Standing::New,
            Some(pin) if pin.digest == tool.digest => Standing::Approved,
            Some(_) => Standing::Changed,
        }
    }

    /// What was approved of a tool.
    pub(crate) fn pin(&self, link: &Link, tool: &str) -> Option<Pin> {
        let known = self.known();
        let pins = known.pins.get(link.name())?;
        (pins.address == link.base.url())
            .then(|| pins.tools.get(tool).cloned())
            .flatten()
    }

    /// Keeps these definitions as approved; durable when it returns.
    pub(crate) fn approve(
        &self,
        link: &Link,
        tools: &[Definition],
        by: &MemberId,
        at: Timestamp,
    ) -> io::Result<()> {
        let mut known = self.known();
        let address = link.base.url().to_owned();
        let old = known.pins.get(link.name()).filter(|pins| pins.address == address);
        let mut pins = old.cloned().unwrap_or(Pins {
            address,
            tools: BTreeMap::new(),
        });
        for tool in tools {
            let pin = Pin {
                digest: tool.digest,
                said: tool.said.clone(),
                by: by.clone(),
                at,
            };
            pins.tools.insert(tool.name.clone(), pin);
        }
        let path = self.dir.join(format!("{}.json", link.name()));
        replace(&path, &serde_json::to_vec(&pins)?)?;
        known.pins.insert(link.name().clone(), pins);
        Ok(())
    }

    /// Whether it is news that this definition is held.
    pub(super) fn is_news(&self, link: &Link, tool: &Definition) -> bool {
        let told = (link.name().clone(), tool.name.clone());
        self.known().told.insert(told, tool.digest) != Some(tool.digest)
    }

    pub(super) fn session(&self, link: &Link, (claw, talk): Whose<'_>) -> Option<Session> {
        let whose = (link.name().clone(), claw.clone(), talk.number);
        self.known().sessions.get(&whose).cloned()
    }

    pub(super) fn keep_session(&self, link: &Link, (claw, talk): Whose<'_>, session: Session) {
        let whose = (link.name().clone(), claw.clone(), talk.number);
        self.known().sessions.insert(whose, session);
    }

    pub(super) fn drop_session(&self, link: &Link, (claw, talk): Whose<'_>) {
        let whose = (link.name().clone(), claw.clone(), talk.number);
        self.known().sessions.remove(&whose);
    }

    /// Forgets the sessions of a conversation that is over; their servers forget them by themselves.
    pub(super) fn part(&self, claw: &ClawName, number: u64) {
        let of_it = |(_, whose, theirs): &(ConnectionName, ClawName, u64)| whose == claw && *theirs == number;
        self.known().sessions.retain(|key, _| !of_it(key));
    }

    /// Forgets the sessions of a Claw that is gone.
    pub(crate) fn forget(&self, claw: &ClawName) {
        self.known().sessions.retain(|(_, whose, _), _| whose != claw);
    }
}
