//! One suite that every back end must pass: data about what to try, and two judges.
//!
//! [`run`] makes cages of its own and walks them through their life ([`lifecycle`]), then has the probes tried from
//! inside one of them while a neighbour stands by ([`probes`]). What a probe says of itself is believed only
//! where nobody else can see; what can be seen from outside is looked at from outside. [`selftest`] runs the probes
//! that disturb nobody in a live cage.
//!
//! A check that needs a limit this host does not enforce is reported as [`Outcome::NotEnforced`], with the reason,
//! and never as held.

mod leftovers;
pub mod lifecycle;
pub mod probes;
mod stage;

use std::path::PathBuf;

use clawstaff_types::spec::Limits;

pub use self::{
    probes::{PROBES, Probe, probes},
    stage::Stage,
};
use crate::{backend::Backend, id::CageId, spec::Image};

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
    /// It needs a limit that this host does not enforce, and that the setup accepts unenforced.
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
}

/// Runs the whole suite. Takes under a minute; leaves nothing behind, also when checks fail.
pub async fn run(backend: &dyn Backend, setup: &Setup) -> Vec<Finding> {
    let stage = Stage::new(backend, setup);
    let mut findings = lifecycle::run(&stage).await;
    findings.extend(probes::run(&stage).await);
    findings
}

/// Runs the probes that disturb nobody in a live cage.
pub async fn selftest(backend: &dyn Backend, id: &CageId, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    for probe in PROBES.iter().filter(|probe| !probe.disruptive) {
        findings.push(probes::ask(backend, id, probe, &probes::arguments(probe, limits)).await);
    }
    findings
}
