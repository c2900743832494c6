//! Who may not be erased yet, and erasures that wait for a second member: rules and their file, no effects.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use clawstaff_api::local::{Hold, Subject};
use clawstaff_types::MemberId;
use serde::{Deserialize, Serialize};

use super::Whose;
use crate::inbox::{read_bounded, replace};

/// The longest file that is read.
const MAX_FILE: u64 = 4 << 20;
/// Holds and waiting erasures that there may be.
const MAX: usize = 1000;

/// Why holds and erasures cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The file system refused.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not what was written. Nothing may be erased while it is not known what is held.
    #[error("`{}` does not say what is held: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There are too many.
    #[error("there are {MAX} holds or waiting erasures already")]
    Full,
}

/// An erasure that waits for a second member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erasure {
    pub(crate) subject: Subject,
    pub(crate) by: MemberId,
}

/// What may be done about an erasure that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// A legal hold forbids it.
    Held(String),
    /// A second member has to ask for the same.
    Waits,
    /// It may be done, first asked for by this member if by another one.
    Go(Option<MemberId>),
}

/// Holds and waiting erasures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Custody {
    pub(crate) holds: BTreeMap<String, Hold>,
    /// By the subject's text.
    pub(crate) waiting: BTreeMap<String, Erasure>,
}

impl Custody {
    /// What the file says; nothing if there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not what was written.
    pub(crate) fn load(path: &Path) -> Result<Self, CustodyError> {
        match read_bounded(path, MAX_FILE) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| CustodyError::Malformed {
                path: path.to_owned(),
                why: error.to_string(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(CustodyError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// When there is too much of it or the disk refuses.
    pub(crate) fn store(&self, path: &Path) -> Result<(), CustodyError> {
        if self.holds.len().max(self.waiting.len()) > MAX {
            return Err(CustodyError::Full);
        }
        let io = |source| CustodyError::Io {
            path: path.to_owned(),
            source,
        };
        let json = serde_json::to_vec_pretty(self).map_err(|error| io(error.into()))?;
        replace(path, &json).map_err(io)
    }

    /// The first hold that speaks of one of them.
    pub(crate) fn held(&self, whom: &[Whose]) -> Option<&str> {
        let speaks = |hold: &Hold| match &hold.subject {
            None => true,
            Some(subject) => whom.iter().any(|whose| whose.concerns(subject)),
        };
        let found = self.holds.iter().find(|(_, hold)| speaks(hold));
        found.map(|(name, _)| name.as_str())
    }

    /// Whether `by` may have `subject` erased, which concerns `whom`. A hold beats everything.
    pub(crate) fn rule(&self, subject: &Subject, by: &MemberId, whom: &[Whose], two_persons: bool) -> Ruling {
        if let Some(name) = self.held(whom) {
            return Ruling::Held(name.to_owned());
        }
        let asked = self.waiting.get(&subject.to_string()).map(|erasure| &erasure.by);
        match asked {
            Some(first) if first != by => Ruling::Go(Some(first.clone())),
            _ if two_persons => Ruling::Waits,
            _ => Ruling::Go(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(claw: &str, member: &str) -> Whose {
        Whose::new(claw.parse().unwrap(), Some(member.parse().unwrap()))
    }

    fn with_hold(subject: Option<&str>) -> Custody {
        let hold = Hold {
            name: "case-7".into(),
            subject: subject.map(|text| text.parse().unwrap()),
            by: "uid-0".parse().unwrap(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        Custody {
            holds: BTreeMap::from([("case-7".to_owned(), hold)]),
            waiting: BTreeMap::new(),
        }
    }

    #[test]
    fn a_hold_on_anything_that_would_be_erased_forbids_it() {
        let (erased, by) = ("member:uid-7".parse().unwrap(), "uid-0".parse().unwrap());
        let whom = [whose("a", "uid-7"), whose("b", "uid-7")];
        for held in [None, Some("member:uid-7"), Some("claw:b")] {
            let ruling = with_hold(held).rule(&erased, &by, &whom, false);
            assert_eq!(ruling, Ruling::Held("case-7".into()), "{held:?}");
        }
        let other = with_hold(Some("claw:c")).rule(&erased, &by, &whom, false);
        assert_eq!(other, Ruling::Go(None));
    }

    #[test]
    fn with_two_persons_the_second_must_be_another_one() {
        let (first, second): (MemberId, MemberId) = ("uid-1".parse().unwrap(), "uid-2".parse().unwrap());
        let subject: Subject = "claw:a".parse().unwrap();
        let mut custody = Custody::default();
        assert_eq!(custody.rule(&subject, &first, &[], true), Ruling::Waits);
        let erasure = Erasure {
            subject: subject.clone(),
            by: first.clone(),
        };
        custody.waiting.insert(subject.to_string(), erasure);
        assert_eq!(custody.rule(&subject, &first, &[], true), Ruling::Waits);
        assert_eq!(
            custody.rule(&subject, &second, &[], true),
            Ruling::Go(Some(first))
        );
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_an_error_and_not_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holds.json");
        assert_eq!(Custody::load(&path).unwrap(), Custody::default());
        with_hold(None).store(&path).unwrap();
        assert_eq!(Custody::load(&path).unwrap(), with_hold(None));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(
            Custody::load(&path),
            Err(CustodyError::Malformed { .. })
        ));
    }
}
