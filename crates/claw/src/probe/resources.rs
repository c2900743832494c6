//! Bombs that must fizzle out: each stops by itself at a bound well above the limit it tests.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{Verdict, files};

/// What the suite says the limit is.
fn limit(args: &[String]) -> Result<u64, String> {
    args.first()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| "the limit was not named".to_owned())
}

/// Starts children until it cannot. The argument is the limit of processes.
pub(super) fn fork_bomb_bounded(args: &[String]) -> Verdict {
    let most = limit(args)?;
    let mut children: Vec<Child> = Vec::new();
    let error = loop {
        if children.len() as u64 > most + 16 {
            break None;
        }
        let nap = ["probe", "actor", "deaf"];
        match Command::new("/proc/self/exe")
            .args(nap)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
        {
            Ok(child) => children.push(child),
            Err(error) => break Some(error),
        }
    };
    let count = children.len() as u64;
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
    match error {
        Some(error) if count <= most => Ok(format!("{count} children, then: {error}")),
        Some(error) => Err(format!("{count} children before: {error}")),
        None => Err(format!("{count} children and no end")),
    }
}

/// Opens files until it cannot.
pub(super) fn descriptors_bounded(_: &[String]) -> Verdict {
    const MOST: usize = 4096;
    let mut open = Vec::new();
    while open.len() < MOST {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) if open.len() <= 1024 => return Ok(format!("{} files, then: {error}", open.len())),
            Err(error) => return Err(format!("{} files before: {error}", open.len())),
        }
    }
    Err(format!("{} files and no end", open.len()))
}

/// Makes empty files in `/tmp` and `/dev/shm` until it cannot: each costs the kernel memory and counts no byte.
pub(super) fn tmp_inodes_bounded(_: &[String]) -> Verdict {
    let places = ["/tmp", "/dev/shm"].map(|place| inodes_of(Path::new(place)));
    let counts = places.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(counts.join(", "))
}

/// The same in `/data`.
pub(super) fn storage_inodes_bounded(_: &[String]) -> Verdict {
    inodes_of(Path::new("/data"))
}

fn inodes_of(place: &Path) -> Verdict {
    const MOST: usize = 60_000;
    let dir = place.join("clawstaff-probe");
    fs::create_dir_all(&dir).map_err(|error| format!("{} takes no directory: {error}", place.display()))?;
    let error = (0..MOST).find_map(|number| {
        let made = File::create_new(dir.join(number.to_string()));
        made.err().map(|error| (number, error))
    });
    let removed = fs::remove_dir_all(&dir);
    match (error, removed) {
        (_, Err(error)) => Err(format!("{} cannot be cleared: {error}", place.display())),
        (Some((0, error)), _) => Err(format!("{} takes no file at all: {error}", place.display())),
        (Some((count, error)), _) => Ok(format!("{} took {count} files, then: {error}", place.display())),
        (None, _) => Err(format!("{} took {MOST} files and no end", place.display())),
    }
}

/// Fills `/tmp` and `/dev/shm`. The argument is the limit of `/tmp` in bytes.
pub(super) fn tmp_bounded(args: &[String]) -> Verdict {
    let most = limit(args)?;
    let mut said = Vec::new();
    for place in ["/tmp", "/dev/shm"] {
        let written = files::fill(&Path::new(place).join("clawstaff-probe"), most + (64 << 20));
        if written > most {
            return Err(format!("{place} took {written} bytes"));
        }
        said.push(format!("{place} took {written} bytes"));
    }
    Ok(said.join(", "))
}

/// Fills `/data`. The argument is its size in bytes.
pub(super) fn storage_bounded(args: &[String]) -> Verdict {
    let most = limit(args)?;
    match files::fill(Path::new("/data/clawstaff-probe"), most + (64 << 20)) {
        0 => Err("/data cannot be written at all".to_owned()),
        written if written <= most => Ok(format!("/data took {written} bytes")),
        written => Err(format!("/data took {written} bytes")),
    }
}
