//! Appends a few entries to a log and says of each what became of it: the victim of `tests/log/strace.rs`.
//!
//! Its standard output is the truth that the test holds the log against afterwards:
//! `acknowledged INDEX CALL`, `refused WHY`, `not opened WHY`. Exit code 3 when the log did not open.

use std::{path::Path, process::ExitCode};

use clawstaff_audit::{Draft, Log, Options, Phase, SigningKey, Stream};
use clawstaff_types::{Actor, Digest, Event, EventKind};

const ORIGIN: &str = "example.org/gateway";
/// Enough for three of the shortest segments.
const ENTRIES: usize = 14;
const ENTRY_BYTES: usize = 20_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(lap)) = (arguments.next(), arguments.next()) else {
        println!("usage: one_shot DIRECTORY LAP");
        return ExitCode::from(2);
    };
    let key = SigningKey::from_bytes(ORIGIN, &[42; 32]).map_err(|error| error.to_string());
    let log = key.and_then(|key| open(Path::new(&root), key));
    let log = match log {
        Ok(log) => log,
        Err(why) => {
            println!("not opened {why}");
            return ExitCode::from(3);
        }
    };
    for i in 0..ENTRIES {
        match log.append_blocking(draft(&format!("{lap} {i}"))) {
            Ok(receipt) => println!("acknowledged {} {}", receipt.index(), receipt.call()),
            Err(error) => println!("refused {error}"),
        }
    }
    ExitCode::SUCCESS
}

fn open(root: &Path, key: SigningKey) -> Result<Log, String> {
    let options = Options {
        dir: root.join("log"),
        anchor: Some(root.join("anchor/checkpoint")),
        origin: ORIGIN.to_owned(),
        key,
        segment_bytes: 0,
    };
    let opened = Log::open(options).map_err(|error| error.to_string());
    opened.map(|(log, _)| log)
}

fn draft(call: &str) -> Draft {
    let mut event = Event::new(EventKind::ToolCall, Actor::System("gateway".into()));
    event.facts.insert("filler".into(), "x".repeat(ENTRY_BYTES));
    Draft {
        stream: Stream::System("gateway".into()),
        phase: Phase::Fact,
        call: Digest::of(call.as_bytes()),
        event,
    }
}
