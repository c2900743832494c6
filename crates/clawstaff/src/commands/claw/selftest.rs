//! `clawstaff claw selftest`: the probes of the boundary in a live cage, and a report that a reviewer can keep.
//!
//! The report is the runner's answer, whole: as JSON where the file is called so, else as Markdown. It is written
//! before the exit code tells, so that a boundary which did not hold is on paper too.

use std::{fmt::Write as _, fs, path::PathBuf};

use clawstaff_runner::{
    local::cage_path,
    selftest::{ProbeAnswer, SelftestAnswer},
};
use clawstaff_types::ClawName;

use super::live::PATIENCE;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{self, Cell},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The Claw
    name: ClawName,
    /// Also write a report to this new file: JSON if it ends in .json, else Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let report = args.report.map(Report::open).transpose()?;
    let runner = context.runner()?.patient(PATIENCE);
    let answer: SelftestAnswer = runner.post_empty(&cage_path(&args.name, "selftest")).await?;
    if let Some(report) = report {
        report.write(&answer)?;
    }
    let headers = ["PROBE", "HELD", "DETAIL"];
    context.output.list(&answer.probes, &headers, |probe| {
        vec![
            Cell::new(&probe.probe),
            Cell::tinted(word(probe)),
            Cell::new(&probe.detail),
        ]
    })?;
    if answer.stood() {
        return Ok(());
    }
    let message = format!(
        "{} of {} probes did not hold in the cage of `{}`",
        answer.broken(),
        answer.probes.len(),
        args.name
    );
    Err(Failure::new(Exit::Verification, message).hint("`clawstaff doctor` says what this host lacks"))
}

const fn word(probe: &ProbeAnswer) -> &'static str {
    match (probe.applicable, probe.held) {
        (false, _) => "n/a",
        (true, true) => "yes",
        (true, false) => "no",
    }
}

/// A file for the report, made before anything is tried: a report that cannot be written is told at once.
struct Report {
    path: PathBuf,
    file: fs::File,
}

impl Report {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let made = fs::File::create_new(&path);
        let file = made.map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot make {}: {error}", path.display()))
                .hint("name a file that does not exist yet, in a folder that does")
        })?;
        Ok(Self { path, file })
    }

    fn write(mut self, answer: &SelftestAnswer) -> Result<(), Failure> {
        let text = if self.path.extension().is_some_and(|kind| kind == "json") {
            serde_json::to_string_pretty(answer)
                .map_err(|error| Failure::failed(format!("cannot write the report: {error}")))?
        } else {
            markdown(answer)
        };
        let written = std::io::Write::write_all(&mut self.file, text.as_bytes());
        written
            .and_then(|()| self.file.sync_all())
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", self.path.display())))
    }
}

fn markdown(answer: &SelftestAnswer) -> String {
    let mut text = format!(
        "# Selftest of `{}`\n\n{} of {} probes held, {} did not, {} not applicable here.\n\n\
         | fact | value |\n| --- | --- |\n",
        answer.claw,
        answer.held(),
        answer.probes.len(),
        answer.broken(),
        answer.probes.len() - answer.held() - answer.broken(),
    );
    for (name, value) in facts(answer) {
        row(&mut text, &[&name, &value]);
    }
    text.push_str("\n| probe | held | what was tried | what holding means | judge | what was seen |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for probe in &answer.probes {
        let cells = [
            &probe.probe,
            word(probe),
            &probe.tries,
            &probe.shows,
            &probe.judge,
            &probe.detail,
        ];
        row(&mut text, &cells);
    }
    let _ = writeln!(
        text,
        "\nThe act is entry {} of the gateway's log; `clawstaff audit verify` shows that the log is whole.",
        answer.record
    );
    text
}

fn facts(answer: &SelftestAnswer) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = [
        ("began", answer.began.clone()),
        ("ClawStaff", answer.version.clone()),
        ("cage", answer.cage.clone()),
        ("revision", answer.revision.to_string()),
        ("back end", answer.backend.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for group in [&answer.host, &answer.limits, &answer.boundary] {
        facts.extend(group.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    facts
}

/// One row; what comes from a cage can break neither the table nor the page.
fn row(text: &mut String, cells: &[&str]) {
    for cell in cells {
        let cell = output::tame(cell, 2000)
            .replace('\\', "\\\\")
            .replace('|', "\\|")
            .replace('<', "&lt;");
        // Writing to a string cannot fail.
        let _ = write!(text, "| {cell} ");
    }
    text.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn answer(held: bool, applicable: bool) -> SelftestAnswer {
        let facts = BTreeMap::from([("kernel".to_owned(), "6.1".to_owned())]);
        SelftestAnswer {
            claw: "a".to_owned(),
            cage: "a-00000001".to_owned(),
            revision: 1,
            backend: "native".to_owned(),
            version: "1".to_owned(),
            began: "2026-11-25T16:00:00Z".to_owned(),
            host: facts,
            limits: BTreeMap::new(),
            boundary: BTreeMap::new(),
            record: 7,
            probes: vec![ProbeAnswer {
                probe: "no-mounts".to_owned(),
                held,
                applicable,
                detail: "13 | calls\n<script>".to_owned(),
                tries: "mount".to_owned(),
                shows: "nothing is mounted".to_owned(),
                judge: "cage".to_owned(),
            }],
        }
    }

    #[test]
    fn a_boundary_stood_only_if_something_was_tried_and_all_of_it_held() {
        assert!(answer(true, true).stood());
        assert!(!answer(false, true).stood());
        assert!(!answer(false, false).stood());
    }

    #[test]
    fn what_a_cage_says_cannot_break_the_report() {
        let text = markdown(&answer(true, true));
        assert!(text.contains("13 \\| calls &lt;script>"), "{text}");
        assert!(
            text.contains("entry 7") && text.contains("| kernel | 6.1 |"),
            "{text}"
        );
    }
}
