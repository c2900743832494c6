//! Limits that a cage meets without being ended for it: what is counted of it, and what the counts say.
//!
//! A back end counts ([`Counts`]), the difference of two looks decides ([`Counts::reached`]). What a back end cannot
//! count it says in [`Capabilities::tells`](crate::Capabilities::tells), with the reason.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use clawstaff_types::spec::Limits;

/// The most files that one process of a cage may have open.
pub const MOST_DESCRIPTORS: u64 = 1024;
/// So many bytes of output that nobody kept, between two looks, are a flood.
const FLOOD_BYTES: u64 = 1 << 20;
/// Fewer periods of CPU time than this between two looks say nothing.
const FEWEST_PERIODS: u64 = 5;
/// Where a cage may write.
pub(crate) const PLACES: [&str; 3] = ["/data", "/tmp", "/dev/shm"];
/// Those of them that are memory.
pub(crate) const TEMPORARY: &[&str] = &["/tmp", "/dev/shm"];
/// Processes looked at in one cage; more than any spec may ask for would be looked at in vain.
const MOST_PROCESSES: usize = 4096;

/// A limit that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reached {
    /// The kernel killed a process in it for want of memory; its init goes on.
    Memory,
    /// No more processes.
    Pids,
    /// No more bytes in `/data`, `/tmp` or `/dev/shm`.
    Storage,
    /// No more files in `/data`, `/tmp` or `/dev/shm`.
    Inodes,
    /// A process of it can open no more files.
    Descriptors,
    /// It prints more than is kept.
    Output,
    /// It waits for its share of the CPU most of the time.
    Cpus,
}

impl Reached {
    /// Every one of them, the worst first.
    pub const ALL: [Self; 7] = [
        Self::Memory,
        Self::Pids,
        Self::Storage,
        Self::Inodes,
        Self::Descriptors,
        Self::Output,
        Self::Cpus,
    ];
}

/// Room in the places that a cage may write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// Nobody looked.
    #[default]
    Unknown,
    /// There is some in each.
    Left,
    /// There is none in this one.
    Full(&'static str),
}

/// CPU time, counted by the kernel in periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Periods {
    /// In which it had something to do.
    pub all: u64,
    /// In which its share did not suffice.
    pub throttled: u64,
}

/// What is counted of a cage since its start. `None`: nobody counts it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Processes and threads that the kernel refused.
    pub pids_refused: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
    /// CPU time.
    pub periods: Option<Periods>,
    /// Bytes of output that were not kept.
    pub output_lost: Option<u64>,
    /// The most files that one of its processes has open now.
    pub descriptors: Option<u64>,
    /// Whether there is room for bytes now.
    pub bytes: Room,
    /// Whether there is room for files now.
    pub files: Room,
}

impl Counts {
    /// The limits met since `before`, which are counts of an earlier look. `pids` is how many processes there are now.
    pub fn reached(self, before: Self, pids: u64, limits: &Limits) -> BTreeSet<Reached> {
        let met = |limit: Reached| match limit {
            Reached::Memory => since(self.oom_kills, before.oom_kills) > 0,
            Reached::Pids => {
                since(self.pids_refused, before.pids_refused) > 0 || pids >= u64::from(limits.pids)
            }
            Reached::Storage => matches!(self.bytes, Room::Full(_)),
            Reached::Inodes => matches!(self.files, Room::Full(_)),
            // The one that it takes to look whether there is one more.
            Reached::Descriptors => self.descriptors.is_some_and(|most| most + 1 >= MOST_DESCRIPTORS),
            Reached::Output => since(self.output_lost, before.output_lost) >= FLOOD_BYTES,
            Reached::Cpus => self.waited(before),
        };
        Reached::ALL.into_iter().filter(|limit| met(*limit)).collect()
    }

    /// Whether it waited for CPU time in half of the periods, or more.
    fn waited(self, before: Self) -> bool {
        let all = since(
            self.periods.map(|now| now.all),
            before.periods.map(|then| then.all),
        );
        let throttled = since(
            self.periods.map(|now| now.throttled),
            before.periods.map(|then| then.throttled),
        );
        all >= FEWEST_PERIODS && throttled >= all / 2
    }
}

/// How much was counted since. Counting starts anew with the cage.
fn since(now: Option<u64>, before: Option<u64>) -> u64 {
    match (now, before) {
        (Some(now), Some(before)) if before <= now => now - before,
        (Some(now), Some(_) | None) => now,
        (None, Some(_) | None) => 0,
    }
}

/// What the host sees of a live cage by way of its init's root: its own `/proc`, and the file systems that it writes to.
#[derive(Debug)]
pub(crate) struct Sight {
    root: PathBuf,
}

/// Processes in sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Processes {
    /// With their threads.
    pub(crate) tasks: u64,
    /// The most files that one of them has open.
    pub(crate) descriptors: u64,
}

impl Sight {
    /// The cage whose init has this id on this host.
    pub(crate) fn of(init: u32) -> Self {
        Self {
            root: PathBuf::from(format!("/proc/{init}/root")),
        }
    }

    /// Looks at every process. An error where the host may not.
    pub(crate) fn processes(&self) -> io::Result<Processes> {
        let mut all = Processes::default();
        for entry in fs::read_dir(self.root.join("proc"))?.take(MOST_PROCESSES) {
            let entry = entry?;
            let is_process = entry.file_name().to_str().is_some_and(is_number);
            // One that has ended meanwhile has neither.
            if let (true, Ok(tasks)) = (is_process, fs::read_dir(entry.path().join("task"))) {
                all.tasks += tasks.take(MOST_PROCESSES).count() as u64;
                let open = fs::read_dir(entry.path().join("fd"));
                let most = usize::try_from(MOST_DESCRIPTORS).unwrap_or(usize::MAX);
                let open = open.map_or(0, |open| open.take(most).count() as u64);
                all.descriptors = all.descriptors.max(open);
            }
        }
        Ok(all)
    }

    /// Room for bytes and for files in these places of the cage.
    pub(crate) fn room(&self, places: &[&'static str]) -> (Room, Room) {
        let (mut bytes, mut files) = (Room::Unknown, Room::Unknown);
        for place in places {
            let at = self.root.join(place.trim_start_matches('/'));
            let Ok(found) = rustix::fs::statvfs(&at) else {
                continue;
            };
            bytes = bytes.and(place, found.f_bavail, found.f_blocks);
            files = files.and(place, found.f_ffree, found.f_files);
        }
        (bytes, files)
    }
}

impl Room {
    /// Adds a place. Less than a fiftieth left is nothing left: a file system needs some for itself.
    const fn and(self, place: &'static str, left: u64, all: u64) -> Self {
        match self {
            Self::Full(first) => Self::Full(first),
            Self::Unknown | Self::Left if left.saturating_mul(50) <= all && all > 0 => Self::Full(place),
            Self::Unknown | Self::Left => Self::Left,
        }
    }
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_told_by_its_own_count() {
        let (nothing, limits) = (Counts::default(), Limits::default());
        assert_eq!(nothing.reached(nothing, 1, &limits), BTreeSet::new());
        let half = Periods {
            all: 20,
            throttled: 10,
        };
        for (limit, now) in [
            (
                Reached::Memory,
                Counts {
                    oom_kills: Some(1),
                    ..nothing
                },
            ),
            (
                Reached::Pids,
                Counts {
                    pids_refused: Some(1),
                    ..nothing
                },
            ),
            (
                Reached::Storage,
                Counts {
                    bytes: Room::Full("/data"),
                    ..nothing
                },
            ),
            (
                Reached::Inodes,
                Counts {
                    files: Room::Full("/tmp"),
                    ..nothing
                },
            ),
            (
                Reached::Descriptors,
                Counts {
                    descriptors: Some(1023),
                    ..nothing
                },
            ),
            (
                Reached::Output,
                Counts {
                    output_lost: Some(FLOOD_BYTES),
                    ..nothing
                },
            ),
            (
                Reached::Cpus,
                Counts {
                    periods: Some(half),
                    ..nothing
                },
            ),
        ] {
            assert_eq!(now.reached(nothing, 1, &limits), BTreeSet::from([limit]));
        }
        let pids = u64::from(limits.pids);
        assert_eq!(
            nothing.reached(nothing, pids, &limits),
            BTreeSet::from([Reached::Pids])
        );
        assert_eq!(nothing.reached(nothing, pids - 1, &limits), BTreeSet::new());
    }

    #[test]
    fn what_was_counted_before_is_not_told_again_and_a_new_start_counts_anew() {
        let limits = Limits::default();
        let counts = |kills, all, throttled| Counts {
            oom_kills: Some(kills),
            periods: Some(Periods { all, throttled }),
            ..Counts::default()
        };
        let before = counts(3, 100, 100);
        assert_eq!(before.reached(before, 1, &limits), BTreeSet::new());
        assert_eq!(counts(3, 130, 110).reached(before, 1, &limits), BTreeSet::new());
        assert_eq!(
            counts(3, 130, 115).reached(before, 1, &limits),
            BTreeSet::from([Reached::Cpus])
        );
        assert_eq!(
            counts(1, 0, 0).reached(before, 1, &limits),
            BTreeSet::from([Reached::Memory])
        );
    }

    #[test]
    fn the_first_full_place_is_named() {
        let room = Room::Unknown.and("/data", 10, 100);
        assert_eq!(room, Room::Left);
        assert_eq!(room.and("/tmp", 2, 100), Room::Full("/tmp"));
        assert_eq!(Room::Full("/tmp").and("/dev/shm", 0, 100), Room::Full("/tmp"));
        assert_eq!(Room::Left.and("/proc", 0, 0), Room::Left);
    }
}
