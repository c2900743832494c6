//! Units as people write them: `256MiB`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A size in bytes. Text form: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// The text was not a whole number with a unit, or it exceeded 2^64 - 1 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a whole number with B, KiB, MiB, GiB or TiB, as in `256MiB`")]
pub struct ByteSizeError(String);

impl ByteSize {
    /// `n` mebibytes.
    pub const fn mib(n: u32) -> Self {
        Self((n as u64) << 20)
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)))
            .and_then(|(number, factor)| number.trim().parse::<u64>().ok()?.checked_mul(*factor))
            .map(Self)
            .ok_or_else(|| ByteSizeError(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl TryFrom<String> for ByteSize {
    type Error = ByteSizeError;

    fn try_from(text: String) -> Result<Self, ByteSizeError> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_read_back_as_they_print() {
        for text in ["0B", "1B", "1500B", "256MiB", "3GiB", "1TiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn sizes_without_unit_or_beyond_64_bits_are_refused() {
        for text in ["", "12", "MiB", "-1MiB", "1.5GiB", "99999999999TiB", "256 mb"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
