//! The name of one cage: stable while it is stopped, started and updated, new after it was destroyed.

use std::{fmt, str::FromStr};

use clawstaff_types::{ClawName, NameError};
use serde::{Deserialize, Serialize};

/// Text form: `<claw>-<8 hex digits>`, safe as a path segment, a cgroup and a container name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CageId {
    text: String,
    claw: ClawName,
}

impl CageId {
    /// The cage of a Claw in its `generation`, which the caller makes new after every destroy.
    pub fn new(claw: &ClawName, generation: u32) -> Self {
        Self {
            text: format!("{claw}-{generation:08x}"),
            claw: claw.clone(),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The Claw whose cage it is.
    pub fn claw(&self) -> &ClawName {
        &self.claw
    }
}

impl FromStr for CageId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError {
            what: "cage id",
            text: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            rule: "a Claw's name, `-` and 8 lower-case hex digits",
        };
        let (claw, generation) = text.rsplit_once('-').ok_or_else(bad)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if generation.len() != 8 || !generation.bytes().all(hex) {
            return Err(bad());
        }
        Ok(Self {
            text: text.to_owned(),
            claw: claw.parse()?,
        })
    }
}

impl TryFrom<String> for CageId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<CageId> for String {
    fn from(id: CageId) -> Self {
        id.text
    }
}

impl fmt::Display for CageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::CageId;

    proptest! {
        #[test]
        fn ids_read_back_as_they_print(claw in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", generation: u32) {
            let id = CageId::new(&claw.parse().unwrap(), generation);
            prop_assert_eq!(id.as_str().parse::<CageId>().unwrap(), id);
        }

        #[test]
        fn nothing_that_is_not_an_id_parses(text in "\\PC{0,40}") {
            if let Ok(id) = text.parse::<CageId>() {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }

    #[test]
    fn ids_that_could_leave_their_directory_are_refused() {
        for text in [
            "",
            "a",
            "a-1234567",
            "a-1234567G",
            "../a-12345678",
            "a/b-12345678",
            "-12345678",
            "A-12345678",
        ] {
            assert!(text.parse::<CageId>().is_err(), "{text}");
        }
    }
}
