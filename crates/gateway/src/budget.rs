//! Budgets: what a Claw may spend, and what may be spent under a grant, held before it is spent.
//!
//! A call reserves its worst case of both and settles the rest afterwards. Of several grants that allow it, one
//! without a budget is used first, then the first that has enough left. What is set aside and what is charged is in the
//! log with the call, and read back from there when the gateway starts ([`restore`]). It knows no policy.

mod prices;
mod restore;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clawstaff_audit::{Log, ReadError};
use clawstaff_types::{
    ClawName, GrantId,
    spec::{Budget, Model},
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

pub use prices::PricesError;
pub(crate) use prices::{Price, Prices};

const MINUTE: Duration = Duration::from_mins(1);
/// Reserved for the answer where the request does not bound it, in tokens.
const UNBOUNDED_ANSWER: u64 = 8_192;
/// A provider that says it used more than this many times what was set aside is not believed.
const BELIEVABLE: u64 = 8;
/// What a record says was set aside, and what was charged: tokens, and millionths of a dollar.
const RESERVED: (&str, &str) = ("reserved_tokens", "reserved_usd_micros");
const CHARGED: (&str, &str) = ("charged_tokens", "charged_usd_micros");
/// The grant out of whose budget it was taken, if it was one's.
const PURSE: &str = "budget_grant";

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
    micros: u64,
}

/// What a model call may need at most, and what that costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// Absent where nobody knows it, or no budget asks.
    pub(crate) price: Option<Price>,
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
    /// Too much money in this UTC day.
    #[error(
        "the budget of {purse}, {} dollars per day, leaves {}, and this call may cost {}",
        Dollars(*limit), Dollars(*left), Dollars(*wanted)
    )]
    Money {
        purse: Purse,
        limit: u64,
        left: u64,
        wanted: u64,
        retry_after: u64,
    },
    /// There is a budget in money, and nobody knows what the model costs.
    #[error("the budget of {purse} is in dollars, and the price of this model is not known at the gateway")]
    NoPrice { purse: Purse, retry_after: u64 },
}

/// An amount in millionths, as dollars and cents and what is below them.
struct Dollars(u64);

impl std::fmt::Display for Dollars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl OverBudget {
    pub(crate) const fn retry_after(&self) -> u64 {
        match self {
            Self::Requests { retry_after, .. }
            | Self::Tokens { retry_after, .. }
            | Self::Money { retry_after, .. }
            | Self::NoPrice { retry_after, .. } => *retry_after,
        }
    }
}

/// What is set aside for a call. Dropped without settling, it stays spent if the call may have happened
/// ([`Reservation::keep`]) and is given back otherwise.
#[derive(Debug)]
pub(crate) struct Reservation {
    spent: Arc<Mutex<HashMap<Purse, Spent>>>,
    purses: Vec<Purse>,
    day: Date,
    tokens: u64,
    micros: u64,
    price: Option<Price>,
    /// Whether there was anything to set aside: whether it is a model call.
    counts: bool,
}

impl Budgets {
    /// With what was spent before this process began.
    ///
    /// # Errors
    /// When the log cannot be read: without it more could be spent than is allowed.
    pub(crate) fn restored(log: &Log, now: Timestamp) -> Result<Self, ReadError> {
        let spent = restore::spent(log, now)?;
        Ok(Self {
            spent: Arc::new(Mutex::new(spent)),
        })
    }

    /// Counts one call and sets aside what it needs (nothing for a call that is not a model call): in the Claw's purse, and
    /// in that of one of the grants that allow it, unless one of them has no budget at all.
    pub(crate) fn reserve(
        &self,
        (claw, budget): (&ClawName, &Budget),
        grants: &[Option<(&GrantId, &Budget)>],
        need: Option<Need>,
        now: Timestamp,
    ) -> Result<Reservation, OverBudget> {
        let wanted = Wanted {
            tokens: need.map_or(0, |need| need.input.saturating_add(need.output)),
            micros: need.map_or(Some(0), |need| Some(need.price?.of(need.input, need.output))),
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
            spent.micros = spent.micros.saturating_add(wanted.micros.unwrap_or(0));
        }
        drop(all);
        Ok(Reservation {
            spent: Arc::clone(&self.spent),
            purses,
            day: wanted.day,
            tokens: wanted.tokens,
            micros: wanted.micros.unwrap_or(0),
            price: need.and_then(|need| need.price),
            counts: need.is_some(),
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
    /// Absent where nobody knows the price.
    micros: Option<u64>,
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
    if let Some(limit) = budget.usd_micros_per_day {
        spent.affords(purse, limit, wanted)?;
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
            (self.tokens, self.micros) = (0, 0);
        }
        let old = |first: &Instant| wanted.at.duration_since(*first) >= MINUTE;
        while self.calls.front().is_some_and(old) {
            self.calls.pop_front();
        }
    }

    /// Whether a budget in money leaves enough.
    fn affords(&self, purse: &Purse, limit: u64, wanted: &Wanted) -> Result<(), OverBudget> {
        let (purse, retry_after) = (purse.clone(), until_midnight(wanted.now));
        match wanted.micros {
            None => Err(OverBudget::NoPrice { purse, retry_after }),
            Some(micros) if micros > 0 && self.micros.saturating_add(micros) > limit => {
                Err(OverBudget::Money {
                    purse,
                    limit,
                    left: limit.saturating_sub(self.micros),
                    wanted: micros,
                    retry_after,
                })
            }
            Some(_) => Ok(()),
        }
    }

    /// Seconds until the oldest call is a minute old.
    fn until_next(&self, now: Instant) -> u64 {
        let oldest = self.calls.front().copied().unwrap_or(now);
        MINUTE.saturating_sub(now.duration_since(oldest)).as_secs() + 1
    }
}

impl Reservation {
    /// What a record says of what is set aside.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = self.said(RESERVED, self.tokens, self.micros);
        let grant = self.purses.iter().find_map(|purse| match purse {
            Purse::Claw(_) => None,
            Purse::Grant(id) => Some((PURSE, id.to_string())),
        });
        facts.extend(grant);
        facts
    }

    /// The call is over and used so many tokens in and out, as the provider says. Where it does not say so, or what nobody
    /// can believe (nothing at all, or far more than was asked for), all that was set aside is spent. Gives what the record
    /// says of what was charged.
    pub(crate) fn settle(self, used: Option<(u64, u64)>) -> Vec<(&'static str, String)> {
        let most = self.tokens.saturating_mul(BELIEVABLE);
        let believed = used.filter(|(input, output)| (1..=most).contains(&input.saturating_add(*output)));
        let (tokens, micros) = believed.map_or((self.tokens, self.micros), |(input, output)| {
            let micros = self.price.map_or(0, |price| price.of(input, output));
            (input.saturating_add(output), micros)
        });
        self.charge(tokens, micros)
    }

    /// The call may have happened: all that was set aside is spent.
    pub(crate) fn keep(self) -> Vec<(&'static str, String)> {
        self.settle(None)
    }

    /// The call did not happen, or the provider refused it: nothing is spent.
    pub(crate) fn release(self) -> Vec<(&'static str, String)> {
        self.charge(0, 0)
    }

    fn charge(mut self, tokens: u64, micros: u64) -> Vec<(&'static str, String)> {
        self.change(tokens, micros);
        (self.tokens, self.micros) = (0, 0);
        self.said(CHARGED, tokens, micros)
    }

    fn said(
        &self,
        labels: (&'static str, &'static str),
        tokens: u64,
        micros: u64,
    ) -> Vec<(&'static str, String)> {
        let money = self.price.map(|_| (labels.1, micros.to_string()));
        let all = [self.counts.then(|| (labels.0, tokens.to_string())), money];
        all.into_iter().flatten().collect()
    }

    /// What was set aside makes room for what was used.
    fn change(&self, tokens: u64, micros: u64) {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        for purse in &self.purses {
            if let Some(spent) = all.get_mut(purse)
                && spent.day == Some(self.day)
            {
                spent.tokens = spent.tokens.saturating_sub(self.tokens).saturating_add(tokens);
                spent.micros = spent.micros.saturating_sub(self.micros).saturating_add(micros);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.tokens > 0 || self.micros > 0 {
            self.change(0, 0);
        }
    }
}

/// What a model call asks for at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A generous guess of the question's tokens.
    pub(crate) input: u64,
    /// The bound of the answer's tokens, where the request has one.
    pub(crate) output: Option<u64>,
}

/// A model call asks for more than its Claw's spec lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OverLimit {
    /// More tokens in the answer.
    #[error(
        "this Claw's model calls may ask for {limit} tokens in the answer, and this one asks for {asked}"
    )]
    Output { limit: u64, asked: u64 },
    /// Nobody knows how many.
    #[error(
        "this Claw's model calls may ask for {limit} tokens in the answer, and this one does not say how many it asks for"
    )]
    Unbounded { limit: u64 },
}

impl Asked {
    /// Reads the bounds out of a request's body.
    pub(crate) fn by(body: &[u8]) -> Self {
        /// The fields by which the model APIs bound an answer.
        #[derive(Deserialize, Default)]
        struct Bound {
            #[serde(rename = "max_tokens")]
            any: Option<u64>,
            #[serde(rename = "max_completion_tokens")]
            completion: Option<u64>,
            #[serde(rename = "max_output_tokens")]
            output: Option<u64>,
            /// How many answers.
            n: Option<u64>,
        }
        let bound: Bound = serde_json::from_slice(body).unwrap_or_default();
        let most = [bound.any, bound.completion, bound.output]
            .into_iter()
            .flatten()
            .max();
        let answers = bound.n.unwrap_or(1).max(1);
        Self {
            input: body.len() as u64 / 3 + 1,
            output: most.map(|most| most.saturating_mul(answers)),
        }
    }

    /// Whether the spec of the Claw's model lets it ask so.
    pub(crate) fn within(self, model: &Model) -> Result<(), OverLimit> {
        match (model.max_output_tokens, self.output) {
            (Some(limit), None) => Err(OverLimit::Unbounded { limit }),
            (Some(limit), Some(asked)) if asked > limit => Err(OverLimit::Output { limit, asked }),
            (None, _) | (Some(_), Some(_)) => Ok(()),
        }
    }

    /// What is set aside for it.
    pub(crate) fn need(self, price: Option<Price>) -> Need {
        Need {
            input: self.input,
            output: self.output.unwrap_or(UNBOUNDED_ANSWER),
            price,
        }
    }
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
                micros: Some(0),
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
        let reserve = |tokens, now| budgets.reserve((&claw, &budget), &[None], Some(need(0, tokens)), now);
        let now = Timestamp::UNIX_EPOCH;
        let first = reserve(80, now).unwrap();
        assert!(reserve(30, now).is_err());
        assert_eq!(first.settle(Some((4, 6)))[0], ("charged_tokens", "10".to_owned()));
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

    fn need(input: u64, output: u64) -> Need {
        let price = Prices::load(std::path::Path::new("/nonexistent")).unwrap();
        let price = price.of(&"anthropic".parse().unwrap(), "claude-sonnet-4-5");
        Need { input, output, price }
    }

    #[test]
    fn usage_that_nobody_can_believe_is_charged_as_it_was_set_aside() {
        let budgets = Budgets::default();
        let charged = |used| {
            let all = Budget::default();
            let reserved = budgets
                .reserve(
                    (&claw(), &all),
                    &[None],
                    Some(need(10, 90)),
                    Timestamp::UNIX_EPOCH,
                )
                .unwrap();
            reserved.settle(used)[0].1.clone()
        };
        assert_eq!(charged(Some((5, 5))), "10");
        assert_eq!(charged(Some((700, 100))), "800");
        for unbelievable in [None, Some((0, 0)), Some((801, 0)), Some((u64::MAX, u64::MAX))] {
            assert_eq!(charged(unbelievable), "100", "{unbelievable:?}");
        }
    }

    #[test]
    fn money_is_held_at_the_price_of_the_worst_case_and_settled_at_the_price_of_what_was_used() {
        let budgets = Budgets::default();
        let budget = Budget {
            usd_micros_per_day: Some(100_000),
            ..Budget::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        // 6 dollars a million in, 15 out: 60,000 millionths are set aside, then 21 are charged.
        let first = budgets
            .reserve((&claw(), &budget), &[None], Some(need(0, 4_000)), now)
            .unwrap();
        assert_eq!(first.facts()[1], ("reserved_usd_micros", "60000".to_owned()));
        let over = budgets
            .reserve((&claw(), &budget), &[None], Some(need(0, 4_000)), now)
            .unwrap_err();
        assert!(
            over.to_string()
                .contains("0.100000 dollars per day, leaves 0.040000"),
            "{over}"
        );
        assert_eq!(
            first.settle(Some((1, 1)))[1],
            ("charged_usd_micros", "21".to_owned())
        );
        budgets
            .reserve((&claw(), &budget), &[None], Some(need(0, 4_000)), now)
            .unwrap()
            .keep();
        assert!(
            budgets
                .reserve((&claw(), &budget), &[None], Some(need(0, 4_000)), now)
                .is_err()
        );
        let unknown = Some(Need {
            input: 1,
            output: 1,
            price: None,
        });
        let refused = budgets
            .reserve((&claw(), &budget), &[None], unknown, now)
            .unwrap_err();
        assert!(matches!(refused, OverBudget::NoPrice { .. }));
    }

    #[test]
    fn the_worst_case_counts_question_and_answers() {
        let asked = Asked::by(br#"{"max_tokens":100}"#);
        assert_eq!((asked.input, asked.output), (18 / 3 + 1, Some(100)));
        assert_eq!(Asked::by(br#"{"max_tokens":100,"n":3}"#).output, Some(300));
        let model = Model {
            connection: "m".parse().unwrap(),
            name: "m".to_owned(),
            max_output_tokens: Some(100),
            retries: 0,
            fallback: None,
        };
        assert!(asked.within(&model).is_ok());
        assert!(Asked::by(br#"{"max_tokens":101}"#).within(&model).is_err());
        assert!(Asked::by(b"{}").within(&model).is_err());
    }
}
