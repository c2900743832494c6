//! `clawstaff audit verify` of things that stand alone: a proof of one entry, or a bundle of many.

use std::path::Path;

use clawstaff_audit::{
    Policy,
    bundle::{self, BundleReport, Files, LogReport},
    policy::Vouched,
    proof::{MAGIC, MAX_PROOF_BYTES, Proof, ProofError},
};
use serde::Serialize;
use serde_json::Value;

use super::{bundle as bundle_files, logs::LogFiles};
use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{self, Format},
};

/// What lies at a path.
pub(super) enum Evidence {
    Proof(Proof),
    Bundle(Files),
}

/// Reads what lies at `path`, if it is a proof or a bundle.
pub(super) fn read(path: &Path) -> Result<Option<Evidence>, Failure> {
    if let Some(files) = bundle_files::read(path)? {
        return Ok(Some(Evidence::Bundle(files)));
    }
    if !path.is_file() {
        return Ok(None);
    }
    let length = std::fs::metadata(path).map_err(|error| super::verify::unreadable(path, &error))?;
    if length.len() > MAX_PROOF_BYTES as u64 {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(|error| super::verify::unreadable(path, &error))?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(None);
    };
    if !text.starts_with(MAGIC) {
        return Ok(None);
    }
    let proof = Proof::parse(&text).map_err(|error| not_verified(path, &error))?;
    Ok(Some(Evidence::Proof(proof)))
}

fn not_verified(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Verification,
        format!("{} does not verify: {error}", path.display()),
    )
}

/// Verifies it and prints what was found.
pub(super) fn verify(
    context: &Context,
    path: &Path,
    evidence: Evidence,
    policy: Option<Policy>,
) -> Result<(), Failure> {
    match evidence {
        Evidence::Proof(proof) => verify_proof(context, path, &proof, policy),
        Evidence::Bundle(files) => verify_bundle(context.output, path, &files, policy.as_ref()),
    }
}

/// What came of a proof.
#[derive(Debug, Serialize)]
struct ProofFinding {
    ok: bool,
    origin: String,
    index: u64,
    size: u64,
    root: String,
    witnesses: Vec<Cosigned>,
    unchecked: Vec<String>,
    leaf_hash: String,
    entry: Value,
}

#[derive(Debug, Serialize)]
struct Cosigned {
    name: String,
    time: String,
}

fn cosigned(witnesses: &[(String, jiff::Timestamp)]) -> Vec<Cosigned> {
    let all = witnesses.iter().map(|(name, time)| Cosigned {
        name: name.clone(),
        time: time.to_string(),
    });
    all.collect()
}

fn verify_proof(
    context: &Context,
    path: &Path,
    proof: &Proof,
    policy: Option<Policy>,
) -> Result<(), Failure> {
    let mut unchecked = Vec::new();
    let policy = if let Some(policy) = policy {
        policy
    } else {
        unchecked.push("the key was taken from the local installation".to_owned());
        own_policy(context, proof)?
    };
    let leaf = proof.extra.clone().ok_or_else(|| {
        not_verified(
            path,
            &"it does not carry its entry, so there is nothing to compare it with",
        )
    })?;
    let vouched: Vouched = proof
        .verify(&leaf, &policy)
        .map_err(|error: ProofError| not_verified(path, &error))?;
    if vouched.witnesses.is_empty() {
        unchecked.push("no witness of the policy has cosigned the checkpoint".to_owned());
    }
    let finding = ProofFinding {
        ok: true,
        origin: vouched.checkpoint.origin.clone(),
        index: proof.index,
        size: vouched.checkpoint.size,
        root: vouched.checkpoint.root.to_string(),
        witnesses: cosigned(&vouched.witnesses),
        unchecked,
        leaf_hash: clawstaff_audit::tree::leaf_hash(&leaf).to_string(),
        entry: serde_json::from_slice(&leaf).unwrap_or(Value::Null),
    };
    context.output.sentence(&finding, describe_proof)
}

/// Believes the installation's own key for the log that the proof is of.
fn own_policy(context: &Context, proof: &Proof) -> Result<Policy, Failure> {
    let origin = clawstaff_audit::Checkpoint::parse(&proof.checkpoint)
        .map(|checkpoint| checkpoint.origin)
        .unwrap_or_default();
    let place = context.place().ok();
    let logs = place.iter().flat_map(LogFiles::of);
    let key = logs
        .filter_map(|log| log.key().ok())
        .find(|key| key.name() == origin);
    key.map(Policy::of_log).ok_or_else(|| {
        Failure::usage(format!(
            "whose key is to be believed for `{}`?",
            output::tame(&origin, 100)
        ))
        .hint("name the log's key with --key, or the keys of log and witnesses with --policy")
    })
}

fn describe_proof(finding: &ProofFinding) -> String {
    let mut lines = vec![
        format!(
            "entry {} is in the log `{}`",
            finding.index,
            output::tame(&finding.origin, 200)
        ),
        format!(
            "  {:10}  {} entries, root {}",
            "checkpoint", finding.size, finding.root
        ),
    ];
    for witness in &finding.witnesses {
        lines.push(format!(
            "  {:10}  {} at {}",
            "cosigned",
            output::tame(&witness.name, 100),
            witness.time
        ));
    }
    for unchecked in &finding.unchecked {
        lines.push(format!("  {:10}  {unchecked}", "unchecked"));
    }
    lines.push(format!(
        "  {:10}  {}",
        "entry",
        output::tame(&finding.entry.to_string(), 2000)
    ));
    lines.push(format!("  {:10}  {}", "result", output::tinted("ok")));
    lines.join("\n")
}

/// What came of a bundle.
#[derive(Debug, Serialize)]
struct BundleFinding {
    bundle: String,
    ok: bool,
    logs: Vec<LogFinding>,
    unchecked: Vec<String>,
    problems: Vec<Wrong>,
}

#[derive(Debug, Serialize)]
struct LogFinding {
    name: String,
    origin: String,
    entries: usize,
    size: u64,
    root: String,
    witnesses: Vec<Cosigned>,
    /// Streams of which entries between the first and the last one here were not selected.
    incomplete: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Wrong {
    path: String,
    index: Option<u64>,
    text: String,
}

impl From<LogReport> for LogFinding {
    fn from(log: LogReport) -> Self {
        let incomplete = log.incomplete();
        let incomplete = incomplete.map(|(stream, missing)| format!("{stream}: {missing} between"));
        Self {
            incomplete: incomplete.collect(),
            name: log.name,
            origin: log.checkpoint.origin,
            entries: log.entries,
            size: log.checkpoint.size,
            root: log.checkpoint.root.to_string(),
            witnesses: cosigned(&log.witnesses),
        }
    }
}

fn verify_bundle(format: Format, path: &Path, files: &Files, policy: Option<&Policy>) -> Result<(), Failure> {
    let report: BundleReport = bundle::verify(files, policy);
    let finding = BundleFinding {
        bundle: path.display().to_string(),
        ok: report.is_clean(),
        logs: report.logs.into_iter().map(LogFinding::from).collect(),
        unchecked: report.unchecked,
        problems: report
            .problems
            .into_iter()
            .map(|problem| Wrong {
                path: problem.path,
                index: problem.index,
                text: problem.text,
            })
            .collect(),
    };
    format.sentence(&finding, describe_bundle)?;
    if finding.ok {
        return Ok(());
    }
    let message = format!("does not verify: {}", path.display());
    Err(Failure::new(Exit::Verification, message).hint("the files concerned are named above"))
}

fn describe_bundle(finding: &BundleFinding) -> String {
    let mut lines = vec![format!("bundle {}", finding.bundle)];
    let mut field =
        |name: &str, value: String| lines.push(format!("  {name:10}  {}", output::tame(&value, 500)));
    for log in &finding.logs {
        field("log", format!("{} ({})", log.name, log.origin));
        field(
            "checked",
            format!("{} entries, each with its proof, of {}", log.entries, log.size),
        );
        field("root", log.root.clone());
        for witness in &log.witnesses {
            field("cosigned", format!("{} at {}", witness.name, witness.time));
        }
        if log.witnesses.is_empty() {
            field(
                "unchecked",
                format!("no witness has cosigned the checkpoint of {}", log.name),
            );
        }
        for incomplete in log.incomplete.iter().take(10) {
            field(
                "left out",
                format!("entries of {incomplete} the first and the last one here"),
            );
        }
    }
    for unchecked in &finding.unchecked {
        field("unchecked", unchecked.clone());
    }
    for wrong in finding.problems.iter().take(100) {
        let index = wrong
            .index
            .map(|index| format!("entry {index}, "))
            .unwrap_or_default();
        field("problem", format!("{index}{}: {}", wrong.path, wrong.text));
    }
    lines.push(format!(
        "  {:10}  {}",
        "result",
        output::tinted(if finding.ok { "ok" } else { "failed" })
    ));
    lines.join("\n")
}
