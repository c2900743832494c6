//! Budgets: what a Claw may spend, and what may be spent under a grant, held before it is spent.
//!
//! A call reserves its worst case of both and settles the rest afterwards. Of several grants that allow it, one
//! without a budget is used first, then the first that has enough left. Kept in memory: a restart of the gateway
//! begins a fresh minute and a fresh day. It knows no price.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clawstaff_types::{ClawName, GrantId, spec::Budget};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

const MINUTE: Duration = Duration::from_mins(1);
/// Reserved for the answer where the request does not bound it, in tokens.
const UNBOUNDED_ANSWER: u64 = 8_192;

/// What a budget is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Purse {
    /// Everything that a Claw does.
    Claw(ClawName),
    /// Everything that one grant lets through.
    Grant(GrantId),
}

impl std::fmt::Display for Purse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Claw(_) => f.write_str("this Claw"),
            Self::Grant(id) => write!(f, "grant `{id}`"),
        }
    }
}

/// What has been spent.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    spent: Arc<Mutex<HashMap<Purse, Spent>>>,
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
    #[error("the budget of {purse}, {limit} requests per minute, is used up")]
    Requests {
        purse: Purse,
        limit: u32,
        retry_after: u64,
    },
    /// Too many tokens in this UTC day.
    #[error("the budget of {purse}, {limit} tokens per day, leaves {left}, and this call may need {wanted}")]
    Tokens {
        purse: Purse,
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
    spent: Arc<Mutex<HashMap<Purse, Spent>>>,
    purses: Vec<Purse>,
    day: Date,
    tokens: u64,
}

impl Budgets {
    /// Counts one call and sets `tokens` aside (none for a call that is not a model call): in the Claw's purse, and
    /// in that of one of the grants that allow it, unless one of them has no budget at all.
    pub(crate) fn reserve(
        &self,
        (claw, budget): (&ClawName, &Budget),
        grants: &[Option<(&GrantId, &Budget)>],
        tokens: Option<u64>,
        now: Timestamp,
    ) -> Result<Reservation, OverBudget> {
        let wanted = Wanted {
            tokens: tokens.unwrap_or(0),
            now,
            at: Instant::now(),
            day: now.to_zoned(TimeZone::UTC).date(),
        };
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut purses = vec![Purse::Claw(claw.clone())];
        room(&mut all, &Purse::Claw(claw.clone()), budget, &wanted)?;
        if !grants.iter().any(Option::is_none) {
            purses.extend(first_with_room(&mut all, grants, &wanted)?);
        }
        for purse in &purses {
            let spent = all.entry(purse.clone()).or_default();
            spent.calls.push_back(wanted.at);
            spent.tokens = spent.tokens.saturating_add(wanted.tokens);
        }
        drop(all);
        Ok(Reservation {
            spent: Arc::clone(&self.spent),
            purses,
            day: wanted.day,
            tokens: wanted.tokens,
        })
    }

    /// Forgets the grants that are gone.
    pub(crate) fn keep_grants(&self, there: impl Fn(&GrantId) -> bool) {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|purse, _| match purse {
            Purse::Claw(_) => true,
            Purse::Grant(id) => there(id),
        });
    }

    /// Forgets a Claw that is gone.
    pub(crate) fn forget(&self, claw: &ClawName) {
        self.spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&Purse::Claw(claw.clone()));
    }
}

/// What one call needs, and when.
struct Wanted {
    tokens: u64,
    now: Timestamp,
    at: Instant,
    day: Date,
}

/// The first of these grants' purses that has enough left; of none, if there is no grant at all.
fn first_with_room(
    all: &mut HashMap<Purse, Spent>,
    grants: &[Option<(&GrantId, &Budget)>],
    wanted: &Wanted,
) -> Result<Option<Purse>, OverBudget> {
    let mut refusal = None;
    for (id, budget) in grants.iter().flatten() {
        let purse = Purse::Grant((*id).clone());
        match room(all, &purse, budget, wanted) {
            Ok(()) => return Ok(Some(purse)),
            Err(over) => refusal = refusal.or(Some(over)),
        }
    }
    refusal.map_or(Ok(None), Err)
}

/// Whether `budget` leaves enough in `purse`.
fn room(
    all: &mut HashMap<Purse, Spent>,
    purse: &Purse,
    budget: &Budget,
    wanted: &Wanted,
) -> Result<(), OverBudget> {
    let spent = all.entry(purse.clone()).or_default();
    spent.turn(wanted);
    if let Some(limit) = budget.tokens_per_day
        && wanted.tokens > 0
        && spent.tokens.saturating_add(wanted.tokens) > limit
    {
        return Err(OverBudget::Tokens {
            purse: purse.clone(),
            limit,
            left: limit.saturating_sub(spent.tokens),
            wanted: wanted.tokens,
            retry_after: until_midnight(wanted.now),
        });
    }
    match budget.requests_per_minute {
        Some(limit) if spent.calls.len() >= limit as usize => Err(OverBudget::Requests {
            purse: purse.clone(),
            limit,
            retry_after: spent.until_next(wanted.at),
        }),
        _ => Ok(()),
    }
}

impl Spent {
    /// Begins a new day, and forgets calls that are more than a minute old.
    fn turn(&mut self, wanted: &Wanted) {
        if self.day != Some(wanted.day) {
            self.day = Some(wanted.day);
            self.tokens = 0;
        }
        let old = |first: &Instant| wanted.at.duration_since(*first) >= MINUTE;
        while self.calls.front().is_some_and(old) {
            self.calls.pop_front();
        }
    }

    /// Seconds until the oldest call is a minute old.
    fn until_next(&self, now: Instant) -> u64 {
        let oldest = self.calls.front().copied().unwrap_or(now);
        MINUTE.saturating_sub(now.duration_since(oldest)).as_secs() + 1
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

    fn change(&self, to: impl Fn(u64) -> u64) {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        for purse in &self.purses {
            if let Some(spent) = all.get_mut(purse)
                && spent.day == Some(self.day)
            {
                spent.tokens = to(spent.tokens);
            }
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

    fn minute(limit: u32) -> Budget {
        Budget {
            requests_per_minute: Some(limit),
            ..Budget::default()
        }
    }

    #[test]
    fn calls_beyond_the_minute_are_refused_until_it_has_passed() {
        let (mut all, start) = (HashMap::new(), Instant::now());
        let purse = Purse::Claw(claw());
        let mut call = |after: Duration| {
            let wanted = Wanted {
                tokens: 0,
                now: Timestamp::UNIX_EPOCH,
                at: start + after,
                day: Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC).date(),
            };
            let room = room(&mut all, &purse, &minute(2), &wanted);
            if room.is_ok() {
                all.get_mut(&purse).unwrap().calls.push_back(wanted.at);
            }
            room.is_ok()
        };
        assert!(call(Duration::ZERO) && call(Duration::ZERO));
        assert!(!call(Duration::from_secs(59)));
        assert!(call(Duration::from_mins(1)));
    }

    #[test]
    fn tokens_are_held_before_they_are_spent_and_the_rest_comes_back() {
        let budgets = Budgets::default();
        let budget = Budget {
            tokens_per_day: Some(100),
            ..Budget::default()
        };
        let claw = claw();
        let reserve = |tokens, now| budgets.reserve((&claw, &budget), &[None], Some(tokens), now);
        let now = Timestamp::UNIX_EPOCH;
        let first = reserve(80, now).unwrap();
        assert!(reserve(30, now).is_err());
        first.settle(Some(10));
        let second = reserve(90, now).unwrap();
        drop(second);
        reserve(90, now).unwrap().keep();
        assert!(reserve(1, now).is_err());
        let tomorrow = now + jiff::SignedDuration::from_hours(24);
        assert!(reserve(100, tomorrow).is_ok());
    }

    #[test]
    fn a_grant_has_a_purse_of_its_own_and_of_several_the_first_with_room_pays() {
        let budgets = Budgets::default();
        let (claw, small, large, free) = (claw(), minute(1), minute(2), Budget::default());
        let (first, second): (GrantId, GrantId) = ("gr_1".parse().unwrap(), "gr_2".parse().unwrap());
        let both = [Some((&first, &small)), Some((&second, &large))];
        let call = |grants: &[Option<(&GrantId, &Budget)>]| {
            budgets.reserve((&claw, &free), grants, None, Timestamp::UNIX_EPOCH)
        };
        for _ in 0..3 {
            assert!(call(&both).is_ok());
        }
        let over = call(&both).unwrap_err();
        assert!(over.to_string().contains("grant `gr_1`"), "{over}");
        assert!(
            call(&[both[0], None]).is_ok(),
            "one without a budget lets it through"
        );
        budgets.keep_grants(|id| *id == second);
        assert!(call(&both[..1]).is_ok() && call(&both[1..]).is_err());
    }

    #[test]
    fn what_a_claw_may_not_spend_no_grant_is_charged_for() {
        let budgets = Budgets::default();
        let (claw, none, one) = (claw(), minute(0), minute(1));
        let id: GrantId = "gr_1".parse().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let grants = [Some((&id, &one))];
        assert!(budgets.reserve((&claw, &none), &grants, None, now).is_err());
        assert!(budgets.reserve((&claw, &one), &grants, None, now).is_ok());
    }

    #[test]
    fn the_worst_case_counts_question_and_answer() {
        assert_eq!(worst_case(br#"{"max_tokens":100}"#), 100 + 18 / 3 + 1);
    }
}
