//! `POST …/selftest`: the probes of the boundary in a live cage, with all that a reviewer must know to judge them.
//!
//! The answer says of which cage, on which host, under which limits, and what the host cannot enforce; its record in
//! the gateway's log has the same counts, and is named by its index.

use std::collections::BTreeMap;

use clawstaff_api::nodes::RunnerClaw;
use clawstaff_cage::{
    Backend, CageError, CageId, Enforcement, Feature,
    backend::limit_name,
    conformance::{self, Finding, Judge},
};
use clawstaff_types::Outcome;
use serde::{Deserialize, Serialize};

use crate::record::Subject;

/// What a selftest found, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelftestAnswer {
    /// The Claw.
    pub claw: String,
    /// Its cage.
    pub cage: String,
    /// The revision of its spec.
    pub revision: u32,
    /// Which back end made the cage.
    pub backend: String,
    /// The version of ClawStaff.
    pub version: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// The host: kernel, machine, the runner's user.
    pub host: BTreeMap<String, String>,
    /// The cage's limits, with units in their names.
    pub limits: BTreeMap<String, String>,
    /// Each limit and each part of the boundary: `enforced`, or why not.
    pub boundary: BTreeMap<String, String>,
    /// Index of the act's record in the gateway's log.
    pub record: u64,
    /// The probes, in the order in which they ran.
    pub probes: Vec<ProbeAnswer>,
}

/// How one attempt to get out of a live cage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeAnswer {
    /// The probe's name.
    pub probe: String,
    /// Whether the boundary stood.
    pub held: bool,
    /// Whether there was something to try: `false` where this host lacks what is tried, or may not be looked at.
    pub applicable: bool,
    /// What was seen, or what is lacking.
    pub detail: String,
    /// What was tried.
    pub tries: String,
    /// What holding means.
    pub shows: String,
    /// Who judged: `cage`, `host` or `both`.
    pub judge: String,
}

impl SelftestAnswer {
    /// Probes that were tried and did not hold.
    pub fn broken(&self) -> usize {
        self.probes
            .iter()
            .filter(|probe| probe.applicable && !probe.held)
            .count()
    }

    /// Probes that held.
    pub fn held(&self) -> usize {
        self.probes.iter().filter(|probe| probe.held).count()
    }

    /// Whether the boundary stood: something was tried, and all of it held.
    pub fn stood(&self) -> bool {
        self.broken() == 0 && self.held() > 0
    }

    /// How it is recorded.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.stood() {
            Outcome::Succeeded
        } else {
            Outcome::Failed
        }
    }

    /// The counts, for the record.
    pub(crate) fn counts(&self) -> [(String, String); 3] {
        [
            ("probes", self.probes.len()),
            ("held", self.held()),
            ("broken", self.broken()),
        ]
        .map(|(name, count)| (name.to_owned(), count.to_string()))
    }
}

/// Runs the probes.
pub(crate) async fn run(
    backend: &dyn Backend,
    id: &CageId,
    subject: &Subject,
    wanted: &RunnerClaw,
    record: u64,
) -> Result<SelftestAnswer, CageError> {
    let began = jiff::Timestamp::now().to_string();
    let findings = conformance::selftest(backend, id, &wanted.limits).await?;
    Ok(SelftestAnswer {
        claw: subject.claw.to_string(),
        cage: id.to_string(),
        revision: wanted.revision,
        backend: backend.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        began,
        host: host(),
        limits: limits(wanted),
        boundary: boundary(backend),
        record,
        probes: findings.into_iter().filter_map(answer).collect(),
    })
}

fn answer(finding: Finding) -> Option<ProbeAnswer> {
    let probe = conformance::probes()
        .iter()
        .find(|probe| probe.name == finding.check)?;
    let (held, applicable) = match finding.outcome {
        conformance::Outcome::Held => (true, true),
        conformance::Outcome::Broken => (false, true),
        conformance::Outcome::NotEnforced => (false, false),
    };
    let judge = match probe.judge {
        Judge::Inside => "cage",
        Judge::Both => "both",
        Judge::Outside => "host",
    };
    Some(ProbeAnswer {
        probe: finding.check.to_owned(),
        held,
        applicable,
        detail: finding.detail,
        tries: probe.tries.to_owned(),
        shows: probe.shows.to_owned(),
        judge: judge.to_owned(),
    })
}

fn host() -> BTreeMap<String, String> {
    let uname = rustix::system::uname();
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm");
    [
        ("kernel", uname.release().to_string_lossy().into_owned()),
        ("machine", uname.machine().to_string_lossy().into_owned()),
        (
            "security_modules",
            modules.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
        ),
        ("runner_uid", rustix::process::geteuid().as_raw().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn limits(wanted: &RunnerClaw) -> BTreeMap<String, String> {
    let limits = &wanted.limits;
    [
        ("memory_bytes", limits.memory.0.to_string()),
        ("cpus_thousandths", limits.milli_cpus.to_string()),
        ("pids", limits.pids.to_string()),
        ("storage_bytes", limits.storage.0.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn boundary(backend: &dyn Backend) -> BTreeMap<String, String> {
    let capabilities = backend.capabilities();
    let limits = capabilities
        .limits
        .iter()
        .map(|(limit, found)| (format!("limit_{}", limit_name(*limit)), state(found)));
    let features = capabilities
        .features
        .iter()
        .map(|(feature, found)| (feature_name(*feature).to_owned(), state(found)));
    limits.chain(features).collect()
}

fn state(found: &Enforcement) -> String {
    match found {
        Enforcement::Enforced => "enforced".to_owned(),
        Enforcement::NotEnforced { why, .. } => why.clone(),
    }
}

const fn feature_name(feature: Feature) -> &'static str {
    match feature {
        Feature::OwnUser => "own_user",
        Feature::Seccomp => "seccomp",
        Feature::Landlock => "landlock",
        Feature::Freeze => "freezing",
    }
}
