//! Where the committer leaves word for the publisher.
//!
//! The committer must not pay for the publisher: it wakes it only when it sleeps for want of work, so a busy log
//! makes the publisher run at its own pace and an idle one costs nothing.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{checkpoint::Checkpoint, state::State as LogState};

#[derive(Debug, Default)]
struct State {
    pending: bool,
    stop: bool,
    /// The publisher waits for work, without a time.
    asleep: bool,
    published: Option<Checkpoint>,
    /// What the writer knew when the newest segment began, until it is written down.
    sealed: Option<LogState>,
}

#[derive(Debug, Default)]
pub(super) struct Wake {
    state: Mutex<State>,
    changed: Condvar,
}

impl Wake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There are more durable entries; with the first batch of a segment comes the state before it.
    pub(super) fn wake(&self, sealed: Option<LogState>) {
        let asleep = {
            let mut state = self.state();
            state.pending = true;
            state.sealed = sealed.or_else(|| state.sealed.take());
            mem::take(&mut state.asleep)
        };
        if asleep {
            self.changed.notify_all();
        }
    }

    /// Publish what there is, once, and end.
    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }

    pub(super) fn set_published(&self, checkpoint: Checkpoint) {
        self.state().published = Some(checkpoint);
    }

    /// The checkpoint last published by this process.
    pub(super) fn last(&self) -> Option<Checkpoint> {
        self.state().published.clone()
    }

    /// The size last published.
    pub(super) fn published(&self) -> u64 {
        self.state().published.as_ref().map_or(0, |last| last.size)
    }

    /// The state when the newest segment began, once, if no more than `size` entries were before it.
    pub(super) fn take_sealed(&self, size: u64) -> Option<LogState> {
        self.state().sealed.take_if(|state| state.tree.size() <= size)
    }

    /// Waits until there is something to publish, but not before `not_before`. Whether to end afterwards.
    pub(super) fn wait(&self, not_before: Instant) -> bool {
        let mut state = self.state();
        loop {
            let early = not_before.saturating_duration_since(Instant::now());
            if state.stop || (state.pending && early.is_zero()) {
                state.pending = false;
                return state.stop;
            }
            state = if early.is_zero() {
                state.asleep = true;
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.changed.wait_timeout(state, early);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}
