//! Probes of what a process of the cage is: its rights, its neighbours, what it inherited.

use std::{collections::BTreeMap, fs};

use rustix::process::{Resource, getrlimit};

use super::{Findings, Verdict, kernel};

/// `/proc/self/status` by field.
fn status() -> Result<BTreeMap<String, String>, String> {
    let text =
        fs::read_to_string("/proc/self/status").map_err(|error| format!("no /proc/self/status: {error}"))?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Ok(fields
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect())
}

fn field(name: &str, expected: &str) -> Verdict {
    let status = status()?;
    let found = status.get(name).map_or("nothing", String::as_str);
    if found == expected {
        Ok(format!("{name}: {found}"))
    } else {
        Err(format!("{name} is {found}, not {expected}"))
    }
}

pub(super) fn capabilities_empty(_: &[String]) -> Verdict {
    let status = status()?;
    let mut findings = Findings::default();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let found = status.get(set).map_or("nothing", String::as_str);
        findings.expect(found == "0000000000000000", || format!("{set} is {found}"));
    }
    findings.verdict("sets empty")
}

pub(super) fn no_new_privileges(_: &[String]) -> Verdict {
    field("NoNewPrivs", "1")
}

pub(super) fn seccomp_filter(_: &[String]) -> Verdict {
    field("Seccomp", "2")
}

pub(super) fn not_root(_: &[String]) -> Verdict {
    let status = status()?;
    let mut findings = Findings::default();
    for ids in ["Uid", "Gid"] {
        for id in status.get(ids).map_or("0", String::as_str).split_whitespace() {
            findings.expect(id != "0", || format!("{ids} has 0"));
        }
    }
    findings.verdict("ids, none of them 0")
}

/// Programs that run beside cages, never in them.
const FOREIGN: [&str; 7] = [
    "clawstaff",
    "clawstaff-launc",
    "dockerd",
    "containerd",
    "containerd-shim",
    "systemd",
    "sshd",
];

pub(super) fn processes_hidden(_: &[String]) -> Verdict {
    let entries = fs::read_dir("/proc").map_err(|error| format!("no /proc: {error}"))?;
    let mut findings = Findings::default();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let foreign = FOREIGN.contains(&comm.trim());
        findings.expect(!foreign, || format!("process {pid} is {}", comm.trim()));
    }
    let seen = findings.looked_at;
    findings.expect(fs::metadata("/proc/1").is_ok(), || {
        "there is no process 1".to_owned()
    });
    findings.expect(seen < 256, || format!("{seen} processes are in sight"));
    findings.verdict("checks; only this cage's processes are in sight")
}

/// What a namespace is, and who is killed first when memory runs out, is settled before the cage's first step.
pub(super) fn namespaces_unchangeable(_: &[String]) -> Verdict {
    const MAPS: [(&str, &str); 5] = [
        ("uid_map", "0 0 1"),
        ("gid_map", "0 0 1"),
        ("projid_map", "0 0 1"),
        ("setgroups", "allow"),
        ("timens_offsets", "monotonic 86400 0"),
    ];
    let mut findings = Findings::default();
    for process in ["self", "1"] {
        for (name, text) in MAPS {
            let path = format!("/proc/{process}/{name}");
            findings.expect(fs::write(&path, text).is_err(), || {
                format!("{path} could be written")
            });
        }
    }
    let spared = fs::write("/proc/self/oom_score_adj", "-1000").is_ok();
    findings.expect(!spared, || {
        "a process could be spared when memory runs out".to_owned()
    });
    findings.verdict("settings of namespaces and of the killer closed")
}

/// Signals every process it may, then the host's process ids given as arguments. The suite looks from outside
/// whether anything but this cage noticed.
pub(super) fn signals_stay_inside(pids: &[String]) -> Verdict {
    const SIGKILL: i32 = 9;
    let mut findings = Findings::default();
    // Everything but process 1 and this one; 3 is "nobody there".
    let all = kernel::kill(-1, SIGKILL);
    findings.expect(matches!(all, 0 | 1 | 3), || format!("kill -1: error {all}"));
    for pid in pids
        .iter()
        .filter_map(|pid| pid.parse::<i32>().ok())
        .filter(|pid| *pid > 1)
    {
        let here = fs::metadata(format!("/proc/{pid}")).is_ok();
        let error = kernel::kill(pid, SIGKILL);
        findings.expect(here || error != 0, || {
            format!("killed process {pid}, which is not in sight")
        });
    }
    findings.verdict("attempts; the suite looks from outside who felt them")
}

pub(super) fn descriptors_clean(_: &[String]) -> Verdict {
    let entries = fs::read_dir("/proc/self/fd").map_err(|error| format!("no /proc/self/fd: {error}"))?;
    let mut findings = Findings::default();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // The descriptor that reads this directory is gone when we look where it leads.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let own = target.starts_with("/proc") && target.ends_with("fd");
        let standard = matches!(name.as_str(), "0" | "1" | "2");
        findings.expect(standard || own, || {
            format!("descriptor {name} is {}", target.display())
        });
    }
    findings.verdict("descriptors, none beyond the standard ones")
}

/// Beginnings of names that only a host's processes have: an image may bring variables of its own.
const HOSTS: [&str; 12] = [
    "CLAWSTAFF_",
    "DOCKER_",
    "SUDO_",
    "SSH_",
    "XDG_",
    "DBUS_",
    "KUBECONFIG",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "CREDENTIALS_DIRECTORY",
    "LISTEN_",
];

pub(super) fn environment_clean(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        findings.expect(!HOSTS.iter().any(|host| name.starts_with(host)), || {
            format!("{name} is set")
        });
    }
    findings.verdict("variables, none of them the host's")
}

pub(super) fn no_core_dumps(_: &[String]) -> Verdict {
    let mut findings = Findings::default();
    let core = getrlimit(Resource::Core);
    findings.expect(core.maximum == Some(0), || {
        format!("core files may have {:?} bytes", core.maximum)
    });
    let files = getrlimit(Resource::Nofile);
    findings.expect(files.maximum.is_some_and(|most| most <= 1024), || {
        format!("{:?} files may be open", files.maximum)
    });
    findings.verdict("limits in force")
}
