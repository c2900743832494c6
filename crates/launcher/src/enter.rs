//! `exec`: one more command in a live cage, under the cage's own confinement.
//!
//! It joins the cgroups first, so that what it uses is the cage's, then every namespace of the init at once, and
//! forks, because a pid namespace takes only children. The command answers to seccomp, Landlock and empty
//! capabilities exactly as the init does.

use std::{fs, os::fd::AsFd, process::ExitCode};

use rustix::{
    process::{
        DumpableBehavior, Pid, PidfdFlags, WaitOptions, WaitStatus, geteuid, pidfd_open,
        set_dumpable_behavior, waitpid,
    },
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

use crate::{
    args::Exec,
    confine::{self, Program, Role},
    fault::{During, Fault, Result},
    namespaces::Cgroups,
    shim,
    sys::{self, Side},
};

pub(crate) fn run(exec: &Exec) -> Result<ExitCode> {
    let privileged = geteuid().is_root();
    // From here on a process of the cage could look at this one: it must find nothing to hold on to.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during("hide from the cage")?;
    let cgroups = Cgroups::open(&exec.cgroups)?;
    cgroups.enter()?;
    join(exec)?;
    match sys::clone(0, cgroups.unified()).during("fork")? {
        Side::Child => {
            let Err(fault) = confine_and_run(exec, privileged);
            eprintln!("clawstaff-launcher: {fault}");
            sys::exit_now(125);
        }
        Side::Parent { child, .. } => wait(child),
    }
}

fn confine_and_run(exec: &Exec, privileged: bool) -> Result<std::convert::Infallible> {
    confine::take_identity(exec.inside, privileged)?;
    let program = Program {
        command: &exec.command,
        env: &[],
        directory: None,
    };
    confine::become_program(program, exec.pids, Role::Guest)
}

/// Joins the namespaces of the init, after making sure that it is the init.
fn join(exec: &Exec) -> Result<()> {
    let pid = Pid::from_raw(exec.pid).ok_or_else(|| Fault::new("`--pid` is 0"))?;
    let init = pidfd_open(pid, PidfdFlags::empty()).during("open the init")?;
    // Checked after the descriptor is open: from then on the id cannot come to mean another process.
    if shim::start_time(exec.pid)? != exec.started {
        return Err(Fault::new("the cage's init is gone"));
    }
    let all = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    let time = if fs::exists("/proc/self/ns/time").unwrap_or(false) {
        ThreadNameSpaceType::TIME
    } else {
        ThreadNameSpaceType::empty()
    };
    move_into_thread_name_spaces(init.as_fd(), all | time).during("join the cage's namespaces")
}

fn wait(child: Pid) -> Result<ExitCode> {
    let status = waitpid(Some(child), WaitOptions::empty()).during("wait for the command")?;
    Ok(ExitCode::from(status.map_or(125, |(_, status)| code_of(status))))
}

/// The shell's convention: a signal is 128 and its number.
fn code_of(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125)
}
