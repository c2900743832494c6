//! The bounded queue between callers and the committer.
//!
//! Callers push one by one, the committer takes all that is there at once, so the lock is held for instants and
//! the committer is woken only when it sleeps.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{Pending, QUEUE_LENGTH};

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// The committer has nothing to do.
    asleep: bool,
    closed: bool,
}

/// Why an entry was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many as may wait are waiting.
    Full,
    /// Nobody will take it out again.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry at the end.
    pub(super) fn push(&self, pending: Pending) -> Result<(), Refused> {
        let wake = {
            let mut state = self.state();
            if state.closed {
                return Err(Refused::Closed);
            }
            if state.waiting.len() >= QUEUE_LENGTH {
                return Err(Refused::Full);
            }
            state.waiting.push_back(pending);
            mem::take(&mut state.asleep)
        };
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Moves what is waiting behind what is in `backlog`; sleeps if both are empty. `false`: closed and empty.
    pub(super) fn next(&self, backlog: &mut VecDeque<Pending>) -> bool {
        let mut state = self.state();
        while backlog.is_empty() && state.waiting.is_empty() {
            if state.closed {
                return false;
            }
            state.asleep = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        if backlog.is_empty() {
            mem::swap(backlog, &mut state.waiting);
        } else if backlog.len() < QUEUE_LENGTH {
            backlog.append(&mut state.waiting);
        }
        true
    }

    /// Takes no more; what is waiting can still be taken out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
    }
}

/// Closes the queue when its reader ends, in whatever way, and drops what is left: its callers hear of it.
#[derive(Debug)]
pub(super) struct CloseOnDrop<'a>(pub(super) &'a Queue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
        let left = mem::take(&mut self.0.state().waiting);
        drop(left);
    }
}
