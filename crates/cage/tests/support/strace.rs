//! What strace saw of a cage: the calls that its processes made once they were confined.
//!
//! The launcher is started under strace, which follows it into the cage; a line before the first `seccomp` call, which is
//! the init's, is the launcher's own, and so is every line of the processes that were there before.

use std::collections::BTreeSet;

/// One call: its name, and its arguments where they are numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) args: Vec<Option<u64>>,
}

/// The different calls of the cage's processes in a trace of `strace -f -X raw -o`.
pub(crate) fn calls(trace: &str) -> BTreeSet<Call> {
    let lines: Vec<(&str, &str)> = trace
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(pid, rest)| (pid, rest.trim_start()))
        .collect();
    // The first is the launcher's filter; what a program of the cage adds itself comes later.
    let confined = (0..lines.len())
        .find(|at| lines[*at].1.starts_with("seccomp(0x1"))
        .expect("the launcher adds a filter");
    let init = lines[confined].0;
    let before: BTreeSet<&str> = lines[..confined].iter().map(|(pid, _)| *pid).collect();
    lines[confined + 1..]
        .iter()
        .filter(|(pid, _)| *pid == init || !before.contains(pid))
        .filter_map(|(_, line)| parse(line))
        .collect()
}

fn parse(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    let words = arguments(rest);
    let args = if name == "clone" {
        let flags = words.iter().find_map(|word| word.trim().strip_prefix("flags="));
        vec![flags.and_then(number)]
    } else {
        words.iter().map(|word| number(word.trim())).collect()
    };
    let name = name.to_owned();
    Some(Call { name, args })
}

/// Splits at the commas that stand in no bracket and no string.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut words) = (0, false, vec![String::new()]);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                words.push(String::new());
                continue;
            }
            _ => {}
        }
        words.last_mut().unwrap().push(c);
    }
    words
}

/// A number, or several that are joined: `0x1|0x80000`.
fn number(word: &str) -> Option<u64> {
    let word = word.split_whitespace().next()?;
    word.split('|').try_fold(0, |all, part| Some(all | single(part)?))
}

fn single(word: &str) -> Option<u64> {
    if let Some(hex) = word.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(negative) = word.strip_prefix('-') {
        return negative.parse::<i64>().ok().map(|n| (-n).cast_unsigned());
    }
    if word.len() > 1 && word.starts_with('0') {
        return u64::from_str_radix(word, 8).ok();
    }
    word.parse().ok()
}

#[test]
fn lines_of_a_trace_are_understood() {
    let call = parse("socket(0x1, 0x1|0x80800, 0)            = 3").unwrap();
    assert_eq!(
        (call.name.as_str(), call.args),
        ("socket", vec![Some(1), Some(0x80801), Some(0)])
    );
    let call = parse(r#"openat(-100, "/a, (b\"", 0x80000) = -1 ENOENT (No such file)"#).unwrap();
    assert_eq!(call.args, [Some((-100_i64).cast_unsigned()), None, Some(0x80000)]);
    let call = parse("clone(child_stack=NULL, flags=0x1200011, child_tidptr=0x7f) = 7").unwrap();
    assert_eq!(call.args, [Some(0x120_0011)]);
    assert_eq!(parse("<... read resumed>\"\", 1) = 0"), None);
    assert_eq!(parse("+++ exited with 0 +++"), None);
}
