//! The planner against a model of a back end: whatever is wanted, seen and remembered, following its steps
//! leads to what is wanted, and no step is ever out of place.

use clawstaff_api::nodes::Cause;
use clawstaff_types::spec::Limits;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::memory::Trouble;

const CAGES: [&str; 4] = ["a-00000001", "b-00000001", "b-00000002", "c-00000001"];

fn wanted(cage: usize, desired: Desired, revision: u32, generation: u64) -> RunnerClaw {
    RunnerClaw {
        claw: CAGES[cage].rsplit_once('-').unwrap().0.parse().unwrap(),
        cage: CAGES[cage].to_owned(),
        revision,
        generation,
        desired,
        image: None,
        limits: Limits::default(),
        needs_gateway_revision: 1,
        by: "uid-0".to_owned(),
    }
}

prop_compose! {
    fn any_wish()(
        desired in prop_oneof![Just(Desired::Running), Just(Desired::Paused), Just(Desired::Stopped)],
        revision in 1u32..3,
        generation in 0u64..3,
    ) -> (Desired, u32, u64) {
        (desired, revision, generation)
    }
}

fn any_seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        Just(Seen::Absent),
        Just(Seen::Created),
        Just(Seen::Running),
        Just(Seen::Paused),
        Just(Seen::Exited),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Start),
        Just(Act::Stop),
        Just(Act::Pause),
        Just(Act::Destroy)
    ]
}

prop_compose! {
    fn any_version()(revision in 1u32..3, generation in 0u64..3) -> Version {
        Version { revision, generation }
    }
}

prop_compose! {
    fn any_memory()(
        version in option::of(any_version()),
        held in option::weighted(0.3, prop_oneof![Just(Held::GatewayLost), Just(Held::NotListed)]),
        held_since in option::of(0u64..2000),
        busy in option::weighted(0.2, any_act()),
        trouble in option::weighted(0.3, (any_version(), option::of(0u64..2000))),
        gone in option::weighted(0.1, Just(5u64)),
        retry_act_at in prop_oneof![Just(0u64), 0u64..2000],
    ) -> Memory {
        Memory {
            version,
            held,
            held_since,
            busy,
            trouble: trouble.map(|(version, retry_at)| Trouble { version, cause: Cause::Exited, reason: "why".into(), retry_at }),
            gone_at: gone,
            retry_act_at,
            ..Memory::default()
        }
    }
}

type World = (RunnerState, BTreeMap<String, Seen>, BTreeMap<String, Memory>);

fn state(claws: Vec<RunnerClaw>, destroyed: Vec<String>) -> RunnerState {
    RunnerState {
        revision: 1,
        claws,
        destroyed,
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let wishes = vec(option::of(any_wish()), CAGES.len());
    let destroyed = vec(any::<bool>(), CAGES.len());
    let seen = vec(any_seen(), CAGES.len());
    let memory = vec(any_memory(), CAGES.len());
    (wishes, destroyed, seen, memory).prop_map(|(wishes, destroyed, seen, memory)| {
        let wishes = wishes.into_iter().enumerate().filter_map(|(cage, wish)| {
            let (desired, revision, generation) = wish?;
            Some(wanted(cage, desired, revision, generation))
        });
        let names = || CAGES.iter().map(|cage| (*cage).to_owned());
        let destroyed = names()
            .zip(destroyed)
            .filter_map(|(cage, gone)| gone.then_some(cage));
        (
            state(wishes.collect(), destroyed.collect()),
            names().zip(seen).collect(),
            names().zip(memory).collect(),
        )
    })
}

fn any_mediator() -> impl Strategy<Value = Mediator> {
    prop_oneof![
        Just(Mediator::Unknown),
        Just(Mediator::Here),
        Just(Mediator::Lost)
    ]
}

/// Does a step as a flawless back end would, at `now`.
fn follow(
    step: &Step,
    state: &RunnerState,
    seen: &mut BTreeMap<String, Seen>,
    memory: &mut BTreeMap<String, Memory>,
    now: Millis,
) {
    let claw = state.claws.iter().find(|claw| claw.cage == step.cage);
    let memory = memory.entry(step.cage.clone()).or_default();
    let after = match step.act {
        Act::Start => {
            memory.version = claw.map(Version::of);
            memory.started(now);
            Seen::Running
        }
        Act::Stop => {
            memory.stopped();
            Seen::Exited
        }
        Act::Halt => {
            memory.halted();
            Seen::Exited
        }
        Act::Pause => {
            memory.let_go();
            Seen::Paused
        }
        Act::Freeze => {
            memory.hold(Held::GatewayLost, now);
            Seen::Paused
        }
        Act::Hold => {
            memory.hold(Held::NotListed, now);
            Seen::Paused
        }
        Act::Resume | Act::Thaw => {
            memory.let_go();
            Seen::Running
        }
        Act::Destroy => {
            memory.gone_at = Some(0);
            Seen::Absent
        }
    };
    seen.insert(step.cage.clone(), after);
}

/// Whether a cage is as it is wanted, or can rightly not be.
fn there(claw: &RunnerClaw, seen: Seen, memory: &Memory) -> bool {
    let given_up = memory.gone_at.is_some()
        || memory
            .trouble_of(Version::of(claw))
            .is_some_and(|trouble| trouble.retry_at.is_none());
    match claw.desired {
        Desired::Running if seen == Seen::Running => {
            memory.version.is_none_or(|version| version == Version::of(claw))
        }
        Desired::Running => given_up && !matches!(seen, Seen::Paused),
        Desired::Paused => seen != Seen::Running,
        Desired::Stopped => !matches!(seen, Seen::Running | Seen::Paused),
    }
}

proptest! {
    #[test]
    fn following_the_plan_leads_to_what_is_wanted_and_then_nothing_is_done((state, mut seen, mut memory) in any_world()) {
        for memory in memory.values_mut() {
            memory.busy = None;
        }
        let now = 10_000;
        for _ in 0..6 {
            let steps = plan(&state, &seen, &memory, Mediator::Here, now);
            for step in &steps {
                follow(step, &state, &mut seen, &mut memory, now);
            }
        }
        prop_assert_eq!(plan(&state, &seen, &memory, Mediator::Here, now), vec![]);
        for cage in CAGES {
            let (seen, memory) = (seen[cage], &memory[cage]);
            match wish_for(&state, cage) {
                Wish::Listed(claw) => prop_assert!(there(claw, seen, memory), "{claw:?} {seen:?} {memory:?}"),
                Wish::Destroyed => prop_assert_eq!(seen, Seen::Absent),
                Wish::NotListed => prop_assert_ne!(seen, Seen::Running),
            }
        }
    }

    #[test]
    fn no_cage_gets_two_steps_at_once((state, seen, memory) in any_world(), mediator in any_mediator(), now in 0u64..3000) {
        let steps = plan(&state, &seen, &memory, mediator, now);
        let cages: BTreeSet<&str> = steps.iter().map(|step| step.cage.as_str()).collect();
        prop_assert_eq!(cages.len(), steps.len());
        for cage in cages {
            prop_assert_eq!(memory[cage].busy, None);
        }
    }

    #[test]
    fn only_what_a_member_had_destroyed_is_destroyed_and_only_once_it_has_stopped(
        (state, mut seen, mut memory) in any_world(),
        mediators in vec(any_mediator(), 12),
    ) {
        let mut destroyed = Vec::new();
        for (turn, mediator) in mediators.into_iter().enumerate() {
            let now = turn as Millis * HOLD_FOR;
            for step in plan(&state, &seen, &memory, mediator, now) {
                if step.act == Act::Destroy {
                    prop_assert!(matches!(seen[&step.cage], Seen::Created | Seen::Exited));
                    prop_assert!(matches!(wish_for(&state, &step.cage), Wish::Destroyed));
                    prop_assert!(!destroyed.contains(&step.cage), "twice");
                    destroyed.push(step.cage.clone());
                }
                follow(&step, &state, &mut seen, &mut memory, now);
            }
        }
    }

    #[test]
    fn an_empty_state_destroys_nothing((_, mut seen, mut memory) in any_world()) {
        let forgotten = state(Vec::new(), Vec::new());
        for turn in 0..6 {
            let now = turn * HOLD_FOR;
            for step in plan(&forgotten, &seen, &memory, Mediator::Here, now) {
                prop_assert!(matches!(step.act, Act::Hold | Act::Stop), "{step:?}");
                follow(&step, &forgotten, &mut seen, &mut memory, now);
            }
        }
    }

    #[test]
    fn a_state_that_was_lost_for_a_while_costs_no_running_cage(
        desired in Just(Desired::Running),
        generation in 1u64..3,
    ) {
        let known = state(vec![wanted(0, desired, 1, generation)], Vec::new());
        let forgotten = state(Vec::new(), Vec::new());
        let mut seen = BTreeMap::from([(CAGES[0].to_owned(), Seen::Running)]);
        let mut memory = BTreeMap::from([(CAGES[0].to_owned(), Memory {
            version: Some(Version { revision: 1, generation }),
            ..Memory::default()
        })]);
        for (state, act) in [(&forgotten, Some(Act::Hold)), (&forgotten, None), (&known, Some(Act::Thaw)), (&known, None)] {
            let steps = plan(state, &seen, &memory, Mediator::Here, 5);
            prop_assert_eq!(steps.first().map(|step| step.act), act);
            for step in &steps {
                follow(step, state, &mut seen, &mut memory, 5);
            }
        }
    }

    #[test]
    fn a_destroyed_or_unwanted_cage_is_never_started((state, seen, memory) in any_world(), mediator in any_mediator(), now in 0u64..3000) {
        for step in plan(&state, &seen, &memory, mediator, now) {
            if step.act == Act::Start {
                prop_assert!(state.claws.iter().any(|claw| claw.cage == step.cage && claw.desired == Desired::Running));
                prop_assert_eq!(memory[&step.cage].gone_at, None);
            }
        }
    }

    #[test]
    fn a_paused_cage_is_only_ever_let_go_on_or_stopped((state, seen, memory) in any_world(), mediator in any_mediator(), now in 0u64..3000) {
        for step in plan(&state, &seen, &memory, mediator, now) {
            if seen[&step.cage] == Seen::Paused {
                prop_assert!(matches!(step.act, Act::Resume | Act::Thaw | Act::Stop | Act::Halt), "{step:?}");
            }
        }
    }

    #[test]
    fn without_the_gateway_every_idle_running_cage_is_frozen_and_only_what_was_held_for_long_is_halted(
        (state, seen, memory) in any_world(),
        now in prop_oneof![0u64..3000, Just(HOLD_FOR), Just(2 * HOLD_FOR)],
    ) {
        let steps = plan(&state, &seen, &memory, Mediator::Lost, now);
        for cage in CAGES {
            let idle = memory[cage].busy.is_none();
            let expected = match seen[cage] {
                Seen::Running if idle => Some(Act::Freeze),
                Seen::Paused if idle && memory[cage].held_too_long(now) => Some(Act::Halt),
                _ => None,
            };
            let step = steps.iter().find(|step| step.cage == cage);
            prop_assert_eq!(step.map(|step| step.act), expected);
        }
    }

    #[test]
    fn nothing_is_done_before_it_is_known_whether_the_gateway_is_there((state, seen, memory) in any_world()) {
        prop_assert_eq!(plan(&state, &seen, &memory, Mediator::Unknown, 0), vec![]);
    }

    #[test]
    fn a_gateway_that_comes_and_goes_never_makes_a_cage_do_anything_but_freeze_and_go_on(
        mediators in vec(prop_oneof![Just(Mediator::Here), Just(Mediator::Lost), Just(Mediator::Unknown)], 0..20),
    ) {
        let state = state(vec![wanted(0, Desired::Running, 1, 1)], Vec::new());
        let mut seen = BTreeMap::from([(CAGES[0].to_owned(), Seen::Running)]);
        let mut memory = BTreeMap::new();
        for (turn, mediator) in mediators.into_iter().enumerate() {
            let now = turn as Millis;
            for step in plan(&state, &seen, &memory, mediator, now) {
                prop_assert!(matches!(step.act, Act::Freeze | Act::Thaw), "{step:?}");
                follow(&step, &state, &mut seen, &mut memory, now);
            }
        }
    }
}

#[test]
fn a_cage_that_is_found_running_and_wanted_is_adopted_as_it_is() {
    let state = state(vec![wanted(0, Desired::Running, 7, 3)], Vec::new());
    let seen = BTreeMap::from([(CAGES[0].to_owned(), Seen::Running)]);
    assert_eq!(plan(&state, &seen, &BTreeMap::new(), Mediator::Here, 0), vec![]);
}

#[test]
fn a_gateway_that_stays_lost_ends_a_frozen_cage_and_one_that_comes_back_starts_it() {
    let state = state(vec![wanted(0, Desired::Running, 1, 1)], Vec::new());
    let mut seen = BTreeMap::from([(CAGES[0].to_owned(), Seen::Running)]);
    let mut memory = BTreeMap::new();
    for (mediator, now, act) in [
        (Mediator::Lost, 0, Some(Act::Freeze)),
        (Mediator::Lost, HOLD_FOR - 1, None),
        (Mediator::Lost, HOLD_FOR, Some(Act::Halt)),
        (Mediator::Lost, 2 * HOLD_FOR, None),
        (Mediator::Here, 2 * HOLD_FOR, Some(Act::Start)),
    ] {
        let steps = plan(&state, &seen, &memory, mediator, now);
        assert_eq!(steps.first().map(|step| step.act), act, "{mediator:?} at {now}");
        for step in &steps {
            follow(step, &state, &mut seen, &mut memory, now);
        }
    }
}
