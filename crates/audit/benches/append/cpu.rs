//! The processor time of this process, by the names of its threads.

use std::{collections::BTreeMap, fs, time::Duration};

/// Time used up to now, by thread name. Threads that have ended are not in it.
#[derive(Default)]
pub(crate) struct Used(BTreeMap<String, Duration>);

impl Used {
    pub(crate) fn now() -> Self {
        let mut used = BTreeMap::new();
        for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            let (Some(name), Some(times)) = (read("comm"), read("schedstat")) else {
                continue;
            };
            let nanos = times.split(' ').next().unwrap().parse().unwrap();
            *used.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(nanos);
        }
        Self(used)
    }

    /// What each has used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> BTreeMap<&str, Duration> {
        let spent = self.0.iter().map(|(name, time)| {
            let before = earlier.0.get(name).copied().unwrap_or_default();
            (name.as_str(), time.saturating_sub(before))
        });
        spent.collect()
    }

    /// What all have used since `earlier`.
    pub(crate) fn total_since(&self, earlier: &Self) -> Duration {
        self.since(earlier).values().sum()
    }
}

/// Prints who used how much for each of `done`.
pub(crate) fn by_thread(earlier: &Used, done: u64) {
    let now = Used::now();
    for (name, time) in now.since(earlier) {
        if !time.is_zero() {
            let each = time.as_secs_f64() * 1e6 / crate::count(done.max(1));
            println!("{:<66} {each:>41.2}", format!("  of which {name}"));
        }
    }
}
