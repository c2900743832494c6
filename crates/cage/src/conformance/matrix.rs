//! The matrix of probes and back ends, as it is committed in `docs/isolation-matrix.md`.
//!
//! Rows come from the tables of this suite, columns from the runs of it: whoever runs the suite on a back end adds or
//! checks the column of that name, so that a new back end needs nothing here. Pure: text in, text out.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Finding, Outcome, lifecycle,
    table::{Judge, PROBES},
};

/// What came of each check on one back end, by the check's name.
pub type Column = BTreeMap<String, String>;

/// A cell of a check that held.
const HELD: &str = "held";
/// The beginning of a cell of a check that this host cannot make.
const NOT_HERE: &str = "n/a: ";

const HEAD: &str = "# Isolation matrix

What is tried against a cage, and what came of it on each back end: **held**, or not applicable (n/a), with what the host
or the back end lacks. A check that does not hold fails the build, so that there is no such cell.

Generated from the tables of `crates/cage/src/conformance` by the suite itself, on the host of the last regeneration:
`just isolation-matrix` writes it, and the tests `the_*_back_end_conforms*` fail where it is stale. What each limit needs of
a host is said by `clawstaff doctor`. A live cage is tried with `clawstaff claw selftest NAME`.
";

/// The findings of one run as a column.
pub fn column(findings: &[Finding]) -> Column {
    let cell = |finding: &Finding| match finding.outcome {
        Outcome::Held => HELD.to_owned(),
        Outcome::Broken => "BROKEN".to_owned(),
        Outcome::NotEnforced => {
            let lacking = finding.detail.split(':').next().unwrap_or_default();
            format!("{NOT_HERE}{lacking}")
        }
    };
    let has_row = |check: &str| {
        PROBES.iter().any(|probe| probe.name == check) || lifecycle::checks().any(|(name, _)| name == check)
    };
    findings
        .iter()
        .filter(|finding| has_row(finding.check))
        .map(|finding| (finding.check.to_owned(), cell(finding)))
        .collect()
}

/// The whole document.
pub fn render(columns: &BTreeMap<String, Column>) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Probes\n\nTried from inside the cage unless the host alone is the judge.\n\n");
    heading(
        &mut text,
        &["probe", "what is tried", "what holding means", "judge"],
        columns,
    );
    for probe in &PROBES {
        let judge = match probe.judge {
            Judge::Inside => "the cage",
            Judge::Both => "cage and host",
            Judge::Outside => "host",
        };
        row(
            &mut text,
            &[&code(probe.name), probe.tries, probe.shows, judge],
            probe.name,
            columns,
        );
    }
    text.push_str("\n## Life and bounds\n\nJudged by the host.\n\n");
    heading(&mut text, &["check", "what holding means"], columns);
    for (check, shows) in lifecycle::checks() {
        row(&mut text, &[&code(check), shows], check, columns);
    }
    text
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

fn heading(text: &mut String, titles: &[&str], columns: &BTreeMap<String, Column>) {
    let names = titles.iter().copied().chain(columns.keys().map(String::as_str));
    line(text, names.clone());
    line(text, names.map(|_| "---"));
}

fn row(text: &mut String, cells: &[&str], check: &str, columns: &BTreeMap<String, Column>) {
    let outcomes = columns
        .values()
        .map(|column| column.get(check).map_or("", String::as_str));
    line(text, cells.iter().copied().chain(outcomes));
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>) {
    for cell in cells {
        // Writing to a string cannot fail.
        let _ = write!(text, "| {} ", cell.replace('|', "\\|"));
    }
    text.push_str("|\n");
}

/// The columns of a document made by [`render`].
pub fn read(document: &str) -> BTreeMap<String, Column> {
    let mut columns: BTreeMap<String, Column> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if matches!(cells.first(), Some(&("probe" | "check"))) {
            names = cells;
            continue;
        }
        let Some(check) = cells.first().map(|cell| cell.trim_matches('`')) else {
            continue;
        };
        let described = if names.first() == Some(&"probe") { 4 } else { 2 };
        for (name, cell) in names.iter().zip(&cells).skip(described) {
            let column = columns.entry((*name).to_owned()).or_default();
            if *cell != "---" {
                column.insert(check.to_owned(), (*cell).to_owned());
            }
        }
    }
    columns
}

/// What is stale in `document`, of which `name` is the column that `found` should be. A host that enforces more than
/// the one of the document makes nothing stale.
///
/// # Errors
/// The first row that differs, in words.
pub fn check(document: &str, name: &str, found: &Column) -> Result<(), String> {
    let columns = read(document);
    if render(&columns) != document {
        return Err("the tables have changed".to_owned());
    }
    let column = columns
        .get(name)
        .ok_or_else(|| format!("there is no column `{name}`"))?;
    for (check, cell) in found {
        let noted = column.get(check).map_or("", String::as_str);
        let more = cell == HELD && noted.starts_with(NOT_HERE);
        if cell != noted && !more {
            return Err(format!(
                "`{check}` on {name} is `{noted}` there and `{cell}` here"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(outcome: Outcome) -> Column {
        column(&[Finding {
            check: "no-mounts",
            outcome,
            detail: "limit of memory: no cgroup".to_owned(),
        }])
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let columns = BTreeMap::from([
            ("docker".to_owned(), found(Outcome::Held)),
            ("native".to_owned(), found(Outcome::NotEnforced)),
        ]);
        let document = render(&columns);
        assert_eq!(render(&read(&document)), document);
        assert_eq!(read(&document)["native"]["no-mounts"], "n/a: limit of memory");
        assert_eq!(check(&document, "docker", &found(Outcome::Held)), Ok(()));
        assert_eq!(check(&document, "native", &found(Outcome::Held)), Ok(()));
    }

    #[test]
    fn a_stale_document_is_noticed() {
        let document = render(&BTreeMap::from([("docker".to_owned(), found(Outcome::Held))]));
        assert!(check(&document, "docker", &found(Outcome::NotEnforced)).is_err());
        assert!(check(&document, "docker", &found(Outcome::Broken)).is_err());
        assert!(check(&document, "kubernetes", &found(Outcome::Held)).is_err());
        let changed = document.replace("TIOCSTI", "TIOCSTJ");
        assert!(check(&changed, "docker", &found(Outcome::Held)).is_err());
    }
}
