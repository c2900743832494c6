//! Makes one BPF program of a table of system calls.
//!
//! The program searches the number by halves, so that a call costs some ten steps wherever it stands in the table. When
//! a filter is added the kernel tries it with every number there is, to know which it need not ask about: with a list
//! that is gone through from its beginning that took a fifth of a cage's start.

use std::collections::BTreeMap;

/// Loads from `struct seccomp_data` of `<linux/seccomp.h>`; offsets in bytes.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// `BPF_LD | BPF_W | BPF_ABS` and so on, of `<linux/bpf_common.h>`.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const GO: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `SECCOMP_RET_*` of `<linux/seccomp.h>`.
const KILL_PROCESS: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// One instruction: `struct sock_filter` of `<linux/filter.h>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// The lower half of an argument, masked, must be this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) arg: u32,
    pub(crate) mask: Option<u32>,
    pub(crate) eq: u32,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    Errno(u32),
    /// Allowed where all conditions of one alternative are met, else the table's error.
    When(Vec<Vec<Condition>>),
}

/// The whole program: another architecture is killed, a call that is not in `calls` fails with `otherwise`.
pub(crate) fn program(
    arch: u32,
    calls: &BTreeMap<u32, Verdict>,
    otherwise: u32,
) -> Result<Vec<Step>, String> {
    let mut steps = vec![
        step(LOAD, ARCH),
        Step {
            jt: 1,
            ..step(IF_EQUAL, arch)
        },
        step(RETURN, KILL_PROCESS),
        step(LOAD, NUMBER),
    ];
    steps.extend(search(&ranges(calls, otherwise), otherwise)?);
    if steps.len() > 4096 {
        return Err(format!(
            "{} instructions are more than the kernel takes",
            steps.len()
        ));
    }
    Ok(steps)
}

/// First number and verdict of each run of numbers with the same one, from 0 on.
fn ranges(calls: &BTreeMap<u32, Verdict>, otherwise: u32) -> Vec<(u32, Verdict)> {
    let mut ranges = vec![(0, Verdict::Errno(otherwise))];
    for (number, verdict) in calls {
        ranges.push((*number, verdict.clone()));
        ranges.push((number + 1, Verdict::Errno(otherwise)));
    }
    // What begins where the next begins is empty; what goes on is no new range.
    let mut kept: Vec<(u32, Verdict)> = Vec::new();
    for (number, verdict) in ranges {
        if kept.last().is_some_and(|(last, _)| *last == number) {
            kept.pop();
        }
        if kept.last().is_none_or(|(_, last)| *last != verdict) {
            kept.push((number, verdict));
        }
    }
    kept
}

fn search(ranges: &[(u32, Verdict)], otherwise: u32) -> Result<Vec<Step>, String> {
    if let [(_, verdict)] = ranges {
        return Ok(leaf(verdict, otherwise));
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (border, _) = high.first().ok_or("a table without ranges")?;
    let (low, high) = (search(low, otherwise)?, search(high, otherwise)?);
    let over = u32::try_from(low.len()).map_err(|error| error.to_string())?;
    let mut steps = match u8::try_from(over) {
        Ok(over) => vec![Step {
            jt: over,
            ..step(IF_AT_LEAST, *border)
        }],
        // A condition reaches 255 instructions; a plain jump reaches all.
        Err(_) => vec![
            Step {
                jf: 1,
                ..step(IF_AT_LEAST, *border)
            },
            step(GO, over),
        ],
    };
    steps.extend(low);
    steps.extend(high);
    Ok(steps)
}

fn leaf(verdict: &Verdict, otherwise: u32) -> Vec<Step> {
    match verdict {
        Verdict::Allow => vec![step(RETURN, ALLOW)],
        Verdict::Errno(errno) => vec![step(RETURN, ERRNO | errno)],
        Verdict::When(alternatives) => {
            let mut steps: Vec<Step> = alternatives.iter().flat_map(|all| alternative(all)).collect();
            steps.push(step(RETURN, ERRNO | otherwise));
            steps
        }
    }
}

/// Allows where every condition is met, else falls through to what comes next.
fn alternative(conditions: &[Condition]) -> Vec<Step> {
    let mut steps = vec![step(RETURN, ALLOW)];
    for condition in conditions.iter().rev() {
        // Few conditions of few steps: this always fits.
        let past = u8::try_from(steps.len()).unwrap_or(u8::MAX);
        let mut test = vec![step(LOAD, ARGS + 8 * condition.arg)];
        test.extend(condition.mask.map(|mask| step(AND, mask)));
        test.push(Step {
            jf: past,
            ..step(IF_EQUAL, condition.eq)
        });
        test.extend(steps);
        steps = test;
    }
    steps
}

const fn step(code: u16, k: u32) -> Step {
    Step {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}
