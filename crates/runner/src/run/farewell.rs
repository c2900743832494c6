//! The end of the runner: what is under way ends, and cages are stopped.

use std::time::Duration;

use clawstaff_cage::CageId;
use clawstaff_types::{EventKind, Outcome};

use super::Loop;
use crate::plan::{Act, Seen, Step};

/// How long all cages together may take to stop when the runner ends.
const FAREWELL: Duration = Duration::from_secs(25);

impl Loop {
    /// Lets steps that are under way end, for a while.
    pub(super) async fn finish_tasks(&mut self) {
        let finishing = async {
            while let Some(done) = self.tasks.join_next().await {
                self.take_in(done);
            }
        };
        if tokio::time::timeout(FAREWELL, finishing).await.is_err() {
            tracing::warn!("steps under way are abandoned");
        }
    }

    /// Stops every cage, all at once. A stop that cannot be recorded is done all the same, and recorded late:
    /// nothing may run once nobody watches.
    pub(super) async fn stop_all(&mut self) {
        self.observe().await;
        let up: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| matches!(seen, Seen::Running | Seen::Paused))
            .map(|(cage, _)| cage.clone())
            .collect();
        for cage in up {
            let step = Step { cage, act: Act::Stop };
            if let Some(mut job) = self.job(&step) {
                job.reason = Some("the runner ends".to_owned());
                job.subject.by = None;
                self.begin(job);
            }
        }
        self.finish_tasks().await;
        self.observe().await;
        let left: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| matches!(seen, Seen::Running | Seen::Paused))
            .map(|(cage, _)| cage.clone())
            .collect();
        for cage in left {
            self.stop_unrecorded(&cage).await;
        }
        self.observe().await;
    }

    async fn stop_unrecorded(&mut self, cage: &str) {
        let Ok(id) = cage.parse::<CageId>() else {
            return;
        };
        match self.hands.backend.stop(&id, Duration::from_secs(2)).await {
            Ok(()) => {
                self.memory.entry(cage.to_owned()).or_default().stopped();
                let reason = "the runner ended while the gateway was lost";
                self.record_late(&id, EventKind::ClawStopped, Outcome::Succeeded, reason);
            }
            Err(error) => tracing::error!(cage, %error, "a cage could not be stopped"),
        }
    }
}
