//! Doing one step to one cage: record the intent, act, record the outcome. Dull, in this order, always.
//!
//! | we die … | what is true |
//! |---|---|
//! | before the intent is durable | nothing happened, nothing is recorded |
//! | after it, before the act | the log has an intent without outcome, which the gateway closes as unknown |
//! | after the act, before its outcome | the same; the next look at the cage shows what it is |

use std::{path::PathBuf, sync::Arc, time::Duration};

use clawstaff_api::{local::Door, nodes::RunnerClaw};
use clawstaff_cage::{Backend, CageError, CageId, CageSpec, Image};
use clawstaff_types::{Event, Outcome};

use crate::{
    gateway::Gateway,
    plan::Act,
    record::{self, Subject},
    stills::Stills,
};

/// How long a cage may take to end by itself once it was asked to.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How long to wait for the gateway to open a door.
const DOOR_PATIENCE: Duration = Duration::from_secs(20);
/// How often to look whether it has.
const DOOR_PACE: Duration = Duration::from_millis(50);

/// Why a step was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepError {
    /// Not tried: it could not be recorded, or the gateway is not ready for it.
    #[error("{0}")]
    NotTried(String),
    /// Not tried: it cannot be done on this host.
    #[error("{0}")]
    Refused(String),
    /// Tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// What every step needs.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) gateway: Gateway,
    pub(crate) stills: Stills,
}

/// A step with all it needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) act: Act,
    pub(crate) id: CageId,
    pub(crate) subject: Subject,
    /// What is wanted; absent for a cage that nobody wants.
    pub(crate) wanted: Option<RunnerClaw>,
    /// Why, for the record.
    pub(crate) reason: Option<String>,
}

impl Hands {
    /// Does one step.
    pub(crate) async fn run(&self, job: &Job) -> Result<(), StepError> {
        tracing::info!(cage = %job.id, act = ?job.act, reason = job.reason, "step");
        let result = match job.act {
            Act::Start => self.start(job).await,
            Act::Freeze | Act::Halt => self.act(job).await,
            Act::Stop | Act::Pause | Act::Hold | Act::Resume | Act::Thaw | Act::Destroy => {
                self.recorded(job, self.act(job)).await
            }
        };
        match &result {
            Ok(()) => tracing::info!(cage = %job.id, act = ?job.act, "done"),
            Err(error) => tracing::warn!(cage = %job.id, act = ?job.act, %error, "not done"),
        }
        result
    }

    /// The acts of one call each.
    async fn act(&self, job: &Job) -> Result<(), StepError> {
        let done = match job.act {
            Act::Stop => self.backend.stop(&job.id, GRACE).await,
            // Thawed for its grace it would run with nobody to mediate.
            Act::Halt => self.backend.stop(&job.id, Duration::ZERO).await,
            Act::Pause | Act::Hold | Act::Freeze => self.backend.pause(&job.id).await,
            Act::Resume | Act::Thaw => self.backend.resume(&job.id).await,
            Act::Destroy => self.backend.destroy(&job.id).await,
            Act::Start => self.backend.start(&job.id).await,
        };
        done.map_err(|error| failed(job.act, &error))
    }

    /// Puts an intent before an act and its outcome behind it.
    async fn recorded(
        &self,
        job: &Job,
        act: impl Future<Output = Result<(), StepError>>,
    ) -> Result<(), StepError> {
        let mut event = job.subject.event(record::kind(job.act), job.reason.as_deref());
        let index = self
            .gateway
            .record(&job.subject.claw, None, event.clone())
            .await
            .map_err(|error| StepError::NotTried(format!("the act could not be recorded ({error})")))?;
        let result = act.await;
        if job.act == Act::Start && result.is_ok() {
            let digest = self.backend.image_digest(&job.id).await;
            event
                .digests
                .extend(digest.map(|digest| ("image".to_owned(), digest)));
        }
        self.settle(job, index, event, &result).await;
        result
    }

    /// An outcome that cannot be recorded stays open in the log; the gateway closes it as unknown.
    async fn settle(&self, job: &Job, index: u64, event: Event, result: &Result<(), StepError>) {
        let (outcome, reason) = match result {
            Ok(()) => (Outcome::Succeeded, None),
            Err(error) => (Outcome::Failed, Some(error.to_string())),
        };
        let event = record::outcome(event, outcome, reason.as_deref());
        if let Err(error) = self.gateway.record(&job.subject.claw, Some(index), event).await {
            tracing::error!(cage = %job.id, index, %error, "the outcome could not be recorded");
        }
    }

    async fn start(&self, job: &Job) -> Result<(), StepError> {
        let Some(wanted) = &job.wanted else {
            return Err(StepError::Refused("nobody wants it".to_owned()));
        };
        self.backend
            .capabilities()
            .admit(&job.id, &wanted.limits)
            .map_err(|error| failed(Act::Start, &error))?;
        let door = self.open_door(wanted).await?;
        let spec = cage_spec(job, wanted, &door);
        let making = async {
            self.backend
                .create(&spec)
                .await
                .map_err(|error| failed(Act::Start, &error))?;
            self.act(job).await
        };
        self.recorded(job, making).await
    }

    /// Waits until the gateway serves this very revision of the Claw under the policy that it needs.
    async fn open_door(&self, wanted: &RunnerClaw) -> Result<Door, StepError> {
        let asking = async {
            loop {
                let door = self.gateway.door(&wanted.claw).await.map_err(|error| {
                    StepError::NotTried(format!("the gateway does not open its door: {error}"))
                })?;
                if let Some(door) = door.filter(|door| {
                    door.revision == wanted.revision && door.gateway_revision >= wanted.needs_gateway_revision
                }) {
                    return Ok(door);
                }
                tokio::time::sleep(DOOR_PACE).await;
            }
        };
        tokio::time::timeout(DOOR_PATIENCE, asking).await.map_err(|_| {
            StepError::NotTried("the gateway has not opened the door for this revision yet".to_owned())
        })?
    }
}

fn failed(act: Act, error: &CageError) -> StepError {
    let doing = match act {
        Act::Start => "start",
        Act::Stop | Act::Halt => "stop",
        Act::Pause | Act::Hold | Act::Freeze => "freeze",
        Act::Resume | Act::Thaw => "resume",
        Act::Destroy => "destroy",
    };
    let text = format!("cannot {doing} the cage: {}", with_causes(error));
    match error {
        CageError::Unenforceable { .. } | CageError::Refused { .. } => StepError::Refused(text),
        CageError::Absent(_)
        | CageError::NotRunning(_)
        | CageError::Failed { .. }
        | CageError::Unavailable { .. } => StepError::Failed(text),
    }
}

/// An error with its causes, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

fn cage_spec(job: &Job, wanted: &RunnerClaw, door: &Door) -> CageSpec {
    let image = match wanted.image.as_deref() {
        None | Some("") => Image::Builtin,
        Some(path) if path.starts_with('/') => Image::Directory(PathBuf::from(path)),
        Some(reference) => Image::Oci(reference.to_owned()),
    };
    CageSpec {
        id: job.id.clone(),
        claw: wanted.claw.clone(),
        revision: wanted.revision,
        image,
        door_dir: PathBuf::from(&door.dir),
        limits: wanted.limits.clone(),
        command: CageSpec::init(),
    }
}
