//! A bounded memory of what was dealt with lately, and of what is being dealt with now.
//!
//! It keeps a replayed event from being recorded twice. It is not what makes delivery exact: the inbox is.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

/// Keys remembered.
const CAPACITY: usize = 4096;

#[derive(Debug, Default)]
struct Memory {
    known: HashSet<String>,
    order: VecDeque<String>,
    busy: HashSet<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Memory>);

/// What [`Recent::begin`] found.
#[derive(Debug)]
pub(super) enum Begin<'a> {
    /// Nobody has dealt with it; whoever holds this does.
    New(Busy<'a>),
    /// It was dealt with.
    Known,
    /// Somebody is dealing with it.
    Busy,
}

/// The right to deal with a key; given up when dropped.
#[derive(Debug)]
pub(super) struct Busy<'a> {
    recent: &'a Recent,
    key: String,
}

impl Recent {
    pub(super) fn begin(&self, key: String) -> Begin<'_> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.known.contains(&key) {
            Begin::Known
        } else if memory.busy.insert(key.clone()) {
            Begin::New(Busy { recent: self, key })
        } else {
            Begin::Busy
        }
    }
}

impl Busy<'_> {
    /// It is dealt with.
    pub(super) fn done(self) {
        let mut memory = self.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.known.insert(self.key.clone()) {
            memory.order.push_back(self.key.clone());
        }
        if memory.order.len() > CAPACITY
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.known.remove(&oldest);
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut memory = self.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.busy.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_dealt_with_by_one_at_a_time_and_once() {
        let recent = Recent::default();
        let Begin::New(first) = recent.begin("a".into()) else {
            panic!("not new")
        };
        assert!(matches!(recent.begin("a".into()), Begin::Busy));
        drop(first);
        let Begin::New(second) = recent.begin("a".into()) else {
            panic!("not given up")
        };
        second.done();
        assert!(matches!(recent.begin("a".into()), Begin::Known));
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::default();
        for n in 0..=CAPACITY {
            let Begin::New(busy) = recent.begin(n.to_string()) else {
                panic!("{n} not new")
            };
            busy.done();
        }
        assert!(matches!(recent.begin("0".into()), Begin::New(_)));
        assert!(matches!(recent.begin("1".into()), Begin::Known));
    }
}
