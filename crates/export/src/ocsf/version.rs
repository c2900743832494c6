//! The versions of the schema that events can be written in.

use std::{fmt, str::FromStr};

/// A released version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.1.0
    V1_1,
    /// 1.2.0
    V1_2,
    /// 1.3.0
    V1_3,
    /// 1.4.0
    V1_4,
    /// 1.5.0
    V1_5,
    /// 1.6.0
    V1_6,
    /// 1.7.0
    V1_7,
    /// 1.8.0
    V1_8,
    /// 1.9.0
    V1_9,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 9] = [
        Self::V1_1,
        Self::V1_2,
        Self::V1_3,
        Self::V1_4,
        Self::V1_5,
        Self::V1_6,
        Self::V1_7,
        Self::V1_8,
        Self::V1_9,
    ];
    /// The one that events are made in.
    pub const NEWEST: Self = Self::V1_9;

    /// As `metadata.version` says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_1 => "1.1.0",
            Self::V1_2 => "1.2.0",
            Self::V1_3 => "1.3.0",
            Self::V1_4 => "1.4.0",
            Self::V1_5 => "1.5.0",
            Self::V1_6 => "1.6.0",
            Self::V1_7 => "1.7.0",
            Self::V1_8 => "1.8.0",
            Self::V1_9 => "1.9.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no version that we can write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version of OCSF is one from 1.1.0 to 1.9.0")]
pub struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    /// With or without the last `.0`.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let same =
            |version: &&Self| version.as_str() == text || version.as_str().strip_suffix(".0") == Some(text);
        Self::ALL.iter().find(same).copied().ok_or(UnknownVersion)
    }
}
