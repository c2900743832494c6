//! One suite that every back end must pass: data about what to try, and two judges.
//!
//! The rows are in `table.rs` (what is tried from inside), `lifecycle.rs` and `limits.rs` (what is done from outside); none
//! names a back end, so that another one joins by being handed to [`run`], and [`matrix`] gets one more column.
//!
//! [`run`] makes cages of its own and walks them through their life ([`lifecycle`]), then has the probes tried from
//! inside one of them while a neighbour stands by ([`probes`]). What a probe says of itself is believed only
//! where nobody else can see; what can be seen from outside is looked at from outside. [`selftest`] runs the probes
//! that disturb nobody in a live cage.
//!
//! A check that needs something that this host does not have is reported as [`Outcome::NotEnforced`], with the reason,
//! and never as held.

mod canary;
mod leftovers;
pub mod lifecycle;
mod limits;
pub mod matrix;
mod outside;
mod probes;
mod stage;
mod table;

use std::path::PathBuf;

use clawstaff_types::spec::Limits;

use self::outside::Sight;
pub use self::{
    stage::Stage,
    table::{Judge, Need, PROBES, Probe, Told, probes},
};
use crate::{
    backend::{Backend, CageError},
    id::CageId,
    observed::Observed,
    spec::Image,
};

/// What the suite works with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The image of its cages; it must have the `claw` program at `/sbin/claw`.
    pub image: Image,
    /// A door directory to bind; nobody need serve it.
    pub door_dir: PathBuf,
    /// The limits of its cages. `accept_unenforced` as the host needs it.
    pub limits: Limits,
    /// Directories of the host that must hold nothing of a destroyed cage.
    pub searched: Vec<PathBuf>,
}

impl Setup {
    /// The limits that the suite was made for: small, so that reaching them takes no time.
    pub fn limits() -> Limits {
        Limits {
            memory: clawstaff_types::ByteSize::mib(128),
            milli_cpus: 500,
            pids: 48,
            storage: clawstaff_types::ByteSize::mib(32),
            accept_unenforced: Vec::new(),
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As the contract demands.
    Held,
    /// Not so.
    Broken,
    /// It needs something that this host does not have, or the host may not look.
    NotEnforced,
}

/// One check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the probe or lifecycle check.
    pub check: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen.
    pub detail: String,
}

impl Finding {
    pub(crate) fn of(check: &'static str, verdict: Result<String, String>) -> Self {
        let outcome = if verdict.is_ok() {
            Outcome::Held
        } else {
            Outcome::Broken
        };
        Self {
            check,
            outcome,
            detail: verdict.unwrap_or_else(|detail| detail),
        }
    }

    /// Not tried, or not judged, and why.
    pub(crate) fn not_enforced(check: &'static str, why: String) -> Self {
        Self {
            check,
            outcome: Outcome::NotEnforced,
            detail: why,
        }
    }
}

/// Runs the whole suite. Takes under a minute; leaves nothing behind, also when checks fail.
pub async fn run(backend: &dyn Backend, setup: &Setup) -> Vec<Finding> {
    let stage = Stage::new(backend, setup);
    let mut findings = lifecycle::run(&stage).await;
    findings.extend(probes::run(&stage).await);
    findings
}

/// Runs the probes that disturb nobody in a live cage.
///
/// # Errors
/// When the cage does not run.
pub async fn selftest(
    backend: &dyn Backend,
    id: &CageId,
    limits: &Limits,
) -> Result<Vec<Finding>, CageError> {
    let Observed::Running { pid: init, .. } = backend.observe(id).await? else {
        return Err(CageError::NotRunning(id.clone()));
    };
    let (capabilities, neighbour) = (backend.capabilities(), None);
    let mut findings = Vec::new();
    for probe in PROBES.iter().filter(|probe| !probe.disruptive) {
        if let Some(why) = table::missing(&capabilities, probe.needs) {
            findings.push(Finding::not_enforced(probe.name, why));
            continue;
        }
        let told = probes::told_by_limits(probe, limits);
        findings.push(probes::judged(backend, id, probe, &told, Sight { init, neighbour }).await);
    }
    Ok(findings)
}
