//! Who came in, who left and who was turned away: `auth.login`, `auth.logout`, `auth.failed`.
//!
//! A login is the first request of a member by one road (socket, token, browser, node) after an hour of silence.
//! One that cannot be recorded is tried again with the next request and does not stop reading; what changes
//! something has its own record, without which it does not happen. Refusals are recorded up to a pace, so that a
//! stranger cannot fill the log; those above it are counted, and the count is recorded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clawstaff_types::{Actor, Event, EventKind, MemberId, Outcome};
use tokio::time::Instant;

use super::auth::Caller;
use crate::{
    app::{
        permission::{Permission, Role},
        problem::Problem,
        record::Recorder,
    },
    serve::Peer,
};

/// Silence after which the next request is a new login.
const SILENCE: Duration = Duration::from_hours(1);
/// How long a request waits for the record of its login or refusal.
const PATIENCE: Duration = Duration::from_secs(1);
/// Refusals recorded at once; then one more for each [`PACE`].
const BURST: u32 = 20;
const PACE: Duration = Duration::from_secs(10);
/// Members by road that are remembered; more than there can be.
const MAX_SEEN: usize = 4096;

/// The road by which somebody came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Via {
    /// `api.sock`: the kernel says who it is.
    Socket,
    /// `Authorization: Bearer`.
    Token,
    /// The cookie that a link put into a browser.
    Browser,
    /// A node's token.
    Node,
}

impl Via {
    const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Token => "token",
            Self::Browser => "browser",
            Self::Node => "node",
        }
    }
}

/// The book at the door.
#[derive(Debug)]
pub(crate) struct Doorbook {
    recorder: Recorder,
    seen: Mutex<HashMap<(MemberId, Via), Instant>>,
    pace: Mutex<Pace>,
}

/// How many refusals may still be recorded, and how many were not.
#[derive(Debug)]
struct Pace {
    left: u32,
    at: Instant,
    uncounted: u64,
}

impl Doorbook {
    pub(crate) fn new(recorder: Recorder) -> Arc<Self> {
        let pace = Pace {
            left: BURST,
            at: Instant::now(),
            uncounted: 0,
        };
        Arc::new(Self {
            recorder,
            seen: Mutex::default(),
            pace: Mutex::new(pace),
        })
    }

    /// A request of somebody who may come in.
    pub(crate) async fn entered(&self, caller: &Caller, via: Via) {
        let key = (caller.member.clone(), via);
        if self.knows(&key) {
            return;
        }
        let event = login(caller, via);
        let recorded = tokio::time::timeout(PATIENCE, self.recorder.fact(event)).await;
        if !matches!(recorded, Ok(Ok(()))) {
            self.seen().remove(&key);
        }
    }

    /// A browser followed the link with the token.
    ///
    /// # Errors
    /// When it cannot be recorded; then it gets no cookie.
    pub(crate) async fn logged_in(&self, caller: &Caller) -> Result<(), Problem> {
        self.recorder.fact(login(caller, Via::Browser)).await?;
        self.knows(&(caller.member.clone(), Via::Browser));
        Ok(())
    }

    /// A browser puts its cookie away.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub(crate) async fn logged_out(&self, caller: &Caller) -> Result<(), Problem> {
        let mut event = Event::new(EventKind::AuthLogout, actor(caller));
        event.outcome = Some(Outcome::Succeeded);
        self.recorder.fact(event).await?;
        self.seen().remove(&(caller.member.clone(), Via::Browser));
        Ok(())
    }

    /// Somebody was not let in.
    pub(crate) async fn refused(&self, peer: Option<Peer>, problem: &Problem) {
        let actor = match peer {
            Some(Peer::Uid(uid)) => format!("uid-{uid}").parse().ok().map(Actor::Member),
            Some(Peer::Network(_) | Peer::Certified(_) | Peer::Uncertified(_)) | None => None,
        };
        let mut event = Event::new(EventKind::AuthFailed, actor.unwrap_or_else(nobody));
        event.reason = Some(problem.0.detail.chars().take(300).collect());
        if let Some(Peer::Network(address) | Peer::Uncertified(address)) = peer {
            event.facts.insert("from".to_owned(), address.ip().to_string());
        }
        self.turned_away(event).await;
    }

    /// Somebody was let in and asked for what they may not do.
    pub(crate) async fn not_permitted(&self, caller: &Caller, needs: Permission) {
        let mut event = Event::new(EventKind::AuthFailed, actor(caller));
        event.reason = Some(format!("{} may not do this", caller.role.name()));
        event.facts.insert("permission".to_owned(), format!("{needs:?}"));
        self.turned_away(event).await;
    }

    async fn turned_away(&self, mut event: Event) {
        event.outcome = Some(Outcome::Refused);
        let taken = self.pace().take();
        if let Some(more) = taken {
            count(&mut event, more);
            // Refused it is, with or without a record.
            let recorded = tokio::time::timeout(PATIENCE, self.recorder.fact(event)).await;
            if matches!(recorded, Ok(Err(_))) {
                self.pace().uncounted += more + 1;
            }
        }
    }

    /// Records how many refusals above the pace were not recorded one by one, as they come, until `ended`.
    pub(crate) async fn count_refusals(self: Arc<Self>, ended: tokio_util::sync::CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = ended.cancelled() => return self.count_now().await,
            }
            self.count_now().await;
        }
    }

    async fn count_now(&self) {
        let more = std::mem::take(&mut self.pace().uncounted);
        if more == 0 {
            return;
        }
        let mut event = Event::new(EventKind::AuthFailed, nobody());
        event.outcome = Some(Outcome::Refused);
        event.reason = Some("refusals above the pace at which they are recorded one by one".to_owned());
        count(&mut event, more);
        if self.recorder.fact(event).await.is_err() {
            self.pace().uncounted += more;
        }
    }

    /// Whether this member came by this road within the hour; from now on, yes.
    fn knows(&self, key: &(MemberId, Via)) -> bool {
        let now = Instant::now();
        let mut seen = self.seen();
        if seen.len() >= MAX_SEEN {
            seen.retain(|_, at| now.duration_since(*at) < SILENCE);
        }
        let before = seen.insert(key.clone(), now);
        before.is_some_and(|at| now.duration_since(at) < SILENCE)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<(MemberId, Via), Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// Leave to record one refusal, with how many were only counted before it; or one more to count.
    fn take(&mut self) -> Option<u64> {
        let now = Instant::now();
        let due = now.duration_since(self.at).as_secs() / PACE.as_secs();
        if due > 0 {
            self.left = self
                .left
                .saturating_add(u32::try_from(due).unwrap_or(BURST))
                .min(BURST);
            self.at = now;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.uncounted = self.uncounted.saturating_add(1);
            return None;
        };
        self.left = left;
        Some(std::mem::take(&mut self.uncounted))
    }
}

fn count(event: &mut Event, more: u64) {
    if more > 0 {
        event.facts.insert("not_recorded".to_owned(), more.to_string());
    }
}

fn login(caller: &Caller, via: Via) -> Event {
    let mut event = Event::new(EventKind::AuthLogin, actor(caller));
    event.outcome = Some(Outcome::Succeeded);
    let facts = [("via", via.name()), ("role", caller.role.name())];
    let facts = facts.map(|(label, fact)| (label.to_owned(), fact.to_owned()));
    event.facts.extend(facts);
    event
}

fn actor(caller: &Caller) -> Actor {
    match caller.role {
        Role::Gateway | Role::Runner | Role::Stranger | Role::Uplink => {
            Actor::System(caller.member.to_string())
        }
        Role::Owner | Role::Admin | Role::Operator | Role::Auditor | Role::Member => {
            Actor::Member(caller.member.clone())
        }
    }
}

/// Who is not known to be anybody.
fn nobody() -> Actor {
    Actor::System("anonymous".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_above_the_pace_are_counted_with_the_next_one() {
        let mut pace = Pace {
            left: 2,
            at: Instant::now(),
            uncounted: 0,
        };
        let taken: Vec<_> = (0..5).map(|_| pace.take()).collect();
        assert_eq!(taken, [Some(0), Some(0), None, None, None]);
        tokio::time::advance(PACE).await;
        assert_eq!([pace.take(), pace.take()], [Some(3), None]);
    }
}
