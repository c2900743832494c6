//! `clawstaff audit verify`: offline, with nothing but files, keys and checkpoints.
//!
//! Without a folder it verifies both logs of the local installation, each against the checkpoints that others
//! hold of it: the one that the other party cosigned, the anchor, one that contradicts it if there ever was one,
//! and the one given with `--from`.

use std::path::{Path, PathBuf};

use clawstaff_audit::{
    Checkpoint, VerifyingKey,
    note::MAX_NOTE_BYTES,
    verify::{Held, Problem, Report, verify_against},
};
use serde::Serialize;

use super::{evidence, logs::given_policy};
use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{self, Format},
    place::Place,
};

/// What to verify.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a log, a proof or a bundle; without it both logs of the local installation
    folder: Option<PathBuf>,

    /// Checkpoints that you kept elsewhere, as `audit checkpoint` printed them: the log must extend them
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// The log's key that you know (C2SP vkey), instead of the one in its folder
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,

    /// For a proof or a bundle: whose keys you believe (C2SP tlog-policy), instead of those that came with it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// One log to verify.
struct Log {
    name: String,
    folder: PathBuf,
    /// Checkpoints that somebody else holds of it, with where they are.
    held: Vec<(String, Checkpoint)>,
    /// Those of `--from`, of which one at least should be of this log; the others are passed over.
    given: Vec<(String, Checkpoint)>,
}

/// What came of one log.
#[derive(Debug, Serialize)]
struct Finding {
    log: String,
    folder: String,
    ok: bool,
    origin: Option<String>,
    size: u64,
    root: String,
    checked: Vec<String>,
    unchecked: Vec<String>,
    problems: Vec<Wrong>,
    unfinished: Vec<u64>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Wrong {
    kind: String,
    index: Option<u64>,
    path: String,
    offset: Option<u64>,
    text: String,
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        Self {
            kind: format!("{:?}", problem.kind),
            index: problem.index,
            path: problem.path.display().to_string(),
            offset: problem.offset,
            text: problem.text,
        }
    }
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if let Some(path) = args.folder.as_deref()
        && let Some(evidence) = evidence::read(path)?
    {
        let policy = given_policy(args.policy.as_deref(), args.key.as_deref())?;
        return evidence::verify(context, path, evidence, policy);
    }
    if args.policy.is_some() {
        return Err(Failure::usage("--policy is for proofs and bundles")
            .hint("a log's folder is verified with --key and --from"));
    }
    let key = args.key.as_deref().map(VerifyingKey::parse).transpose();
    let key = key.map_err(|error| Failure::usage(format!("--key: {error}")))?;
    let given = args
        .from
        .as_deref()
        .map(read_given)
        .transpose()?
        .unwrap_or_default();
    let logs = match args.folder {
        Some(folder) => vec![one(folder, given)?],
        None => both(&context.place()?, &given)?,
    };
    let mut findings = Vec::new();
    for log in &logs {
        findings.push(verify(log, key.as_ref()));
    }
    for finding in &findings {
        match context.output {
            Format::Json => output::json(finding)?,
            Format::Table => output::line(&describe(finding))?,
        }
    }
    let bad: Vec<&str> = findings
        .iter()
        .filter(|f| !f.ok)
        .map(|f| f.log.as_str())
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    let message = format!("does not verify: {}", bad.join(", "));
    Err(Failure::new(Exit::Verification, message)
        .hint("keep the folder as it is; the places are named above"))
}

/// A log by its folder.
fn one(folder: PathBuf, given: Vec<(String, Checkpoint)>) -> Result<Log, Failure> {
    if !folder.join("journal").is_dir() {
        let message = format!("there is no log in {}", folder.display());
        return Err(Failure::new(Exit::NotFound, message)
            .hint("a log's folder holds `journal`, `tile`, `checkpoint` and `vkey`"));
    }
    Ok(Log {
        name: "log".to_owned(),
        folder,
        held: Vec::new(),
        given,
    })
}

/// Both logs of an installation.
fn both(place: &Place, given: &[(String, Checkpoint)]) -> Result<Vec<Log>, Failure> {
    let parts = [
        (
            "gateway",
            place.gateway(),
            [
                place.control().join("gateway.checkpoint"),
                place.gateway().join("witnessed.checkpoint"),
                place.gateway().join("anchor/checkpoint"),
                place.control().join("gateway.conflict"),
            ],
        ),
        (
            "control",
            place.control(),
            [
                place.gateway().join("control.checkpoint"),
                place.gateway().join("control.witnessed.checkpoint"),
                place.control().join("anchor/checkpoint"),
                place.gateway().join("control.conflict"),
            ],
        ),
    ];
    if parts.iter().all(|(_, folder, _)| !folder.exists()) {
        let message = format!("there is no installation in {}", place.root().display());
        return Err(Failure::new(Exit::NotFound, message)
            .hint("name its data directory with --data, or a log's folder"));
    }
    let mut logs = Vec::new();
    for (name, folder, others) in parts {
        std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
        let mut held = Vec::new();
        for path in others {
            held.extend(read_held(&path)?);
        }
        logs.push(Log {
            name: name.to_owned(),
            folder: folder.join("log"),
            held,
            given: given.to_vec(),
        });
    }
    Ok(logs)
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot read {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::Denied, message).hint("run it as root, or as the user that the part runs as")
        }
        std::io::ErrorKind::NotFound => Failure::new(Exit::NotFound, message),
        _ => Failure::failed(message),
    }
}

/// A checkpoint that a part of the installation holds, if it has come to that.
fn read_held(path: &Path) -> Result<Option<(String, Checkpoint)>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let found = read_given(path)?;
    Ok(found.into_iter().next())
}

/// The checkpoints of a file, each a signed note, one after the other.
fn read_given(path: &Path) -> Result<Vec<(String, Checkpoint)>, Failure> {
    let text = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    if text.len() > MAX_NOTE_BYTES {
        return Err(Failure::usage(format!(
            "{} is too long for a file of checkpoints",
            path.display()
        )));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut found = Vec::new();
    for note in notes(&text) {
        let checkpoint = Checkpoint::parse(&note)
            .map_err(|error| Failure::usage(format!("{} holds no checkpoint: {error}", path.display())))?;
        found.push((path.display().to_string(), checkpoint));
    }
    if found.is_empty() {
        return Err(Failure::usage(format!("{} holds no checkpoint", path.display())));
    }
    Ok(found)
}

/// Cuts a file into notes: text, an empty line, signature lines.
fn notes(text: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = String::new();
    let mut signed = false;
    for line in text.lines() {
        let signature = line.starts_with("— ");
        if signed && !signature {
            notes.push(std::mem::take(&mut note));
            signed = false;
        }
        if note.is_empty() && line.is_empty() {
            continue;
        }
        signed |= signature;
        note.push_str(line);
        note.push('\n');
    }
    if !note.is_empty() {
        notes.push(note);
    }
    notes
}

/// Verifies a log against everything that is held of it.
fn verify(log: &Log, key: Option<&VerifyingKey>) -> Finding {
    let origin = origin(log);
    let of_it = |held: &&(String, Checkpoint)| origin.as_ref().is_none_or(|origin| *origin == held.1.origin);
    let given: Vec<_> = log.given.iter().filter(of_it).collect();
    let held: Vec<Held> = log
        .held
        .iter()
        .chain(given.iter().copied())
        .map(|(place, checkpoint)| Held {
            name: format!("the checkpoint in {place}"),
            checkpoint: checkpoint.clone(),
        })
        .collect();
    let mut report = verify_against(&log.folder, key, &held);
    if let ([], Some((file, _))) = (given.as_slice(), log.given.first()) {
        let text = format!("none of the checkpoints in {file} is of this log");
        report.unchecked.push(text);
    }
    let mut checked = vec![format!(
        "{} entries: every hash, batch, signature of the log, tile, and the order and completeness of each stream",
        report.size
    )];
    for (held, _) in held.iter().zip(&report.extends).filter(|(_, extends)| **extends) {
        checked.push(format!(
            "extends {} over {} entries",
            held.name, held.checkpoint.size
        ));
    }
    finding(log, report, checked)
}

/// What the log should be called: what others hold of it says so, or else its own checkpoint.
fn origin(log: &Log) -> Option<String> {
    let own = || {
        let note = std::fs::read_to_string(log.folder.join("checkpoint")).ok()?;
        Checkpoint::parse(&note).ok()
    };
    let known = log.held.first().map(|(_, checkpoint)| checkpoint.clone());
    known.or_else(own).map(|checkpoint| checkpoint.origin)
}

fn finding(log: &Log, report: Report, checked: Vec<String>) -> Finding {
    Finding {
        log: log.name.clone(),
        folder: log.folder.display().to_string(),
        ok: report.is_clean(),
        origin: report.origin,
        size: report.size,
        root: report.root.to_string(),
        checked,
        unchecked: report.unchecked,
        problems: report.problems.into_iter().map(Wrong::from).collect(),
        unfinished: report.unfinished.iter().map(|open| open.index).collect(),
    }
}

fn describe(finding: &Finding) -> String {
    let mut lines = vec![format!("{} ({})", finding.log, finding.folder)];
    let mut field =
        |name: &str, value: String| lines.push(format!("  {name:10}  {}", output::tame(&value, 500)));
    field(
        "origin",
        finding.origin.clone().unwrap_or_else(|| "unknown".to_owned()),
    );
    field("entries", finding.size.to_string());
    field("root", finding.root.clone());
    for checked in &finding.checked {
        field("checked", checked.clone());
    }
    for unchecked in &finding.unchecked {
        field("unchecked", unchecked.clone());
    }
    if !finding.unfinished.is_empty() {
        let some: Vec<String> = finding
            .unfinished
            .iter()
            .take(10)
            .map(ToString::to_string)
            .collect();
        field(
            "unfinished",
            format!(
                "{} intents without an outcome: {}",
                finding.unfinished.len(),
                some.join(" ")
            ),
        );
    }
    for wrong in &finding.problems {
        let index = wrong
            .index
            .map(|index| format!("entry {index}, "))
            .unwrap_or_default();
        let offset = wrong
            .offset
            .map(|offset| format!(" at byte {offset}"))
            .unwrap_or_default();
        field(
            "problem",
            format!("{index}{}{offset}: {}", wrong.path, wrong.text),
        );
    }
    lines.push(format!(
        "  {:10}  {}",
        "result",
        output::tinted(if finding.ok { "ok" } else { "failed" })
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::notes;

    #[test]
    fn a_file_of_several_checkpoints_is_cut_where_signatures_end() {
        let a = "a\n1\nroot\n\n— a sig\n— b sig\n";
        let b = "b\n2\nroot\n\n— b sig\n";
        assert_eq!(notes(&format!("{a}\n{b}")), [a, b]);
        assert_eq!(notes(&format!("{a}{b}\n\n")), [a, b]);
        assert_eq!(notes(""), Vec::<String>::new());
    }
}
