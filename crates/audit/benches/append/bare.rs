//! What the machine does without a log.

use std::{
    fs::File,
    hint,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use clawstaff_audit::tree::leaf_hash;

use crate::{Measured, cpu::Used, per_second, row, timed};

fn filled(root: &Path, bytes: usize) -> File {
    let file = File::create(root.join("bare")).unwrap();
    file.write_all_at(&vec![0; bytes], 0).unwrap();
    file.sync_all().unwrap();
    file
}

/// One write and one sync at a time.
pub(crate) fn sync(root: &Path, n: usize) -> Measured {
    let file = filled(root, 4096 * n);
    let (used, started) = (Used::now(), Instant::now());
    let mut times = timed(n, |i| {
        file.write_all_at(&[7; 4096], 4096 * i as u64).unwrap();
        file.sync_data().unwrap();
    });
    let took = started.elapsed();
    let cpu = Used::now().total_since(&used);
    let what = "bare 4 KiB write and fdatasync, file filled in advance";
    row(what, &mut times, n as u64, took, cpu)
}

/// Batches of as many bytes as the log had, one sync for each; entries per second.
pub(crate) fn writes(root: &Path, batch: u64, leaf_bytes: u64) -> f64 {
    let bytes = usize::try_from(batch * leaf_bytes).unwrap();
    let n = (64 << 20) / bytes + 1;
    let file = filled(root, bytes * n);
    let buffer = vec![7; bytes];
    let (used, started) = (Used::now(), Instant::now());
    let mut times = timed(n, |i| {
        file.write_all_at(&buffer, (bytes * i) as u64).unwrap();
        file.sync_data().unwrap();
    });
    let took = started.elapsed();
    let cpu = Used::now().total_since(&used);
    let done = batch * n as u64;
    let what = format!("bare writes of {batch} times {leaf_bytes} bytes, one fdatasync each");
    row(&what, &mut times, done, took, cpu);
    per_second(done, took)
}

/// Leaf hashes on one core; per second.
pub(crate) fn hashes() -> f64 {
    const N: u64 = 200_000;
    let leaf = [7; 1024];
    let (used, started) = (Used::now(), Instant::now());
    for _ in 0..N {
        hint::black_box(leaf_hash(hint::black_box(&leaf)));
    }
    let took: Duration = started.elapsed();
    let cpu = Used::now().total_since(&used);
    row("bare leaf hashes of 1 KiB, one core", &mut [], N, took, cpu);
    per_second(N, took)
}
