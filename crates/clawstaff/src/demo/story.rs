//! How the story is printed, and the tally of what was observed.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use owo_colors::OwoColorize as _;

use crate::failure::Failure;

/// The story so far.
#[derive(Debug)]
pub(super) struct Story {
    began: Instant,
    colour: bool,
    held: usize,
    failed: usize,
}

impl Story {
    /// Opens the story.
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            colour: std::io::stdout().is_terminal(),
            held: 0,
            failed: 0,
        }
    }

    /// A chapter's heading.
    pub(super) fn chapter(&self, title: &str) {
        let seconds = self.began.elapsed().as_secs_f32();
        let heading = if self.colour {
            title.bold().to_string()
        } else {
            title.to_owned()
        };
        line(&format!("\n[{seconds:5.1}s] {heading}"));
    }

    /// Something worth knowing that is not an observation.
    #[expect(clippy::unused_self, reason = "told through the story, like everything else")]
    pub(super) fn note(&self, text: impl Display) {
        line(&format!("         {text}"));
    }

    /// An observation: it held or it did not.
    pub(super) fn observe(&mut self, held: bool, text: impl Display) {
        let (mark, tally) = if held {
            ("✓", &mut self.held)
        } else {
            ("✗", &mut self.failed)
        };
        *tally += 1;
        let mark = match (self.colour, held) {
            (true, true) => mark.green().to_string(),
            (true, false) => mark.red().bold().to_string(),
            (false, _) => mark.to_owned(),
        };
        line(&format!("       {mark} {text}"));
    }

    /// The story could not go on.
    pub(super) fn broke_off(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        line(&format!("\nerror: {error:#}"));
    }

    /// The last line, and the verdict: good only if everything was observed to hold.
    pub(super) fn end(self) -> Result<(), Failure> {
        let seconds = self.began.elapsed().as_secs_f32();
        let (held, failed) = (self.held, self.failed);
        line(&format!(
            "\n{held} observations held, {failed} did not, in {seconds:.1} s."
        ));
        if failed == 0 && held > 0 {
            Ok(())
        } else {
            Err(Failure::failed("not everything was observed to hold"))
        }
    }
}

fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed standard output must not end the demo half-way: what it started has to be cleaned up.
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}
