//! What the runner remembers of each cage between two looks at it. Pure; `files.rs` keeps the part of it that
//! must survive the runner.

use clawstaff_api::nodes::{CageStats, Desired, RunnerClaw};
use serde::{Deserialize, Serialize};

use crate::plan::{Act, Millis};

/// Within this time, [`LOOP_EXITS`] exits are a crash loop.
pub const LOOP_WINDOW: Millis = 120_000;
/// So many exits are a crash loop.
pub const LOOP_EXITS: usize = 5;
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
    /// What happened, in our words.
    pub reason: String,
    /// When to start again; `None`: not by itself.
    #[serde(skip)]
    pub retry_at: Option<Millis>,
}

/// One cage, remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The version last started.
    pub version: Option<Version>,
    /// Whether it should be up by what we did last: an end we did not cause is its own.
    pub up: bool,
    /// Whether it is frozen because the gateway was lost.
    pub frozen: bool,
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

    /// It ended by itself, or its start failed: wait longer each time, and give up on a crash loop.
    pub fn ended(&mut self, version: Version, reason: &str, now: Millis) {
        self.up = false;
        self.frozen = false;
        self.stats = None;
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
        let (reason, retry_at) = if count >= LOOP_EXITS {
            let seconds = LOOP_WINDOW / 1000;
            (
                format!("{reason}; {count} ends within {seconds} s, so it is not started again"),
                None,
            )
        } else {
            (reason.to_owned(), Some(now.saturating_add(back_off(count))))
        };
        self.trouble = Some(Trouble {
            version,
            reason,
            retry_at,
        });
    }

    /// A start could not be tried, through no fault of the cage: soon again, never counted as an end.
    pub fn postponed(&mut self, version: Version, reason: &str, now: Millis) {
        self.trouble = Some(Trouble {
            version,
            reason: reason.to_owned(),
            retry_at: Some(now.saturating_add(BACK_OFF.0)),
        });
    }

    /// It cannot run here as it is asked for.
    pub fn refused(&mut self, version: Version, reason: &str) {
        self.trouble = Some(Trouble {
            version,
            reason: reason.to_owned(),
            retry_at: None,
        });
    }

    /// It is up.
    pub fn started(&mut self) {
        self.up = true;
        self.frozen = false;
        self.starts = self.starts.saturating_add(1);
        // The ends are kept: a start that is followed by another end soon is still a crash loop.
        self.trouble = None;
    }

    /// We stopped it.
    pub fn stopped(&mut self) {
        self.up = false;
        self.frozen = false;
        self.stats = None;
    }

    /// Takes note of what is wanted: a Claw that is stopped on purpose starts afresh afterwards.
    pub fn wish(&mut self, claw: &RunnerClaw) {
        if claw.desired == Desired::Stopped {
            self.trouble = None;
            self.exits.clear();
        }
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
            memory.ended(V1, "exited with code 1", now);
            let retry_at = memory.trouble_of(V1).unwrap().retry_at.unwrap();
            assert_eq!(retry_at - now, expected);
            assert!(!memory.may_start(V1, now));
            now = retry_at;
            assert!(memory.may_start(V1, now));
        }
        memory.ended(V1, "exited with code 1", now);
        assert_eq!(memory.trouble_of(V1).unwrap().retry_at, None);
        assert!(!memory.may_start(V1, Millis::MAX));
    }

    #[test]
    fn ends_far_apart_are_no_crash_loop() {
        let mut memory = Memory::default();
        for round in 0..50 {
            let now = round * LOOP_WINDOW;
            memory.ended(V1, "exited", now);
            assert_eq!(memory.trouble_of(V1).unwrap().retry_at, Some(now + BACK_OFF.0));
        }
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
