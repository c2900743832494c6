//! How far each sink has come: written by the jobs, read by the status report.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use clawstaff_api::nodes::{SinkProgress, SinkStatus};
use clawstaff_types::SinkName;
use jiff::Timestamp;

const MAX_ERROR: usize = 300;

/// What one job says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The first index that is not delivered.
    pub(super) next: u64,
    /// Entries of the log, as far as known.
    pub(super) size: u64,
    /// When the oldest record that is not delivered was recorded.
    pub(super) oldest: Option<Timestamp>,
    /// Why the last delivery failed.
    pub(super) error: Option<String>,
}

/// All of them, by sink and log.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<(SinkName, &'static str), Line>>);

impl Board {
    /// Changes what is said of one job.
    pub(super) fn note(&self, sink: &SinkName, log: &'static str, change: impl FnOnce(&mut Line)) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry((sink.clone(), log)).or_default();
        change(line);
        if let Some(error) = &mut line.error {
            *error = error.chars().take(MAX_ERROR).collect();
        }
    }

    /// Forgets sinks that are no more.
    pub(super) fn keep(&self, wanted: impl Fn(&SinkName) -> bool) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|(name, _), _| wanted(name));
    }

    /// What is known now, for the report.
    pub fn all(&self) -> Vec<SinkStatus> {
        self.at(Timestamp::now())
    }

    fn at(&self, now: Timestamp) -> Vec<SinkStatus> {
        let mut found: BTreeMap<SinkName, SinkStatus> = BTreeMap::new();
        for ((name, log), line) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let status = found.entry(name.clone()).or_insert_with(|| SinkStatus {
                name: name.clone(),
                logs: Vec::new(),
                lag_seconds: 0,
                error: None,
            });
            status.logs.push(SinkProgress {
                log: (*log).to_owned(),
                next: line.next,
                waiting: line.size.saturating_sub(line.next),
            });
            let lag = line
                .oldest
                .map_or(0, |oldest| now.duration_since(oldest).as_secs());
            status.lag_seconds = status.lag_seconds.max(u64::try_from(lag).unwrap_or_default());
            if let Some(error) = &line.error {
                let before = status
                    .error
                    .take()
                    .map(|before| before + "; ")
                    .unwrap_or_default();
                status.error = Some(format!("{before}{log}: {error}"));
            }
        }
        found.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_lags_as_much_as_its_slowest_log() {
        let board = Board::default();
        let name: SinkName = "siem".parse().unwrap();
        let now = Timestamp::from_second(1_000).unwrap();
        board.note(&name, "control", |line| {
            *line = Line {
                next: 3,
                size: 3,
                ..Line::default()
            }
        });
        board.note(&name, "gateway", |line| {
            *line = Line {
                next: 5,
                size: 12,
                oldest: Timestamp::from_second(940).ok(),
                error: Some("refused".repeat(200)),
            };
        });
        let [status] = board.at(now).try_into().unwrap();
        assert_eq!((status.lag_seconds, status.logs[1].waiting), (60, 7));
        assert!(status.error.unwrap().len() < 320);
        board.keep(|_| false);
        assert!(board.all().is_empty());
    }
}
