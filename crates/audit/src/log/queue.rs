//! The bounded queue between callers and the committer.
//!
//! Callers push one by one, the committer takes all that is there at once, so the lock is held for instants and
//! the committer is called only when it sleeps. A *watcher* looks now and then whether the committer still comes
//! back, and refuses what waits if it does not: a disk that hangs must not hang its callers.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{AppendError, Pending, QUEUE_LENGTH};

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// The committer has nothing to do.
    asleep: bool,
    /// Since when the committer is at the batch that it took last.
    busy_since: Option<Instant>,
    /// The watcher waits for the committer to begin anything.
    watcher_asleep: bool,
    closed: bool,
    /// The committer has ended: nobody takes out any more.
    ended: bool,
}

/// Why an entry was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many as may wait are waiting.
    Full,
    /// The batch in flight has been so for this long.
    Slow(Duration),
    /// Nobody will take it out again.
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    watched: Condvar,
    slow_after: Duration,
}

impl State {
    /// For how long the batch in flight has been so, if that is too long.
    fn slow(&self, limit: Duration) -> Option<Duration> {
        let waiting = self.busy_since?.elapsed();
        (waiting >= limit).then_some(waiting)
    }
}

impl Queue {
    pub(super) fn new(slow_after: Duration) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            watched: Condvar::new(),
            slow_after,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry at the end. The committer hears of it when the [`Call`] is dropped; there is none if it is up.
    pub(super) fn push(&self, pending: Pending) -> Result<Option<Call<'_>>, Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        if let Some(waiting) = state.slow(self.slow_after) {
            return Err(Refused::Slow(waiting));
        }
        if state.waiting.len() >= QUEUE_LENGTH {
            return Err(Refused::Full);
        }
        state.waiting.push_back(pending);
        Ok(state.asleep.then(|| Call(self)))
    }

    /// Moves what is waiting behind what is in `backlog`; sleeps if both are empty. `false`: closed and empty.
    pub(super) fn next(&self, backlog: &mut VecDeque<Pending>) -> bool {
        let mut state = self.state();
        state.busy_since = None;
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
        state.busy_since = Some(Instant::now());
        if mem::take(&mut state.watcher_asleep) {
            self.watched.notify_all();
        }
        true
    }

    /// The watcher's life. It wakes a few times in the time that is too long, and not at all while nothing happens.
    pub(super) fn watch(&self) {
        let mut state = self.state();
        let mut idle = false;
        while !state.ended {
            if let Some(waiting) = state.slow(self.slow_after) {
                let refused = mem::take(&mut state.waiting);
                drop(state);
                for pending in refused {
                    pending.answer(Err(AppendError::Slow { waiting }));
                }
                state = self.state();
            }
            // Idle only when two looks in a row found nothing to do: a log in use does not wake its watcher.
            let was_idle = mem::replace(&mut idle, state.busy_since.is_none());
            state = if idle && was_idle && !state.ended {
                state.watcher_asleep = true;
                self.watched.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.watched.wait_timeout(state, self.slow_after / 4);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Takes no more; what is waiting can still be taken out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
    }
}

/// Calls the committer when dropped, if it still sleeps. Whoever holds it may wait a moment for others to hand in
/// too, since whatever is there when the committer comes is made durable at once.
#[derive(Debug)]
#[must_use = "dropped at once, it calls at once"]
pub(super) struct Call<'a>(&'a Queue);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let asleep = mem::take(&mut self.0.state().asleep);
        if asleep {
            self.0.filled.notify_one();
        }
    }
}

/// Closes the queue when its reader ends, in whatever way, and drops what is left: its callers hear of it.
#[derive(Debug)]
pub(super) struct CloseOnDrop<'a>(pub(super) &'a Queue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
        let left = {
            let mut state = self.0.state();
            state.ended = true;
            mem::take(&mut state.waiting)
        };
        self.0.watched.notify_all();
        drop(left);
    }
}
