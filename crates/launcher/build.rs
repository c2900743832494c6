//! Compiles `seccomp/cage.json` to BPF for the target, so that the launcher carries the finished filters and no
//! parser. Two programs come out: the allow-list (everything else is `EPERM`), and the calls that answer `ENOSYS`.
//! The same table makes the Docker back end's profile, in `crates/cage`.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

use seccompiler::{BpfProgram, TargetArch, compile_from_json};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

fn main() -> Result<()> {
    let table = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../seccomp/cage.json");
    println!("cargo::rerun-if-changed={}", table.display());
    let table: Value = serde_json::from_slice(&fs::read(&table)?)?;
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;

    let allow = filter(
        &table,
        "allow",
        &arch,
        &json!({ "errno": EPERM }),
        &json!("allow"),
    )?;
    let absent = filter(
        &table,
        "absent",
        &arch,
        &json!("allow"),
        &json!({ "errno": ENOSYS }),
    )?;
    let text = format!("{}{}", source("ALLOW", &allow)?, source("ABSENT", &absent)?);
    fs::write(Path::new(&env::var("OUT_DIR")?).join("filters.rs"), text)?;
    Ok(())
}

/// One list of the table as a BPF program.
fn filter(table: &Value, list: &str, arch: &str, mismatch: &Value, matched: &Value) -> Result<BpfProgram> {
    let mut rules = Vec::new();
    for row in table[list].as_array().ok_or("a list of the table is missing")? {
        rules.extend(row_rules(row, arch)?);
    }
    let text = json!({ "cage": { "mismatch_action": mismatch, "match_action": matched, "filter": rules } });
    let target: TargetArch = arch.try_into()?;
    let mut programs = compile_from_json(text.to_string().as_bytes(), target)?;
    Ok(programs.remove("cage").ok_or("no program came out")?)
}

/// A row in seccompiler's words: one rule for each call and alternative.
fn row_rules(row: &Value, arch: &str) -> Result<Vec<Value>> {
    let reason = row["reason"].as_str().unwrap_or_default();
    if reason.len() < 10 {
        return Err(format!("no reason on the row {row}").into());
    }
    if row["arch"]
        .as_array()
        .is_some_and(|only| !only.iter().any(|name| name == arch))
    {
        return Ok(Vec::new());
    }
    let mut rules = Vec::new();
    for name in row["syscalls"].as_array().ok_or("a row without system calls")? {
        match row["when"].as_array() {
            None => rules.push(json!({ "syscall": name })),
            Some(alternatives) => {
                for alternative in alternatives {
                    rules.push(json!({ "syscall": name, "args": conditions(alternative)? }));
                }
            }
        }
    }
    Ok(rules)
}

fn conditions(alternative: &Value) -> Result<Vec<Value>> {
    let list = alternative
        .as_array()
        .ok_or("an alternative is a list of conditions")?;
    list.iter()
        .map(|condition| {
            let op = match condition.get("mask") {
                Some(mask) => json!({ "masked_eq": mask }),
                None => json!("eq"),
            };
            let value = condition["eq"].as_u64().ok_or("a condition without a value")?;
            Ok(json!({ "index": condition["arg"], "type": "dword", "op": op, "val": value }))
        })
        .collect()
}

fn source(name: &str, program: &BpfProgram) -> Result<String> {
    let mut text = format!("pub(super) static {name}: [sock_filter; {}] = [\n", program.len());
    for step in program {
        let (code, jt, jf, k) = (step.code, step.jt, step.jf, step.k);
        let (high, low) = (k >> 16, k & 0xFFFF);
        writeln!(
            text,
            "    sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: 0x{high:04x}_{low:04x} }},"
        )?;
    }
    text.push_str("];\n");
    Ok(text)
}
