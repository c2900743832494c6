//! Bombs that must fizzle out: each stops by itself at a bound well above the limit it tests.

use std::{
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
