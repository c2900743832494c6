//! Reads `seccomp/cage.json`.

use std::collections::BTreeMap;

use seccompiler::{TargetArch, compile_from_json};
use serde_json::{Value, json};

use super::filter::{Condition, Step, Verdict, program};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The table as a program for an architecture by its Rust name.
pub(crate) fn compile(table: &str, arch: &str) -> Result<Vec<Step>, String> {
    let audit = match arch {
        "x86_64" => 0xC000_003E,
        "aarch64" => 0xC000_00B7,
        other => return Err(format!("there is no table of system calls for {other}")),
    };
    program(audit, &calls(table, arch)?, EPERM)
}

/// What becomes of each call. `absent` comes last: it is heard whatever the list before it says.
pub(crate) fn calls(table: &str, arch: &str) -> Result<BTreeMap<u32, Verdict>, String> {
    let table: Value = serde_json::from_str(table).map_err(|error| error.to_string())?;
    let mut calls = BTreeMap::new();
    for list in ["allow", "absent"] {
        for row in table
            .get(list)
            .and_then(Value::as_array)
            .ok_or("a list of the table is missing")?
        {
            if !is_for(row, arch)? {
                continue;
            }
            for name in row["syscalls"].as_array().ok_or("a row without system calls")? {
                let number = number(name, arch)?;
                let before = calls.remove(&number);
                calls.insert(
                    number,
                    if list == "absent" {
                        Verdict::Errno(ENOSYS)
                    } else {
                        verdict(row, before)?
                    },
                );
            }
        }
    }
    Ok(calls)
}

fn is_for(row: &Value, arch: &str) -> Result<bool, String> {
    if row["reason"].as_str().unwrap_or_default().len() < 10 {
        return Err(format!("no reason on the row {row}"));
    }
    Ok(row["arch"]
        .as_array()
        .is_none_or(|only| only.iter().any(|name| name == arch)))
}

/// What a row of the allow-list adds to those before it.
fn verdict(row: &Value, before: Option<Verdict>) -> Result<Verdict, String> {
    let mut all = match before {
        Some(Verdict::Allow) => return Ok(Verdict::Allow),
        Some(Verdict::When(all)) => all,
        Some(Verdict::Errno(_)) | None => Vec::new(),
    };
    let Some(when) = row["when"].as_array() else {
        return Ok(Verdict::Allow);
    };
    for alternative in when {
        let list = alternative
            .as_array()
            .ok_or("an alternative is a list of conditions")?;
        all.push(list.iter().map(condition).collect::<Result<_, _>>()?);
    }
    Ok(Verdict::When(all))
}

fn condition(condition: &Value) -> Result<Condition, String> {
    let number = |field: &str| {
        let value = condition[field]
            .as_u64()
            .and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| format!("no `{field}` that fits in {condition}"))
    };
    let mask = condition.get("mask").map(|_| number("mask")).transpose()?;
    Ok(Condition {
        arg: number("arg")?,
        mask,
        eq: number("eq")?,
    })
}

/// A call's number: what `seccompiler`, which has the tables of numbers, compares with in a program for this call alone.
fn number(name: &Value, arch: &str) -> Result<u32, String> {
    let text = json!({ "one": {
        "mismatch_action": { "errno": EPERM }, "match_action": "allow", "filter": [{ "syscall": name }],
    } });
    let target: TargetArch = arch.try_into().map_err(|error| format!("{error}"))?;
    let program =
        compile_from_json(text.to_string().as_bytes(), target).map_err(|error| format!("{name}: {error}"))?;
    // Behind the load of the number (`ld [0]`) comes the comparison (`jeq`).
    let steps = program.get("one").map(Vec::as_slice).unwrap_or_default();
    let found = steps.windows(2).find_map(|pair| match pair {
        [load, test] if (load.code, load.k, test.code) == (0x20, 0, 0x15) => Some(test.k),
        _ => None,
    });
    found.ok_or_else(|| format!("no number for {name}"))
}
