//! `clawstaff-launcher`: the tiny program that makes one native cage and then stays as its parent.
//!
//! It is started by the native back end of `clawstaff-cage` with flags only, single-threaded from its first to its
//! last instruction, and knows nothing of Claws, policy or any other part of ClawStaff. `run` makes a cage:
//!
//! ```text
//! launcher: own mount namespace                                  (`staging`, as root only)
//!    ├─fork─► shim (own session; lives as long as the cage)
//!    │         ├─clone3─► init: joins its cgroups, waits           (`namespaces`)
//!    │         │ id maps
//!    │         ├─release─► root file system                        (`rootfs`, `network`)
//!    ├─storage, mounted meanwhile ─► into it, pivot_root           (`staging`, `loopdev`, `hand`)
//!    │         │           limits, capabilities, Landlock,
//!    │         │           seccomp, execve                         (`confine`)
//!    └◄"running"┤ state file, log, exit status                     (`shim`)
//! ```
//!
//! `exec` runs one more command in a live cage, under the same confinement. Order matters almost everywhere in
//! here; where it does, the line says so. If the launcher dies before "running", the init dies with it and no
//! mount outlives it: all of them are in namespaces of its own.

mod args;
mod confine;
mod enter;
mod fault;
mod hand;
mod loopdev;
mod namespaces;
mod network;
mod rootfs;
mod seccomp;
mod shim;
mod staging;
mod sys;

use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    let outcome = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(run)) => shim::start(&run).map(|()| ExitCode::SUCCESS),
        Ok(Command::Exec(exec)) => enter::run(&exec),
        Err(fault) => {
            eprintln!("clawstaff-launcher: {fault}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|fault| {
        eprintln!("clawstaff-launcher: {fault}");
        ExitCode::from(125)
    })
}
