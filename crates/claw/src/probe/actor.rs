//! Parts that the conformance suite's cages play: something to observe, stop, fill and kill from outside.

use std::{
    fs,
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::signal::unix::{SignalKind, signal};

use super::{ipc, kernel};

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
        ["hold", name, port] => hold(name, port.parse().unwrap_or_default()),
        ["trap", target] => trap(target),
        ["foreign-call", way] if kernel::foreign_call(way) => ExitCode::SUCCESS,
        ["foreign-call", _] => ExitCode::FAILURE,
        ["beat", seconds] => beat(Duration::from_secs(seconds.parse().unwrap_or(1))),
        ["storm", kind] => storm(kind),
        ["fill", place] => fill(Path::new(place)),
        ["fill-files", place] => fill_files(Path::new(place)),
        ["hold-files"] => hold_files(),
        ["feed"] => feed(),
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

/// Holds one object of every kind that processes share, and waits for SIGTERM.
fn hold(name: &str, port: u16) -> ExitCode {
    match ipc::hold(name, port) {
        Ok(_held) => idle(),
        Err(error) => done(Err(error)),
    }
}

/// Fills `/data` with whatever could harm a host that reads, sizes, copies or removes it. `target` is a directory of
/// the host that a careless one would follow a link to.
fn trap(target: &str) -> ExitCode {
    match lay_traps(target) {
        Ok(()) => {
            println!("laid");
            idle()
        }
        Err(error) => done(Err(error)),
    }
}

fn lay_traps(target: &str) -> std::io::Result<()> {
    std::env::set_current_dir("/data")?;
    for (link, to) in [
        ("to-target", target),
        ("to-root", "/"),
        ("to-self", "to-self"),
        ("to-proc", "/proc/self"),
    ] {
        symlink(to, link)?;
    }
    mknodat(CWD, "pipe", FileType::Fifo, Mode::from_raw_mode(0o666), 0)?;
    let _listener = UnixListener::bind("socket")?;
    fs::write(std::ffi::OsStr::from_bytes(b"\xff\x1b[2J\n..;rm"), "")?;
    fs::File::create("sparse")?.set_len(8 << 30)?;
    fs::create_dir("shut")?;
    fs::write("shut/file", "")?;
    fs::create_dir_all("shut/inner/most")?;
    fs::set_permissions("shut/inner", PermissionsExt::from_mode(0o000))?;
    fs::set_permissions("shut", PermissionsExt::from_mode(0o000))?;
    // A path of 60,000 bytes, and deeper than a process may have files open.
    for _ in 0..1200 {
        let name = "deep-".repeat(10);
        fs::create_dir(&name)?;
        std::env::set_current_dir(&name)?;
    }
    std::env::set_current_dir("/")
}

/// Does a small piece of work again and again, and tells how long it took: the median, the slowest hundredth and the
/// count, in microseconds.
fn beat(time: Duration) -> ExitCode {
    let (end, mut took) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        let start = Instant::now();
        let result = fs::write("/data/beat", [0; 512])
            .and_then(|()| fs::read("/data/beat"))
            .map(|bytes| std::hint::black_box(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()));
        if let Err(error) = result {
            return done(Err(error));
        }
        took.push(start.elapsed());
        thread::sleep(Duration::from_millis(1));
    }
    took.sort_unstable();
    let at = |share: usize| {
        let place = took.len() * share / 100;
        took.get(place).map_or(0, Duration::as_micros)
    };
    println!("{} {} {}", at(50), at(99), took.len());
    ExitCode::SUCCESS
}

/// One kind of flood, for as long as it lives.
fn storm(kind: &str) -> ExitCode {
    println!("storm");
    loop {
        let _ = match kind {
            "cpu" => {
                std::hint::black_box((0..1_000_000_u64).sum::<u64>());
                Ok(())
            }
            "fork" => std::process::Command::new("/proc/self/exe")
                .args(["probe", "actor", "storm", "fork"])
                .spawn()
                .map(drop),
            "memory" => {
                std::hint::black_box(vec![1_u8; 64 << 20]);
                Ok(())
            }
            "page-cache" => fs::write("/data/flood", vec![1; 16 << 20]),
            "tmp" => fs::write("/tmp/flood", vec![1; 48 << 20]),
            "inodes" => (0..4096).try_for_each(|n| fs::write(format!("/tmp/flood-{n}"), "")),
            "files" => {
                let open: Vec<_> = (0..900).map(|_| fs::File::open("/dev/zero")).collect();
                std::hint::black_box(open);
                Ok(())
            }
            "log" => std::io::stdout().write_all(&vec![b'x'; 64 << 10]),
            _ => return ExitCode::from(2),
        };
    }
}

/// Fills a file system, and waits for SIGTERM.
fn fill(place: &Path) -> ExitCode {
    let flood = fs::File::create(place.join("flood")).and_then(|mut flood| {
        let block = vec![1; 256 << 10];
        // 4 GiB are more than any of them has.
        (0..16_384).try_for_each(|_| flood.write_all(&block))
    });
    match flood {
        Ok(()) => ExitCode::FAILURE,
        Err(_) => idle(),
    }
}

/// Makes empty files until there is no room for one more, and waits for SIGTERM.
fn fill_files(place: &Path) -> ExitCode {
    let made = (0..1_000_000).try_for_each(|n| fs::write(place.join(format!("flood-{n}")), ""));
    match made {
        Ok(()) => ExitCode::FAILURE,
        Err(_) => idle(),
    }
}

/// Opens files until it can open no more, and holds them.
fn hold_files() -> ExitCode {
    let mut open = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        open.push(file);
    }
    loop {
        thread::park();
        std::hint::black_box(&open);
    }
}

/// Has a child that eats memory, and waits for SIGTERM.
fn feed() -> ExitCode {
    let child = std::process::Command::new("/proc/self/exe")
        .args(["probe", "actor", "eat-memory"])
        .status();
    match child {
        Ok(_) => idle(),
        Err(error) => done(Err(error)),
    }
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
