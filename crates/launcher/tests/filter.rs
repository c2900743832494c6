//! The filter of system calls says of every call what the table says.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

#[path = "../build/filter.rs"]
mod filter;
#[path = "../build/table.rs"]
mod table;

use std::sync::LazyLock;

use filter::{Condition, Step, Verdict};
use proptest::prelude::*;

const TABLE: &str = include_str!("../../../seccomp/cage.json");
const ARCH: u32 = 0xC000_003E;
const ALLOW: u32 = 0x7fff_0000;

/// What the kernel's classic BPF does with these instructions.
fn run(program: &[Step], arch: u32, number: u32, args: [u32; 6]) -> u32 {
    let (mut at, mut held) = (0_usize, 0_u32);
    loop {
        let step = program[at];
        at += 1;
        match step.code {
            0x20 => {
                held = match step.k {
                    0 => number,
                    4 => arch,
                    place => args[(place as usize - 16) / 8],
                }
            }
            0x54 => held &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += usize::from(if held == step.k { step.jt } else { step.jf }),
            0x35 => at += usize::from(if held >= step.k { step.jt } else { step.jf }),
            0x06 => return step.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

/// What the table says, without any program.
fn wanted(verdict: Option<&Verdict>, args: [u32; 6]) -> u32 {
    let met = |one: &Condition| args[one.arg as usize] & one.mask.unwrap_or(u32::MAX) == one.eq;
    match verdict {
        Some(Verdict::Allow) => ALLOW,
        Some(Verdict::Errno(errno)) => 0x0005_0000 | errno,
        Some(Verdict::When(any)) if any.iter().any(|all| all.iter().all(met)) => ALLOW,
        None | Some(Verdict::When(_)) => 0x0005_0001,
    }
}

#[test]
fn known_calls_have_their_known_numbers() {
    let calls = table::calls(TABLE, "x86_64").unwrap();
    assert_eq!(calls[&0], Verdict::Allow, "read");
    assert_eq!(calls[&59], Verdict::Allow, "execve");
    assert_eq!(calls[&435], Verdict::Errno(38), "clone3");
    assert!(matches!(calls[&56], Verdict::When(_)), "clone");
    for refused in [101, 165, 272, 308, 321, 425, 304] {
        assert!(!calls.contains_key(&refused), "{refused}");
    }
}

#[test]
fn another_architecture_and_the_second_numbering_get_nothing() {
    let program = table::compile(TABLE, "x86_64").unwrap();
    for number in 0..1024 {
        assert_eq!(run(&program, 0x4000_0003, number, [0; 6]), 0x8000_0000);
        assert_eq!(run(&program, ARCH, number | 0x4000_0000, [0; 6]), 0x0005_0001);
    }
}

#[test]
fn a_call_is_answered_in_few_steps() {
    let program = table::compile(TABLE, "x86_64").unwrap();
    assert!(program.len() < 900, "{} instructions", program.len());
}

type Compiled = (&'static str, std::collections::BTreeMap<u32, Verdict>, Vec<Step>);

static BOTH: LazyLock<[Compiled; 2]> = LazyLock::new(|| {
    ["x86_64", "aarch64"].map(|arch| {
        (
            arch,
            table::calls(TABLE, arch).unwrap(),
            table::compile(TABLE, arch).unwrap(),
        )
    })
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_call_is_answered_as_the_table_says(
        args in proptest::array::uniform6(prop_oneof![0_u32..32, any::<u32>(), Just(4096), Just(21505), Just(0x6100)])
    ) {
        for (arch, calls, program) in BOTH.iter() {
            let audit = program[1].k;
            for number in (0..700).chain([u32::MAX]) {
                prop_assert_eq!(run(program, audit, number, args), wanted(calls.get(&number), args), "{} {}", arch, number);
            }
        }
    }
}
