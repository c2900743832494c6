//! The planner against a model of a back end: whatever is wanted, seen and remembered, following its steps
//! leads to what is wanted, and no step is ever out of place.

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
        frozen: bool,
        busy in option::weighted(0.2, any_act()),
        trouble in option::weighted(0.3, (any_version(), option::of(0u64..2000))),
        gone in option::weighted(0.1, Just(5u64)),
        retry_act_at in prop_oneof![Just(0u64), 0u64..2000],
    ) -> Memory {
        Memory {
            version,
            frozen,
            busy,
            trouble: trouble.map(|(version, retry_at)| Trouble { version, reason: "why".into(), retry_at }),
            gone_at: gone,
            retry_act_at,
            ..Memory::default()
        }
    }
}

type World = (Vec<RunnerClaw>, BTreeMap<String, Seen>, BTreeMap<String, Memory>);

fn any_world() -> impl Strategy<Value = World> {
    let wishes = vec(option::of(any_wish()), CAGES.len());
    let seen = vec(any_seen(), CAGES.len());
    let memory = vec(any_memory(), CAGES.len());
    (wishes, seen, memory).prop_map(|(wishes, seen, memory)| {
        let wishes = wishes.into_iter().enumerate().filter_map(|(cage, wish)| {
            let (desired, revision, generation) = wish?;
            Some(wanted(cage, desired, revision, generation))
        });
        let names = || CAGES.iter().map(|cage| (*cage).to_owned());
        (
            wishes.collect(),
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

/// Does a step as a flawless back end would.
fn follow(
    step: &Step,
    wanted: &[RunnerClaw],
    seen: &mut BTreeMap<String, Seen>,
    memory: &mut BTreeMap<String, Memory>,
) {
    let claw = wanted.iter().find(|claw| claw.cage == step.cage);
    let memory = memory.entry(step.cage.clone()).or_default();
    let after = match step.act {
        Act::Start => {
            memory.version = claw.map(Version::of);
            memory.started();
            Seen::Running
        }
        Act::Stop => {
            memory.stopped();
            Seen::Exited
        }
        Act::Pause => Seen::Paused,
        Act::Freeze => {
            memory.frozen = true;
            Seen::Paused
        }
        Act::Resume | Act::Thaw => {
            memory.frozen = false;
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
    let held = memory.gone_at.is_some()
        || memory
            .trouble_of(Version::of(claw))
            .is_some_and(|trouble| trouble.retry_at.is_none());
    match claw.desired {
        Desired::Running if seen == Seen::Running => {
            memory.version.is_none_or(|version| version == Version::of(claw))
        }
        Desired::Running => held && !matches!(seen, Seen::Paused),
        Desired::Paused => seen != Seen::Running,
        Desired::Stopped => !matches!(seen, Seen::Running | Seen::Paused),
    }
}

proptest! {
    #[test]
    fn following_the_plan_leads_to_what_is_wanted((wanted, mut seen, mut memory) in any_world()) {
        for memory in memory.values_mut() {
            memory.busy = None;
        }
        let now = 10_000;
        for _ in 0..6 {
            let steps = plan(&wanted, &seen, &memory, Mediator::Here, now);
            for step in &steps {
                follow(step, &wanted, &mut seen, &mut memory);
            }
        }
        prop_assert_eq!(plan(&wanted, &seen, &memory, Mediator::Here, now), vec![]);
        for cage in CAGES {
            let (seen, memory) = (seen[cage], &memory[cage]);
            if let Some(claw) = wanted.iter().find(|claw| claw.cage == cage) {
                prop_assert!(there(claw, seen, memory), "{claw:?} {seen:?} {memory:?}");
            } else {
                prop_assert_eq!(seen, Seen::Absent);
            }
        }
    }

    #[test]
    fn no_cage_gets_two_steps_at_once((wanted, seen, memory) in any_world(), mediator in any_mediator(), now in 0u64..3000) {
        let steps = plan(&wanted, &seen, &memory, mediator, now);
        let cages: BTreeSet<&str> = steps.iter().map(|step| step.cage.as_str()).collect();
        prop_assert_eq!(cages.len(), steps.len());
        for cage in cages {
            prop_assert_eq!(memory[cage].busy, None);
        }
    }

    #[test]
    fn a_destroyed_or_unwanted_cage_is_never_started((wanted, seen, memory) in any_world(), mediator in any_mediator(), now in 0u64..3000) {
        for step in plan(&wanted, &seen, &memory, mediator, now) {
            if step.act == Act::Start {
                prop_assert!(wanted.iter().any(|claw| claw.cage == step.cage && claw.desired == Desired::Running));
                prop_assert_eq!(memory[&step.cage].gone_at, None);
            }
        }
    }

    #[test]
    fn a_paused_cage_is_only_ever_resumed_or_stopped((wanted, seen, memory) in any_world(), mediator in any_mediator(), now in 0u64..3000) {
        for step in plan(&wanted, &seen, &memory, mediator, now) {
            if seen[&step.cage] == Seen::Paused {
                prop_assert!(matches!(step.act, Act::Resume | Act::Thaw | Act::Stop), "{step:?}");
            }
        }
    }

    #[test]
    fn without_the_gateway_every_idle_running_cage_is_frozen_and_nothing_else_happens(
        (wanted, seen, memory) in any_world(),
        now in 0u64..3000,
    ) {
        let steps = plan(&wanted, &seen, &memory, Mediator::Lost, now);
        for cage in CAGES {
            let expected = seen[cage] == Seen::Running && memory[cage].busy.is_none();
            prop_assert_eq!(steps.iter().any(|step| step.cage == cage), expected);
        }
        prop_assert!(steps.iter().all(|step| step.act == Act::Freeze));
    }

    #[test]
    fn nothing_is_done_before_it_is_known_whether_the_gateway_is_there((wanted, seen, memory) in any_world()) {
        prop_assert_eq!(plan(&wanted, &seen, &memory, Mediator::Unknown, 0), vec![]);
    }
}

#[test]
fn a_cage_that_is_found_running_and_wanted_is_adopted_as_it_is() {
    let wanted = [wanted(0, Desired::Running, 7, 3)];
    let seen = BTreeMap::from([(CAGES[0].to_owned(), Seen::Running)]);
    assert_eq!(plan(&wanted, &seen, &BTreeMap::new(), Mediator::Here, 0), vec![]);
}
