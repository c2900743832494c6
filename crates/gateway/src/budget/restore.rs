//! What was spent before this process began, read back from the log: nothing else remembers it.
//!
//! The intent of a model call says what was set aside for it and its outcome what it was charged, both durable before
//! anything follows from them. A call without an outcome, or one that nobody knows the end of, is charged what was set
//! aside. Read from the end backwards, until the beginning of the day.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use clawstaff_audit::{Entry, Log, Phase, ReadError};
use clawstaff_types::{Actor, Event};
use jiff::{Timestamp, tz::TimeZone};

use super::{CHARGED, MINUTE, PURSE, Purse, RESERVED, Spent};

/// Entries read at once: so few that the log never cuts the answer.
const CHUNK: u64 = 100;

/// What has been spent out of every purse in this UTC day, and the calls of the last minute.
pub(super) fn spent(log: &Log, now: Timestamp) -> Result<HashMap<Purse, Spent>, ReadError> {
    let day = now.to_zoned(TimeZone::UTC).date();
    let mut read = Read {
        now,
        at: Instant::now(),
        all: HashMap::new(),
        charged: HashMap::new(),
    };
    let (mut end, first) = (log.size(), log.first());
    while end > first {
        let from = end.saturating_sub(CHUNK).max(first);
        let stored = log.read(from, usize::try_from(end - from).unwrap_or(usize::MAX))?;
        let entries = stored
            .iter()
            .rev()
            .filter_map(|one| Some((one.index, Entry::parse(&one.leaf).ok()?)));
        for (index, entry) in entries {
            if entry.time.to_zoned(TimeZone::UTC).date() < day {
                return Ok(read.of(day));
            }
            read.take(index, entry);
        }
        end = from;
    }
    Ok(read.of(day))
}

struct Read {
    now: Timestamp,
    at: Instant,
    all: HashMap<Purse, Spent>,
    /// What the outcomes charged, by the index of their intents.
    charged: HashMap<u64, (u64, u64)>,
}

impl Read {
    fn take(&mut self, index: u64, entry: Entry) {
        match entry.phase {
            Phase::Outcome { of } => {
                if let Some(charged) = amounts(&entry.event, CHARGED) {
                    self.charged.insert(of, charged);
                }
            }
            Phase::Intent => {
                let Actor::Claw(claw) = &entry.event.actor else {
                    return;
                };
                let set_aside = amounts(&entry.event, RESERVED);
                let amounts = self.charged.remove(&index).or(set_aside).unwrap_or_default();
                self.spend(Purse::Claw(claw.clone()), amounts, entry.time);
                let grant = entry.event.facts.get(PURSE).and_then(|id| id.parse().ok());
                if let Some(grant) = grant {
                    self.spend(Purse::Grant(grant), amounts, entry.time);
                }
            }
            Phase::Fact => {}
        }
    }

    fn spend(&mut self, purse: Purse, (tokens, micros): (u64, u64), time: Timestamp) {
        let spent = self.all.entry(purse).or_default();
        spent.tokens = spent.tokens.saturating_add(tokens);
        spent.micros = spent.micros.saturating_add(micros);
        let age = Duration::try_from(self.now.duration_since(time)).unwrap_or_default();
        if let Some(then) = self.at.checked_sub(age).filter(|_| age < MINUTE) {
            spent.calls.push_front(then);
        }
    }

    fn of(mut self, day: jiff::civil::Date) -> HashMap<Purse, Spent> {
        for spent in self.all.values_mut() {
            spent.day = Some(day);
        }
        self.all
    }
}

/// Tokens and millionths of a dollar, under these labels.
fn amounts(event: &Event, (tokens, micros): (&str, &str)) -> Option<(u64, u64)> {
    let number = |label: &str| event.facts.get(label).and_then(|text| text.parse().ok());
    number(tokens).map(|tokens| (tokens, number(micros).unwrap_or(0)))
}
