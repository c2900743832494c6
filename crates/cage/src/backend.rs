//! The contract of everything that makes cages.

use std::{fmt::Debug, time::Duration};

use clawstaff_types::{Digest, spec::Limit};
use futures_util::future::BoxFuture;

use crate::{
    capability::Capabilities,
    id::CageId,
    image::ImageError,
    observed::{ExecOutput, Observed, Stats},
    snapshot::{Snapshot, SnapshotName},
    spec::CageSpec,
};

/// Makes and keeps the cages of one host.
///
/// **Idempotence.** Every act MUST succeed when the cage is already as it would leave it, and MUST be safe to
/// repeat after any failure or crash, also of the caller. The caller retries; a back end never does by itself.
///
/// **Durability.** What `create` made and what the Claw wrote to `/data` MUST survive a crash of the caller, of
/// the back end's own processes and of the machine, until `destroy`. A running cage MUST survive a crash of the
/// caller; it does not survive the machine, and is then observed as exited.
///
/// **Order.** Acts on one cage are done one after the other. Acts on different cages MUST NOT wait for each other.
///
/// **Confinement.** A cage MUST be confined before its first instruction, and completely or not at all: when any
/// part of the boundary cannot be made, `start` fails and nothing runs. Limits that the host cannot enforce fail
/// `create`, unless the spec accepts them by name.
///
/// **Cancellation.** A dropped future MAY leave the act done or undone, never half-observed: `observe` tells.
pub trait Backend: Send + Sync + Debug {
    /// `native` or `docker`.
    fn name(&self) -> &'static str;

    /// What this host can enforce, found out when the back end was opened.
    fn capabilities(&self) -> Capabilities;

    /// What is to be known of it besides: a word and what stands behind it, for people.
    fn notes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Makes everything the cage needs and runs nothing. With another spec for an existing cage, the new spec is in
    /// force from the next start; its storage stays, and must be of the same size.
    fn create<'a>(&'a self, spec: &'a CageSpec) -> BoxFuture<'a, Result<(), CageError>>;

    /// Starts the cage's init and returns when it is the cage's program. `/data` is as it was; `/tmp` is empty.
    fn start<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>>;

    /// Asks the init to end (SIGTERM), and after `grace` kills every process. A paused cage is thawed for it.
    /// Returns when nothing of the cage runs and its storage is quiet.
    fn stop<'a>(&'a self, id: &'a CageId, grace: Duration) -> BoxFuture<'a, Result<(), CageError>>;

    /// Freezes every process of the cage; returns when none runs.
    fn pause<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>>;

    /// Thaws what [`Backend::pause`] froze.
    fn resume<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>>;

    /// Kills the cage and takes everything of it away, `/data` included. Nothing of it is left: no process, mount,
    /// cgroup or file.
    fn destroy<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<(), CageError>>;

    /// The digest of the image that the cage's revision was made with, where it is an image of other people.
    fn image_digest<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Option<Digest>> {
        let _ = id;
        Box::pin(std::future::ready(None))
    }

    /// What the cage is now. Never waits for an act in progress.
    fn observe<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Observed, CageError>>;

    /// Every cage of this back end, leftovers of an unfinished create or destroy included.
    fn list(&self) -> BoxFuture<'_, Result<Vec<CageId>, CageError>>;

    /// What the cage uses.
    fn stats<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Stats, CageError>>;

    /// The last `tail_bytes` of the cage's output. Content: what the agent printed.
    fn logs<'a>(&'a self, id: &'a CageId, tail_bytes: u64) -> BoxFuture<'a, Result<Vec<u8>, CageError>>;

    /// Copies `/data` to a snapshot, which stays until it is removed or the cage is destroyed. A running cage is frozen
    /// for as long as that takes; where it cannot be frozen, it must be stopped.
    fn snapshot<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Snapshot, CageError>>;

    /// The cage's snapshots, oldest first; at most [`snapshot::MOST`](crate::snapshot::MOST).
    fn snapshots<'a>(&'a self, id: &'a CageId) -> BoxFuture<'a, Result<Vec<Snapshot>, CageError>>;

    /// Makes `/data` of a cage that does not run what it was when the snapshot was taken.
    fn restore<'a>(&'a self, id: &'a CageId, name: &'a SnapshotName) -> BoxFuture<'a, Result<(), CageError>>;

    /// Removes a snapshot.
    fn forget_snapshot<'a>(
        &'a self,
        id: &'a CageId,
        name: &'a SnapshotName,
    ) -> BoxFuture<'a, Result<(), CageError>>;

    /// Runs an operator's command in the live cage, under the cage's own confinement and limits. After `timeout`
    /// it is killed. Its whole life is inside the call.
    fn exec<'a>(
        &'a self,
        id: &'a CageId,
        command: &'a [String],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput, CageError>>;
}

/// Why something could not be done with a cage.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// The host cannot enforce a limit of the spec.
    #[error(
        "cage {id}: the limit `{}` cannot be enforced here: {why}; {remedy}, or accept it with \
         `accept_unenforced = [\"{}\"]`", limit_name(*limit), limit_name(*limit)
    )]
    Unenforceable {
        /// The cage.
        id: CageId,
        /// The limit.
        limit: Limit,
        /// The reason.
        why: String,
        /// What would help.
        remedy: String,
    },
    /// The spec asks for something that this back end does not do.
    #[error("cage {id}: {why}")]
    Refused {
        /// The cage.
        id: CageId,
        /// What, and what to do instead.
        why: String,
    },
    /// There is no such cage.
    #[error("there is no cage {0}")]
    Absent(CageId),
    /// The act needs a running cage.
    #[error("cage {0} is not running")]
    NotRunning(CageId),
    /// The host or the engine failed.
    #[error("cage {id}: cannot {doing}: {detail}")]
    Failed {
        /// The cage.
        id: CageId,
        /// What was being done, after "cannot".
        doing: &'static str,
        /// What was heard.
        detail: String,
    },
    /// The back end itself cannot work.
    #[error("the {backend} back end cannot {doing}: {detail}")]
    Unavailable {
        /// Its name.
        backend: &'static str,
        /// What was being done, after "cannot".
        doing: &'static str,
        /// What was heard.
        detail: String,
    },
}

/// The limit's name as it stands in a spec file.
pub fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory => "memory",
        Limit::Cpus => "cpus",
        Limit::Pids => "pids",
        Limit::Storage => "storage",
    }
}

/// An image that cannot be had: refused for good, or perhaps there the next time.
pub(crate) fn image_error(id: &CageId, error: ImageError) -> CageError {
    if error.is_passing() {
        return CageError::Failed {
            id: id.clone(),
            doing: "get its image",
            detail: error.to_string(),
        };
    }
    CageError::Refused {
        id: id.clone(),
        why: error.to_string(),
    }
}

/// What the spec or its state forbids, and what to do instead.
pub(crate) fn refused<T>(id: &CageId, why: impl Into<String>) -> Result<T, CageError> {
    Err(CageError::Refused {
        id: id.clone(),
        why: why.into(),
    })
}

/// Says of which cage, and what was being done, when something failed.
pub(crate) trait During<T> {
    fn during(self, id: &CageId, doing: &'static str) -> Result<T, CageError>;
}

impl<T, E: std::fmt::Display> During<T> for Result<T, E> {
    fn during(self, id: &CageId, doing: &'static str) -> Result<T, CageError> {
        self.map_err(|error| CageError::Failed {
            id: id.clone(),
            doing,
            detail: error.to_string(),
        })
    }
}
