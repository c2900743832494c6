//! Reading TOML values with their places, so that every refusal can say where in the file it is.
//!
//! Used by the sections of the spec file and nothing else. The one idea: a table is opened with the list of
//! the fields it may have, so a misspelt field is found before a missing one is missed.

use std::{fmt, ops::Range, str::FromStr};

use jiff::Timestamp;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A refusal of a spec file, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub(crate) struct SpecError {
    /// The file as it was named, `-` for standard input.
    pub(crate) file: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) message: String,
    /// What would help.
    pub(crate) hint: Option<String>,
}

/// A file's text under its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// The file as it was named.
    pub(super) file: &'a str,
    /// Its text.
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// An error at a byte range of the text.
    pub(super) fn error(&self, at: &Range<usize>, message: impl fmt::Display) -> SpecError {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        SpecError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.to_string(),
            hint: None,
        }
    }
}

impl SpecError {
    /// The same with advice.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A field that is known but whose feature does not exist yet.
pub(super) type Unsupported = (&'static str, &'static str);

/// An opened table: its fields are all among those it may have.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    source: Source<'a>,
    what: &'static str,
    span: Range<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> Fields<'a> {
    /// Opens a table that may have the fields `known`; one of `unsupported` is refused with its reason.
    pub(super) fn open(
        source: Source<'a>,
        what: &'static str,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        known: &[&str],
        unsupported: &[Unsupported],
    ) -> Result<Self, SpecError> {
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if let Some((_, instead)) = unsupported.iter().find(|(field, _)| *field == name) {
                let message = format!("`{name}` in {what} is not supported yet");
                return Err(source.error(&key.span(), message).hint(*instead));
            }
            if !known.contains(&name) {
                let message = format!("unknown field `{}` in {what}", printable(name));
                let error = source.error(&key.span(), message);
                return Err(error.hint(advice(name, known)));
            }
        }
        Ok(Self {
            source,
            what,
            span,
            table,
        })
    }

    /// A field that may be absent.
    pub(super) fn get(&self, name: &'static str) -> Option<Value<'a>> {
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Value {
            source: self.source,
            name,
            read: value,
        })
    }

    /// A field that must be there.
    pub(super) fn need(&self, name: &'static str) -> Result<Value<'a>, SpecError> {
        self.get(name)
            .ok_or_else(|| self.error(format!("{} has no `{name}`, which it needs", self.what)))
    }

    /// An error at the table itself.
    pub(super) fn error(&self, message: impl fmt::Display) -> SpecError {
        self.source.error(&self.span, message)
    }
}

/// A value with its field's name and place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    source: Source<'a>,
    name: &'static str,
    read: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// An error at this value.
    pub(super) fn error(&self, message: impl fmt::Display) -> SpecError {
        self.source.error(&self.read.span(), message)
    }

    fn wrong(&self, wanted: &str) -> SpecError {
        let found = match self.read.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("`{}` must be {wanted}, not {found}", self.name))
    }

    /// Whether it is a string, for fields of two shapes.
    pub(super) fn is_string(&self) -> bool {
        matches!(self.read.get_ref(), DeValue::String(_))
    }

    /// A string.
    pub(super) fn text(&self) -> Result<&'a str, SpecError> {
        match self.read.get_ref() {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => Err(self.wrong("a string")),
        }
    }

    /// A string of at most `max` characters.
    pub(super) fn text_up_to(&self, max: usize) -> Result<String, SpecError> {
        let text = self.text()?;
        if text.chars().count() > max {
            return Err(self.error(format!("`{}` is longer than {max} characters", self.name)));
        }
        Ok(text.to_owned())
    }

    /// A string with a form of its own.
    pub(super) fn parse<T>(&self) -> Result<T, SpecError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.text()?.parse().map_err(|error: T::Err| self.error(error))
    }

    /// A string with a form of its own, for types that convert from a `String`.
    pub(super) fn convert<T>(&self) -> Result<T, SpecError>
    where
        T: TryFrom<String>,
        T::Error: fmt::Display,
    {
        T::try_from(self.text()?.to_owned()).map_err(|error| self.error(error))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, SpecError> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(format!("`{}` cannot be `{}`", self.name, printable(text)))
                .hint(advice(text, &known))
        })
    }

    /// A whole number of at least 1.
    pub(super) fn count<T: TryFrom<u64>>(&self) -> Result<T, SpecError> {
        let DeValue::Integer(number) = self.read.get_ref() else {
            return Err(self.wrong("a whole number"));
        };
        u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| *number > 0)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.error(format!("`{}` must be a whole number of at least 1", self.name)))
    }

    /// An amount of US dollars, in millionths.
    pub(super) fn usd_micros(&self) -> Result<u64, SpecError> {
        let dollars = match self.read.get_ref() {
            DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            _ => return Err(self.wrong("a number")),
        };
        match dollars.map(|dollars| (dollars * 1e6).round()) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the arm's guard bounds it to 1 ..= 10^12"
            )]
            Some(micros) if (1.0..=1e12).contains(&micros) => Ok(micros as u64),
            _ => Err(self.error(format!("`{}` must be more than 0 and at most 1000000", self.name))),
        }
    }

    /// A number of CPUs, in thousandths.
    pub(super) fn milli_cpus(&self) -> Result<u32, SpecError> {
        let number = match self.read.get_ref() {
            DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            _ => return Err(self.wrong("a number")),
        };
        let thousandths = number.map(|cpus| (cpus * 1000.0).round());
        match thousandths {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the arm's guard bounds it to 10 ..= 1_024_000"
            )]
            Some(milli) if (10.0..=1_024_000.0).contains(&milli) => Ok(milli as u32),
            _ => Err(self.error(format!("`{}` must be between 0.01 and 1024", self.name))),
        }
    }

    /// An instant: a TOML date (its first moment, UTC) or a date and time with an offset.
    pub(super) fn instant(&self) -> Result<Timestamp, SpecError> {
        let text = match self.read.get_ref() {
            DeValue::Datetime(date) => date.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return Err(self.wrong("a date")),
        };
        parse_instant(&text).ok_or_else(|| {
            let message = format!("`{}` is not an instant: `{}`", self.name, printable(&text));
            self.error(message)
                .hint("write a date such as 2027-01-31 (its first moment, UTC) or 2027-01-31T12:00:00Z")
        })
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Result<Vec<Value<'a>>, SpecError> {
        let DeValue::Array(list) = self.read.get_ref() else {
            return Err(self.wrong("a list"));
        };
        Ok(list
            .iter()
            .map(|value| Value {
                source: self.source,
                name: self.name,
                read: value,
            })
            .collect())
    }

    /// The elements of a list that may not be empty.
    pub(super) fn some<T: FromStr>(&self) -> Result<Vec<T>, SpecError>
    where
        T::Err: fmt::Display,
    {
        let list = self.list()?;
        if list.is_empty() {
            return Err(self.error(format!("`{}` is empty, which would mean nothing", self.name)));
        }
        list.iter().map(Value::parse).collect()
    }

    /// A table with the given fields.
    pub(super) fn fields(
        &self,
        what: &'static str,
        known: &[&str],
        unsupported: &[Unsupported],
    ) -> Result<Fields<'a>, SpecError> {
        let table = self.table()?;
        Fields::open(self.source, what, self.read.span(), table, known, unsupported)
    }

    /// A table whose keys are the user's own.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Value<'a>)>, SpecError> {
        let entries = self.table()?.iter().map(|(key, value)| {
            let value = Value {
                source: self.source,
                name: self.name,
                read: value,
            };
            (key.get_ref().as_ref(), value)
        });
        Ok(entries.collect())
    }

    fn table(&self) -> Result<&'a DeTable<'a>, SpecError> {
        match self.read.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.wrong("a table")),
        }
    }
}

/// An instant as people write it; a bare date is its first moment in UTC.
pub(crate) fn parse_instant(text: &str) -> Option<Timestamp> {
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        return Some(zoned.timestamp());
    }
    text.parse().ok()
}

/// User input for a message: short, without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(60)
        .map(|c| if c.is_control() { '�' } else { c })
        .collect()
}

/// "Did you mean", or the list of what there is.
fn advice(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .min();
    match nearest {
        Some((distance, candidate)) if distance <= 1 + name.chars().count() / 3 => {
            format!("did you mean `{candidate}`?")
        }
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// How many single-character edits apart two words are (Levenshtein), over at most 64 characters of each.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        let mut next = vec![last];
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            last = (diagonal + usize::from(a != *b)).min(above + 1).min(last + 1);
            diagonal = *above;
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (left, right, expected) in [
            ("", "", 0),
            ("conector", "connector", 1),
            ("a", "bc", 2),
            ("abc", "", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn a_bare_date_is_its_first_moment_in_utc() {
        assert_eq!(
            parse_instant("2027-01-31").unwrap().to_string(),
            "2027-01-31T00:00:00Z"
        );
        assert!(parse_instant("2027-01-31T00:00:00").is_none());
        assert!(parse_instant("soon").is_none());
    }
}
