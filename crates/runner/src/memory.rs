//! What the runner remembers of each cage between two looks at it. Pure; `files.rs` keeps the part of it that
//! must survive the runner.

use std::collections::BTreeSet;

use clawstaff_api::nodes::{CageStats, Cause, Desired, RunnerClaw};
use clawstaff_cage::{Counts, Reached, Stats};
use clawstaff_types::spec::Limits;
use serde::{Deserialize, Serialize};

use crate::plan::{Act, HOLD_FOR, Millis};

/// Within this time, [`LOOP_EXITS`] exits are a crash loop.
pub const LOOP_WINDOW: Millis = 120_000;
/// So many exits are a crash loop.
pub const LOOP_EXITS: usize = 5;
/// So many are enough for a new revision while an older one is known to run well.
pub const UPDATE_EXITS: usize = 3;
/// A revision that ran for this long without ending is a good one.
pub const PROBATION: Millis = 10_000;
/// The first and the longest wait before a start is tried again.
pub const BACK_OFF: (Millis, Millis) = (1_000, 60_000);
/// The wait before another act is tried again.
pub const ACT_BACK_OFF: Millis = 2_000;

/// Which spec and which restart of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The Claw's revision.
    pub revision: u32,
    /// Its restart counter.
    pub generation: u64,
}

impl Version {
    /// What is wanted of a Claw.
    pub const fn of(claw: &RunnerClaw) -> Self {
        Self {
            revision: claw.revision,
            generation: claw.generation,
        }
    }
}

/// Why a version does not run, and whether it will be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which version.
    pub version: Version,
    /// What kind of trouble.
    pub cause: Cause,
    /// What happened, in our words.
    pub reason: String,
    /// When to start again; `None`: not by itself.
    #[serde(skip)]
    pub retry_at: Option<Millis>,
}

/// For want of whom a cage is frozen, when it is not frozen because that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The gateway was lost.
    GatewayLost,
    /// The control plane does not list it.
    NotListed,
}

/// One cage, remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The version last started.
    pub version: Option<Version>,
    /// Whether it should be up by what we did last: an end we did not cause is its own.
    pub up: bool,
    /// For want of whom it is frozen, or was when it was stopped for that.
    #[serde(default)]
    pub held: Option<Held>,
    /// The newest revision that ran well.
    #[serde(default)]
    pub good: Option<u32>,
    /// Starts since it was made.
    pub starts: u32,
    /// What keeps it from running.
    pub trouble: Option<Trouble>,
    /// The act under way.
    #[serde(skip)]
    pub busy: Option<Act>,
    /// When its recent ends were.
    #[serde(skip)]
    pub exits: Vec<Millis>,
    /// Since when we have known it to run.
    #[serde(skip)]
    pub up_since: Option<Millis>,
    /// Since when we have known it to be held.
    #[serde(skip)]
    pub held_since: Option<Millis>,
    /// Before this, no act is tried again.
    #[serde(skip)]
    pub retry_act_at: Millis,
    /// Before this, it is not tried again to freeze it for want of the gateway.
    #[serde(skip)]
    pub retry_freeze_at: Millis,
    /// Whether we saw it go.
    #[serde(skip)]
    pub gone_at: Option<Millis>,
    /// Its resources when last asked.
    #[serde(skip)]
    pub stats: Option<CageStats>,
    /// What was counted of it when last asked, since its start.
    #[serde(skip)]
    pub counts: Counts,
    /// Limits that it met between the last two times.
    #[serde(skip)]
    pub reached: BTreeSet<Reached>,
}

impl Memory {
    /// Whether this version may be started now.
    pub fn may_start(&self, version: Version, now: Millis) -> bool {
        if self.gone_at.is_some() {
            return false;
        }
        match &self.trouble {
            Some(trouble) if trouble.version == version => trouble.retry_at.is_some_and(|at| at <= now),
            Some(_) | None => true,
        }
    }

    /// The trouble that this version has, if it has any.
    pub fn trouble_of(&self, version: Version) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.version == version)
    }

    /// Whether it has been held for so long that it is to be stopped.
    pub fn held_too_long(&self, now: Millis) -> bool {
        let since = self.held.and(self.held_since);
        since.is_some_and(|since| now.saturating_sub(since) >= HOLD_FOR)
    }

    /// It is frozen for want of somebody.
    pub fn hold(&mut self, why: Held, now: Millis) {
        self.held = Some(why);
        self.held_since = Some(now);
    }

    /// It goes on, or is frozen because that is wanted.
    pub fn let_go(&mut self) {
        self.held = None;
        self.held_since = None;
    }

    /// It is seen to run: long enough, and its revision is a good one.
    pub fn seen_running(&mut self, now: Millis) {
        self.up = true;
        let since = *self.up_since.get_or_insert(now);
        if let Some(version) = self.version
            && now.saturating_sub(since) >= PROBATION
        {
            self.good = Some(version.revision);
        }
    }

    /// How many ends within [`LOOP_WINDOW`] are too many.
    fn ends_allowed(&self, version: Version) -> usize {
        match self.good {
            Some(good) if good != version.revision => UPDATE_EXITS,
            Some(_) | None => LOOP_EXITS,
        }
    }

    /// It ended by itself, or its start failed: wait longer each time, and give up on a crash loop.
    pub fn ended(&mut self, version: Version, cause: Cause, reason: &str, now: Millis) {
        self.down();
        self.let_go();
        if self
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.version != version)
        {
            self.exits.clear();
        }
        self.exits.retain(|at| now.saturating_sub(*at) < LOOP_WINDOW);
        self.exits.push(now);
        let count = self.exits.len();
        self.trouble = Some(if count >= self.ends_allowed(version) {
            let seconds = LOOP_WINDOW / 1000;
            Trouble {
                version,
                cause: looped(cause),
                reason: format!("{reason}; {count} ends within {seconds} s, so it is not started again"),
                retry_at: None,
            }
        } else {
            Trouble {
                version,
                cause,
                reason: reason.to_owned(),
                retry_at: Some(now.saturating_add(back_off(count))),
            }
        });
    }

    /// A start could not be tried, through no fault of the cage: soon again, never counted as an end.
    pub fn postponed(&mut self, version: Version, reason: &str, now: Millis) {
        self.trouble = Some(Trouble {
            version,
            cause: Cause::NotReady,
            reason: reason.to_owned(),
            retry_at: Some(now.saturating_add(BACK_OFF.0)),
        });
    }

    /// It cannot run here as it is asked for.
    pub fn refused(&mut self, version: Version, reason: &str) {
        self.trouble = Some(Trouble {
            version,
            cause: Cause::Refused,
            reason: reason.to_owned(),
            retry_at: None,
        });
    }

    /// It is up.
    pub fn started(&mut self, now: Millis) {
        self.up = true;
        self.up_since = Some(now);
        self.let_go();
        self.starts = self.starts.saturating_add(1);
        // The ends are kept: a start that is followed by another end soon is still a crash loop.
        self.trouble = None;
    }

    /// We stopped it.
    pub fn stopped(&mut self) {
        self.down();
        self.let_go();
    }

    /// We stopped it for want of somebody, which is remembered.
    pub fn halted(&mut self) {
        self.down();
    }

    fn down(&mut self) {
        self.up = false;
        self.up_since = None;
        self.stats = None;
        self.counts = Counts::default();
        self.reached.clear();
    }

    /// What it uses, and which limits it met since it was last asked.
    pub fn measured(&mut self, stats: Stats, limits: Option<&Limits>) {
        self.reached = limits.map_or_else(BTreeSet::new, |limits| {
            stats.counts.reached(self.counts, stats.pids, limits)
        });
        self.counts = stats.counts;
        self.stats = Some(CageStats {
            memory_bytes: stats.memory_bytes,
            cpu_micros: stats.cpu_micros,
            pids: stats.pids,
            storage_bytes: stats.storage_bytes,
        });
    }

    /// Takes note of what is wanted: a Claw that is stopped on purpose starts afresh afterwards, and one that is to
    /// be paused is no longer held once its gateway is there.
    pub fn wish(&mut self, claw: &RunnerClaw, mediated: bool) {
        match claw.desired {
            Desired::Stopped => {
                self.trouble = None;
                self.exits.clear();
            }
            Desired::Paused if mediated => self.let_go(),
            Desired::Paused | Desired::Running => {}
        }
    }
}

/// What a crash loop is called: running out of memory again and again is still that.
const fn looped(cause: Cause) -> Cause {
    match cause {
        Cause::OutOfMemory => Cause::OutOfMemory,
        Cause::Exited
        | Cause::CrashLoop
        | Cause::PidsReached
        | Cause::StorageFull
        | Cause::InodesUsedUp
        | Cause::DescriptorsReached
        | Cause::OutputFlooded
        | Cause::CpusReached
        | Cause::Refused
        | Cause::StartFailed
        | Cause::NotReady
        | Cause::Unknown
        | Cause::GatewayLost
        | Cause::NotListed => Cause::CrashLoop,
    }
}

/// The wait before the next start, by how many ends there were lately.
fn back_off(exits: usize) -> Millis {
    let doublings = u32::try_from(exits.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    BACK_OFF.0.saturating_mul(1 << doublings).min(BACK_OFF.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Version = Version {
        revision: 1,
        generation: 0,
    };

    #[test]
    fn each_end_doubles_the_wait_until_it_is_a_crash_loop() {
        let mut memory = Memory::default();
        let mut now = 0;
        for expected in [1_000, 2_000, 4_000, 8_000] {
            memory.ended(V1, Cause::Exited, "exited with code 1", now);
            let retry_at = memory.trouble_of(V1).unwrap().retry_at.unwrap();
            assert_eq!(retry_at - now, expected);
            assert!(!memory.may_start(V1, now));
            now = retry_at;
            assert!(memory.may_start(V1, now));
        }
        memory.ended(V1, Cause::Exited, "exited with code 1", now);
        assert_eq!(memory.trouble_of(V1).unwrap().retry_at, None);
        assert!(!memory.may_start(V1, Millis::MAX));
    }

    #[test]
    fn ends_far_apart_are_no_crash_loop() {
        let mut memory = Memory::default();
        for round in 0..50 {
            let now = round * LOOP_WINDOW;
            memory.ended(V1, Cause::Exited, "exited", now);
            assert_eq!(memory.trouble_of(V1).unwrap().retry_at, Some(now + BACK_OFF.0));
        }
    }

    #[test]
    fn a_revision_is_good_once_it_has_run_long_enough_and_an_update_is_given_up_sooner() {
        let mut memory = Memory {
            version: Some(V1),
            ..Memory::default()
        };
        memory.started(1_000);
        memory.seen_running(1_000 + PROBATION - 1);
        assert_eq!(memory.good, None);
        memory.seen_running(1_000 + PROBATION);
        assert_eq!(memory.good, Some(1));
        let update = Version {
            revision: 2,
            generation: 0,
        };
        let now = 100_000;
        for end in 1..=UPDATE_EXITS {
            memory.ended(update, Cause::Exited, "exited", now);
            let given_up = memory.trouble_of(update).unwrap().retry_at.is_none();
            assert_eq!(given_up, end == UPDATE_EXITS);
        }
        assert_eq!(memory.trouble_of(update).unwrap().cause, Cause::CrashLoop);
        assert_eq!(memory.good, Some(1));
    }

    #[test]
    fn running_out_of_memory_again_and_again_is_still_called_that() {
        let mut memory = Memory::default();
        for _ in 0..LOOP_EXITS {
            memory.ended(V1, Cause::OutOfMemory, "out of memory", 0);
        }
        let trouble = memory.trouble_of(V1).unwrap();
        assert_eq!((trouble.cause, trouble.retry_at), (Cause::OutOfMemory, None));
    }

    #[test]
    fn a_new_version_and_a_stop_both_forget_the_trouble() {
        let mut memory = Memory::default();
        memory.refused(V1, "not here");
        let newer = Version {
            revision: 2,
            generation: 0,
        };
        assert!(!memory.may_start(V1, 0));
        assert!(memory.may_start(newer, 0));
    }
}
