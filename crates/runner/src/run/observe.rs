//! Looking at the cages: what they are, which ended by themselves, what they use.

use std::{collections::BTreeMap, sync::Arc};

use clawstaff_api::nodes::Cause;
use clawstaff_cage::{CageId, Exit, ExitReason, Observed};
use clawstaff_types::{EventKind, Outcome, spec::Limits};
use futures_util::{StreamExt as _, stream};

use super::Loop;
use crate::{
    memory::{Memory, Version},
    plan::{Millis, Seen},
};

/// How often resources are asked for.
const STATS_PACE: Millis = 10_000;
/// How many cages are asked at once.
const AT_ONCE: usize = 16;

impl Loop {
    /// Looks at every cage that there is or should be.
    pub(super) async fn observe(&mut self) {
        let hands = Arc::clone(&self.hands);
        let backend = &hands.backend;
        let moment = hands.stills.moment();
        let listed = match backend.list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "the cages cannot be listed");
                return;
            }
        };
        let looks = stream::iter(listed).map(|id| async move {
            let observed = backend.observe(&id).await;
            (id, observed)
        });
        let observed: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
        let mut seen = BTreeMap::new();
        for (id, observed) in observed {
            match observed {
                Ok(Observed::Absent) => {}
                // Frozen for an operator's act, or just thawed after it: it is what it was.
                Ok(Observed::Running { .. } | Observed::Paused)
                    if hands.stills.since(&moment, &id.to_string()) =>
                {
                    let before = self.seen.get(&id.to_string()).copied();
                    seen.insert(id.to_string(), before.unwrap_or(Seen::Running));
                }
                Ok(observed) => {
                    seen.insert(id.to_string(), see(&observed));
                    self.note(&id, &observed);
                }
                Err(error) => {
                    tracing::warn!(cage = %id, %error, "a cage cannot be looked at");
                    let before = self.seen.get(&id.to_string()).copied();
                    seen.extend(before.map(|before| (id.to_string(), before)));
                }
            }
        }
        self.seen = seen;
        self.note_absent();
    }

    /// Adopts a cage that is up, and notices one that ended by itself.
    fn note(&mut self, id: &CageId, observed: &Observed) {
        let wanted = self
            .claws()
            .iter()
            .find(|claw| claw.cage == id.to_string())
            .cloned();
        let now = self.now();
        let memory = self.memory.entry(id.to_string()).or_default();
        if memory.busy.is_some() {
            return;
        }
        match observed {
            Observed::Running { .. } | Observed::Paused => {
                if memory.version.is_none() {
                    memory.version = wanted.as_ref().map(Version::of);
                    tracing::info!(cage = %id, "adopted as it is");
                }
                memory.up = true;
                if matches!(observed, Observed::Running { .. }) {
                    memory.let_go();
                    memory.seen_running(now);
                } else if memory.held.is_some() {
                    memory.held_since.get_or_insert(now);
                }
            }
            Observed::Exited(exit) if memory.up => {
                let (cause, reason) = describe(exit);
                tracing::warn!(cage = %id, reason, "ended by itself");
                let version = memory.version.or(wanted.as_ref().map(Version::of));
                if let Some(version) = version {
                    memory.ended(version, cause, &reason, now);
                }
                self.record_late(id, EventKind::ClawFailed, Outcome::Failed, &reason);
            }
            Observed::Exited(_) | Observed::Created | Observed::Absent => {}
        }
    }

    /// Notices a cage that should be up but is not even there.
    fn note_absent(&mut self) {
        let now = self.now();
        let gone = |(cage, memory): (&String, &Memory)| {
            let lost = memory.up && memory.busy.is_none() && !self.seen.contains_key(cage);
            lost.then(|| cage.clone())
        };
        let lost: Vec<String> = self.memory.iter().filter_map(gone).collect();
        for cage in lost {
            let reason = "the cage is gone without our doing";
            if let Some(memory) = self.memory.get_mut(&cage) {
                match memory.version {
                    Some(version) => memory.ended(version, Cause::Unknown, reason, now),
                    None => memory.stopped(),
                }
            }
            if let Ok(id) = cage.parse() {
                self.record_late(&id, EventKind::ClawFailed, Outcome::Failed, reason);
            }
        }
    }

    /// Asks for resources, every 10 s.
    pub(super) async fn measure(&mut self) {
        let now = self.now();
        if now < self.stats_at {
            return;
        }
        self.stats_at = now.saturating_add(STATS_PACE);
        let up = |seen: &Seen| matches!(seen, Seen::Running | Seen::Paused);
        let ids: Vec<CageId> = self
            .seen
            .iter()
            .filter(|(_, seen)| up(seen))
            .filter_map(|(cage, _)| cage.parse().ok())
            .collect();
        let backend = &self.hands.backend;
        let asks = stream::iter(ids).map(|id| async move {
            let stats = backend.stats(&id).await;
            (id, stats)
        });
        let answers: Vec<_> = asks.buffer_unordered(AT_ONCE).collect().await;
        let limits: BTreeMap<String, Limits> = self
            .claws()
            .iter()
            .map(|claw| (claw.cage.clone(), claw.limits.clone()))
            .collect();
        for (id, stats) in answers {
            let cage = id.to_string();
            if let (Ok(stats), Some(memory)) = (stats, self.memory.get_mut(&cage)) {
                memory.measured(stats, limits.get(&cage));
            }
        }
    }
}

/// What the back end says, in the planner's words.
const fn see(observed: &Observed) -> Seen {
    match observed {
        Observed::Absent => Seen::Absent,
        Observed::Created => Seen::Created,
        Observed::Running { .. } => Seen::Running,
        Observed::Paused => Seen::Paused,
        Observed::Exited(_) => Seen::Exited,
    }
}

/// Why a cage ended. What it printed stays out of it: that is content, and is asked for on this host.
fn describe(exit: &Exit) -> (Cause, String) {
    let logs = "`clawstaff claw logs` has its last lines";
    match exit.reason {
        ExitReason::Code(0) => (Cause::Exited, format!("the agent ended by itself (code 0); {logs}")),
        ExitReason::Code(code) => (Cause::Exited, format!("the agent ended with code {code}; {logs}")),
        ExitReason::Signal(signal) => (
            Cause::Exited,
            format!("the agent was ended by signal {signal}; {logs}"),
        ),
        ExitReason::OutOfMemory => (
            Cause::OutOfMemory,
            "out of memory: it needed more than `limits.memory`, so the kernel ended it; raise the limit if the \
             work needs it"
                .to_owned(),
        ),
        ExitReason::Unknown => (
            Cause::Unknown,
            "the cage ended and nobody saw why: its parent was killed or the machine restarted".to_owned(),
        ),
    }
}
