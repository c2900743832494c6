//! The `clawstaff` program: a table of contents.
//!
//! Every noun of the command line has its file in `commands/`; what they share is here beside: the client of the
//! API, the spec file, printing, and how a command fails. The program can do nothing that the API cannot; what
//! a person types is turned into requests, and answers into tables or JSON.

mod client;
mod commands;
mod context;
mod demo;
mod failure;
mod fault;
mod output;
mod place;
mod spec;
mod uplink;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    commands::{
        apply, approval, audit, claw, connection, connector, doctor, get, grant, guardrail, image, node,
        parts, secret, shell, status, up,
    },
    context::Context,
    failure::{Exit, Failure},
};

/// Put AI agents to work on your own tools, without trusting the agent
#[derive(Debug, Parser)]
#[command(
    name = "clawstaff",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Start with:
  clawstaff demo                        the whole story on this machine, offline
  clawstaff doctor                      what this host can enforce
  clawstaff up                          control plane, gateway and runner on this machine
  clawstaff secret set slack-bot        a key, which stays on this host
  clawstaff apply -f staff.toml         Claws, connections and grants
  clawstaff audit tail -f               what they do

Exit codes: 0 done, 1 failed, 2 usage, 3 denied, 4 not found, 5 conflict, 6 verification failed, 7 unavailable."
)]
struct Cli {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    VerifyByok(demo::VerifyArgs),
    Up(up::Args),
    Control(parts::ControlArgs),
    Gateway(parts::GatewayArgs),
    Runner(parts::RunnerArgs),
    Uplink(parts::UplinkArgs),
    #[command(subcommand)]
    Node(node::Command),
    Doctor(doctor::Args),
    Whoami(status::WhoAmIArgs),
    Status(status::StatusArgs),
    Apply(apply::Args),
    Get(get::Args),
    #[command(subcommand)]
    Claw(claw::Command),
    #[command(subcommand)]
    Connector(connector::Command),
    #[command(subcommand)]
    Connection(connection::Command),
    #[command(subcommand)]
    Grant(grant::Command),
    #[command(subcommand)]
    Guardrail(guardrail::Command),
    #[command(subcommand)]
    Image(image::Command),
    #[command(subcommand)]
    Approval(approval::Command),
    #[command(subcommand)]
    Secret(secret::Command),
    #[command(subcommand)]
    Audit(audit::Command),
    Completion(shell::CompletionArgs),
    Man(shell::ManArgs),
}

fn main() -> ExitCode {
    if let Err(error) = no_core_dumps() {
        output::note(&format!("error: cannot switch core dumps off: {error}"));
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    match run(&cli.context, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.exit() != Exit::Quiet {
                output::note(&failure.to_string());
            }
            ExitCode::from(failure.exit().code())
        }
    }
}

/// A core would hold what passes through this program: secrets on their way to the vault, the keys of its parts.
fn no_core_dumps() -> rustix::io::Result<()> {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)
}

fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => block_on(demo::run(&args)),
        Command::VerifyByok(args) => block_on(demo::verify_byok(&args)),
        Command::Up(args) => block_on(up::run(context, args)),
        Command::Control(args) => parts::control(context, args),
        Command::Gateway(args) => parts::gateway(context, args),
        Command::Runner(args) => parts::runner(context, args),
        Command::Uplink(args) => parts::uplink(context, args),
        Command::Node(command) => block_on(node::run(context, command)),
        Command::Doctor(args) => block_on(doctor::run(context, args)),
        Command::Whoami(_) => block_on(status::whoami(context)),
        Command::Status(_) => block_on(status::status(context)),
        Command::Apply(args) => block_on(apply::run(context, args)),
        Command::Get(args) => block_on(get::run(context, args)),
        Command::Claw(command) => block_on(claw::run(context, command)),
        Command::Connector(command) => block_on(connector::run(context, command)),
        Command::Connection(command) => block_on(connection::run(context, command)),
        Command::Grant(command) => block_on(grant::run(context, command)),
        Command::Guardrail(command) => block_on(guardrail::run(context, command)),
        Command::Image(command) => image::run(context, &command),
        Command::Approval(command) => block_on(approval::run(context, command)),
        Command::Secret(command) => block_on(secret::run(context, command)),
        Command::Audit(command) => block_on(audit::run(context, command)),
        Command::Completion(args) => shell::completion(Cli::command(), &args),
        Command::Man(args) => shell::man(Cli::command(), &args),
    }
}

/// Runs on this thread alone. The supervisor relies on it: a child is tied to the thread that started it.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?
        .block_on(command)
}
