//! The table of system calls as data, and the profile that a Docker Engine makes of it.
//!
//! One file, `seccomp/cage.json`, feeds both back ends: the launcher's build compiles it to BPF, this module turns
//! it into Docker's JSON. So a cage may make the same calls wherever it lives.

use serde::Deserialize;
use serde_json::{Value, json};

const TABLE: &str = include_str!("../../../seccomp/cage.json");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    version: u32,
    #[expect(dead_code, reason = "for the reader of the file")]
    about: String,
    allow: Vec<Row>,
    absent: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    syscalls: Vec<String>,
    #[serde(default)]
    arch: Vec<String>,
    #[serde(default)]
    when: Vec<Vec<Condition>>,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    arg: u32,
    eq: u64,
    mask: Option<u64>,
}

/// Why the table cannot be used. It is compiled in, so that this is a defect of the build.
#[derive(Debug, thiserror::Error)]
#[error("the table of system calls cannot be used: {0}")]
pub struct BadTable(String);

/// The table as a seccomp profile of the Docker Engine, in JSON.
///
/// # Errors
/// When the compiled-in table is not as this module knows it.
pub fn docker_profile() -> Result<String, BadTable> {
    let table: Table = serde_json::from_str(TABLE).map_err(|error| BadTable(error.to_string()))?;
    if table.version != 1 {
        return Err(BadTable(format!("version {} is unknown", table.version)));
    }
    let absent: Vec<&String> = table.absent.iter().flat_map(|row| &row.syscalls).collect();
    let mut rules: Vec<Value> = table.allow.iter().flat_map(|row| allow(row, &absent)).collect();
    rules.extend(table.absent.iter().map(|row| {
        json!({ "names": row.syscalls, "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "comment": row.reason })
    }));
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": [if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }],
        "syscalls": rules,
    });
    Ok(profile.to_string())
}

/// Docker's rules for a row: one, or one for each alternative.
fn allow(row: &Row, absent: &[&String]) -> Vec<Value> {
    if !row.arch.is_empty() && !row.arch.iter().any(|arch| arch == std::env::consts::ARCH) {
        return Vec::new();
    }
    let names: Vec<&String> = row
        .syscalls
        .iter()
        .filter(|name| !absent.contains(name))
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let rule = |args: Vec<Value>| json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": args, "comment": row.reason });
    if row.when.is_empty() {
        return vec![rule(Vec::new())];
    }
    row.when
        .iter()
        .map(|alternative| rule(alternative.iter().map(argument).collect()))
        .collect()
}

fn argument(condition: &Condition) -> Value {
    match condition.mask {
        Some(mask) => json!({
            "index": condition.arg, "value": mask, "valueTwo": condition.eq, "op": "SCMP_CMP_MASKED_EQ",
        }),
        None => json!({ "index": condition.arg, "value": condition.eq, "op": "SCMP_CMP_EQ" }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn table() -> Table {
        serde_json::from_str(TABLE).unwrap()
    }

    #[test]
    fn every_row_has_a_reason_and_no_unconditional_call_stands_twice() {
        let mut seen = BTreeSet::new();
        for row in table().allow {
            assert!(row.reason.len() >= 10, "{:?}", row.syscalls);
            for name in row.syscalls.iter().filter(|_| row.when.is_empty()) {
                assert!(seen.insert(name.clone()), "{name} stands twice");
            }
        }
    }

    #[test]
    fn calls_that_open_the_kernel_are_not_in_the_table() {
        let listed: BTreeSet<String> = table().allow.into_iter().flat_map(|row| row.syscalls).collect();
        for hostile in [
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "unshare",
            "setns",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "kcmp",
            "pidfd_getfd",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "open_by_handle_at",
            "name_to_handle_at",
            "keyctl",
            "add_key",
            "request_key",
            "reboot",
            "swapon",
            "syslog",
            "acct",
            "quotactl",
            "settimeofday",
            "clock_settime",
            "clock_adjtime",
            "adjtimex",
            "fanotify_init",
            "open_tree",
            "move_mount",
            "fsopen",
            "fsmount",
            "mount_setattr",
            "modify_ldt",
            "iopl",
            "ioperm",
            "vmsplice",
            "io_setup",
            "memfd_secret",
            "lookup_dcookie",
            "move_pages",
            "migrate_pages",
            "process_madvise",
            "shmget",
            "semget",
            "msgget",
            "mq_open",
            "personality",
        ] {
            assert!(!listed.contains(hostile), "{hostile}");
        }
    }

    #[test]
    fn dockers_profile_denies_by_default_and_answers_not_implemented_for_absent_calls() {
        let profile: Value = serde_json::from_str(&docker_profile().unwrap()).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let rules = profile["syscalls"].as_array().unwrap();
        let of = |name: &str| -> Vec<&Value> {
            rules
                .iter()
                .filter(|rule| rule["names"].as_array().unwrap().iter().any(|n| n == name))
                .collect()
        };
        assert_eq!(of("clone3").len(), 1);
        assert_eq!(of("clone3")[0]["errnoRet"], 38);
        assert_eq!(of("clone")[0]["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
        assert!(of("socket").len() > 8);
    }
}
