//! What one cage may ask of the gateway at a time, so that no cage can harm another.
//!
//! Calls under way hold memory, and refusals cost the log space: the first are bounded in number, the second in
//! pace. Neither is a matter of policy; budgets are in `budget`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clawstaff_types::ClawName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls of one Claw that may be under way.
pub(crate) const MAX_CALLS: usize = 32;
/// The longest wait for one of them to end.
const PLACE_WAIT: Duration = Duration::from_secs(30);
/// Records without a call (refusals, reported acts) that are written without delay, and then per second.
const BURST: u32 = 300;
const PER_SECOND: u32 = 20;

/// The limits of all Claws.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    claws: Mutex<HashMap<ClawName, Limit>>,
}

#[derive(Debug)]
struct Limit {
    places: Arc<Semaphore>,
    /// When the backlog of records would be worked off at the steady pace.
    clear_at: Instant,
}

/// A call's place; free again when its last holder drops it.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

impl Limits {
    /// A place for a call of `claw`; `None` when none became free in time.
    pub(crate) async fn place(&self, claw: &ClawName) -> Option<Place> {
        let places = self.with(claw, |limit| Arc::clone(&limit.places));
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Some(Arc::new(place));
        }
        let waited = tokio::time::timeout(PLACE_WAIT, places.acquire_owned()).await;
        waited.ok()?.ok().map(Arc::new)
    }

    /// Waits until `claw` may have one more record of a refusal.
    pub(crate) async fn pace(&self, claw: &ClawName) {
        let wait = self.with(claw, |limit| limit.delay(Instant::now()));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Forgets a Claw that is gone.
    pub(crate) fn forget(&self, claw: &ClawName) {
        self.claws
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(claw);
    }

    fn with<T>(&self, claw: &ClawName, work: impl FnOnce(&mut Limit) -> T) -> T {
        let mut claws = self.claws.lock().unwrap_or_else(PoisonError::into_inner);
        work(claws.entry(claw.clone()).or_insert_with(|| Limit {
            places: Arc::new(Semaphore::new(MAX_CALLS)),
            clear_at: Instant::now(),
        }))
    }
}

impl Limit {
    fn delay(&mut self, now: Instant) -> Duration {
        let one = Duration::from_secs(1) / PER_SECOND;
        self.clear_at = self.clear_at.max(now) + one;
        self.clear_at
            .saturating_duration_since(now)
            .saturating_sub(one * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_there_is_a_pace() {
        let now = Instant::now();
        let mut limit = Limit {
            places: Arc::new(Semaphore::new(1)),
            clear_at: now,
        };
        assert!((0..BURST).all(|_| limit.delay(now).is_zero()));
        assert_eq!(limit.delay(now), Duration::from_millis(50));
        assert_eq!(limit.delay(now), Duration::from_millis(100));
        assert!(limit.delay(now + Duration::from_mins(1)).is_zero());
    }
}
