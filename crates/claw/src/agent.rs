//! The built-in agent: takes one item at a time from the inbox, works on it with a model and tools, says how it
//! ended.
//!
//! ```text
//! inbox ─► work ─► conversation (pure) ─► AskModel │ CallTool │ Finish ─► doors, local tools ─► ack, journal
//! ```
//!
//! `conversation`, `model`, `mcp`, `sse` and the reading of tool arguments are pure; `doors`, `local`, `journal`
//! and `work` do the IO. It holds no secret: the gateway puts the credentials in, outside.

mod conversation;
mod doors;
mod journal;
mod local;
mod mcp;
mod model;
mod prompt;
mod sse;
mod tool;
mod work;

use std::{fs::File, io::Read, process::ExitCode, time::Duration};

use clawstaff_cage_contract::{Ack, CLAW_FILE, INSTRUCTIONS_FILE, InboxItem};
use tokio::{runtime, time::sleep};

use crate::{
    claw_file::{self, EXIT_CONFIG},
    options::Options,
};
use doors::Doors;
use work::Worker;

/// The longest instructions that are read, in bytes.
const MAX_INSTRUCTIONS: u64 = 256 * 1024;
/// The longest pause between two attempts to reach the inbox.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Attempts to have an acknowledgement heard.
const ACK_TRIES: u32 = 5;

/// Runs the agent until it is told to stop by a signal.
pub(crate) fn run(options: &Options) -> ExitCode {
    let file = match claw_file::read(&options.claw_path(CLAW_FILE)) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("claw agent: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("claw agent: preparing the event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let instructions = instructions(options);
    let worker = Worker::new(options, file.claw, file.model, &instructions);
    runtime.block_on(serve(&worker, options))
}

/// The instructions; none when there is no such file, which is said on standard error.
fn instructions(options: &Options) -> String {
    let path = options.claw_path(INSTRUCTIONS_FILE);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_INSTRUCTIONS).read_to_end(&mut bytes));
    if let Err(error) = read {
        eprintln!(
            "claw agent: working without instructions: reading {}: {error}",
            path.display()
        );
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn serve(worker: &Worker, options: &Options) -> ! {
    let mut pause = Duration::from_secs(1);
    loop {
        match worker.doors().next_item().await {
            Ok(Some(item)) => {
                pause = Duration::from_secs(1);
                finish(worker, options, &item).await;
            }
            Ok(None) => pause = Duration::from_secs(1),
            Err(error) => {
                eprintln!("claw agent: waiting for work: {error}");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Works on an item to its end. When the door is lost amid it, the item is let go of by asking for the next:
/// then it comes again.
async fn finish(worker: &Worker, options: &Options, item: &InboxItem) {
    let ending = match worker.work(item).await {
        Ok(ending) => ending,
        Err(error) => {
            eprintln!("claw agent: item {} is let go of: {error}", item.id);
            return sleep(Duration::from_secs(1)).await;
        }
    };
    eprintln!(
        "claw agent: item {}: {:?} after {} steps",
        item.id, ending.result, ending.steps
    );
    if let Err(error) = journal::append(&options.data_dir, item, &ending) {
        eprintln!("claw agent: writing the journal: {error}");
    }
    acknowledge(worker.doors(), item, &ending.ack()).await;
}

/// Until it is heard or refused, or often enough: then the item stays leased, and comes again after a restart.
async fn acknowledge(doors: &Doors, item: &InboxItem, ack: &Ack) {
    let mut pause = Duration::from_secs(1);
    for _ in 0..ACK_TRIES {
        let Err(error) = doors.ack(&item.id, ack).await else {
            return;
        };
        eprintln!("claw agent: acknowledging item {}: {error}", item.id);
        if error.is_final() {
            return;
        }
        sleep(pause).await;
        pause *= 2;
    }
}
