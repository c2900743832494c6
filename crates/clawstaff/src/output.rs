//! What commands print: tables for people, one JSON object a line for programs, colour only on a terminal.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use owo_colors::{OwoColorize as _, Stream, Style};
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Prints a list.
    pub(crate) fn list<T: Serialize>(
        self,
        items: &[T],
        headers: &[&'static str],
        row: impl Fn(&T) -> Vec<Cell>,
    ) -> Result<(), Failure> {
        match self {
            Self::Json => items.iter().try_for_each(json),
            Self::Table => line(&Table::new(headers, items.iter().map(row).collect()).render()),
        }
    }

    /// Prints one thing.
    pub(crate) fn one<T: Serialize>(
        self,
        item: &T,
        fields: impl FnOnce(&T) -> Vec<Field>,
    ) -> Result<(), Failure> {
        match self {
            Self::Json => json(item),
            Self::Table => line(&fields_text(&fields(item))),
        }
    }

    /// Prints one thing that people get as a sentence.
    pub(crate) fn sentence<T: Serialize>(
        self,
        item: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::Json => json(item),
            Self::Table => line(&words(item)),
        }
    }
}

/// Prints one JSON object on its line.
pub(crate) fn json<T: Serialize>(item: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(item)
        .map_err(|error| Failure::failed(format!("cannot write the answer as JSON: {error}")))?;
    line(&text)
}

/// Prints a line, or several.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.trim_end_matches('\n').as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    checked(written)
}

/// Prints bytes as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    checked(out.write_all(bytes).and_then(|()| out.flush()))
}

fn checked(written: std::io::Result<()>) -> Result<(), Failure> {
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::new(Exit::Quiet, "nobody reads the output"),
        _ => Failure::failed(format!("cannot write the output: {error}")),
    })
}

/// Says something to the person, beside the output.
pub(crate) fn note(text: &str) {
    // Nothing to do about a standard error that cannot be written: the exit code still tells.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Whether a person is watching progress.
pub(crate) fn watched() -> bool {
    std::io::stderr().is_terminal()
}

/// The name that a value has on the wire: `running`, `widens`.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// A bounded, single-line version of a text from elsewhere: no control character reaches the terminal.
pub(crate) fn tame(text: &str, max: usize) -> String {
    let mut out: String = text
        .chars()
        .take(max)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().count() > max {
        out.pop();
        out.push('…');
    }
    out
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

/// The widest cell, in characters.
const MAX_CELL: usize = 72;

impl Cell {
    /// A plain cell.
    pub(crate) fn new(text: impl ToString) -> Self {
        Self {
            text: tame(&text.to_string(), MAX_CELL),
            style: None,
        }
    }

    /// A cell for a value that may be absent.
    pub(crate) fn or_dash(text: Option<impl ToString>) -> Self {
        text.map_or_else(|| Self::new("-"), Self::new)
    }

    /// The same, coloured by what the word means.
    pub(crate) fn tinted(text: impl ToString) -> Self {
        let cell = Self::new(text);
        let style = tint(&cell.text);
        Self { style, ..cell }
    }

    fn render(&self, width: usize) -> String {
        let padding = " ".repeat(width.saturating_sub(self.text.chars().count()));
        format!("{}{padding}", paint(&self.text, self.style))
    }
}

/// The colour of a word that means well or ill.
fn tint(word: &str) -> Option<Style> {
    match word {
        "running" | "allow" | "succeeded" | "yes" | "enforced" | "ok" | "held" => Some(Style::new().green()),
        "failed" | "deny" | "refused" | "quarantined" | "widens" | "no" => Some(Style::new().red()),
        "pending" | "starting" | "stopping" | "paused" | "ask" | "unknown" => Some(Style::new().yellow()),
        _ => None,
    }
}

/// Colours a word where a person sees it.
pub(crate) fn tinted(word: &str) -> String {
    paint(word, tint(word))
}

fn paint(text: &str, style: Option<Style>) -> String {
    match style {
        Some(style) => text
            .if_supports_color(Stream::Stdout, |text| text.style(style))
            .to_string(),
        None => text.to_owned(),
    }
}

/// A table for people: columns as narrow as they can be, two spaces apart.
#[derive(Debug)]
struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    fn new(headers: &[&'static str], rows: Vec<Vec<Cell>>) -> Self {
        Self {
            headers: headers.to_vec(),
            rows,
        }
    }

    fn render(&self) -> String {
        if self.rows.is_empty() {
            return "(none)".to_owned();
        }
        let widths = self.widths();
        let headers: Vec<Cell> = self.headers.iter().map(Cell::new).collect();
        let lines = std::iter::once(&headers).chain(&self.rows).map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| cell.render(*width))
                .collect();
            cells.join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize, header: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.text.chars().count())
                .chain([header.chars().count()])
                .max()
                .unwrap_or_default()
        };
        self.headers
            .iter()
            .enumerate()
            .map(|(column, header)| width(column, header))
            .collect()
    }
}

/// A name and a value of one thing.
pub(crate) type Field = (&'static str, String);

/// One thing as lines of `name  value`; empty values are left out.
fn fields_text(fields: &[Field]) -> String {
    let width = fields
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let lines = fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            let value = tame(value, 2000);
            format!("{name:width$}  {}", tinted(&value))
        });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_narrow_as_its_cells() {
        let rows = vec![
            vec![Cell::new("a"), Cell::new("running")],
            vec![Cell::new("longer"), Cell::new("x")],
        ];
        let text = Table::new(&["NAME", "PHASE"], rows).render();
        assert_eq!(text, "NAME    PHASE\na       running\nlonger  x");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(tame("a\u{1b}[31mb\nc", 20), "a [31mb c");
        assert_eq!(tame("abcdef", 4), "abc…");
    }
}
