//! What one client of the cage has said of itself, for the sessions that its calls need at servers outside.
//!
//! A client of 2025-11-25 has a session with us, and through it one of its own with each server that keeps sessions:
//! two clients of one cage may be able to answer different questions. What clients of 2026-07-28 say stands in every
//! request, so that all of them share one session of the Claw there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use clawstaff_types::{ClawName, ConnectionName};
use rmcp::{RoleServer, service::RequestContext};
use serde_json::{Map, Value};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::wire::STATELESS;
use crate::{shared::Gateway, state::Link};

/// Messages of one server that wait for somebody to read them.
const DEPTH: usize = 16;

/// Resources that one client may be subscribed to.
const MAX_SUBSCRIPTIONS: usize = 8;
/// What a server may ask a client for.
const ASKABLE: [&str; 3] = ["elicitation", "sampling", "roots"];

/// On whose behalf among a Claw's clients a request goes out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Talk {
    /// Which conversation; 0 for all that have no session.
    pub(super) number: u64,
    /// What the client can be asked for.
    pub(super) capabilities: Map<String, Value>,
    /// From which level on the client wants to read what servers log.
    pub(super) level: Option<String>,
    /// Where what the server says beside its answers goes; `None` if nobody listens.
    pub(super) to: Option<Heard>,
}

/// Where what a server says on a session's own stream goes.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// Its words and questions, to whichever call is under way.
    pub(super) messages: mpsc::Sender<Value>,
    /// Resources that have changed.
    pub(super) updates: broadcast::Sender<String>,
}

/// What a server says beside its answers, one reader at a time.
#[derive(Clone)]
pub(super) struct Ear {
    to: Heard,
    messages: Arc<tokio::sync::Mutex<mpsc::Receiver<Value>>>,
}

impl Ear {
    fn new() -> Self {
        let (sender, messages) = mpsc::channel(DEPTH);
        Self {
            to: Heard {
                messages: sender,
                updates: broadcast::channel(DEPTH).0,
            },
            messages: Arc::new(tokio::sync::Mutex::new(messages)),
        }
    }

    /// The next message, whenever it comes.
    pub(super) async fn next(&self) -> Value {
        let next = self.messages.lock().await.recv().await;
        match next {
            Some(message) => message,
            // Not while this has the sender.
            None => std::future::pending().await,
        }
    }

    /// A message that is there already.
    pub(super) fn waiting(&self) -> Option<Value> {
        self.messages.try_lock().ok()?.try_recv().ok()
    }
}

/// One client's conversation with us.
pub(super) struct Conversation {
    gateway: Arc<Gateway>,
    claw: ClawName,
    number: u64,
    level: Mutex<Option<String>>,
    subscribed: Mutex<HashMap<String, DropGuard>>,
    ears: Mutex<HashMap<ConnectionName, Ear>>,
}

impl Conversation {
    pub(super) fn new(gateway: Arc<Gateway>, claw: ClawName) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            gateway,
            claw,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            level: Mutex::default(),
            subscribed: Mutex::default(),
            ears: Mutex::default(),
        }
    }

    /// What a request made in this conversation carries with it.
    pub(super) fn talk(&self, link: &Link, context: &RequestContext<RoleServer>) -> Talk {
        if is_stateless(context) {
            return Talk {
                level: level_in(context),
                ..Talk::default()
            };
        }
        let level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        Talk {
            number: self.number,
            capabilities: askable(context),
            level: level.clone(),
            to: Some(self.ear(link).to),
        }
    }

    /// The same for a client without a session that wants to hear of changes, in a session of its own.
    pub(super) fn listening(&self, link: &Link) -> Talk {
        Talk {
            number: self.number,
            to: Some(self.ear(link).to),
            ..Talk::default()
        }
    }

    /// What a server says in this conversation beside its answers.
    pub(super) fn ear(&self, link: &Link) -> Ear {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.entry(link.name().clone()).or_insert_with(Ear::new).clone()
    }

    /// The resources of a server that change from now on.
    pub(super) fn updates(&self, link: &Link) -> broadcast::Receiver<String> {
        self.ear(link).to.updates.subscribe()
    }

    /// The client wants to read what servers log, from this level on.
    pub(super) fn set_level(&self, level: String) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
    }

    /// Subscribes to a resource: the token is cancelled when that ends. `None` if there are too many.
    pub(super) fn subscribe(&self, uri: &str) -> Option<CancellationToken> {
        let mut subscribed = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        if subscribed.len() >= MAX_SUBSCRIPTIONS && !subscribed.contains_key(uri) {
            return None;
        }
        let ended = CancellationToken::new();
        subscribed.insert(uri.to_owned(), ended.clone().drop_guard());
        Some(ended)
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        self.subscribed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uri);
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.gateway.servers.part(&self.claw, self.number);
    }
}

/// Whether a request is of the revision without sessions.
pub(super) fn is_stateless(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    // Revisions are dates, so that the later one is the greater text.
    version.is_some_and(|version| version.as_str() >= STATELESS)
}

/// What the client of a request said that it can be asked for.
pub(super) fn askable(context: &RequestContext<RoleServer>) -> Map<String, Value> {
    let can = context
        .client_capabilities()
        .and_then(|can| serde_json::to_value(can).ok());
    match can {
        Some(Value::Object(mut can)) => {
            can.retain(|name, _| ASKABLE.contains(&name.as_str()));
            can
        }
        _ => Map::new(),
    }
}

/// The level that the request itself names.
pub(super) fn level_in(context: &RequestContext<RoleServer>) -> Option<String> {
    let level = serde_json::to_value(context.meta.log_level()?).ok()?;
    level.as_str().map(str::to_owned)
}
