//! `claw`: the program inside every cage. It is the init (pid 1), the shim between ordinary network software and
//! the cage's one door, and the built-in agent.
//!
//! Everything in here runs on the hostile side: it holds no secret and enforces nothing. It knows the cage
//! contract and the types, and no other part of ClawStaff. `main` is a table of contents.

use std::process::ExitCode;

mod agent;
mod claw_file;
mod client;
mod errno;

mod init;
mod options;
mod probe;
mod shim;
mod text;

use options::Options;

const USAGE: &str = "usage: claw init | claw agent | claw probe NAME [ARGS]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first().map(|(verb, rest)| (verb.as_str(), rest)) {
        Some(("init", rest)) => with_options(rest, init::run),
        Some(("agent", rest)) => with_options(rest, agent::run),
        Some(("probe", rest)) => probe::run(rest),
        Some(_) | None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn with_options(args: &[String], run: fn(&Options) -> ExitCode) -> ExitCode {
    match Options::parse(args) {
        Ok(options) => run(&options),
        Err(error) => {
            eprintln!("claw: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
