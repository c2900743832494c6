//! The formats that a file or a stream of records can have.

use std::{fmt, str::FromStr};

use crate::{Item, cef, csv, jsonl, ocsf};

/// A format in which one record is one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `application/jsonl`.
    Jsonl,
    /// RFC 4180 with a header line.
    Csv,
    /// One OCSF event a line, of this version of the schema.
    Ocsf(ocsf::Version),
    /// `ArcSight` Common Event Format.
    Cef,
}

impl Format {
    /// What comes before the first record.
    pub fn head(self) -> String {
        match self {
            Self::Csv => csv::head(),
            Self::Jsonl | Self::Ocsf(_) | Self::Cef => String::new(),
        }
    }

    /// One record, line break included.
    pub fn line(self, item: &Item) -> String {
        match self {
            Self::Jsonl => jsonl::line(item),
            Self::Csv => csv::line(item),
            Self::Ocsf(version) => ocsf::line(item, version),
            Self::Cef => cef::line(item),
        }
    }

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl | Self::Ocsf(_) => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Cef => "text/plain; charset=utf-8",
        }
    }

    /// How its files' names end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Ocsf(_) => "ocsf.jsonl",
            Self::Cef => "cef",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jsonl => f.write_str("jsonl"),
            Self::Csv => f.write_str("csv"),
            Self::Ocsf(version) => write!(f, "ocsf-{version}"),
            Self::Cef => f.write_str("cef"),
        }
    }
}

/// The text names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a format is `jsonl`, `csv`, `cef`, `ocsf` or `ocsf-VERSION` with a version from 1.1.0 to 1.9.0")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "cef" => Ok(Self::Cef),
            "ocsf" => Ok(Self::Ocsf(ocsf::Version::NEWEST)),
            other => {
                let version = other.strip_prefix("ocsf-").ok_or(UnknownFormat)?;
                version.parse().map(Self::Ocsf).map_err(|_| UnknownFormat)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_back_as_they_print() {
        let versions = ocsf::Version::ALL.iter().copied().map(Format::Ocsf);
        for format in [Format::Jsonl, Format::Csv, Format::Cef]
            .into_iter()
            .chain(versions)
        {
            assert_eq!(format.to_string().parse::<Format>(), Ok(format));
        }
        for bad in ["", "json", "ocsf-", "ocsf-1.0", "ocsf-2.0.0", "CSV"] {
            assert_eq!(bad.parse::<Format>(), Err(UnknownFormat), "{bad}");
        }
    }
}
