//! What the tests of both back ends share: the built programs, a door, and a report that names what did not hold.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use clawstaff_cage::{
    Backend, Enforcement,
    conformance::{Finding, Outcome, matrix},
};
use clawstaff_types::spec::Limit;

/// A program built in the same target directory as this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not built: run `cargo build -p claw -p clawstaff-launcher`"))
}

/// A directory that an ordinary user can walk through.
pub(crate) fn directory() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("clawstaff-cage-")
        .tempdir()
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A door directory with nobody behind it.
pub(crate) fn door(dir: &Path) -> PathBuf {
    let door = dir.join("door");
    fs::create_dir_all(&door).unwrap();
    fs::write(door.join("claw.json"), "{}").unwrap();
    door
}

/// What this host does not enforce.
pub(crate) fn unenforced(backend: &dyn Backend) -> Vec<Limit> {
    let limits = backend.capabilities().limits;
    limits
        .into_iter()
        .filter(|(_, enforcement)| *enforcement != Enforcement::Enforced)
        .map(|(limit, _)| limit)
        .collect()
}

/// Prints the table, and fails when a check did.
pub(crate) fn report(findings: &[Finding]) {
    for finding in findings {
        println!(
            "{:12} {:26} {}",
            format!("{:?}", finding.outcome),
            finding.check,
            finding.detail
        );
    }
    let broken: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::Broken)
        .collect();
    assert!(
        broken.is_empty(),
        "{} of {} checks did not hold: {broken:#?}",
        broken.len(),
        findings.len()
    );
    assert!(findings.len() > 70, "only {} checks ran", findings.len());
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs one test of this program again as the user `nobody`, with copies of the programs where it can read them.
pub(crate) fn as_ordinary_user(dir: &Path, test: &str) -> Output {
    let own = std::env::current_exe().unwrap();
    let place = dir.join("deps");
    fs::create_dir(&place).unwrap();
    for (from, to) in [
        (own, "test"),
        (program("claw"), "claw"),
        (program("clawstaff-launcher"), "clawstaff-launcher"),
    ] {
        fs::copy(from, place.join(to)).unwrap();
    }
    let tmp = dir.join("tmp");
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(place.join("test"))
        .args(["--exact", test, "--nocapture"])
        .env("TMPDIR", &tmp);
    let run = |command: &mut Command| {
        let output = command.output();
        output.unwrap_or_else(|error| panic!("setpriv: {error}; run `apt-get install util-linux`"))
    };
    let Some(matrix) = std::env::var_os(UPDATE) else {
        return run(&mut command);
    };
    // It may write to a copy of the matrix only.
    let copy = dir.join("matrix.md");
    fs::copy(&matrix, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o666)).unwrap();
    let output = run(command.env(UPDATE, &copy));
    fs::write(matrix, fs::read(copy).unwrap()).unwrap();
    output
}

/// Compares what was found with the column of that name in the committed matrix. Where `UPDATE_MATRIX` names a copy
/// of it, writes the column there instead.
pub(crate) fn matrix(name: &str, findings: &[Finding]) {
    let found = matrix::column(findings);
    if let Some(path) = std::env::var_os(UPDATE) {
        let mut columns = matrix::read(&fs::read_to_string(&path).unwrap());
        columns.insert(name.to_owned(), found);
        return fs::write(path, matrix::render(&columns)).unwrap();
    }
    let committed = include_str!("../../../../docs/isolation-matrix.md");
    let fresh = matrix::check(committed, name, &found);
    assert_eq!(
        fresh,
        Ok(()),
        "docs/isolation-matrix.md is stale: run `just isolation-matrix`"
    );
}

const UPDATE: &str = "UPDATE_MATRIX";
