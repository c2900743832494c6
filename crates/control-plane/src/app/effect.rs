//! What a change does to access: does it widen it, narrow it, or leave it as it is? In doubt, it widens. Pure.

use clawstaff_api::people::Effect;
use clawstaff_types::{
    Guardrail,
    spec::{Budget, Connection},
};

/// A guardrail that forbids at least as much as before narrows; anything else may widen.
pub(crate) fn guardrail(before: &Guardrail, after: &Guardrail) -> Effect {
    let covers = |wide: &Guardrail, narrow: &Guardrail| {
        narrow.actions.iter().all(|one| wide.actions.contains(one))
            && narrow.resources.iter().all(|one| wide.resources.contains(one))
    };
    match (covers(after, before), covers(before, after)) {
        (true, true) => Effect::Neutral,
        (true, false) => Effect::Narrows,
        (false, _) => Effect::Widens,
    }
}

/// Another address or another tool is another thing that existing grants reach.
pub(crate) fn connection(before: &Connection, after: &Connection) -> Effect {
    if before.base_url == after.base_url && before.connector == after.connector {
        Effect::Neutral
    } else {
        Effect::Widens
    }
}

/// A budget that allows more of anything widens.
pub(crate) fn budget(before: &Budget, after: &Budget) -> Effect {
    let kinds = [
        (
            before.requests_per_minute.map(u64::from),
            after.requests_per_minute.map(u64::from),
        ),
        (before.tokens_per_day, after.tokens_per_day),
        (before.usd_micros_per_day, after.usd_micros_per_day),
    ];
    let bound = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if kinds.iter().any(|(was, is)| bound(*is) > bound(*was)) {
        Effect::Widens
    } else if kinds.iter().any(|(was, is)| bound(*is) < bound(*was)) {
        Effect::Narrows
    } else {
        Effect::Neutral
    }
}

#[cfg(test)]
mod tests {
    use clawstaff_api::people::Effect;
    use clawstaff_types::{Guardrail, spec::Budget};

    fn rail(actions: &[&str], resources: &[&str]) -> Guardrail {
        Guardrail {
            name: "rail".parse().unwrap(),
            actions: actions.iter().map(|text| text.parse().unwrap()).collect(),
            resources: resources.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn forbidding_more_narrows_and_anything_less_or_else_widens() {
        let small = rail(&["a"], &["*"]);
        let large = rail(&["a", "b"], &["*"]);
        let other = rail(&["b"], &["*"]);
        assert_eq!(super::guardrail(&small, &large), Effect::Narrows);
        assert_eq!(super::guardrail(&large, &small), Effect::Widens);
        assert_eq!(super::guardrail(&small, &other), Effect::Widens);
        assert_eq!(super::guardrail(&small, &small), Effect::Neutral);
    }

    #[test]
    fn dropping_a_budget_widens_and_setting_one_narrows() {
        let none = Budget::default();
        let some = Budget {
            requests_per_minute: Some(10),
            ..Budget::default()
        };
        assert_eq!(super::budget(&none, &some), Effect::Narrows);
        assert_eq!(super::budget(&some, &none), Effect::Widens);
        assert_eq!(super::budget(&some, &some), Effect::Neutral);
    }
}
