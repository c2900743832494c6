//! One file per call, durable when written or removed; the blocking work is done off the serving threads.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clawstaff_types::ApprovalId;

use super::{Known, MAX_OF_ALL};
use crate::inbox::{read_bounded, replace, sync_dir};

const MAX_FILE: u64 = 64 << 10;
const ENDING: &str = "json";

/// `$DATA/gateway/approvals`
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self(dir))
    }

    /// What an earlier run left. A file that cannot be understood approves nothing and is left for a person to see.
    pub(super) fn load(&self) -> io::Result<Vec<Known>> {
        let mut known = Vec::new();
        for entry in fs::read_dir(&self.0)?.take(2 * MAX_OF_ALL) {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            match read(&path) {
                Ok(one) => known.push(one),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a waiting call is left aside");
                }
            }
        }
        Ok(known)
    }

    pub(super) async fn keep(&self, known: &Known) -> io::Result<()> {
        let (path, text) = (self.path(&known.call.id), serde_json::to_vec(known)?);
        apart(move || replace(&path, &text)).await
    }

    pub(super) async fn remove(&self, id: &ApprovalId) -> io::Result<()> {
        let (path, dir) = (self.path(id), self.0.clone());
        let work = move || match fs::remove_file(&path) {
            Ok(()) => sync_dir(&dir),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        apart(work).await
    }

    fn path(&self, id: &ApprovalId) -> PathBuf {
        self.0.join(format!("{id}.{ENDING}"))
    }
}

/// A file is believed only under the name of the call in it.
fn read(path: &Path) -> io::Result<Known> {
    let known: Known = serde_json::from_slice(&read_bounded(path, MAX_FILE)?)?;
    let name = path.file_stem().unwrap_or_default();
    if name == known.call.id.as_str() {
        Ok(known)
    } else {
        Err(io::Error::other("it is not of the call that its name says"))
    }
}

async fn apart(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
