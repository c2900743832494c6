//! Watching over the own log: telling what was lost, and starting anew once a disk that failed can be written again.
//!
//! A log that failed once writes nothing more until it is opened again, so the process has to start anew. It goes on
//! being read meanwhile, and it ends only when a write to the same folder has succeeded: whoever supervises it starts
//! it again, and nobody edits anything by hand.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clawstaff_audit::disk::Disk;
use tokio_util::sync::CancellationToken;

use super::record::Recorder;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// Written to see whether the disk can be written.
const PROBE: [u8; 4096] = [0; 4096];

/// The own log's folder, on its disk.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) recorder: Recorder,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: PathBuf,
    /// Where the number of lost records is kept over a start.
    pub(crate) lost: PathBuf,
}

impl Watch {
    /// Looks until `shutdown`. Gives why the process must start anew, if it must.
    pub(crate) async fn over(self, shutdown: CancellationToken) -> Option<String> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return None,
            }
            let Some(why) = self.recorder.stopped() else {
                self.recorder.tell_lost().await;
                continue;
            };
            let watch = self.clone();
            let probed = tokio::task::spawn_blocking(move || watch.keep_count().and_then(|()| watch.probe()));
            if matches!(probed.await, Ok(Ok(()))) {
                tracing::warn!(
                    why,
                    "the disk under the audit log can be written again; starting anew"
                );
                return Some(why);
            }
        }
    }

    fn probe(&self) -> std::io::Result<()> {
        let path = self.folder.join("probe.seg");
        let file = self.disk.create(&path)?;
        let written = file.write_at(&PROBE, 0)?;
        file.sync_data()?;
        self.disk.remove(&path)?;
        if written == PROBE.len() {
            Ok(())
        } else {
            Err(std::io::ErrorKind::WriteZero.into())
        }
    }

    /// What the next process has to tell.
    fn keep_count(&self) -> std::io::Result<()> {
        match self.recorder.lost() {
            0 => Ok(()),
            lost => std::fs::write(&self.lost, lost.to_string()),
        }
    }
}

/// The number that an earlier process left, taken away from there.
pub(crate) fn take_count(path: &std::path::Path) -> u64 {
    let count = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let _gone = std::fs::remove_file(path);
    count.unwrap_or(0)
}
