//! Parts that the conformance suite's cages play: something to observe, stop, fill and kill from outside.

use std::{fs, io::Write, process::ExitCode, thread, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

/// Plays a part until its end.
pub(super) fn run(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["idle"] => idle(),
        ["deaf"] => loop {
            thread::park();
        },
        ["exit", code] => ExitCode::from(code.parse::<u8>().unwrap_or(2)),
        ["count"] => count(),
        ["eat-memory"] => eat_memory(),
        ["write", path, text] => done(fs::write(path, text)),
        ["read", path] => done(fs::read(path).and_then(|bytes| std::io::stdout().write_all(&bytes))),
        ["chatter", bytes] => chatter(bytes.parse().unwrap_or(0)),
        ["spin", seconds] => spin(Duration::from_secs(seconds.parse().unwrap_or(1))),
        _ => {
            eprintln!("claw: no such part");
            ExitCode::from(2)
        }
    }
}

fn done(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("claw: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGTERM and ends well.
fn idle() -> ExitCode {
    let wait = async {
        let mut term = signal(SignalKind::terminate())?;
        println!("idle");
        term.recv().await;
        Ok(())
    };
    done(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .and_then(|runtime| runtime.block_on(wait)),
    )
}

/// Counts into `/data/count` as fast as it can, so that one sees from outside whether it runs.
fn count() -> ExitCode {
    for number in 0_u64.. {
        if let Err(error) = fs::write("/data/count", number.to_string()) {
            return done(Err(error));
        }
        thread::sleep(Duration::from_millis(1));
    }
    ExitCode::SUCCESS
}

/// Touches memory until the kernel ends it; 4 GiB at most.
fn eat_memory() -> ExitCode {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for _ in 0..1024 {
        eaten.push(vec![1; 4 << 20]);
    }
    println!("ate {} blocks and lived", eaten.len());
    ExitCode::SUCCESS
}

/// Prints much, then waits for SIGTERM.
fn chatter(bytes: usize) -> ExitCode {
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    let mut out = std::io::stdout().lock();
    for _ in 0..bytes / line.len() {
        if out.write_all(&line).is_err() {
            break;
        }
    }
    drop(out);
    println!("last words");
    idle()
}

/// Uses all the CPU it gets.
fn spin(time: Duration) -> ExitCode {
    let end = std::time::Instant::now() + time;
    let mut turns = 0_u64;
    while std::time::Instant::now() < end {
        turns = turns.wrapping_add(1);
    }
    println!("{turns}");
    ExitCode::SUCCESS
}
