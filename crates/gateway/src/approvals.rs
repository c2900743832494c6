//! Calls that wait for a human, and what was decided about them: durable, bounded, each approval used once.
//!
//! ```text
//!   first call ─► waiting ─┬─ a member agrees ──► approved ── the same bytes again ─► used, gone
//!                          ├─ a member refuses ─► denied ──── until its time is up ─► gone
//!                          └─ silence, or the grant is taken away ─► expired, gone
//! ```
//!
//! A call is known by its Claw and its keyed digest, so that a decision is about exactly its bytes. Every step is
//! in the log before it has an effect here, and on disk before it has one outside: a process that dies can lose a
//! yes, never use one twice. Members' decisions come with the signed state ([`attend`]); nothing else makes one.

mod attend;
mod files;

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

pub(crate) use attend::{attend, taken};
use clawstaff_api::nodes::WaitingCall;
use clawstaff_audit::AppendError;
use clawstaff_policy::{Approval, Held};
use clawstaff_types::{ApprovalId, ClawName, Decision, EventKind, MemberId, id::sortable};
use files::Folder;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use crate::{
    map::Call,
    record::{self, Who},
    shared::Gateway,
};

/// Calls of one Claw that may wait at a time.
pub(crate) const MAX_WAITING: usize = 8;
/// Calls of one Claw that are remembered, decided ones included.
const MAX_OF_CLAW: usize = 32;
/// Calls remembered of all Claws.
pub(crate) const MAX_OF_ALL: usize = 1_000;
/// Asking grants that are named with a waiting call.
const MAX_GRANTS: usize = 16;
/// The next look at everything comes no sooner, so that a log that cannot be written is not tried without pause.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// A new look at everything, even if nothing is due.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// All calls that wait or were decided a while ago.
#[derive(Debug)]
pub struct Approvals {
    folder: Folder,
    known: Mutex<BTreeMap<ApprovalId, Known>>,
    changed: watch::Sender<u64>,
}

/// One call, as the file of it holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    call: WaitingCall,
    stand: Stand,
    /// Number of the newest connection that waits with this call; older ones have been superseded.
    #[serde(skip)]
    newest: u64,
}

/// How a call stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stand {
    Waiting,
    Approved { by: MemberId, expires: Timestamp },
    Denied { by: MemberId },
}

/// What a call that asks is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// It waits.
    Waiting(Ticket),
    /// A member agreed; this was the one use of it.
    Approved(Approval),
    /// A member refused.
    Denied(ApprovalId),
    /// Its time ran out.
    Expired(ApprovalId),
    /// The same call was made again on another connection, which waits in this one's place.
    Superseded,
}

/// A connection's place beside a waiting call.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) id: ApprovalId,
    pub(crate) until: Timestamp,
    number: u64,
}

/// A call could not be made to wait.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Too many wait already.
    #[error("too many calls wait for a human already")]
    TooMany,
    /// It could not be recorded.
    #[error("recording that a call waits: {0}")]
    Record(#[from] AppendError),
    /// It could not be kept.
    #[error("keeping a call that waits: {0}")]
    Keep(#[from] io::Error),
}

impl Approvals {
    /// Opens the directory `dir` (made if missing, 0700), with what an earlier run left in it.
    ///
    /// # Errors
    /// When the directory cannot be made or read. A file that cannot be understood is left aside: it approves nothing.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        let folder = Folder::open(dir)?;
        let known = folder.load()?;
        Ok(Self {
            folder,
            known: Mutex::new(
                known
                    .into_iter()
                    .map(|known| (known.call.id.clone(), known))
                    .collect(),
            ),
            changed: watch::Sender::new(0),
        })
    }

    /// Changes whenever a call begins to wait or ceases to.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The calls that wait, oldest first.
    pub(crate) async fn waiting(&self) -> Vec<WaitingCall> {
        let known = self.known.lock().await;
        let waiting = known.values().filter(|known| known.stand == Stand::Waiting);
        waiting.map(|known| known.call.clone()).collect()
    }

    /// When [`attend`] has to look again, at the latest.
    pub(crate) async fn next_look(&self, now: Timestamp) -> Duration {
        let known = self.known.lock().await;
        let due = known.values().map(|known| now.duration_until(known.ends()));
        let wait = due.min().unwrap_or(LOOK_EVERY).clamp(LOOK_AGAIN, LOOK_EVERY);
        Duration::try_from(wait).unwrap_or_default()
    }

    /// What the held call is told: on its first question it begins to wait, with `ticket` it goes on waiting.
    ///
    /// An approval is gone from disk before it is handed out.
    ///
    /// # Errors
    /// When it cannot wait, or its waiting cannot be recorded and kept.
    pub(crate) async fn ask(
        &self,
        gateway: &Gateway,
        asking: (&Who, &Call, &Held),
        ticket: Option<&Ticket>,
        now: Timestamp,
    ) -> Result<Told, AskError> {
        let (who, call, _) = asking;
        let mut known = self.known.lock().await;
        let same = known
            .values_mut()
            .find(|known| known.is(who, call) && now < known.ends());
        let Some(same) = same else {
            if let Some(late) = ticket.filter(|ticket| now >= ticket.until) {
                return Ok(Told::Expired(late.id.clone()));
            }
            let fresh = Known::new(call_of(asking, gateway.waits.ask, now)?);
            let told = Told::Waiting(fresh.place());
            self.begin(gateway, asking, &mut known, fresh).await?;
            return Ok(told);
        };
        let Some(joined) = same.join(ticket) else {
            return Ok(Told::Superseded);
        };
        match same.stand.clone() {
            Stand::Waiting => Ok(Told::Waiting(joined)),
            Stand::Denied { .. } => Ok(Told::Denied(joined.id)),
            Stand::Approved { by, expires } => {
                self.folder.remove(&joined.id).await?;
                known.remove(&joined.id);
                self.touch();
                Ok(Told::Approved(Approval {
                    id: joined.id,
                    claw: who.claw.clone(),
                    digest: call.digest,
                    by,
                    expires,
                }))
            }
        }
    }

    /// Makes a call wait: kept first, then recorded, then told.
    async fn begin(
        &self,
        gateway: &Gateway,
        (who, call, held): (&Who, &Call, &Held),
        known: &mut BTreeMap<ApprovalId, Known>,
        fresh: Known,
    ) -> Result<(), AskError> {
        self.make_room(known, &who.claw).await?;
        self.folder.keep(&fresh).await?;
        let mut event = record::about(who, call, EventKind::ApprovalRequested);
        event.decision = Some(Decision::Ask);
        event.grants = held.grants().to_vec();
        event.policy_revision = Some(held.policy_version());
        let facts = [
            ("approval", fresh.call.id.to_string()),
            ("until", fresh.call.until.to_string()),
        ];
        event
            .facts
            .extend(facts.map(|(label, fact)| (label.to_owned(), fact)));
        if let Err(error) = record::fact(gateway, who.stream(), call.digest, event).await {
            self.folder.remove(&fresh.call.id).await?;
            return Err(error.into());
        }
        known.insert(fresh.call.id.clone(), fresh);
        self.touch();
        Ok(())
    }

    /// Forgets the Claw's oldest denial where that makes room; a call that waits or is approved is never forgotten.
    async fn make_room(
        &self,
        known: &mut BTreeMap<ApprovalId, Known>,
        claw: &ClawName,
    ) -> Result<(), AskError> {
        let of_claw = || known.values().filter(|known| known.call.claw == *claw);
        let waiting = of_claw().filter(|known| known.stand == Stand::Waiting).count();
        if waiting >= MAX_WAITING || known.len() >= MAX_OF_ALL {
            return Err(AskError::TooMany);
        }
        if of_claw().count() < MAX_OF_CLAW {
            return Ok(());
        }
        let mut denied = of_claw().filter(|known| matches!(known.stand, Stand::Denied { .. }));
        let oldest = denied.next().map(|known| known.call.id.clone());
        let oldest = oldest.ok_or(AskError::TooMany)?;
        self.folder.remove(&oldest).await?;
        known.remove(&oldest);
        Ok(())
    }
}

impl Known {
    const fn new(call: WaitingCall) -> Self {
        Self {
            call,
            stand: Stand::Waiting,
            newest: 0,
        }
    }

    fn is(&self, who: &Who, call: &Call) -> bool {
        self.call.claw == who.claw && self.call.digest == call.digest
    }

    /// From then on it has expired, or is forgotten.
    const fn ends(&self) -> Timestamp {
        match &self.stand {
            Stand::Waiting | Stand::Denied { .. } => self.call.until,
            Stand::Approved { expires, .. } => *expires,
        }
    }

    /// The place of a connection: the one it has, or a new one before all others. `None` when it has lost it.
    fn join(&mut self, ticket: Option<&Ticket>) -> Option<Ticket> {
        if let Some(mine) = ticket.filter(|ticket| ticket.id == self.call.id) {
            return (mine.number == self.newest).then(|| mine.clone());
        }
        self.newest += 1;
        Some(self.place())
    }

    fn place(&self) -> Ticket {
        Ticket {
            id: self.call.id.clone(),
            until: self.call.until,
            number: self.newest,
        }
    }
}

/// The held call, as people are told of it.
fn call_of(
    (who, call, held): (&Who, &Call, &Held),
    lasts: Duration,
    now: Timestamp,
) -> io::Result<WaitingCall> {
    Ok(WaitingCall {
        id: fresh_id(now)?,
        claw: who.claw.clone(),
        connection: held.connection().clone(),
        action: held.action().clone(),
        resource: held.resource().cloned(),
        grants: held.grants().iter().take(MAX_GRANTS).cloned().collect(),
        on_behalf_of: who.on_behalf_of.clone(),
        digest: call.digest,
        asked: now,
        until: now.checked_add(lasts).unwrap_or(now),
    })
}

fn fresh_id(now: Timestamp) -> io::Result<ApprovalId> {
    let mut random = [0; 10];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    format!("ap_{}", sortable(millis, random))
        .parse()
        .map_err(io::Error::other)
}
