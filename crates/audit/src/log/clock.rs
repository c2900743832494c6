//! The time of entries, and what to make of a clock that jumps.
//!
//! The wall clock is held against one that cannot be set. If it has moved by more than the other allows for, it is
//! *in doubt*: a wrong time in the log cannot be taken back, since times do not run backwards there. A time that has
//! stood for a while is believed, so a clock that was put right needs nobody's hand.

use std::{fmt, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// A smaller step is no jump: clocks are corrected.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);
/// For how long a new time must stand to be believed.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// The wall clock at a moment of the steady one.
#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: Timestamp,
    steady: SignedDuration,
}

impl Reading {
    /// What the wall clock should say at a later moment.
    fn expected(&self, steady: SignedDuration) -> Timestamp {
        let passed = steady.saturating_sub(self.steady);
        self.wall.saturating_add(passed).unwrap_or(self.wall)
    }

    /// By how much a later reading is off.
    fn off(&self, later: &Self) -> SignedDuration {
        later.wall.duration_since(self.expected(later.steady))
    }
}

/// What the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    Good(Timestamp),
    /// It has jumped by so much; `expected` is what the steady clock makes of the last good time.
    InDoubt {
        expected: Timestamp,
        jumped: SignedDuration,
    },
}

pub(super) struct Clock {
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    steady: Arc<dyn Fn() -> Duration + Send + Sync>,
    trusted: Option<Reading>,
    doubted: Option<Reading>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("trusted", &self.trusted)
            .finish_non_exhaustive()
    }
}

impl Clock {
    pub(super) fn new(
        wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        steady: Arc<dyn Fn() -> Duration + Send + Sync>,
    ) -> Self {
        Self {
            wall,
            steady,
            trusted: None,
            doubted: None,
        }
    }

    pub(super) fn read(&mut self) -> Time {
        let now = Reading {
            wall: (self.wall)(),
            steady: SignedDuration::try_from((self.steady)()).unwrap_or(SignedDuration::MAX),
        };
        let Some(trusted) = self.trusted else {
            return self.trust(now);
        };
        let jumped = trusted.off(&now);
        if jumped.abs() <= TOLERANCE {
            return self.trust(now);
        }
        let doubted = *self.doubted.get_or_insert(now);
        if doubted.off(&now).abs() > TOLERANCE {
            self.doubted = Some(now);
        } else if now.steady.saturating_sub(doubted.steady) >= SETTLED_AFTER {
            tracing::warn!(%jumped, "the clock has jumped, and the audit log goes by it from now on");
            return self.trust(now);
        }
        Time::InDoubt {
            expected: trusted.expected(now.steady),
            jumped,
        }
    }

    fn trust(&mut self, now: Reading) -> Time {
        self.trusted = Some(now);
        self.doubted = None;
        Time::Good(now.wall)
    }
}

/// Time since the machine was started, its sleep included: nobody can set it.
pub(super) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Reads the clock at each (wall, steady), in seconds; gives the times that were good.
    fn good(readings: &[(i64, u64)]) -> Vec<Option<i64>> {
        let at = Arc::new(Mutex::new((0, 0)));
        let (wall, steady) = (Arc::clone(&at), Arc::clone(&at));
        let mut clock = Clock::new(
            Arc::new(move || Timestamp::from_second(wall.lock().unwrap().0).unwrap()),
            Arc::new(move || Duration::from_secs(steady.lock().unwrap().1)),
        );
        let read = |reading: &(i64, u64)| {
            *at.lock().unwrap() = *reading;
            match clock.read() {
                Time::Good(time) => Some(time.as_second()),
                Time::InDoubt { .. } => None,
            }
        };
        readings.iter().map(read).collect()
    }

    #[test]
    fn small_steps_are_followed() {
        let steps = [(1000, 1), (1001, 2), (1050, 3), (1000, 4), (5000, 4004)];
        assert!(good(&steps).iter().all(Option::is_some));
    }

    #[test]
    fn a_jump_that_is_taken_back_is_never_followed() {
        let jumps = [
            (1000, 1),
            (900_000, 2),
            (900_005, 7),
            (1007, 8),
            (20, 9),
            (1009, 10),
        ];
        assert_eq!(
            good(&jumps),
            [Some(1000), None, None, Some(1007), None, Some(1009)]
        );
    }

    #[test]
    fn a_jump_that_stands_is_followed_after_a_while() {
        let jumps = [
            (1000, 1),
            (900_000, 2),
            (900_009, 11),
            (900_010, 12),
            (900_011, 13),
        ];
        assert_eq!(
            good(&jumps),
            [Some(1000), None, None, Some(900_010), Some(900_011)]
        );
        let restless = [
            (1000, 1),
            (900_000, 2),
            (700_000, 8),
            (700_005, 13),
            (700_010, 18),
        ];
        assert_eq!(good(&restless), [Some(1000), None, None, None, Some(700_010)]);
    }
}
