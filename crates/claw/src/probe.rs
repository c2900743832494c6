//! `claw probe NAME [ARGS]`: one attempt to get out of the cage, told as one JSON line.
//!
//! `{"probe": NAME, "held": BOOL, "detail": TEXT}`: held means that the boundary stood. The conformance suite of
//! the cage back ends and `clawstaff claw selftest` run these inside a live cage and compare with what they see
//! from outside; the names here and there are the same list. Exit code: 0 held, 1 not held, 2 no such probe.
//!
//! A probe must be harmless where it succeeds, since one day it will: calls are made with arguments that do
//! nothing, bombs stop at a bound. `probe actor …` are the parts that the suite's cages play, not probes.

mod actor;
mod files;
mod kernel;
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

const PROBES: [Probe; 40] = [
    Probe {
        name: "capabilities-empty",
        run: process::capabilities_empty,
    },
    Probe {
        name: "no-new-privileges",
        run: process::no_new_privileges,
    },
    Probe {
        name: "not-root",
        run: process::not_root,
    },
    Probe {
        name: "seccomp-filter",
        run: process::seccomp_filter,
    },
    Probe {
        name: "processes-hidden",
        run: process::processes_hidden,
    },
    Probe {
        name: "signals-stay-inside",
        run: process::signals_stay_inside,
    },
    Probe {
        name: "descriptors-clean",
        run: process::descriptors_clean,
    },
    Probe {
        name: "environment-clean",
        run: process::environment_clean,
    },
    Probe {
        name: "no-core-dumps",
        run: process::no_core_dumps,
    },
    Probe {
        name: "no-terminal-injection",
        run: kernel::no_terminal_injection,
    },
    Probe {
        name: "no-mounts",
        run: kernel::no_mounts,
    },
    Probe {
        name: "no-namespaces",
        run: kernel::no_namespaces,
    },
    Probe {
        name: "no-tracing",
        run: kernel::no_tracing,
    },
    Probe {
        name: "no-bpf-or-perf",
        run: kernel::no_bpf_or_perf,
    },
    Probe {
        name: "no-userfaultfd",
        run: kernel::no_userfaultfd,
    },
    Probe {
        name: "no-io-uring",
        run: kernel::no_io_uring,
    },
    Probe {
        name: "no-modules-or-kexec",
        run: kernel::no_modules_or_kexec,
    },
    Probe {
        name: "no-file-handles",
        run: kernel::no_file_handles,
    },
    Probe {
        name: "no-keyrings",
        run: kernel::no_keyrings,
    },
    Probe {
        name: "no-clocks",
        run: kernel::no_clocks,
    },
    Probe {
        name: "no-identity-change",
        run: kernel::no_identity_change,
    },
    Probe {
        name: "no-administration",
        run: kernel::no_administration,
    },
    Probe {
        name: "root-read-only",
        run: files::root_read_only,
    },
    Probe {
        name: "door-read-only",
        run: files::door_read_only,
    },
    Probe {
        name: "devices-minimal",
        run: files::devices_minimal,
    },
    Probe {
        name: "proc-masked",
        run: files::proc_masked,
    },
    Probe {
        name: "sys-masked",
        run: files::sys_masked,
    },
    Probe {
        name: "core-pattern-locked",
        run: files::core_pattern_locked,
    },
    Probe {
        name: "no-engine-socket",
        run: files::no_engine_socket,
    },
    Probe {
        name: "neighbours-unreachable",
        run: files::neighbours_unreachable,
    },
    Probe {
        name: "loopback-only",
        run: network::loopback_only,
    },
    Probe {
        name: "no-metadata-service",
        run: network::no_metadata_service,
    },
    Probe {
        name: "no-private-network",
        run: network::no_private_network,
    },
    Probe {
        name: "no-internet",
        run: network::no_internet,
    },
    Probe {
        name: "no-internet-v6",
        run: network::no_internet_v6,
    },
    Probe {
        name: "no-datagrams",
        run: network::no_datagrams,
    },
    Probe {
        name: "no-special-sockets",
        run: network::no_special_sockets,
    },
    Probe {
        name: "fork-bomb-bounded",
        run: resources::fork_bomb_bounded,
    },
    Probe {
        name: "tmp-bounded",
        run: resources::tmp_bounded,
    },
    Probe {
        name: "storage-bounded",
        run: resources::storage_bounded,
    },
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
