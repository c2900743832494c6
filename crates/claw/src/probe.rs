//! `claw probe NAME [ARGS]`: one attempt to get out of the cage, told as one JSON line.
//!
//! `{"probe": NAME, "held": BOOL, "detail": TEXT}`: held means that the boundary stood. The conformance suite of
//! the cage back ends and `clawstaff claw selftest` run these inside a live cage and compare with what they see
//! from outside; the names here and there are the same list. Exit code: 0 held, 1 not held, 2 no such probe.
//!
//! A probe must be harmless where it succeeds, since one day it will: calls are made with arguments that do
//! nothing, bombs stop at a bound. `probe actor …` are the parts that the suite's cages play, not probes.

mod actor;
mod cgroups;
mod files;
mod ipc;
mod kernel;
mod links;
mod network;
mod process;
mod resources;

use std::process::ExitCode;

/// What a probe found: `Ok` when the boundary stood, `Err` when it did not, each with what was seen.
type Verdict = Result<String, String>;

/// A probe by name.
struct Probe {
    name: &'static str,
    run: fn(&[String]) -> Verdict,
}

const fn probe(name: &'static str, run: fn(&[String]) -> Verdict) -> Probe {
    Probe { name, run }
}

const PROBES: [Probe; 53] = [
    probe("capabilities-empty", process::capabilities_empty),
    probe("no-new-privileges", process::no_new_privileges),
    probe("not-root", process::not_root),
    probe("setuid-gains-nothing", links::setuid_gains_nothing),
    probe("seccomp-filter", process::seccomp_filter),
    probe("no-foreign-calls", kernel::no_foreign_calls),
    probe("processes-hidden", process::processes_hidden),
    probe("signals-stay-inside", process::signals_stay_inside),
    probe("descriptors-clean", process::descriptors_clean),
    probe("environment-clean", process::environment_clean),
    probe("no-core-dumps", process::no_core_dumps),
    probe("no-terminal-injection", kernel::no_terminal_injection),
    probe("no-mounts", kernel::no_mounts),
    probe("no-remounts", links::no_remounts),
    probe("no-namespaces", kernel::no_namespaces),
    probe("namespaces-unchangeable", process::namespaces_unchangeable),
    probe("no-tracing", kernel::no_tracing),
    probe("no-bpf-or-perf", kernel::no_bpf_or_perf),
    probe("no-userfaultfd", kernel::no_userfaultfd),
    probe("no-io-uring", kernel::no_io_uring),
    probe("no-modules-or-kexec", kernel::no_modules_or_kexec),
    probe("no-file-handles", kernel::no_file_handles),
    probe("no-keyrings", kernel::no_keyrings),
    probe("no-clocks", kernel::no_clocks),
    probe("no-identity-change", kernel::no_identity_change),
    probe("no-priority", kernel::no_priority),
    probe("no-administration", kernel::no_administration),
    probe("root-read-only", files::root_read_only),
    probe("door-read-only", files::door_read_only),
    probe("links-stay-inside", links::links_stay_inside),
    probe("devices-minimal", files::devices_minimal),
    probe("proc-masked", files::proc_masked),
    probe("sys-masked", files::sys_masked),
    probe("no-release-agent", cgroups::no_release_agent),
    probe("core-pattern-locked", files::core_pattern_locked),
    probe("no-engine-socket", files::no_engine_socket),
    probe("neighbours-unreachable", files::neighbours_unreachable),
    probe("ipc-separate", ipc::ipc_separate),
    probe("no-message-queues", ipc::no_message_queues),
    probe("loopback-only", network::loopback_only),
    probe("host-loopback-unreachable", network::host_loopback_unreachable),
    probe("no-metadata-service", network::no_metadata_service),
    probe("no-private-network", network::no_private_network),
    probe("no-internet", network::no_internet),
    probe("no-internet-v6", network::no_internet_v6),
    probe("no-datagrams", network::no_datagrams),
    probe("no-special-sockets", network::no_special_sockets),
    probe("fork-bomb-bounded", resources::fork_bomb_bounded),
    probe("descriptors-bounded", resources::descriptors_bounded),
    probe("tmp-bounded", resources::tmp_bounded),
    probe("tmp-inodes-bounded", resources::tmp_inodes_bounded),
    probe("storage-bounded", resources::storage_bounded),
    probe("storage-inodes-bounded", resources::storage_inodes_bounded),
];

/// Probes that only look, or ask for what changes nothing: they may run anywhere, to show that they can fail.
const HARMLESS: [&str; 7] = [
    "capabilities-empty",
    "no-new-privileges",
    "not-root",
    "seccomp-filter",
    "no-userfaultfd",
    "no-io-uring",
    "no-keyrings",
];

/// Whether this looks like a cage from inside. Only keeps people from accidents.
fn in_cage() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filtered = status.lines().any(|line| line == "Seccomp:\t2");
    filtered
        && ["/claw", "/data"]
            .iter()
            .all(|path| std::path::Path::new(path).is_dir())
}

/// Runs one probe, `list`, or an `actor`.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let Some((name, rest)) = args.split_first() else {
        eprintln!("usage: claw probe NAME [ARGS] | claw probe list");
        return ExitCode::from(2);
    };
    match name.as_str() {
        "actor" => actor::run(rest),
        "list" => {
            for probe in &PROBES {
                println!("{}", probe.name);
            }
            ExitCode::SUCCESS
        }
        name => match PROBES.iter().find(|probe| probe.name == name) {
            Some(_) if !in_cage() && !HARMLESS.contains(&name) => {
                eprintln!("claw: this is not a cage, and `{name}` could do harm here");
                ExitCode::from(2)
            }
            Some(probe) => tell(name, (probe.run)(rest)),
            None => {
                eprintln!("claw: there is no probe `{name}`; `claw probe list` has them");
                ExitCode::from(2)
            }
        },
    }
}

fn tell(name: &str, verdict: Verdict) -> ExitCode {
    let held = verdict.is_ok();
    let detail = verdict.unwrap_or_else(|detail| detail);
    println!(
        "{}",
        serde_json::json!({ "probe": name, "held": held, "detail": detail })
    );
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Collects many small findings into one verdict.
#[derive(Default)]
struct Findings {
    looked_at: usize,
    broken: Vec<String>,
}

impl Findings {
    fn expect(&mut self, stood: bool, otherwise: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !stood {
            self.broken.push(otherwise());
        }
    }

    fn verdict(self, what: &str) -> Verdict {
        if self.broken.is_empty() {
            Ok(format!("{} {what}", self.looked_at))
        } else {
            Err(self.broken.join("; "))
        }
    }
}
