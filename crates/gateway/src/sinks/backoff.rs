//! How long to wait before the next attempt: twice as long each time, up to a minute, and never exactly as long as
//! anybody else.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// The waits of one job.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next wait: between half of and all of what its turn is.
    pub(super) fn next(&mut self) -> Duration {
        let turn = self.0;
        self.0 = (turn * 2).min(LONGEST);
        let half = turn / 2;
        half + half.mul_f64(fraction())
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Anything from 0 to 1.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness every wait is the shortest of its turn.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 0.0;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut turn = FIRST;
        for _ in 0..12 {
            let wait = backoff.next();
            assert!(turn / 2 <= wait && wait <= turn, "{wait:?} of {turn:?}");
            turn = (turn * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
