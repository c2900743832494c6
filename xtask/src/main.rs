//! Chores of this repository: `cargo xtask tidy`. The same checks run as tests.

mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("tidy") {
        return report(&tidy::check_all());
    }
    eprintln!(
        "usage: cargo xtask tidy    check the arrows between crates, file headers, lints and stray SQL or unsafe"
    );
    ExitCode::from(2)
}

fn report(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
