//! Where a value lies in a store of secrets that is not ours: which store, which entry of it, which field of that.
//!
//! Only names: the store's address, its authorities and the token for it are the gateway's host's own.

use std::{fmt, str::FromStr};

use crate::name::{NameError, StoreName};

const RULE: &str = "`STORE/PATH#FIELD` of letters, digits, `.`, `_`, `-` and `/`, at most 512 characters";
const MAX: usize = 512;

/// A field of an entry of a store. Text form: `STORE/PATH#FIELD`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredAt {
    store: StoreName,
    path: String,
    field: String,
}

impl StoredAt {
    /// The store, as the gateway's host calls it.
    pub const fn store(&self) -> &StoreName {
        &self.store
    }

    /// The entry: segments joined by `/`, none of them empty, `.` or `..`. Safe in the path of an address.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The field of the entry.
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl fmt::Display for StoredAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.store, self.path, self.field)
    }
}

impl FromStr for StoredAt {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::new("place in a store of secrets", text, RULE);
        let (store, rest) = text.split_once('/').ok_or_else(bad)?;
        let (path, field) = rest.split_once('#').ok_or_else(bad)?;
        if text.len() > MAX || !path.split('/').all(is_segment) || !is_segment(field) {
            return Err(bad());
        }
        Ok(Self {
            store: store.parse()?,
            path: path.to_owned(),
            field: field.to_owned(),
        })
    }
}

fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_it_prints_and_leads_nowhere_else() {
        let text = "bao/acme/agents/slack#bot_token";
        let place: StoredAt = text.parse().unwrap();
        assert_eq!(place.to_string(), text);
        assert_eq!((place.path(), place.field()), ("acme/agents/slack", "bot_token"));
        let long = format!("bao/{}#f", "a".repeat(MAX));
        for wrong in [
            "bao",
            "bao/a",
            "bao/#f",
            "bao/a#",
            "bao/../sys#f",
            "bao/a/./b#f",
            "bao//a#f",
            "bao/a%2Fb#f",
            "bao/a?b#f",
            "bao/a#f#g",
            "Bao/a#f",
            "/a#f",
            "bao/a b#f",
            &long,
        ] {
            assert!(wrong.parse::<StoredAt>().is_err(), "{wrong}");
        }
    }
}
