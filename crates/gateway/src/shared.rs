//! The gateway's shared state: one value, handed to everything as `Arc<Gateway>`.
//!
//! It holds what several parts need and no behaviour beyond adopting a new desired state. It must not know who
//! calls it: doors, node and ingress are equals here.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use clawstaff_api::nodes::GatewayState;
use clawstaff_audit::{Log, ReadError};
use clawstaff_types::ClawName;
use clawstaff_vault::{Vault, seal::PrivateKey};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    approvals::{self, Approvals},
    budget::{Budgets, Prices, PricesError},
    commit::Commitments,
    content::{Content, Custody, CustodyError, KeyringError, Subjects},
    doors::Doors,
    forward::{Upstream, UpstreamError},
    honeytoken::Honeytokens,
    inbox::Inbox,
    limits::Limits,
    mask::Masks,
    mcp::Servers,
    sinks::Board,
    state::{State, StateError},
    tls::Authorities,
    waits::Waits,
};

/// What the process opens before a [`Gateway`] can be made of it.
#[derive(Debug)]
pub struct Parts {
    /// The gateway's own log; nothing happens that it does not hold.
    pub log: Log,
    /// The secrets.
    pub vault: Vault,
    /// The Claws' durable inboxes.
    pub inbox: Inbox,
    /// The calls that wait for a human.
    pub approvals: Approvals,
    /// Opens what was sealed to this gateway.
    pub seal_key: PrivateKey,
    /// `$DATA/doors`: one directory per cage is made in here.
    pub doors_dir: PathBuf,
    /// `$DATA/gateway/keys`: `commit/`, `ca/` and `subjects/` are made in here, 0700.
    pub keys_dir: PathBuf,
    /// `$DATA/gateway`: `content/` and `holds.json` are made in here; `cosigned.checkpoint` is the node's.
    pub own_dir: PathBuf,
    /// Settings of this installation.
    pub instance: Instance,
}

/// Settings of this installation that the parts of the gateway read.
#[derive(Debug, Clone, Default)]
pub struct Instance {
    /// `http://host:port` where inbound events arrive.
    pub ingress: String,
    /// C2SP vkey of the gateway's log.
    pub log_vkey: String,
    /// PEM file with further certificate authorities to trust for upstreams, if any.
    pub extra_ca: Option<PathBuf>,
    /// What is kept of content, and who may read and erase it.
    pub custody: CustodyPolicy,
}

/// What the operator decided about content. The default keeps none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CustodyPolicy {
    /// Keep requests, responses and messages, encrypted, on this host.
    pub keep: bool,
    /// Who may read content, place and release holds and have subjects erased, besides root and the gateway's own
    /// user: uids of this host.
    pub custodians: Vec<u32>,
    /// An erasure needs two of them.
    pub two_persons: bool,
    /// Entries of the log that are older than so many days are removed; none are without it.
    pub keep_days: Option<u32>,
}

/// The shared state of the gateway.
#[derive(Debug)]
pub struct Gateway {
    /// The desired state in force, whole and immutable; replaced by [`Gateway::adopt`] only.
    pub state: ArcSwap<State>,
    /// The gateway's own log.
    pub log: Log,
    /// The secrets.
    pub vault: Vault,
    /// The Claws' durable inboxes.
    pub inbox: Inbox,
    /// The calls that wait for a human.
    pub approvals: Approvals,
    /// Opens what was sealed to this gateway.
    pub seal_key: PrivateKey,
    /// `$DATA/doors`.
    pub doors_dir: PathBuf,
    /// Per Claw: whether its init reported the agent ready.
    pub ready: Readiness,
    /// Settings of this installation.
    pub instance: Instance,
    pub(crate) waits: Waits,
    /// The revision in force, for whoever must notice a change at once.
    pub(crate) revisions: watch::Sender<u64>,
    pub(crate) upstream: Upstream,
    pub(crate) budgets: Budgets,
    pub(crate) prices: Prices,
    pub(crate) limits: Limits,
    pub(crate) masks: Masks,
    pub(crate) honeytokens: Honeytokens,
    pub(crate) commitments: Commitments,
    pub(crate) subjects: Subjects,
    pub(crate) content: Content,
    /// Holds and waiting erasures with their file; held while one of them changes or something is erased.
    pub(crate) custody: tokio::sync::Mutex<Custody>,
    pub(crate) custody_file: PathBuf,
    /// The newest checkpoint that the control plane has cosigned.
    pub(crate) cosigned_file: PathBuf,
    pub(crate) authorities: Authorities,
    pub(crate) doors: Doors,
    pub(crate) servers: Servers,
    /// How far each sink has come.
    pub sinks: Board,
}

impl Gateway {
    /// Puts the gateway together, with an empty state: no Claw, no door, everything denied.
    ///
    /// # Errors
    /// When the extra certificate authorities cannot be read or the built-in manifests are broken.
    pub fn new(parts: Parts) -> Result<Arc<Self>, StartError> {
        Self::with_waits(parts, Waits::default())
    }

    /// The same with other waits.
    ///
    /// # Errors
    /// See [`Gateway::new`].
    pub fn with_waits(parts: Parts, waits: Waits) -> Result<Arc<Self>, StartError> {
        let upstream = Upstream::new(parts.instance.extra_ca.as_deref())?;
        let custody_file = parts.own_dir.join("holds.json");
        let budgets = Budgets::restored(&parts.log, Timestamp::now())?;
        Ok(Arc::new(Self {
            state: ArcSwap::from_pointee(State::empty()?),
            log: parts.log,
            vault: parts.vault,
            inbox: parts.inbox,
            approvals: parts.approvals,
            seal_key: parts.seal_key,
            doors: Doors::default(),
            servers: Servers::open(parts.own_dir.join("mcp")).map_err(StartError::Servers)?,
            sinks: Board::default(),
            doors_dir: parts.doors_dir,
            ready: Readiness::default(),
            waits,
            revisions: watch::Sender::new(0),
            upstream,
            budgets,
            prices: Prices::load(&parts.own_dir.join("prices.toml"))?,
            limits: Limits::default(),
            masks: Masks::default(),
            honeytokens: Honeytokens::default(),
            commitments: Commitments::new(parts.keys_dir.join("commit")),
            subjects: Subjects::open(&parts.keys_dir)?,
            content: Content::new(&parts.own_dir.join("content"), parts.instance.custody.keep),
            custody: tokio::sync::Mutex::new(Custody::load(&custody_file)?),
            custody_file,
            cosigned_file: parts.own_dir.join("cosigned.checkpoint"),
            authorities: Authorities::new(parts.keys_dir.join("ca")),
            instance: parts.instance,
        }))
    }

    /// Compiles `wanted` and, if all of it is sound, puts it in force, reconciles the doors with it and lets
    /// members' decisions in it have their effect.
    /// Otherwise nothing changes and the last good state stays in force.
    ///
    /// A door that cannot be opened does not hold the state back: it is retried by the next call and is
    /// absent from [`Gateway::door`] until then.
    ///
    /// # Errors
    /// When the state does not compile, or its revision is not above the one in force.
    pub async fn adopt(self: &Arc<Self>, wanted: GatewayState) -> Result<(), StateError> {
        // Not on a thread that serves calls: a great many grants take their time to compile and to be let go of.
        let gateway = Arc::clone(self);
        let swapped = tokio::task::spawn_blocking(move || gateway.put_in_force(wanted)).await;
        swapped.unwrap_or(Err(StateError::Abandoned))?;
        crate::doors::reconcile(self).await;
        approvals::attend(self).await;
        Ok(())
    }

    /// Compiles a state and swaps it for the one in force.
    fn put_in_force(&self, wanted: GatewayState) -> Result<(), StateError> {
        let next = State::compile(wanted)?;
        let now = self.state.load().revision();
        if next.revision() <= now {
            return Err(StateError::Stale {
                offered: next.revision(),
                in_force: now,
            });
        }
        let revision = next.revision();
        self.budgets.keep_grants(|id| next.budget_of(id).is_some());
        let before = self.state.swap(Arc::new(next));
        self.revisions.send_replace(revision);
        let state = self.state.load();
        self.masks.retain(|connection| state.link(connection).is_some());
        // Whoever lets go of a state last frees it, and that should be no call. Without a thread it is this one.
        let thread = std::thread::Builder::new().name("old-state".to_owned());
        let _detached = thread.spawn(move || let_go(&before));
        Ok(())
    }
}

/// Waits, within reason, until nobody else holds a state.
fn let_go(state: &Arc<State>) {
    for _ in 0..200 {
        if Arc::strong_count(state) == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The gateway could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The empty state does not compile: the built-in manifests are broken.
    #[error("preparing the empty state: {0}")]
    State(#[from] StateError),
    /// The subjects' keys.
    #[error("preparing the subjects' keys: {0}")]
    Subjects(#[from] KeyringError),
    /// The file of holds.
    #[error("preparing the legal holds: {0}")]
    Custody(#[from] CustodyError),
    /// What was approved of MCP servers.
    #[error("reading which tools of MCP servers are approved: {0}")]
    Servers(std::io::Error),
    /// The client toward upstreams cannot be made.
    #[error("preparing the client toward upstreams: {0}")]
    Upstream(#[from] UpstreamError),
    /// The price table.
    #[error(transparent)]
    Prices(#[from] PricesError),
    /// What was spent before cannot be read back from the log.
    #[error("reading back what was spent: {0}")]
    Spent(#[from] ReadError),
}

/// Which Claws reported themselves ready. The cage says so of itself, so nothing is decided by it.
#[derive(Debug)]
pub struct Readiness {
    known: Mutex<BTreeMap<ClawName, bool>>,
    changed: watch::Sender<u64>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Readiness {
    /// Notes what the init of `claw` said.
    pub fn set(&self, claw: &ClawName, ready: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(claw.clone(), ready) != Some(ready) {
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Forgets a Claw that is gone.
    pub fn forget(&self, claw: &ClawName) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.remove(claw).is_some() {
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// What is known now.
    pub fn all(&self) -> BTreeMap<ClawName, bool> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes whenever [`Readiness::all`] does.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
