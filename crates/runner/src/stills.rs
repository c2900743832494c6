//! Cages that an operator's act keeps still for a while: the loop must not take that for a pause that nobody wants.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use clawstaff_cage::CageId;

/// Which cages are kept still, and when each was last begun to be.
#[derive(Debug, Default)]
pub(crate) struct Stills(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// How often anything was begun.
    begun: u64,
    cages: BTreeMap<String, Still>,
}

#[derive(Debug, Default)]
struct Still {
    /// Acts under way.
    acts: u32,
    /// The number of the last one.
    last: u64,
}

/// A moment before a look at the cages.
#[derive(Debug)]
pub(crate) struct Moment {
    begun: u64,
    still: Vec<String>,
}

impl Stills {
    /// Keeps a cage still until the answer is dropped.
    pub(crate) fn keep(&self, id: &CageId) -> Keeper<'_> {
        let mut kept = self.kept();
        kept.begun += 1;
        let begun = kept.begun;
        let still = kept.cages.entry(id.to_string()).or_default();
        still.acts += 1;
        still.last = begun;
        Keeper {
            stills: self,
            cage: id.to_string(),
        }
    }

    /// Taken before a look.
    pub(crate) fn moment(&self) -> Moment {
        let kept = self.kept();
        let still = kept.cages.iter().filter(|(_, still)| still.acts > 0);
        Moment {
            begun: kept.begun,
            still: still.map(|(cage, _)| cage.clone()).collect(),
        }
    }

    /// Whether the cage was kept still at any time since the moment: what was seen of it then says nothing.
    pub(crate) fn since(&self, moment: &Moment, cage: &str) -> bool {
        let begun = self
            .kept()
            .cages
            .get(cage)
            .is_some_and(|still| still.last > moment.begun);
        begun || moment.still.iter().any(|still| still == cage)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a cage still as long as it lives.
#[derive(Debug)]
pub(crate) struct Keeper<'a> {
    stills: &'a Stills,
    cage: String,
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        if let Some(still) = self.stills.kept().cages.get_mut(&self.cage) {
            still.acts = still.acts.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_of_no_use_if_the_cage_was_kept_still_at_any_time_during_it() {
        let (stills, id): (_, CageId) = (Stills::default(), "a-00000001".parse().unwrap());
        let before = stills.moment();
        assert!(!stills.since(&before, "a-00000001"));
        let keeper = stills.keep(&id);
        let during = stills.moment();
        drop(keeper);
        assert!(stills.since(&before, "a-00000001"));
        assert!(stills.since(&during, "a-00000001"));
        assert!(!stills.since(&during, "b-00000001"));
        assert!(!stills.since(&stills.moment(), "a-00000001"));
    }
}
