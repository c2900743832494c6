//! Budgets: what a Claw may spend, held before it is spent.
//!
//! A call reserves its worst case and settles the rest afterwards. Kept in memory: a restart of the gateway
//! begins a fresh minute and a fresh day. It knows no policy and no price.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clawstaff_types::{ClawName, spec::Budget};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

const MINUTE: Duration = Duration::from_mins(1);
/// Reserved for the answer where the request does not bound it, in tokens.
const UNBOUNDED_ANSWER: u64 = 8_192;

/// What every Claw has spent.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    spent: Arc<Mutex<HashMap<ClawName, Spent>>>,
}

#[derive(Debug, Default)]
struct Spent {
    calls: VecDeque<Instant>,
    day: Option<Date>,
    tokens: u64,
}

/// A budget does not allow a call now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OverBudget {
    /// Too many calls in 60 seconds.
    #[error("the budget of {limit} requests per minute is used up")]
    Requests { limit: u32, retry_after: u64 },
    /// Too many tokens in this UTC day.
    #[error("the budget of {limit} tokens per day leaves {left}, and this call may need {wanted}")]
    Tokens {
        limit: u64,
        left: u64,
        wanted: u64,
        retry_after: u64,
    },
}

impl OverBudget {
    pub(crate) const fn retry_after(&self) -> u64 {
        match self {
            Self::Requests { retry_after, .. } | Self::Tokens { retry_after, .. } => *retry_after,
        }
    }
}

/// Tokens set aside for a call. Dropped without settling, it stays spent if the call may have happened
/// ([`Reservation::keep`]) and is given back otherwise.
#[derive(Debug)]
pub(crate) struct Reservation {
    spent: Arc<Mutex<HashMap<ClawName, Spent>>>,
    claw: ClawName,
    day: Date,
    tokens: u64,
}

impl Budgets {
    /// Counts one call of `claw` and sets `tokens` aside (none for a call that is not a model call).
    pub(crate) fn reserve(
        &self,
        claw: &ClawName,
        budget: &Budget,
        tokens: Option<u64>,
        now: Timestamp,
    ) -> Result<Reservation, OverBudget> {
        let day = now.to_zoned(TimeZone::UTC).date();
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = all.entry(claw.clone()).or_default();
        if spent.day != Some(day) {
            spent.day = Some(day);
            spent.tokens = 0;
        }
        let tokens = tokens.unwrap_or(0);
        if let Some(limit) = budget.tokens_per_day
            && tokens > 0
            && spent.tokens.saturating_add(tokens) > limit
        {
            return Err(OverBudget::Tokens {
                limit,
                left: limit.saturating_sub(spent.tokens),
                wanted: tokens,
                retry_after: until_midnight(now),
            });
        }
        if let Some(limit) = budget.requests_per_minute {
            spent.count(limit, Instant::now())?;
        }
        spent.tokens = spent.tokens.saturating_add(tokens);
        Ok(Reservation {
            spent: Arc::clone(&self.spent),
            claw: claw.clone(),
            day,
            tokens,
        })
    }

    /// Forgets a Claw that is gone.
    pub(crate) fn forget(&self, claw: &ClawName) {
        self.spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(claw);
    }
}

impl Spent {
    fn count(&mut self, limit: u32, now: Instant) -> Result<(), OverBudget> {
        while self
            .calls
            .front()
            .is_some_and(|first| now.duration_since(*first) >= MINUTE)
        {
            self.calls.pop_front();
        }
        if self.calls.len() >= limit as usize {
            let oldest = self.calls.front().copied().unwrap_or(now);
            let left = MINUTE.saturating_sub(now.duration_since(oldest));
            return Err(OverBudget::Requests {
                limit,
                retry_after: left.as_secs() + 1,
            });
        }
        self.calls.push_back(now);
        Ok(())
    }
}

impl Reservation {
    /// The call is over and used `tokens`; `None` when nobody knows, and then all that was set aside is spent.
    pub(crate) fn settle(mut self, tokens: Option<u64>) {
        if let Some(used) = tokens {
            self.give_back();
            self.add(used);
        }
        self.tokens = 0;
    }

    /// The call may have happened: all that was set aside is spent.
    pub(crate) fn keep(self) {
        self.settle(None);
    }

    fn give_back(&self) {
        self.change(|spent| spent.saturating_sub(self.tokens));
    }

    fn add(&self, used: u64) {
        self.change(|spent| spent.saturating_add(used));
    }

    fn change(&self, to: impl FnOnce(u64) -> u64) {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spent) = all.get_mut(&self.claw)
            && spent.day == Some(self.day)
        {
            spent.tokens = to(spent.tokens);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.tokens > 0 {
            self.give_back();
        }
    }
}

/// The most tokens that a model call can need: the bound of its answer and a generous guess of its question.
pub(crate) fn worst_case(body: &[u8]) -> u64 {
    /// The fields by which the model APIs bound an answer.
    #[derive(Deserialize, Default)]
    struct Bound {
        #[serde(rename = "max_tokens")]
        any: Option<u64>,
        #[serde(rename = "max_completion_tokens")]
        completion: Option<u64>,
        #[serde(rename = "max_output_tokens")]
        output: Option<u64>,
    }
    let bound: Bound = serde_json::from_slice(body).unwrap_or_default();
    let bounds = [bound.any, bound.completion, bound.output];
    let answer = bounds.into_iter().flatten().max().unwrap_or(UNBOUNDED_ANSWER);
    answer.saturating_add(body.len() as u64 / 3 + 1)
}

fn until_midnight(now: Timestamp) -> u64 {
    let day = 86_400;
    let into = now.as_second().rem_euclid(day);
    u64::try_from(day - into).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claw() -> ClawName {
        "a".parse().unwrap()
    }

    #[test]
    fn calls_beyond_the_minute_are_refused_until_it_has_passed() {
        let mut spent = Spent::default();
        let start = Instant::now();
        assert!(spent.count(2, start).is_ok());
        assert!(spent.count(2, start).is_ok());
        assert!(spent.count(2, start + Duration::from_secs(59)).is_err());
        assert!(spent.count(2, start + Duration::from_mins(1)).is_ok());
    }

    #[test]
    fn tokens_are_held_before_they_are_spent_and_the_rest_comes_back() {
        let budgets = Budgets::default();
        let budget = Budget {
            tokens_per_day: Some(100),
            requests_per_minute: None,
        };
        let now = Timestamp::UNIX_EPOCH;
        let first = budgets.reserve(&claw(), &budget, Some(80), now).unwrap();
        assert!(budgets.reserve(&claw(), &budget, Some(30), now).is_err());
        first.settle(Some(10));
        let second = budgets.reserve(&claw(), &budget, Some(90), now).unwrap();
        drop(second);
        budgets.reserve(&claw(), &budget, Some(90), now).unwrap().keep();
        assert!(budgets.reserve(&claw(), &budget, Some(1), now).is_err());
        let tomorrow = now + jiff::SignedDuration::from_hours(24);
        assert!(budgets.reserve(&claw(), &budget, Some(100), tomorrow).is_ok());
    }

    #[test]
    fn the_worst_case_counts_question_and_answer() {
        assert_eq!(worst_case(br#"{"max_tokens":100}"#), 100 + 18 / 3 + 1);
    }
}
