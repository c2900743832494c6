//! Between our types and columns: JSON bodies, 64-bit numbers, times. A value that does not fit is an error.

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{StoreError, malformed};

pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(malformed(what))
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(malformed(what))
}

/// `SQLite`'s integers are signed; ours count up from 0 and never reach the upper half.
pub(crate) fn to_column(what: &'static str, number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(malformed(what))
}

pub(crate) fn from_column<N: TryFrom<i64>>(what: &'static str, number: i64) -> Result<N, StoreError>
where
    N::Error: std::fmt::Display,
{
    N::try_from(number).map_err(malformed(what))
}

pub(crate) fn parse<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(malformed(what))
}

pub(crate) fn time(what: &'static str, text: &str) -> Result<Timestamp, StoreError> {
    parse(what, text)
}
